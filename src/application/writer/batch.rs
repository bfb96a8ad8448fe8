//! What the writer takes off its queue at once, and how each sender gets its answer.

use tokio::sync::mpsc;

use crate::application::ingest::bulk::{BulkReply, BulkSubmission, Judged};
use crate::application::ingest::{Answer, Aside, Command, Reply, Submission, Unavailable, Verdict};
use crate::application::ports::Durable;
use crate::application::writer::WriterLimits;
use crate::domain::ids::EventId;

/// What was waiting in the queue when the writer looked.
#[derive(Default)]
pub(super) struct Drained {
    pub(super) batch: Vec<Work>,
    pub(super) batch_events: usize,
    pub(super) batch_bytes: usize,
    pub(super) asides: Vec<Aside>,
    pub(super) stop: bool,
}

/// What shares a sync.
pub(super) enum Work {
    One(Submission),
    Many(BulkSubmission),
}

impl Drained {
    pub(super) fn take(&mut self, command: Command) {
        match command {
            Command::Submit(submission) => {
                self.batch_events += 1;
                self.batch_bytes += submission.event.json.as_str().len();
                self.batch.push(Work::One(submission));
            }
            Command::Bulk(submission) => {
                self.batch_events += submission.events.len();
                self.batch_bytes += submission.event_bytes();
                self.batch.push(Work::Many(submission));
            }
            Command::Aside(aside) => self.asides.push(aside),
            Command::Stop => self.stop = true,
        }
    }

    pub(super) fn has_room(&self, limits: &WriterLimits) -> bool {
        let commands = self.batch_events + self.asides.len();
        commands < limits.batch_events && self.batch_bytes < limits.batch_bytes
    }

    /// Whether a command that was taken off the queue still belongs to this batch. A chunk stays
    /// whole and waits for the next batch where it would burst this one.
    pub(super) fn fits(&self, command: &Command, limits: &WriterLimits) -> bool {
        match command {
            Command::Bulk(submission) => {
                self.batch_events + submission.events.len() <= limits.batch_events
                    && self.batch_bytes + submission.event_bytes() <= limits.batch_bytes
            }
            _ => true,
        }
    }
}

impl Work {
    pub(super) fn fail(self) {
        // A caller that gave up needs no answer.
        match self {
            Self::One(Submission { reply, .. }) => drop(reply.send(Err(Unavailable::LogFailed))),
            Self::Many(BulkSubmission { reply, .. }) => drop(reply.send(Err(Unavailable::LogFailed))),
        }
    }
}

/// What was judged and waits for the sync.
pub(super) enum Outcome {
    One(EventId, Reply, Result<Verdict, Unavailable>),
    Many(Judged, BulkReply),
}

impl Outcome {
    /// Answers. A caller that gave up will learn the outcome by sending the event again.
    pub(super) fn tell(self, durable: Durable) {
        match self {
            Self::One(event_id, reply, verdict) => {
                drop(reply.send(verdict.map(|verdict| Answer { event_id, verdict, durable })));
            }
            Self::Many(judged, reply) => drop(reply.send(Ok((judged, durable)))),
        }
    }

    pub(super) fn fail(self) {
        match self {
            Self::One(_, reply, _) => drop(reply.send(Err(Unavailable::LogFailed))),
            Self::Many(_, reply) => drop(reply.send(Err(Unavailable::LogFailed))),
        }
    }
}

/// Answers what is still queued after a failure, so that no caller waits for its time-out.
pub(super) fn refuse_all(carried: Option<Command>, mut queue: mpsc::Receiver<Command>) {
    queue.close();
    let mut carried = carried;
    while let Some(command) = carried.take().or_else(|| queue.blocking_recv()) {
        match command {
            Command::Submit(submission) => Work::One(submission).fail(),
            Command::Bulk(submission) => Work::Many(submission).fail(),
            Command::Aside(_) | Command::Stop => {}
        }
    }
}
