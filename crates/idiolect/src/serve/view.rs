//! A run directory behind a socket of this machine, for a browser on it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as Named, Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;

use super::connections::Connections;
use super::error::ApiError;
use super::json::Json;
use super::{READERS, until};
use crate::interrupt::Stop;
use crate::run::live::Watched;
use crate::stage::StageError;

/// Time that requests have to finish once the server stops.
const GRACE: Duration = Duration::from_secs(2);

type Shared = State<Arc<Mutex<Watched>>>;

/// Shows a run to browsers on this machine until it is asked to stop. Port 0 takes a free one;
/// `listening` is called once with the address.
///
/// # Errors
/// If `dir` holds no run or the port cannot be had.
pub fn view(
    dir: &Path,
    port: u16,
    listening: impl FnOnce(SocketAddr),
    stop: &Stop,
) -> Result<(), StageError> {
    let watched = Watched::new(dir)?;
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let failed = |error| super::cannot_listen(address, &error);
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(READERS)
        .build()
        .map_err(failed)?;
    listening(address);
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let connections = Connections::new(router(watched, address));
        tokio::select! {
            () = connections.accept(&listener) => {}
            () = until(|| stop.requested()) => {}
        }
        drop(listener);
        let _ = tokio::time::timeout(GRACE, connections.finish()).await;
        Ok::<(), StageError>(())
    })?;
    runtime.shutdown_background();
    Ok(())
}

fn router(watched: Watched, address: SocketAddr) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/run.json", get(now))
        .route("/traces/{id}", get(traces))
        .route("/report.html", get(|state: Shared| report(state, None)))
        .route(
            "/students/{name}/report.html",
            get(|state: Shared, Named(name): Named<String>| report(state, Some(name))),
        )
        .fallback(|request: Request| async move { ApiError::no_route(request.uri().path()) })
        .method_not_allowed_fallback(|| async { ApiError::wrong_method() })
        .layer(middleware::from_fn_with_state(address, own_name))
        .with_state(Arc::new(Mutex::new(watched)))
}

/// Answers only to this machine's names, so that no page from elsewhere whose name leads here can
/// read the run.
async fn own_name(State(address): State<SocketAddr>, request: Request, next: Next) -> Response {
    let port = address.port();
    let names = ["127.0.0.1", "localhost"].map(|name| format!("{name}:{port}"));
    let host = request.headers().get(header::HOST);
    let named = host.and_then(|host| host.to_str().ok());
    match named.is_some_and(|named| names.iter().any(|name| name == named)) {
        true => next.run(request).await,
        false => ApiError::bad("this server answers to its own address only").into_response(),
    }
}

/// Looks into the run beside the sockets.
async fn look<T: Send + 'static>(
    watched: Arc<Mutex<Watched>>,
    into: impl FnOnce(&mut Watched) -> Result<T, StageError> + Send + 'static,
) -> Result<T, ApiError> {
    let work = move || {
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        into(&mut watched)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(ApiError::not_found(error.to_string())),
        Err(_) => Err(ApiError::failed("the run could not be read")),
    }
}

fn json(found: Result<Value, ApiError>) -> Response {
    found.map_or_else(IntoResponse::into_response, |found| {
        Json(found).into_response()
    })
}

fn html(found: Result<String, ApiError>) -> Response {
    found.map_or_else(IntoResponse::into_response, |page| {
        Html(page).into_response()
    })
}

async fn page(State(watched): Shared) -> Response {
    html(look(watched, |run| Ok(idiolect_report::live_html(&run.name()?))).await)
}

async fn now(State(watched): Shared) -> Response {
    json(look(watched, Watched::now).await)
}

async fn traces(State(watched): Shared, Named(id): Named<String>) -> Response {
    json(look(watched, move |run| run.traces(&id)).await)
}

async fn report(State(watched): Shared, student: Option<String>) -> Response {
    html(look(watched, move |run| run.report(student.as_deref())).await)
}
