//! Answers in pieces: server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde_json::Value;
use tokio::sync::mpsc;

/// Pieces that wait for a client that reads slowly; the writer of the stream waits then, not the
/// engine.
const PIECES: usize = 16;

/// Where the pieces of a stream are put.
pub(super) struct Pieces(mpsc::Sender<Bytes>);

impl Pieces {
    /// Sends an event; `false` where the client left.
    pub(super) async fn send(&self, document: &Value) -> bool {
        self.put(format!("data: {document}\n\n")).await
    }

    /// Sends what ends a stream.
    pub(super) async fn done(&self) -> bool {
        self.put("data: [DONE]\n\n".to_owned()).await
    }

    async fn put(&self, text: String) -> bool {
        self.0.send(Bytes::from(text)).await.is_ok()
    }

    /// Returns when the client left.
    pub(super) async fn left(&self) {
        self.0.closed().await;
    }
}

/// A stream and the response that carries it.
pub(super) fn stream() -> (Pieces, Response) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let response = (headers, Body::new(Stream(receiver))).into_response();
    (Pieces(sender), response)
}

struct Stream(mpsc::Receiver<Bytes>);

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
