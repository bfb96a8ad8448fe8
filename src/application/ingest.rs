//! Handing events to the writer and waiting for its answer: the way in.
//!
//! Everything here is bounded. A full queue refuses at once, so that a caller learns of overload
//! while its request is still worth something, and no wait is longer than its limit. Many events of
//! one sender go another way, [`bulk`], which waits instead.

pub mod bulk;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::application::inflight::{Budget, Room};
use crate::application::ingest::bulk::{BulkLimits, BulkSubmission};
use crate::application::ports::{Archived, Durable, NoRoom};
use crate::application::progress::Progress;
use crate::domain::event::json::Problem;
use crate::domain::event::parse::ReceivedEvent;
use crate::domain::ids::{EventId, Sequence};
use crate::domain::record::{Head, RecordedAt};
use crate::domain::rows::Rows;
use crate::domain::violation::Violation;

/// What the writer found about an event.
#[derive(Debug)]
pub enum Verdict {
    /// It is a new fact and recorded.
    Accepted { sequence: Sequence, recorded_at: RecordedAt },
    /// Its id was accepted before; this repetition changed nothing. Tells of the original.
    Duplicate { sequence: Sequence, recorded_at: RecordedAt, content_matches: bool },
    /// A rule refuses it.
    Refused(Violation),
    /// Its payload is not valid for its type.
    Invalid(Vec<Problem>),
}

/// A verdict, and the proof that the history it rests on survives a crash.
#[derive(Debug)]
pub struct Answer {
    pub event_id: EventId,
    pub verdict: Verdict,
    pub durable: Durable,
}

/// Why an event got no verdict. Sending it again later, under the same id, is always safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("more events are waiting to be recorded than the queue holds")]
    QueueFull,
    #[error("the events under way have all the memory that they may have")]
    InflightFull,
    #[error("the projection is too far behind the log to take in more")]
    ProjectionBehind,
    #[error("the log's disk is full; nothing was recorded")]
    LogFull,
    #[error("the log cannot be written for now; nothing was recorded")]
    LogUnwritable,
    #[error("whether this was recorded before cannot be read for now; nothing was recorded")]
    PastUnreadable,
    #[error("the log cannot be written; the service is about to end")]
    LogFailed,
    #[error("the service is stopping")]
    Stopping,
    #[error("the event was not recorded in time; whether it will be is unknown")]
    NoAnswerInTime,
}

/// What the writer's queue carries.
pub(crate) enum Command {
    Submit(Submission),
    /// Many events of one sender, to be judged in their order.
    Bulk(BulkSubmission),
    Aside(Aside),
    /// Answer what is queued, then end.
    Stop,
}

/// What the writer does between two batches.
pub(crate) enum Aside {
    /// Hand out the rows of everything touched since the last time, as they are at the durable
    /// head.
    TakeRows(oneshot::Sender<(Rows, Head)>),
    /// Forget what this archive knows, and ask it.
    Forget(Archived),
    /// Say whether the log could take records now.
    CheckLog(oneshot::Sender<Result<(), NoRoom>>),
}

pub(crate) struct Submission {
    pub event: ReceivedEvent,
    pub reply: Reply,
}

/// The way back to the caller. Whoever holds this holds the event's room.
pub(crate) struct Reply {
    sender: oneshot::Sender<Result<Answer, Unavailable>>,
    room: Room,
}

/// The caller gave up before the answer came.
pub(crate) struct NobodyWaits;

impl Reply {
    /// Gives the room back and answers: who has the answer finds the room free.
    pub(crate) fn send(self, answer: Result<Answer, Unavailable>) -> Result<(), NobodyWaits> {
        let Self { sender, room } = self;
        drop(room);
        sender.send(answer).map_err(|_| NobodyWaits)
    }
}

/// The writer's queue, seen from outside. Cheap to clone.
#[derive(Clone)]
pub struct WriterQueue {
    commands: mpsc::Sender<Command>,
    progress: Arc<Progress>,
    answer_within: Duration,
    inflight: Arc<Budget>,
    /// What bulks may have of that.
    bulk_inflight: Arc<Budget>,
    bulk: BulkLimits,
}

/// A place in the writer's queue that nobody else gets.
pub struct Place<'q> {
    permit: mpsc::Permit<'q, Command>,
    answer_within: Duration,
}

impl Place<'_> {
    /// Submits an event and waits for the verdict, which comes only after the log is synced.
    pub async fn submit(self, event: ReceivedEvent, room: Room) -> Result<Answer, Unavailable> {
        let (sender, answer) = oneshot::channel();
        let reply = Reply { sender, room };
        self.permit.send(Command::Submit(Submission { event, reply }));
        match timeout(self.answer_within, answer).await {
            Ok(Ok(answer)) => answer,
            // Only a writer that goes down drops what it took.
            Ok(Err(_)) => Err(Unavailable::LogFailed),
            Err(_) => Err(Unavailable::NoAnswerInTime),
        }
    }
}

impl WriterQueue {
    pub(crate) fn new(
        commands: mpsc::Sender<Command>,
        progress: Arc<Progress>,
        answer_within: Duration,
        inflight_bytes: usize,
        bulk: BulkLimits,
    ) -> Self {
        let inflight = Budget::new(inflight_bytes);
        let bulk_inflight = inflight.share(bulk.inflight_bytes);
        Self { commands, progress, answer_within, inflight, bulk_inflight, bulk }
    }

    /// Room for an event that begins to arrive, of which so many bytes are announced.
    pub fn room(&self, announced_bytes: usize) -> Result<Room, Unavailable> {
        self.inflight.room(announced_bytes)
    }

    /// A place in the queue, for an event that is there and not looked at yet: under overload what
    /// is turned away should cost little.
    pub fn place(&self) -> Result<Place<'_>, Unavailable> {
        let permit = self.commands.try_reserve().map_err(|error| self.turned_away(&error))?;
        Ok(Place { permit, answer_within: self.answer_within })
    }

    /// Whether the writer answers within `limit` and the log could take records now; the error is
    /// a sentence.
    pub async fn check_log(&self, limit: Duration) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let checked = async {
            // A full queue is no reason to say no: whoever waits for a place gets one.
            self.commands.send(Command::Aside(Aside::CheckLog(reply))).await.ok()?;
            answer.await.ok()
        };
        match timeout(limit, checked).await {
            Ok(Some(checked)) => checked.map_err(|no_room| no_room.to_string()),
            Ok(None) => Err(self.ended().to_string()),
            Err(_) => Err(format!("the writer did not answer within {} ms", limit.as_millis())),
        }
    }

    /// Rows and head for the projection; `None` when the writer has ended.
    pub async fn take_rows(&self) -> Option<(Rows, Head)> {
        self.take(Aside::TakeRows).await
    }

    /// Tells the writer what it need not hold any more; false when that has ended. For a thread of
    /// its own: waits for a place in the queue.
    pub(crate) fn forget(&self, archived: Archived) -> bool {
        self.commands.blocking_send(Command::Aside(Aside::Forget(archived))).is_ok()
    }

    async fn take(&self, aside: impl FnOnce(oneshot::Sender<(Rows, Head)>) -> Aside) -> Option<(Rows, Head)> {
        let (reply, rows) = oneshot::channel();
        self.commands.send(Command::Aside(aside(reply))).await.ok()?;
        rows.await.ok()
    }

    /// Asks the writer to answer what is queued and end.
    pub async fn stop(&self) {
        // A closed queue means that the writer has ended already.
        let _ = self.commands.send(Command::Stop).await;
    }

    /// Waits until the writer takes nothing more.
    pub async fn closed(&self) {
        self.commands.closed().await;
    }

    fn turned_away<T>(&self, error: &TrySendError<T>) -> Unavailable {
        match error {
            TrySendError::Full(_) => Unavailable::QueueFull,
            TrySendError::Closed(_) => self.ended(),
        }
    }

    /// Why the writer takes nothing more.
    fn ended(&self) -> Unavailable {
        if self.progress.log_has_failed() { Unavailable::LogFailed } else { Unavailable::Stopping }
    }
}
