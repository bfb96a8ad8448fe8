//! What the writer takes off its queue at once, and how each sender gets its answer.

use crate::application::ingest::bulk::{BulkReply, BulkSubmission, Judged};
use crate::application::ingest::{Answer, Aside, Reply, Submission, Unavailable, Verdict};
use crate::application::ports::Durable;
use crate::application::writer::WriterLimits;
use crate::domain::ids::EventId;

/// What was waiting in the queue when the writer looked.
#[derive(Default)]
pub(super) struct Drained {
    pub(super) batch: Vec<Work>,
    pub(super) batch_events: usize,
    pub(super) batch_bytes: usize,
    pub(super) has_chunks: bool,
    pub(super) asides: Vec<Aside>,
    pub(super) stop: bool,
}

/// What shares a sync.
pub(super) enum Work {
    One(Submission),
    Many(BulkSubmission),
}

impl Drained {
    pub(super) fn take_one(&mut self, submission: Submission) {
        self.batch_events += 1;
        self.batch_bytes += submission.event.json.as_str().len();
        self.batch.push(Work::One(submission));
    }

    pub(super) fn take_many(&mut self, chunk: BulkSubmission) {
        self.batch_events += chunk.events.len();
        self.batch_bytes += chunk.event_bytes();
        self.batch.push(Work::Many(chunk));
        self.has_chunks = true;
    }

    pub(super) fn has_room(&self, limits: &WriterLimits) -> bool {
        let commands = self.batch_events + self.asides.len();
        commands < limits.batch_events && self.batch_bytes < limits.batch_bytes
    }

    /// Whether a chunk still belongs to this batch. Alone it always does: it may be one event that is
    /// larger than what else shares a sync.
    pub(super) fn fits(&self, chunk: &BulkSubmission, limits: &WriterLimits) -> bool {
        self.batch.is_empty()
            || (self.batch_events + chunk.events.len() <= limits.batch_events
                && self.batch_bytes + chunk.event_bytes() <= limits.batch_bytes)
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
