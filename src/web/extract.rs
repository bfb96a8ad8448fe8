//! Reading requests: the body of an event within its limits, and ids from paths.

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

use crate::application::inflight::Room;
use crate::web::catalogue::Code;
use crate::web::problem::Problem;
use crate::web::{App, SharedApp, WebLimits};

/// How much of a refused body is read and thrown away. A client that writes all before it reads
/// would otherwise lose the answer with its connection.
const DISCARDED_BYTES: usize = 1 << 20;

/// A JSON body: of the right type, complete, in time, not too large, and with room in memory.
#[derive(Debug)]
pub struct JsonBody {
    pub bytes: Bytes,
    pub room: Room,
}

impl FromRequest<SharedApp> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &SharedApp) -> Result<Self, Problem> {
        let deadline = Instant::now() + app.limits.body_timeout;
        let room = match admit(request.headers(), app) {
            Ok(room) => room,
            Err(problem) => {
                // Who asks beforehand is not told to go on.
                if !request.headers().contains_key(header::EXPECT) {
                    discard(request.into_body(), deadline);
                }
                return Err(problem);
            }
        };
        read(request.into_body(), room, &app.limits, deadline).await
    }
}

/// Looks for what is wrong before any of the body is read.
fn admit(headers: &HeaderMap, app: &App) -> Result<Room, Problem> {
    if !is_json(headers) {
        let detail = "The header content-type has to be application/json.";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let announced: u64 = announced.unwrap_or_default();
    match usize::try_from(announced) {
        Ok(announced) if announced <= app.limits.body_bytes => Ok(app.writer.room(announced)?),
        _ => Err(too_large(&app.limits)),
    }
}

async fn read(mut body: Body, room: Room, limits: &WebLimits, deadline: Instant) -> Result<JsonBody, Problem> {
    match timeout_at(deadline, receive(&mut body, room, limits)).await {
        Ok(Ok(received)) => Ok(received),
        Ok(Err(NotReceived::Refused(problem))) => {
            discard(body, deadline);
            Err(problem)
        }
        Ok(Err(NotReceived::Broken(error))) => {
            Err(Problem::new(Code::BodyInterrupted, format!("The body could not be read: {error}.")))
        }
        Err(_) => {
            let detail = format!("The body was not complete after {} ms.", limits.body_timeout.as_millis());
            Err(Problem::new(Code::BodyTimeout, detail))
        }
    }
}

/// Why a body did not come to its end, within its time.
enum NotReceived {
    /// There is more of it than may be.
    Refused(Problem),
    Broken(axum::Error),
}

/// Reads a body into memory that its room covers. Most come in one piece and are taken as they are.
/// Pieces of others are copied together: each keeps a whole buffer of its connection alive, be it one
/// byte long, and a body sent byte by byte would keep thousands.
async fn receive(body: &mut Body, mut room: Room, limits: &WebLimits) -> Result<JsonBody, NotReceived> {
    let mut bytes = Vec::new();
    let mut make_room = |bytes| room.grow_to(bytes).map_err(|error| NotReceived::Refused(error.into()));
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(NotReceived::Broken)?.into_data() else { continue };
        let length = bytes.len() + piece.len();
        if length > limits.body_bytes {
            return Err(NotReceived::Refused(too_large(limits)));
        }
        if bytes.is_empty() && body.is_end_stream() {
            make_room(length)?;
            return Ok(JsonBody { bytes: piece, room });
        }
        if length > bytes.capacity() {
            let capacity = length.max(2 * bytes.capacity()).min(limits.body_bytes);
            make_room(capacity)?;
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(JsonBody { bytes: bytes.into(), room })
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
