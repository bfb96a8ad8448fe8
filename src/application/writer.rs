//! The writer: one thread that owns the truth.
//!
//! It takes whatever is queued (no timer: a lone client pays for one sync, a thousand share one),
//! judges each event against [`World`] so that later ones of a batch see earlier ones, writes the
//! batch, syncs once, and answers all. Every answer waits for the sync, duplicates and refusals
//! too, because they may rest on an event of the same batch.
//!
//! When the log fails, the world in memory is ahead of what is known to be on disk. So nothing is
//! answered from it any more, nothing is retried, and the process has to end; the next start's
//! recovery finds out what survived.

mod batch;
mod judge;
mod queue;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

use crate::application::archive::bell::Bell;
use crate::application::ingest::bulk::{BulkLimits, BulkSubmission, MAX_CHUNK_EVENTS};
use crate::application::ingest::{Aside, Command, Submission, WriterQueue};
use crate::application::ports::{Archive, Archived, Clock, Durable, EventLog, LogFailure, NoRoom};
use crate::application::progress::Progress;
use crate::application::writer::batch::{Outcome, Work};
use crate::application::writer::queue::Queue;
use crate::domain::ids::Sequence;
use crate::domain::parted::PARTS;
use crate::domain::record::{Head, RecordedAt};
use crate::domain::rows::Rows;
use crate::domain::world::{Touched, World};

/// A disk on which small batches have room and large ones have none changes its mind all the time; it
/// is told once in so long.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How far bulks let the log be ahead of the archive, about 120 MB of memory. Single events come far
/// slower than the archiver works.
const ARCHIVE_LAG_EVENTS: u64 = 1_000_000;

/// The writer's limits.
#[derive(Debug, Clone, Copy)]
pub struct WriterLimits {
    /// How many commands may wait, but for the chunks that single events have overtaken.
    pub queue_events: usize,
    /// How many events share one sync at most.
    pub batch_events: usize,
    /// How many bytes of events may be under way, from their first byte to their answer.
    pub inflight_bytes: usize,
    /// How many bytes of events share one sync at most; a single event may exceed it.
    pub batch_bytes: usize,
    /// How far the log may be ahead of the projection before new events are turned away.
    pub lag_events: u64,
    /// How long a caller waits for its answer.
    pub answer_within: Duration,
    /// How long a chunk of a bulk waits for room, for its place or for the projection.
    pub bulk_wait: Duration,
}

impl WriterLimits {
    /// What fits a batch in a chunk of a bulk. Several chunks share the bytes of a batch, so that no
    /// sender has the writer for itself; and single events, which are turned away where the lag or the
    /// memory ends, keep half of both.
    fn bulk(&self) -> BulkLimits {
        BulkLimits {
            chunk_events: self.batch_events.min(MAX_CHUNK_EVENTS),
            chunk_bytes: self.batch_bytes / 4,
            inflight_bytes: self.inflight_bytes / 2,
            lag_events: (self.lag_events / 2).max(1),
            archive_lag_events: ARCHIVE_LAG_EVENTS,
            wait: self.bulk_wait,
        }
    }
}

/// What the writer starts from: the history that recovery found.
pub struct Past {
    pub world: World,
    pub durable: Durable,
    /// What the projection has not seen yet.
    pub touched: Touched,
    /// The `recorded_at` of the last record.
    pub last_recorded_at: Option<RecordedAt>,
    /// What the world has forgotten; `None` when that is nothing.
    pub archive: Option<Arc<dyn Archive>>,
}

/// What an orderly end leaves: the durable head, and the rows that the projection still misses.
pub struct Remains {
    pub head: Head,
    pub rows: Rows,
}

/// The running thread, seen from outside.
pub struct WriterThread {
    pub queue: WriterQueue,
    end: oneshot::Receiver<Result<Remains, LogFailure>>,
}

impl WriterThread {
    /// Waits for the thread to end, after [`WriterQueue::stop`] or a failure.
    pub async fn ended(self) -> Result<Remains, LogFailure> {
        self.end.await.unwrap_or_else(|_| Err(LogFailure("the writer thread panicked; this is a bug".into())))
    }
}

/// Starts the writer.
pub fn start(
    past: Past,
    log: Box<dyn EventLog>,
    clock: Box<dyn Clock>,
    progress: Arc<Progress>,
    archiver: Bell,
    limits: WriterLimits,
) -> std::io::Result<WriterThread> {
    let (commands, queue) = mpsc::channel(limits.queue_events);
    let (report, end) = oneshot::channel();
    let writer = Writer {
        world: past.world,
        durable: past.durable,
        touched: past.touched,
        last_recorded_at: past.last_recorded_at,
        archive: past.archive,
        archiver,
        forgetting: None,
        log,
        clock,
        progress: Arc::clone(&progress),
        limits,
        no_room: None,
        told: None,
        is_told: false,
    };
    let failed_on_panic = FailedOnPanic(Arc::clone(&progress));
    thread::Builder::new().name("writer".into()).spawn(move || {
        let _failed_on_panic = failed_on_panic;
        // Nobody may be left to hear it.
        let _ = report.send(writer.run(queue));
    })?;
    let queue = WriterQueue::new(commands, progress, limits.answer_within, limits.inflight_bytes, limits.bulk());
    Ok(WriterThread { queue, end })
}

/// Tells the others when the thread unwinds: a writer that is gone must not look like an idle one.
struct FailedOnPanic(Arc<Progress>);

impl Drop for FailedOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.publish_log_failed();
        }
    }
}

struct Writer {
    world: World,
    durable: Durable,
    touched: Touched,
    last_recorded_at: Option<RecordedAt>,
    archive: Option<Arc<dyn Archive>>,
    archiver: Bell,
    forgetting: Option<Forgetting>,
    log: Box<dyn EventLog>,
    clock: Box<dyn Clock>,
    progress: Arc<Progress>,
    limits: WriterLimits,
    /// Why the log took nothing when it was last asked.
    no_room: Option<NoRoom>,
    /// When that was last told, and whether its end is still to be told.
    told: Option<Instant>,
    is_told: bool,
}

/// What the archive knows by now and the world still holds: all up to a record, in so many parts from
/// this one on, and behind the last one comes the first.
#[derive(Debug, Clone, Copy)]
struct Forgetting {
    up_to: Sequence,
    next_part: usize,
    parts_left: usize,
}

impl Writer {
    fn run(mut self, commands: mpsc::Receiver<Command>) -> Result<Remains, LogFailure> {
        let mut queue = Queue::new(commands);
        while self.wait_for(&mut queue) {
            let drained = queue.take_batch(&self.limits);
            if drained.stop {
                // Nothing new gets in; what is queued already is still answered.
                queue.close();
            }
            if let Err(failure) = self.commit(drained.batch, drained.batch_events, drained.batch_bytes) {
                error!("{failure}");
                return Err(failure);
            }
            // After the commit: rows are taken from a world that is wholly durable.
            for aside in drained.asides {
                self.attend(aside);
            }
        }
        Ok(Remains { head: self.durable.head(), rows: self.take_rows() })
    }

    /// Waits until there is something to do; false when there never will be. As long as there is
    /// something to forget, a part of that is done before each batch: nobody waits for all of it.
    fn wait_for(&mut self, queue: &mut Queue) -> bool {
        while let Some(forgetting) = self.forgetting.take() {
            self.forgetting = self.forget_more(forgetting);
            match queue.look() {
                Ok(()) => return true,
                Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => {}
            }
        }
        queue.wait()
    }

    fn forget_more(&mut self, Forgetting { up_to, next_part, parts_left }: Forgetting) -> Option<Forgetting> {
        self.world.forget_in(next_part, up_to);
        if parts_left > 1 {
            return Some(Forgetting { up_to, next_part: (next_part + 1) % PARTS, parts_left: parts_left - 1 });
        }
        debug!(%up_to, held = self.world.held(), "the past is forgotten");
        None
    }

    fn attend(&mut self, aside: Aside) {
        // A receiver that went away meanwhile needs no answer.
        match aside {
            Aside::TakeRows(reply) => {
                let _ = reply.send((self.take_rows(), self.durable.head()));
            }
            Aside::Forget(Archived { up_to, archive }) => {
                if let Some(replaced) = self.archive.replace(archive) {
                    // Its files may be removed by now, and whoever closes the last of a large one waits
                    // until the system has freed its blocks. Without a thread it is done here.
                    let _ = thread::Builder::new().name("archive-closer".into()).spawn(|| drop(replaced));
                }
                // What an earlier one left is of no later record. Its place is kept: if each began with
                // the first part, the last would have no turn while they come faster than they end.
                let next_part = self.forgetting.map_or(0, |earlier| earlier.next_part);
                self.forgetting = Some(Forgetting { up_to, next_part, parts_left: PARTS });
            }
            Aside::CheckLog(reply) => {
                let _ = reply.send(self.log.check());
            }
        }
    }

    fn take_rows(&mut self) -> Rows {
        self.world.rows(&std::mem::take(&mut self.touched))
    }

    /// Judges a batch, makes it durable, answers it.
    ///
    /// There is room for all of it before the first event is judged: the world cannot take back what
    /// it has taken in. Without room, what is no new fact is still answered.
    fn commit(&mut self, batch: Vec<Work>, events: usize, event_bytes: usize) -> Result<(), LogFailure> {
        if batch.is_empty() {
            return Ok(());
        }
        if let Err(failure) = self.make_room(events, event_bytes) {
            self.progress.publish_log_failed();
            batch.into_iter().for_each(Work::fail);
            return Err(failure);
        }
        let mut records = Vec::with_capacity(events);
        let recorded_at = self.next_recorded_at();
        let judged: Vec<_> = batch
            .into_iter()
            .map(|work| match work {
                Work::One(Submission { event, reply }) => {
                    let event_id = event.event_id;
                    Outcome::One(event_id, reply, self.judge(event, recorded_at, &mut records))
                }
                Work::Many(BulkSubmission { events, reply }) => {
                    Outcome::Many(self.judge_all(events, recorded_at, &mut records), reply)
                }
            })
            .collect();
        if !records.is_empty() {
            self.durable = match Durable::append(self.log.as_mut(), &records) {
                Ok(durable) => durable,
                Err(failure) => {
                    self.progress.publish_log_failed();
                    judged.into_iter().for_each(Outcome::fail);
                    return Err(failure);
                }
            };
            self.last_recorded_at = Some(recorded_at);
            self.progress.publish_durable(self.durable.head());
        }
        for outcome in judged {
            outcome.tell(self.durable);
        }
        Ok(())
    }

    fn make_room(&mut self, events: usize, event_bytes: usize) -> Result<(), LogFailure> {
        let no_room = self.log.make_room(events, event_bytes)?.err();
        let is_due = self.told.is_none_or(|told| told.elapsed() >= TOLD_AGAIN_AFTER);
        match (&self.no_room, &no_room) {
            (None, Some(reason)) if is_due => {
                warn!(%reason, "new events are turned away until the log takes them");
                (self.told, self.is_told) = (Some(Instant::now()), true);
            }
            (Some(_), None) if self.is_told => {
                info!("the log takes new events again");
                self.is_told = false;
            }
            _ => {}
        }
        self.no_room = no_room;
        Ok(())
    }

    /// Never earlier than the last one, whatever the machine's clock does.
    fn next_recorded_at(&self) -> RecordedAt {
        let now = RecordedAt::new(self.clock.now());
        self.last_recorded_at.map_or(now, |last| last.max(now))
    }
}

#[cfg(test)]
mod tests;
