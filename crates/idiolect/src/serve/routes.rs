//! Which address is answered by what, who may ask, and how much may be sent.

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body::Body as _;
use serde_json::json;

use super::error::ApiError;
use super::json::Json;
use super::{App, chat, completions, tokenize};

/// Time in which a body must come.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The addresses that are served, as the counters name them.
const ROUTES: [&str; 7] = [
    "/health",
    "/metrics",
    "/v1/models",
    "/v1/completions",
    "/v1/chat/completions",
    "/tokenize",
    "/detokenize",
];

/// All that is served.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(models))
        .route(
            "/v1/completions",
            post(|State(app): Shared, body: Body| with_body(app, body, completions::answer)),
        )
        .route(
            "/v1/chat/completions",
            post(|State(app): Shared, body: Body| with_body(app, body, chat::answer)),
        )
        .route(
            "/tokenize",
            post(|State(app): Shared, body: Body| with_body(app, body, tokenize::tokenize)),
        )
        .route(
            "/detokenize",
            post(|State(app): Shared, body: Body| with_body(app, body, tokenize::detokenize)),
        )
        .fallback(|request: Request| async move { ApiError::no_route(request.uri().path()) })
        .method_not_allowed_fallback(|| async { ApiError::wrong_method() })
        .layer(middleware::from_fn_with_state(Arc::clone(&app), check))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), count))
        .with_state(app)
}

type Shared = State<Arc<App>>;

/// Counts what is answered.
async fn count(State(app): Shared, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let route = ROUTES.into_iter().find(|route| *route == path);
    let response = next.run(request).await;
    let status = response.status();
    app.metrics
        .answered(route.unwrap_or("other"), status.as_u16());
    if status == StatusCode::TOO_MANY_REQUESTS {
        app.metrics.queue_refusals.add(1);
    }
    response
}

/// Lets those through who have the key, to all but `/health`, and nobody to a server that stops.
async fn check(State(app): Shared, request: Request, next: Next) -> Response {
    if request.uri().path() != "/health" {
        if let Some(key) = &app.key
            && !bearer(&request).is_some_and(|given| same(given.as_bytes(), key.as_bytes()))
        {
            return ApiError::no_key().into_response();
        }
        if app.stopping.load(Ordering::Relaxed) {
            return ApiError::stopping().into_response();
        }
    }
    next.run(request).await
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request
        .headers()
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Whether two texts are equal, in a time that depends on the first's length alone.
fn same(given: &[u8], key: &[u8]) -> bool {
    let mut differ = u8::from(given.len() != key.len());
    for (i, byte) in given.iter().enumerate() {
        differ |= black_box(byte ^ key.get(i % key.len().max(1)).unwrap_or(&0));
    }
    black_box(differ) == 0
}

/// Whether a body could not be read because it goes on beyond its limit; its error has no other sign.
fn is_too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Reads a body within its limits and hands it on.
async fn with_body<F: Future<Output = Result<Response, ApiError>>>(
    app: Arc<App>,
    body: Body,
    answer: impl FnOnce(Arc<App>, Vec<u8>) -> F,
) -> Response {
    let limit = app.max_body;
    // A length that is stated beforehand is not waited for.
    if body.size_hint().lower() > limit as u64 {
        return ApiError::too_large(limit).into_response();
    }
    let read = tokio::time::timeout(BODY_TIME, to_bytes(body, limit)).await;
    let body = match read {
        Err(_) => return ApiError::too_slow().into_response(),
        Ok(Err(error)) if is_too_long(&error) => {
            return ApiError::too_large(limit).into_response();
        }
        Ok(Err(error)) => {
            let message = format!("the body cannot be read: {error}");
            return ApiError::bad(message).into_response();
        }
        Ok(Ok(body)) => body.to_vec(),
    };
    match answer(app, body).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn health(State(app): Shared) -> Response {
    if app.stopping.load(Ordering::Relaxed) {
        return ApiError::stopping().into_response();
    }
    Json(json!({"status": "ok"})).into_response()
}

async fn metrics(State(app): Shared) -> Response {
    let counts = app.scheduler.queue.counts();
    let text = app.metrics.text(counts, app.scheduler.n_scoring());
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, text).into_response()
}

async fn models(State(app): Shared) -> Response {
    let info = &app.info;
    let model = |name: &String| {
        json!({
            "id": name,
            "object": "model",
            "created": app.started,
            "owned_by": "idiolect",
            "max_model_len": app.max_model_len(),
            "idiolect": {
                "version": env!("CARGO_PKG_VERSION"),
                "hash": info.hash,
                "tokenizer_hash": info.tokenizer_hash,
                "template": info.template,
                "end_token_id": app.tokenizer().end(),
            },
        })
    };
    let models: Vec<_> = app.names.iter().take(1).map(model).collect();
    Json(json!({"object": "list", "data": models})).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_equal_only_whole() {
        assert!(same(b"secret", b"secret"));
        for other in ["", "secre", "secrets", "secretsecret", "Secret", "zecret"] {
            assert!(!same(other.as_bytes(), b"secret"), "{other}");
        }
    }
}
