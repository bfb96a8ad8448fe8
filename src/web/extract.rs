//! Reading requests: the body of an event within its limits, and ids from paths.

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

use crate::application::inflight::Room;
use crate::application::ingest::Unavailable;
use crate::web::catalogue::Code;
use crate::web::problem::Problem;
use crate::web::{SharedApp, WebLimits};

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
        let announced = announced(request.headers());
        let room = match problem_of_head(request.headers(), announced, &app.limits) {
            Some(problem) => Err(problem),
            None => app.writer.room(announced).map_err(Problem::from),
        };
        match room {
            Ok(room) => read(request.into_body(), room, &app.limits, deadline).await,
            Err(problem) => {
                // Who asks beforehand is not told to go on.
                if !request.headers().contains_key(header::EXPECT) {
                    discard(request.into_body(), deadline);
                }
                Err(problem)
            }
        }
    }
}

/// The length that is announced, 0 where there is none.
fn announced(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    usize::try_from(length.unwrap_or(0_u64)).unwrap_or(usize::MAX)
}

/// What is wrong before any of the body is read.
fn problem_of_head(headers: &HeaderMap, announced: usize, limits: &WebLimits) -> Option<Problem> {
    if !is_json(headers) {
        let detail = "The header content-type has to be application/json.";
        return Some(Problem::new(Code::UnsupportedMediaType, detail));
    }
    (announced > limits.body_bytes).then(|| too_large(limits))
}

async fn read(mut body: Body, room: Room, limits: &WebLimits, deadline: Instant) -> Result<JsonBody, Problem> {
    match timeout_at(deadline, receive(&mut body, room, limits)).await {
        Ok(Ok(received)) => Ok(received),
        Ok(Err(NotReceived::TooLarge)) => {
            discard(body, deadline);
            Err(too_large(limits))
        }
        Ok(Err(NotReceived::NoRoom(unavailable))) => {
            discard(body, deadline);
            Err(unavailable.into())
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
    TooLarge,
    NoRoom(Unavailable),
    Broken(axum::Error),
}

/// Reads a body into memory that its room covers. Most come in one piece and are taken as they are.
/// Pieces of others are copied together: each keeps a whole buffer of its connection alive, be it one
/// byte long, and a body sent byte by byte would keep thousands.
async fn receive(body: &mut Body, mut room: Room, limits: &WebLimits) -> Result<JsonBody, NotReceived> {
    let announced = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let most = announced.unwrap_or(limits.body_bytes);
    let mut bytes = Vec::new();
    let mut make_room = |bytes| room.grow_to(bytes).map_err(NotReceived::NoRoom);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(NotReceived::Broken)?.into_data() else { continue };
        let length = bytes.len() + piece.len();
        if length > limits.body_bytes {
            return Err(NotReceived::TooLarge);
        }
        if bytes.is_empty() && body.is_end_stream() {
            make_room(length)?;
            return Ok(JsonBody { bytes: piece, room });
        }
        if length > bytes.capacity() {
            let capacity = length.max(2 * bytes.capacity()).min(most);
            make_room(capacity)?;
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(JsonBody { bytes: bytes.into(), room })
}

/// Reads on while the answer is sent, within bounds; then the connection is closed.
pub(super) fn discard(mut body: Body, deadline: Instant) {
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
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    if value == "application/json" {
        return true;
    }
    let Ok(value) = value.to_str() else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    let suffix = subtype.rsplit_once('+').map_or(subtype, |(_, suffix)| suffix);
    kind.eq_ignore_ascii_case("application") && suffix.eq_ignore_ascii_case("json")
}

/// Ids from a path, decoded. What cannot be decoded cannot name anything that exists.
pub type PathIds<T> = Result<Path<T>, PathRejection>;
