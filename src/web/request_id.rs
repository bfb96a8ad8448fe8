//! The request id: taken from `x-request-id` or made, returned, and part of every log line that
//! the request causes.
//!
//! This is the outermost step of every request. The span that carries the id into log lines costs
//! as much as parsing an event does, and hardly any request causes a line. So a request runs inside
//! its span only where each one is told of anyway; elsewhere the [`Mark`] makes it for the line.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::Incoming;
use smol_str::SmolStr;
use tracing::{Instrument, Level, Span, debug, enabled, error, info_span, warn};
use uuid::{Builder, Uuid};

use crate::domain::ids::{EventId, Sequence};
use crate::web::Routes;
use crate::web::catalogue::Code;
use crate::web::problem::Problem;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a client; instead of a longer one a new one is made.
const MAX_ID_BYTES: usize = 128;

/// What log lines say about a request. Cheap to clone and to drop unused.
#[derive(Debug, Clone)]
pub struct Mark {
    id: HeaderValue,
    method: Method,
    /// A copy: the request's own lies in what its connection has read, and while anybody holds a piece
    /// of that, the connection has to take new memory for what comes next.
    path: SmolStr,
}

impl Mark {
    #[must_use]
    pub fn of(headers: &HeaderMap, method: &Method, uri: &Uri) -> Self {
        let id = headers.get(HEADER).filter(|id| is_usable(id)).cloned().unwrap_or_else(new_id);
        Self { id, method: method.clone(), path: uri.path().into() }
    }

    /// Log lines inside it name the request.
    #[must_use]
    pub fn span(&self) -> Span {
        info_span!(
            "request",
            request_id = self.id.to_str().unwrap_or_default(),
            method = %self.method,
            path = self.path.as_str(),
        )
    }
}

/// What the log is to say of a request: a handler lays it into the extensions of its answer, because
/// hardly any needs the mark for more than that.
#[derive(Debug, Clone)]
pub enum Note {
    QueryFailed(String),
    /// A repeated event whose content differs from the original's; so many there were by now.
    ContentDiffers {
        event_id: EventId,
        sequence: Sequence,
        total: u64,
    },
}

impl Note {
    fn write(self) {
        match self {
            Self::QueryFailed(error) => warn!(%error, "a query failed"),
            Self::ContentDiffers { event_id, sequence, total } => {
                warn!(%event_id, %sequence, total, "a known event_id came with another content");
            }
        }
    }
}

/// Answers a request by the routes. A panic of a handler is an answer too, and a log line.
pub(super) async fn answer(routes: Routes, mut request: Request<Incoming>) -> Result<Response, Infallible> {
    let mark = Mark::of(request.headers(), request.method(), request.uri());
    // For whoever makes its mark again.
    request.headers_mut().insert(HEADER, mark.id.clone());
    if !enabled!(Level::DEBUG) {
        return Ok(routed(routes, request, &mark).await);
    }
    let told = async {
        let start = Instant::now();
        let response = routed(routes, request, &mark).await;
        debug!(status = response.status().as_u16(), elapsed_us = start.elapsed().as_micros(), "answered");
        Ok(response)
    };
    told.instrument(mark.span()).await
}

async fn routed(routes: Routes, request: Request<Incoming>, mark: &Mark) -> Response {
    // Nothing is shared that a panic could leave half done: requests change state through the writer.
    let routed = AssertUnwindSafe(routes.answer(request)).catch_unwind().await;
    let mut response = routed.unwrap_or_else(|panic| mark.span().in_scope(|| internal_error(panic.as_ref())));
    if let Some(note) = response.extensions_mut().remove::<Note>() {
        mark.span().in_scope(|| note.write());
    }
    response.headers_mut().insert(HEADER, mark.id.clone());
    response
}

fn internal_error(panic: &(dyn Any + Send)) -> Response {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    error!(message, "a request handler panicked; this is a bug");
    Problem::new(Code::InternalError, "The service came upon a bug of its own.").into_response()
}

/// Visible ASCII only: the id goes into log lines.
fn is_usable(id: &HeaderValue) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// A UUID of version 7. Random is only where this process begins to count: asking the system for
/// random bytes takes longer than everything else about an id.
fn new_id() -> HeaderValue {
    static COUNTER: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(Uuid::now_v7().as_u64_pair().1));
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let mut unique = [0; 10];
    unique[2..].copy_from_slice(&count.to_be_bytes());
    let id = Builder::from_unix_timestamp_millis(u64::try_from(millis).unwrap_or_default(), &unique).into_uuid();
    let mut buffer = Uuid::encode_buffer();
    let text = id.hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(text).expect("a UUID is a valid header value")
}
