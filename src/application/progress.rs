//! How far the service is: the durable head, what the projection has taken and what it has written,
//! and whether the log failed.
//!
//! The writer and the projection task publish here; queries, bulks and readiness read. All positions
//! only ever grow.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::domain::ids::Sequence;
use crate::domain::record::Head;

/// Shared by everything that runs.
#[derive(Debug)]
pub struct Progress {
    durable: watch::Sender<Head>,
    /// What the projection has taken on, whether it is written by now or not.
    taken: watch::Sender<Sequence>,
    projected: watch::Sender<Projected>,
    log_failed: watch::Sender<bool>,
    archiving: watch::Sender<Option<Sequence>>,
    projection_error: Mutex<Option<String>>,
    projection_doubted: Notify,
    projection_wanted: Notify,
    conflicting_duplicates: AtomicU64,
}

/// Where the projection stands.
#[derive(Debug, Clone, Copy)]
struct Projected {
    head: Head,
    /// What the transaction that is under way makes of it. Readers may see that before the task that
    /// writes hears of it.
    attempt: Head,
}

impl Progress {
    #[must_use]
    pub fn new(durable: Head, projected: Head) -> Self {
        let taken = projected.sequence;
        let projected = Projected { head: projected, attempt: projected };
        Self {
            durable: watch::Sender::new(durable),
            taken: watch::Sender::new(taken),
            projected: watch::Sender::new(projected),
            log_failed: watch::Sender::new(false),
            archiving: watch::Sender::new(None),
            projection_error: Mutex::new(None),
            projection_doubted: Notify::new(),
            projection_wanted: Notify::new(),
            conflicting_duplicates: AtomicU64::new(0),
        }
    }

    /// The last sequence that survives a crash.
    pub fn durable(&self) -> Sequence {
        self.durable_head().sequence
    }

    /// The same with its hash.
    pub fn durable_head(&self) -> Head {
        *self.durable.borrow()
    }

    pub fn publish_durable(&self, head: Head) {
        self.durable.send_replace(head);
    }

    /// The last sequence whose effect is in the projection.
    pub fn projected(&self) -> Sequence {
        self.projected.borrow().head.sequence
    }

    pub fn publish_projected(&self, head: Head) {
        // What is written was taken: whoever waits for the one has the other.
        self.publish_taken(head.sequence);
        self.projected.send_modify(|projected| projected.head = head);
    }

    /// The projection is about to be brought to this head.
    pub fn publish_attempt(&self, head: Head) {
        // Nobody waits for that.
        self.projected.send_if_modified(|projected| {
            projected.attempt = head;
            false
        });
    }

    /// Whether a checkpoint that was just read is one that this process wrote, and not of another
    /// history. One that was overtaken since is taken for its own: nothing can be written to a
    /// database that another history has taken over.
    pub fn is_own(&self, checkpoint: Head) -> bool {
        let projected = *self.projected.borrow();
        checkpoint == projected.head || checkpoint == projected.attempt || checkpoint.sequence < projected.head.sequence
    }

    /// How many durable events the projection has still to take in.
    pub fn lag_events(&self) -> u64 {
        self.durable().get().saturating_sub(self.projected().get())
    }

    /// Waits until there is something to project.
    pub async fn wait_for_lag(&self) {
        let projected = self.projected();
        let mut durable = self.durable.subscribe();
        // The sender lives in `self`, so the wait ends only with its condition.
        let _ = durable.wait_for(|head| head.sequence > projected).await;
    }

    /// Waits until everything up to `due` is projected. False when the deadline passes before.
    pub async fn wait_until_projected(&self, due: Sequence, deadline: Instant) -> bool {
        if self.projected() >= due {
            return true;
        }
        let mut projected = self.projected.subscribe();
        self.projection_wanted.notify_one();
        let reached = projected.wait_for(|projected| projected.head.sequence >= due);
        matches!(timeout_at(deadline, reached).await, Ok(Ok(_)))
    }

    /// The projection has the rows of everything up to here, and begins to write them.
    pub fn publish_taken(&self, sequence: Sequence) {
        self.taken.send_if_modified(|taken| {
            let goes_on = sequence > *taken;
            *taken = sequence.max(*taken);
            goes_on
        });
    }

    /// Waits until the projection has taken on everything up to `due`, even if that is not written yet.
    /// False when the deadline passes before.
    pub async fn wait_until_taken(&self, due: Sequence, deadline: Instant) -> bool {
        if *self.taken.borrow() >= due {
            return true;
        }
        let mut taken = self.taken.subscribe();
        self.projection_wanted.notify_one();
        matches!(timeout_at(deadline, taken.wait_for(|taken| *taken >= due)).await, Ok(Ok(_)))
    }

    /// Waits until somebody waits for the projection. May be true of somebody who has it by now.
    pub async fn wait_for_reader(&self) {
        self.projection_wanted.notified().await;
    }

    /// Somebody did not find the projection as it should be; its task has to look after it.
    pub fn doubt_projection(&self) {
        self.projection_doubted.notify_one();
    }

    /// Waits until somebody doubts. Doubts that come together count as one.
    pub async fn wait_for_doubt(&self) {
        self.projection_doubted.notified().await;
    }

    /// The log takes no more; the process has to end.
    pub fn publish_log_failed(&self) {
        self.log_failed.send_replace(true);
    }

    pub fn log_has_failed(&self) -> bool {
        *self.log_failed.borrow()
    }

    /// Waits until the log fails, for ever in the good case.
    pub async fn wait_for_log_failure(&self) {
        let mut failed = self.log_failed.subscribe();
        let _ = failed.wait_for(|failed| *failed).await;
    }

    /// The archiver is at work and has got so far; or it is not, because all is done or nothing works.
    pub fn publish_archiving(&self, archived: Option<Sequence>) {
        self.archiving.send_replace(archived);
    }

    /// Waits until everything up to `due` is archived, or the archiver is not at work, or the deadline
    /// passes.
    pub async fn wait_for_archiver(&self, due: Sequence, deadline: Instant) {
        let is_there = |archived: &Option<Sequence>| archived.is_none_or(|archived| archived >= due);
        if !is_there(&self.archiving.borrow()) {
            let _ = timeout_at(deadline, self.archiving.subscribe().wait_for(is_there)).await;
        }
    }

    /// The projection's last attempt: what went wrong, or `None`.
    pub fn publish_projection_error(&self, error: Option<String>) {
        *self.projection_error.lock().expect("no holder of this lock can panic") = error;
    }

    pub fn projection_error(&self) -> Option<String> {
        self.projection_error.lock().expect("no holder of this lock can panic").clone()
    }

    /// Counts a repeated `event_id` that came with another content.
    pub fn count_conflicting_duplicate(&self) {
        self.conflicting_duplicates.fetch_add(1, Ordering::Relaxed);
    }

    pub fn conflicting_duplicates(&self) -> u64 {
        self.conflicting_duplicates.load(Ordering::Relaxed)
    }
}
