//! Reading requests: the body of an event within its limits, and ids from paths.

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::{Instant, timeout_at};

use crate::web::catalogue::Code;
use crate::web::problem::Problem;
use crate::web::{SharedApp, WebLimits};

/// How much of a refused body is read and thrown away. A client that writes all before it reads
/// would otherwise lose the answer with its connection.
const DISCARDED_BYTES: usize = 1 << 20;

/// The bytes of a JSON body: of the right type, complete, in time, and not too many.
#[derive(Debug)]
pub struct JsonBytes(pub Bytes);

impl FromRequest<SharedApp> for JsonBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &SharedApp) -> Result<Self, Problem> {
        let deadline = Instant::now() + app.limits.body_timeout;
        if let Some(problem) = problem_of_head(request.headers(), &app.limits) {
            // Who asks beforehand is not told to go on.
            if !request.headers().contains_key(header::EXPECT) {
                discard(request.into_body(), deadline);
            }
            return Err(problem);
        }
        read(request.into_body(), &app.limits, deadline).await.map(Self)
    }
}

/// What is wrong before any of the body is read.
fn problem_of_head(headers: &HeaderMap, limits: &WebLimits) -> Option<Problem> {
    if !is_json(headers) {
        let detail = "The header content-type has to be application/json.";
        return Some(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let stated = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    stated.is_some_and(|length: u64| length > limits.body_bytes as u64).then(|| too_large(limits))
}

async fn read(mut body: Body, limits: &WebLimits, deadline: Instant) -> Result<Bytes, Problem> {
    let whole = Limited::new(&mut body, limits.body_bytes).collect();
    match timeout_at(deadline, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(body, deadline);
            Err(too_large(limits))
        }
        Ok(Err(error)) => Err(Problem::new(Code::BodyInterrupted, format!("The body could not be read: {error}."))),
        Err(_) => {
            let detail = format!("The body was not complete after {} ms.", limits.body_timeout.as_millis());
            Err(Problem::new(Code::BodyTimeout, detail))
        }
    }
}

/// Reads on while the answer is sent, within bounds; then the connection is closed.
fn discard(mut body: Body, deadline: Instant) {
    let read_on = async move {
        let mut left = DISCARDED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(fewer) => left = fewer,
                None => break,
            }
        }
    };
    tokio::spawn(timeout_at(deadline, read_on));
}

fn too_large(limits: &WebLimits) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("A body may have {} bytes at most.", limits.body_bytes))
}

/// `application/json` or a type built upon it, with whatever parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Ids from a path, decoded. What cannot be decoded cannot name anything that exists.
pub type PathIds<T> = Result<Path<T>, PathRejection>;
