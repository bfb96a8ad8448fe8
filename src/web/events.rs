//! `POST /events`: the way in.

use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::application::ingest::{Answer, Verdict};
use crate::domain::event::parse::ReceivedEvent;
use crate::web::SharedApp;
use crate::web::extract::JsonBody;
use crate::web::json::Json;
use crate::web::openapi::EventSchema;
use crate::web::problem::Problem;
use crate::web::request_id::Note;

/// What became of an event that was taken in, now or before.
#[derive(Debug, Serialize, ToSchema)]
pub struct Receipt {
    #[schema(value_type = uuid::Uuid, example = "01890a5d-ac96-774b-bcce-b302099a8001")]
    event_id: String,
    status: ReceiptStatus,
    /// The place of the event in the log; for a duplicate that of the original.
    #[schema(example = 1)]
    sequence: u64,
    /// When the service recorded the event; for a duplicate the original.
    #[schema(value_type = String, format = DateTime, example = "2026-11-21T08:00:00.123456Z")]
    recorded_at: String,
    /// Only on a duplicate whose body differs from the original's, and then always false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    content_matches: Option<bool>,
}

/// Whether the event is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptStatus {
    Accepted,
    Duplicate,
}

/// [`post_event`] with its body still to be read.
pub(super) async fn receive_event(State(app): State<SharedApp>, request: Request) -> Result<Response, Problem> {
    let body = JsonBody::from_request(request, &app).await?;
    post_event(State(app), body).await
}

/// Report one event
///
/// Takes in a fact, or says why it is refused. An answer of 202 means that the event is on disk
/// and will never be lost. An `event_id` that was accepted before is answered with 200 and changes
/// nothing, whatever the rest of the body says, so repeating an event is always safe. A refused
/// event leaves no trace and may be sent again.
#[utoipa::path(
    post,
    path = "/events",
    tag = "events",
    operation_id = "postEvent",
    request_body(content_type = "application/json", description = "One event", content = EventSchema),
    responses(
        (status = 202, description = "Accepted: recorded for ever", body = Receipt),
        (status = 200, description = "Duplicate: the `event_id` was accepted before", body = Receipt),
        (status = 400, description = "The body broke off", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A rule refuses the event; `code` names it", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The content type is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not a valid event; `errors` lists every problem", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now; see `retry-after`", body = Problem, content_type = "application/problem+json",
            headers(("retry-after" = u32, description = "Seconds to wait before the next attempt"))),
        (status = 507, description = "The log's disk is full; see `retry-after`", body = Problem, content_type = "application/problem+json",
            headers(("retry-after" = u32, description = "Seconds to wait before the next attempt"))),
    ),
)]
pub async fn post_event(State(app): State<SharedApp>, body: JsonBody) -> Result<Response, Problem> {
    let place = app.writer.place()?;
    let event = ReceivedEvent::parse(&body.bytes).map_err(Problem::invalid_event)?;
    // The event has its own bytes: those that came must not wait with it.
    let JsonBody { bytes, mut room } = body;
    drop(bytes);
    room.grow_to(event.waiting_bytes())?;
    let Answer { event_id, verdict, durable } = place.submit(event, room).await?;
    let (status, receipt_status, sequence, recorded_at, content_matches) = match verdict {
        Verdict::Accepted { sequence, recorded_at } => {
            (StatusCode::ACCEPTED, ReceiptStatus::Accepted, sequence, recorded_at, true)
        }
        Verdict::Duplicate { sequence, recorded_at, content_matches } => {
            (StatusCode::OK, ReceiptStatus::Duplicate, sequence, recorded_at, content_matches)
        }
        Verdict::Refused(violation) => return Err(violation.into()),
        Verdict::Invalid(problems) => return Err(Problem::invalid_event(problems)),
    };
    assert!(sequence <= durable.head().sequence, "an answer rests on synced history alone");
    let receipt = Receipt {
        event_id: event_id.to_string(),
        status: receipt_status,
        sequence: sequence.get(),
        recorded_at: recorded_at.to_string(),
        content_matches: (!content_matches).then_some(false),
    };
    let mut response = (status, Json(receipt)).into_response();
    if !content_matches {
        let total = app.progress.conflicting_duplicates();
        response.extensions_mut().insert(Note::ContentDiffers { event_id, sequence, total });
    }
    Ok(response)
}
