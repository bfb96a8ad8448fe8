//! Many events of one sender, handed to the writer in chunks and recorded in their order.
//!
//! What costs a single event most (a place in the queue, a channel for its answer, a timer) costs a
//! chunk once. And a sender of many events wants them recorded more than it wants to know soon: where
//! a single event is turned away, a chunk waits, within a limit.
//!
//! Order: one sender has one chunk in the writer at a time, and an event that gets no verdict ends
//! it. So what was sent later is never recorded without what was sent before it.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::application::inflight::Room;
use crate::application::ingest::{Command, NobodyWaits, Unavailable, Verdict, WriterQueue};
use crate::application::ports::Durable;
use crate::domain::event::parse::ReceivedEvent;
use crate::domain::ids::Sequence;

/// How many events a chunk holds at most.
pub const MAX_CHUNK_EVENTS: usize = 1_000;

/// How often room is asked for again. Rare enough that single events need not tell when they give
/// theirs back.
const ROOM_PAUSE: Duration = Duration::from_millis(5);

/// How long a chunk waits for the archiver at most. It goes on then: memory is not worth refusing it.
const ARCHIVER_WAIT: Duration = Duration::from_secs(2);

/// The limits of bulk.
#[derive(Debug, Clone, Copy)]
pub struct BulkLimits {
    /// How many events a chunk holds at most.
    pub chunk_events: usize,
    /// How many bytes of events a chunk holds at most; a single event may exceed it.
    pub chunk_bytes: usize,
    /// How many bytes of events all bulks together may have under way.
    pub inflight_bytes: usize,
    /// How far the log may be ahead of the projection.
    pub lag_events: u64,
    /// How far the log may be ahead of an archiver that is at work before a chunk gives it time: what is
    /// not archived is in memory.
    pub archive_lag_events: u64,
    /// How long a chunk waits for room, for its place or for the projection.
    pub wait: Duration,
}

/// Events in their order, with the room they have.
#[derive(Debug)]
pub struct Chunk {
    pub events: Vec<ReceivedEvent>,
    pub room: Room,
}

/// What became of a chunk.
#[derive(Debug)]
pub struct Outcome {
    /// The verdicts on its events, in their order. All rest on synced history.
    pub verdicts: Vec<Verdict>,
    /// Why there are fewer verdicts than events.
    pub stopped_by: Option<Unavailable>,
}

/// A chunk on its way to the writer.
pub(crate) struct BulkSubmission {
    pub events: Vec<ReceivedEvent>,
    pub reply: BulkReply,
}

impl BulkSubmission {
    pub(crate) fn event_bytes(&self) -> usize {
        self.events.iter().map(|event| event.json.as_str().len()).sum()
    }

    /// Whether its sender was told that the outcome is unknown.
    pub(crate) fn is_given_up(&self) -> bool {
        self.reply.sender.is_closed()
    }
}

/// What the writer made of a chunk.
pub(crate) struct Judged {
    pub verdicts: Vec<Verdict>,
    /// Why it went no further.
    pub stopped_by: Option<Unavailable>,
    /// What it did not take in hand.
    pub left: Vec<ReceivedEvent>,
}

/// The way back to the sender. Whoever holds this holds the chunk's room.
pub(crate) struct BulkReply {
    sender: oneshot::Sender<Result<Answered, Unavailable>>,
    room: Room,
}

struct Answered {
    judged: Judged,
    durable: Durable,
    /// The room of what is left.
    room: Option<Room>,
}

impl BulkReply {
    /// Answers, and gives the room back before, unless some of the chunk is left and keeps it.
    pub(crate) fn send(self, answer: Result<(Judged, Durable), Unavailable>) -> Result<(), NobodyWaits> {
        let Self { sender, room } = self;
        let answer = answer.map(|(judged, durable)| {
            let room = (!judged.left.is_empty()).then_some(room);
            Answered { judged, durable, room }
        });
        sender.send(answer).map_err(|_| NobodyWaits)
    }
}

impl WriterQueue {
    #[must_use]
    pub const fn bulk_limits(&self) -> BulkLimits {
        self.bulk
    }

    /// Room for a chunk that begins: of nothing yet.
    #[must_use]
    pub fn chunk_room(&self) -> Room {
        self.bulk_inflight.no_room()
    }

    /// Grows a room, as soon as there is enough. Hold no chunk meanwhile that could be handed in: its
    /// room may be what others wait for.
    pub async fn grow(&self, room: &mut Room, bytes: usize, stop: &CancellationToken) -> Result<(), Unavailable> {
        let deadline = Instant::now() + self.bulk.wait;
        loop {
            match room.grow_to(bytes) {
                Err(none) if Instant::now() >= deadline => return Err(none),
                Err(_) => {}
                grown => return grown,
            }
            tokio::select! {
                () = stop.cancelled() => return Err(Unavailable::Stopping),
                () = sleep(ROOM_PAUSE) => {}
            }
        }
    }

    /// Hands in a chunk and waits for the verdicts. Where the projection is behind, what is left of
    /// the chunk waits and is handed in again, as long as that goes on.
    ///
    /// `stop` ends the waiting, and nothing that the writer has begun.
    pub async fn submit_chunk(&self, chunk: Chunk, stop: &CancellationToken) -> Outcome {
        let Chunk { mut events, mut room } = chunk;
        self.give_archiver_time(stop).await;
        let mut verdicts = Vec::new();
        let mut deadline = Instant::now() + self.bulk.wait;
        let stopped_by = loop {
            let Answered { judged, durable, room: kept } = match self.hand_in(events, room, deadline, stop).await {
                Ok(answered) => answered,
                Err(unavailable) => break Some(unavailable),
            };
            assert!(
                judged.verdicts.iter().all(|verdict| rests_on(verdict, durable)),
                "verdicts rest on synced history"
            );
            if !judged.verdicts.is_empty() {
                deadline = Instant::now() + self.bulk.wait;
            }
            if verdicts.is_empty() {
                verdicts = judged.verdicts;
            } else {
                verdicts.extend(judged.verdicts);
            }
            match (judged.stopped_by, kept) {
                (Some(Unavailable::ProjectionBehind), Some(kept)) if Instant::now() < deadline => {
                    (events, room) = (judged.left, kept);
                }
                (stopped_by, _) => break stopped_by,
            }
        };
        Outcome { verdicts, stopped_by }
    }

    /// Once for a chunk, and before the clock runs that ends in a refusal.
    async fn give_archiver_time(&self, stop: &CancellationToken) {
        let due = self.lagging_by(self.bulk.archive_lag_events);
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.commands.closed() => {}
            () = self.progress.wait_for_archiver(due, Instant::now() + ARCHIVER_WAIT) => {}
        }
    }

    /// The record that is so many before the end of the log.
    fn lagging_by(&self, lag_events: u64) -> Sequence {
        Sequence::new(self.progress.durable().get().saturating_sub(lag_events))
    }

    async fn hand_in(
        &self,
        events: Vec<ReceivedEvent>,
        room: Room,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> Result<Answered, Unavailable> {
        // While the projection writes what it has taken, as much again can be recorded: each of the two
        // may have a part of the lag, or they would work in turns. And a part is more than one event unless
        // the limit is tiny, or each event would cost a sync.
        let taken = self.lagging_by(self.bulk.lag_events / 4);
        let written = self.lagging_by(self.bulk.lag_events / 4 * 3);
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Unavailable::Stopping),
            () = self.commands.closed() => return Err(self.ended()),
            place = async {
                let progress = &self.progress;
                if !progress.wait_until_taken(taken, deadline).await
                    || !progress.wait_until_projected(written, deadline).await
                {
                    return Err(Unavailable::ProjectionBehind);
                }
                match timeout_at(deadline, self.commands.reserve()).await {
                    Ok(place) => place.map_err(|_| self.ended()),
                    Err(_) => Err(Unavailable::QueueFull),
                }
            } => place?,
        };
        let (sender, answer) = oneshot::channel();
        place.send(Command::Bulk(BulkSubmission { events, reply: BulkReply { sender, room } }));
        match timeout(self.answer_within, answer).await {
            Ok(Ok(answered)) => answered,
            // Only a writer that goes down drops what it took.
            Ok(Err(_)) => Err(Unavailable::LogFailed),
            Err(_) => Err(Unavailable::NoAnswerInTime),
        }
    }
}

/// Whether what a verdict tells of survives a crash.
fn rests_on(verdict: &Verdict, durable: Durable) -> bool {
    match verdict {
        Verdict::Accepted { sequence, .. } | Verdict::Duplicate { sequence, .. } => {
            *sequence <= durable.head().sequence
        }
        Verdict::Refused(_) | Verdict::Invalid(_) => true,
    }
}

#[cfg(test)]
mod tests;
