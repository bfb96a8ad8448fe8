//! `POST /events/batch`: many events in one request, each with its own verdict.
//!
//! The body is read and the answer written at the same time, so neither has to fit into memory. The
//! status is sent with the first bytes; what comes later is said in the answer's lines, the last of
//! which tells whether the answer is whole.

pub mod intake;
pub mod lines;

use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::application::ingest::Unavailable;
use crate::application::ingest::bulk::Outcome;
use crate::domain::event::split::{Broken, Form};
use crate::web::batch::intake::{Dialect, Gathered, Intake};
use crate::web::batch::lines::{AnswerLine, Cut, LineWriter, Slot};
use crate::web::catalogue::Code;
use crate::web::extract::{discard, is_json};
use crate::web::openapi::EventSchema;
use crate::web::outbox::{Gone, Outbox, outbox};
use crate::web::problem::Problem;
use crate::web::request_id::Mark;
use crate::web::{App, SharedApp};

/// How long a chunk that is not full waits for more of a body that is not at its end. Bodies come in
/// pieces of some kilobytes, and each chunk costs a sync.
const LINGER: Duration = Duration::from_millis(2);
/// The same where the length of the body was announced: its sender has all of it and is not waiting
/// for verdicts, but may be waiting for its turn on a busy machine.
const LINGER_FOR_REST: Duration = Duration::from_millis(20);
/// How long it waits at most while more keeps coming: of a body that comes in drops the first events
/// would never be recorded.
const LINGER_MOST: Duration = Duration::from_millis(100);

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

type Slots = Vec<(u64, Slot)>;
type InWriter<'a> = Option<(Slots, Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>)>;

/// One bulk under way: at most one chunk is with the writer while the next is read.
struct Exchange<'a> {
    app: &'a App,
    mark: Mark,
    intake: Intake,
    gathered: Gathered,
    outbox: Outbox,
    lines: LineWriter,
}

impl<'a> Exchange<'a> {
    /// Answers everything up to the end of the body, or up to where that has to be cut.
    async fn run(&mut self, body: &mut Body) -> Result<Option<Cut>, Gone> {
        let app = self.app;
        let (mut stopped, mut failed) = (pin!(app.stop.cancelled()), pin!(app.progress.wait_for_log_failure()));
        let mut in_writer: InWriter<'a> = None;
        let linger = if body.size_hint().exact().is_some() { LINGER_FOR_REST } else { LINGER };
        // Since when the client owes something, and whether what there is has waited long enough.
        let (mut stalled_since, mut lingered) = (None, false);
        let mut gathered_since: Option<Instant> = None;
        // What arrived whole before the body broke off is recorded all the same.
        let mut broke_off = None;
        loop {
            let has_room = match self.make_room(in_writer.is_none()).await {
                Ok(has_room) => has_room,
                Err(unavailable) => return self.give_up(unavailable).map(Some),
            };
            let is_full = self.outbox.is_full();
            if has_room && !is_full {
                if !self.intake.fill(&mut self.gathered, &app.writer.bulk_limits()) {
                    yield_now().await;
                    continue;
                }
                if in_writer.is_none() && self.gathered.is_empty() && self.intake.is_parked() {
                    // A line that had no room: above it is waited for.
                    continue;
                }
            }
            if !self.gathered.is_empty() {
                lingered |= gathered_since.get_or_insert_with(Instant::now).elapsed() >= LINGER_MOST;
            }
            let is_done = self.intake.is_done() || broke_off.is_some();
            if in_writer.is_none() && !self.gathered.is_empty() {
                if self.gathered.is_closed || is_done || is_full || lingered {
                    if app.stop.is_cancelled() {
                        return self.give_up(Unavailable::Stopping).map(Some);
                    }
                    in_writer = Some(self.hand_in());
                    (lingered, gathered_since) = (false, None);
                    continue;
                }
            } else if in_writer.is_none() && is_done {
                let broken = self.intake.broken();
                return Ok(
                    broke_off.or_else(|| broken.map(|broken| Cut::Because(Code::InvalidArray, sentence(broken))))
                );
            }
            let can_read = has_room && !is_full && !self.gathered.is_closed && !self.intake.is_parked();
            let wants_more = can_read && !is_done;
            let waits_for_client = wants_more && in_writer.is_none();
            let patience = match stalled_since {
                _ if !waits_for_client => None,
                _ if !self.gathered.is_empty() => Some(Instant::now() + linger),
                // Whoever runs the service may take their time.
                _ if self.intake.dialect() == Dialect::AnyKept => None,
                since => Some(*stalled_since.insert(since.unwrap_or_else(Instant::now)) + app.limits.body_timeout),
            };
            tokio::select! {
                biased;
                outcome = async { in_writer.as_mut().expect("it is looked at where there is one").1.as_mut().await },
                    if in_writer.is_some() => {
                    let (slots, _) = in_writer.take().expect("it was just awaited");
                    let cut = outcome.stopped_by;
                    self.tell(slots, outcome)?;
                    if let Some(unavailable) = cut {
                        return self.give_up(unavailable).map(Some);
                    }
                    stalled_since = None;
                }
                () = &mut failed, if in_writer.is_none() => return self.give_up(Unavailable::LogFailed).map(Some),
                () = &mut stopped, if in_writer.is_none() => return self.give_up(Unavailable::Stopping).map(Some),
                room = self.outbox.room(), if is_full => room?,
                arrived = within(patience, next_bytes(body)), if wants_more => match arrived {
                    Some(Ok(Some(bytes))) => {
                        self.intake.arrive(bytes);
                        stalled_since = None;
                    }
                    Some(Ok(None)) => self.intake.end(),
                    Some(Err(error)) => broke_off = Some(Cut::Because(Code::BodyInterrupted, interrupted(&error))),
                    None if self.gathered.is_empty() => {
                        return Ok(Some(Cut::Because(Code::BodyTimeout, stalled(app))));
                    }
                    None => lingered = true,
                },
            }
        }
    }

    /// Whether there is room for what waits outside the chunk. Waits for it where that holds up
    /// nobody: with nothing in hand that could be handed in.
    async fn make_room(&mut self, may_wait: bool) -> Result<bool, Unavailable> {
        let Self { app, intake, gathered, .. } = self;
        let bytes = gathered.bytes() + intake.waiting_bytes();
        if gathered.room.grow_to(bytes).is_ok() {
            return Ok(true);
        }
        if !gathered.is_empty() {
            gathered.is_closed = true;
            return Ok(false);
        }
        if may_wait {
            app.writer.grow(&mut gathered.room, bytes, &app.stop).await?;
        }
        Ok(may_wait)
    }

    fn hand_in(&mut self) -> (Slots, Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>) {
        let app = self.app;
        let gathered = mem::replace(&mut self.gathered, Gathered::new(app.writer.chunk_room()));
        let (slots, chunk) = gathered.into_chunk();
        if chunk.events.is_empty() {
            let nothing = Outcome { verdicts: Vec::new(), stopped_by: None };
            return (slots, Box::pin(std::future::ready(nothing)));
        }
        (slots, Box::pin(app.writer.submit_chunk(chunk, &app.stop)))
    }

    fn tell(&mut self, slots: Slots, outcome: Outcome) -> Result<(), Gone> {
        let (count, first) = (slots.len(), slots.first().map_or(0, |(line, _)| *line));
        let differing = self.lines.chunk(slots, outcome, self.app.limits.body_bytes);
        if differing > 0 {
            let total = self.app.progress.conflicting_duplicates();
            self.mark.span().in_scope(|| {
                warn!(differing, first, count, total, "known event_ids of a bulk came with another content");
            });
        }
        self.lines.send(&self.outbox)
    }

    /// Answers what is in hand without having it judged.
    fn give_up(&mut self, unavailable: Unavailable) -> Result<Cut, Gone> {
        self.intake.give_up(&mut self.gathered);
        let slots = mem::take(&mut self.gathered.slots);
        self.tell(slots, Outcome { verdicts: Vec::new(), stopped_by: Some(unavailable) })?;
        Ok(Cut::Unavailable(unavailable))
    }
}

/// What a future gives, or `None` after a while.
async fn within<T>(patience: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match patience {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

fn sentence(broken: Broken) -> String {
    let words = broken.to_string();
    let mut characters = words.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    format!("{}.", first.chain(characters).collect::<String>())
}
