//! A JSON document as the body of a response.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// Answers with a document.
pub(super) struct Json(pub(super) Value);

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (kind, self.0.to_string()).into_response()
    }
}
