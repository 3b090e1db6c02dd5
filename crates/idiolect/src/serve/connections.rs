//! Connections: taken, bounded in number and patience, and seen to their end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections at a time; who comes beyond waits to be taken.
const MOST: u32 = 1000;

/// Time in which a request's head must come, also on a connection that is kept.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// All connections of a server.
pub(super) struct Connections {
    router: Router,
    places: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

impl Connections {
    pub(super) fn new(router: Router) -> Self {
        Self {
            router,
            places: Arc::new(Semaphore::new(MOST as usize)),
            stopping: watch::Sender::new(false),
        }
    }

    /// Takes connections for ever.
    pub(super) async fn accept(&self, listener: &TcpListener) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => self.begin(stream, place),
                // Too many open files, or a client that is gone: others may be better off.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn begin(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        // Pieces of a stream are small and wanted at once.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(self.router.clone());
        let mut stopping = self.stopping.subscribe();
        tokio::spawn(async move {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(64 << 10);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            tokio::select! {
                // How a connection breaks is its client's business.
                _ = connection.as_mut() => {}
                _ = async { stopping.wait_for(|stopping| *stopping).await.is_ok() } => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(place);
        });
    }

    /// Lets each connection finish the request that it is at, and returns when all have.
    pub(super) async fn finish(&self) {
        self.stopping.send_replace(true);
        // All places are free when nobody holds one.
        let _ = self.places.acquire_many(MOST).await;
    }
}
