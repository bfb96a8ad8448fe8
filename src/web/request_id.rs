//! The request id: taken from `x-request-id` or made, returned, and part of every log line that
//! the request causes.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument, debug, info_span};
use uuid::Uuid;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a client; instead of a longer one a new one is made.
const MAX_ID_BYTES: usize = 128;

/// Wraps a request: the outermost layer.
pub async fn in_request(request: Request, next: Next) -> Response {
    let id = request.headers().get(HEADER).filter(|id| is_usable(id)).cloned().unwrap_or_else(new_id);
    let span = info_span!(
        "request",
        request_id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
    );
    async move {
        let start = Instant::now();
        let mut response = next.run(request).await;
        debug!(status = response.status().as_u16(), elapsed_us = start.elapsed().as_micros(), "answered");
        response.headers_mut().insert(HEADER, id);
        response
    }
    .instrument(span)
    .await
}

/// Visible ASCII only: the id goes into log lines.
fn is_usable(id: &HeaderValue) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

fn new_id() -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    let id = Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(id).expect("a UUID is a valid header value")
}
