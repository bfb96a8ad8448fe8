//! Liveness and readiness, for whoever runs the service.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::web::catalogue::Code;
use crate::web::json::Json;
use crate::web::problem::Problem;
use crate::web::{App, SharedApp};

/// How long each check of readiness may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// A sign of life.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alive {
    #[schema(value_type = String, example = "alive")]
    status: &'static str,
}

/// What readiness looked at.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ok`, or what is wrong: the writer answers and the log takes records.
    #[schema(example = "ok")]
    pub log: String,
    /// `ok`, or what is wrong: the database answers and the projection is within its lag limit.
    #[schema(example = "ok")]
    pub projection: String,
    /// The last durable record.
    #[schema(example = 42)]
    head_sequence: u64,
    /// The last record whose effect is in the database.
    #[schema(example = 42)]
    projected_sequence: u64,
    /// How many events the projection is behind.
    #[schema(example = 0)]
    lag_events: u64,
    /// How often, since the start, a known `event_id` came with another content.
    #[schema(example = 0)]
    conflicting_duplicates: u64,
}

/// Is the process alive?
///
/// Says nothing about its work; for that see `/readyz`.
#[utoipa::path(get, path = "/livez", tag = "operations", operation_id = "livez",
    responses((status = 200, description = "It is", body = Alive)))]
pub async fn livez() -> Json<Alive> {
    Json(Alive { status: "alive" })
}

/// Can the service do its work?
///
/// Asks the writer whether the log could take records now, the database for its checkpoint, and holds the projection's
/// lag against its limit.
#[utoipa::path(get, path = "/readyz", tag = "operations", operation_id = "readyz",
    responses(
        (status = 200, description = "It can", body = Readiness),
        (status = 503, description = "It cannot; `checks` says why", body = inline(NotReady), content_type = "application/problem+json",
            headers(("retry-after" = u32, description = "Seconds to wait before the next attempt"))),
    ))]
pub async fn readyz(State(app): State<SharedApp>) -> Response {
    let (log, projection) = tokio::join!(check_log(&app), check_projection(&app));
    let ready = log.is_ok() && projection.is_ok();
    let words = |check: Result<(), String>| check.err().unwrap_or_else(|| "ok".to_owned());
    let readiness = Readiness {
        log: words(log),
        projection: words(projection),
        head_sequence: app.progress.durable().get(),
        projected_sequence: app.progress.projected().get(),
        lag_events: app.progress.lag_events(),
        conflicting_duplicates: app.progress.conflicting_duplicates(),
    };
    if ready {
        return Json(readiness).into_response();
    }
    let detail = format!("The log: {}. The projection: {}.", readiness.log, readiness.projection);
    NotReady { problem: Problem::new(Code::NotReady, detail), checks: readiness }.into_response()
}

/// A problem that carries what was checked.
#[derive(Debug, Serialize, ToSchema)]
struct NotReady {
    #[serde(flatten)]
    problem: Problem,
    checks: Readiness,
}

impl IntoResponse for NotReady {
    fn into_response(self) -> Response {
        self.problem.respond(&self)
    }
}

async fn check_log(app: &App) -> Result<(), String> {
    if app.progress.log_has_failed() {
        return Err("the log cannot be written; the process is about to end".into());
    }
    app.writer.check_log(CHECK_TIMEOUT).await
}

async fn check_projection(app: &App) -> Result<(), String> {
    let due = app.progress.projected();
    let checked = match timeout(CHECK_TIMEOUT, app.projection.checkpoint()).await {
        Ok(Ok(head)) if head.sequence >= due && app.progress.is_own(head) => Ok(()),
        Ok(Ok(head)) if head.sequence >= due => Err(format!(
            "the database stands at sequence {} of another history: does another server write it?",
            head.sequence
        )),
        Ok(Ok(head)) => Err(format!(
            "the database stands at sequence {}, but it had {due} already: is it another one?",
            head.sequence
        )),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the database did not answer within {} ms", CHECK_TIMEOUT.as_millis())),
    };
    if checked.is_err() {
        app.progress.doubt_projection();
    }
    checked?;
    if let Some(error) = app.progress.projection_error() {
        return Err(error);
    }
    let (lag_events, limit) = (app.progress.lag_events(), app.limits.lag_events);
    if lag_events >= limit {
        return Err(format!("the projection is {lag_events} events behind; the limit is {limit}"));
    }
    Ok(())
}
