//! `POST /events/batch`: many events in one request, each with its own verdict.
//!
//! The body is read and the answer written at the same time, so neither has to fit into memory. The
//! status is sent with the first bytes; what comes later is said in the answer's lines, the last of
//! which tells whether the answer is whole.

mod exchange;
pub mod intake;
pub mod lines;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use crate::application::ingest::Unavailable;
use crate::domain::event::split::Form;
use crate::web::batch::exchange::Exchange;
use crate::web::batch::intake::{Dialect, Gathered, Intake};
use crate::web::batch::lines::{AnswerLine, LineWriter};
use crate::web::catalogue::Code;
use crate::web::extract::{discard, is_json};
use crate::web::openapi::EventSchema;
use crate::web::outbox::outbox;
use crate::web::problem::Problem;
use crate::web::request_id::Mark;
use crate::web::{App, SharedApp};

/// How long the rest of a body that is cut is read and thrown away, so that its sender finds the last
/// line. A stop waits for that too.
const DISCARD_LIMIT: Duration = Duration::from_secs(1);

/// Report many events
///
/// Takes one event a line, or a JSON array of events, and answers with one line for each, in order, as
/// soon as it is on disk; the last line has the status `end`. Each event is judged as `POST /events`
/// judges it, after those before it, and one that is wrong spoils only itself. A line `unavailable`
/// ends the bulk: from there on nothing is recorded. Sending all of it again is always safe.
#[utoipa::path(
    post,
    path = "/events/batch",
    tag = "events",
    operation_id = "postEvents",
    request_body(description = "Events, as many as you like", content(
        (String = "application/x-ndjson"),
        (Vec<EventSchema> = "application/json"),
    )),
    responses(
        (status = 200, description = "The verdicts, one a line; whole when the last has the status `end`",
            body = AnswerLine<'_>, content_type = "application/x-ndjson"),
        (status = 400, description = "The body broke off before anything of it came", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "Nothing of the body arrived in time", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The content type is neither NDJSON nor JSON", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now; see `retry-after`", body = Problem, content_type = "application/problem+json",
            headers(("retry-after" = u32, description = "Seconds to wait before the next attempt"))),
    ),
)]
pub async fn post_batch(State(app): State<SharedApp>, request: Request) -> Result<Response, Problem> {
    respond(app, request, Dialect::Event).await
}

/// Begins a bulk. What is wrong at once is told by a status.
pub async fn respond(app: Arc<App>, request: Request, dialect: Dialect) -> Result<Response, Problem> {
    let deadline = Instant::now() + app.limits.body_timeout;
    let expects = request.headers().contains_key(header::EXPECT);
    let mark = Mark::of(request.headers(), request.method(), request.uri());
    let begun = begin(&app, request.headers());
    let mut body = request.into_body();
    let (form, place) = match begun {
        Ok(begun) => begun,
        Err(problem) => {
            // Who asks beforehand is not told to go on.
            if !expects {
                discard(body, deadline);
            }
            return Err(*problem);
        }
    };
    // The first bytes before the status: who asks beforehand is told to go on by that.
    let first = match timeout_at(deadline, next_bytes(&mut body)).await {
        Ok(Ok(first)) => first,
        Ok(Err(error)) => return Err(Problem::new(Code::BodyInterrupted, interrupted(&error))),
        Err(_) => return Err(Problem::new(Code::BodyTimeout, stalled(&app))),
    };
    let mut intake = Intake::new(form, dialect, app.limits.body_bytes);
    match first {
        Some(bytes) => intake.arrive(bytes),
        None => intake.end(),
    }
    let (outbox, answers) = outbox();
    tokio::spawn(async move {
        let _place: OwnedSemaphorePermit = place;
        let mut exchange = Exchange {
            gathered: Gathered::new(app.writer.chunk_room()),
            app: &app,
            mark,
            intake,
            outbox,
            lines: LineWriter::default(),
        };
        let Ok(cut) = exchange.run(&mut body).await else { return };
        let is_cut = cut.is_some();
        exchange.lines.end(cut);
        // Who went away needs no last line.
        let _ = exchange.lines.send(&exchange.outbox);
        if is_cut {
            discard(body, Instant::now() + DISCARD_LIMIT);
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(answers)).into_response())
}

/// What has to hold before the body is looked at.
fn begin(app: &App, headers: &HeaderMap) -> Result<(Form, OwnedSemaphorePermit), Box<Problem>> {
    let form = form_of(headers).ok_or_else(|| {
        let detail = "The header content-type has to be application/x-ndjson or application/json.";
        Problem::new(Code::UnsupportedMediaType, detail)
    })?;
    if app.progress.log_has_failed() {
        return Err(Problem::from(Unavailable::LogFailed).into());
    }
    if app.stop.is_cancelled() {
        return Err(Problem::from(Unavailable::Stopping).into());
    }
    let place = Arc::clone(&app.bulk_places).try_acquire_owned().map_err(|_| {
        Problem::new(Code::Overloaded, "As many bulks are under way as may be (LOCKSTREAM_MAX_BULK_REQUESTS).")
    })?;
    Ok((form, place))
}

fn form_of(headers: &HeaderMap) -> Option<Form> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Form::Lines),
        _ => is_json(headers).then_some(Form::Array),
    }
}

fn interrupted(error: &axum::Error) -> String {
    format!("The body could not be read: {error}.")
}

fn stalled(app: &App) -> String {
    format!("Nothing of the body arrived for {} ms.", app.limits.body_timeout.as_millis())
}

/// The next bytes of a body; `None` at its end. May be dropped before it is done.
async fn next_bytes(body: &mut Body) -> Result<Option<Bytes>, axum::Error> {
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
            // Trailers say nothing about events.
            _ => {}
        }
    }
    Ok(None)
}
