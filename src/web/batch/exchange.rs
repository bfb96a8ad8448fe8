//! One bulk under way: its body comes in, chunks go to the writer, verdicts go out.

use std::mem;
use std::pin::{Pin, pin};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Body as _;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::application::ingest::Unavailable;
use crate::application::ingest::bulk::Outcome;
use crate::domain::event::split::Broken;
use crate::web::App;
use crate::web::batch::intake::{Dialect, Gathered, Intake};
use crate::web::batch::lines::{Cut, LineWriter, Slot};
use crate::web::batch::{interrupted, next_bytes, stalled};
use crate::web::catalogue::Code;
use crate::web::outbox::{Gone, Outbox};
use crate::web::request_id::Mark;

/// How long a chunk that is not full waits for more of a body that is not at its end. Bodies come in
/// pieces of some kilobytes, and each chunk costs a sync.
const LINGER: Duration = Duration::from_millis(2);
/// The same where the length of the body was announced: its sender has all of it and is not waiting
/// for verdicts, but may be waiting for its turn on a busy machine.
const LINGER_FOR_REST: Duration = Duration::from_millis(20);
/// How long it waits at most while more keeps coming: of a body that comes in drops the first events
/// would never be recorded.
const LINGER_MOST: Duration = Duration::from_millis(100);

type Slots = Vec<(u64, Slot)>;
type InWriter<'a> = Option<(Slots, Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>)>;

/// One bulk under way: at most one chunk is with the writer while the next is read.
pub(super) struct Exchange<'a> {
    pub(super) app: &'a App,
    pub(super) mark: Mark,
    pub(super) intake: Intake,
    pub(super) gathered: Gathered,
    pub(super) outbox: Outbox,
    pub(super) lines: LineWriter,
}

impl<'a> Exchange<'a> {
    /// Answers everything up to the end of the body, or up to where that has to be cut.
    pub(super) async fn run(&mut self, body: &mut Body) -> Result<Option<Cut>, Gone> {
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
