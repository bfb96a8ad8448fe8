//! The answers that everybody asks for all day, as JSON.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// What usual answers fit in. One that grows while it is written is copied.
const USUAL_BYTES: usize = 256;

/// A body of JSON. The framework's own begins with less room than an answer needs, and takes each piece
/// of it through several hands.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(USUAL_BYTES);
        serde_json::to_writer(&mut body, &self.0).expect("texts and numbers have a JSON form");
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
    }
}
