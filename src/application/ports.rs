//! The ports: what the use cases need from the outside. Each has an adapter in `infrastructure`
//! and a test that makes it fail.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::domain::fault::Fault;
use crate::domain::hash::StateHash;
use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId, Sequence};
use crate::domain::record::{Head, Record};
use crate::domain::reservation::Reservation;
use crate::domain::rows::{CompartmentStatus, LockerSummary, ReservationStatus, Rows};
use crate::domain::world::Original;

/// The time of day. Used for `recorded_at` and for nothing that decides.
pub trait Clock: Send {
    fn now(&self) -> DateTime<Utc>;
}

/// The log as the writer sees it. It has one owner, the writer, and is never asked again after it
/// failed.
pub trait EventLog: Send {
    /// Makes sure that a batch of so many events, with so many bytes of JSON, can be written. The
    /// inner error is no failure of the log: nothing was written, and it may pass.
    fn make_room(&mut self, events: usize, event_bytes: usize) -> Result<Result<(), NoRoom>, LogFailure>;

    /// Writes the records of one batch after all before them, in one write. They may be lost in a
    /// crash until [`Self::sync`] returns.
    fn append(&mut self, batch: &[Record]) -> Result<Head, LogFailure>;

    /// Makes everything that was appended survive a crash of the machine.
    fn sync(&mut self) -> Result<(), LogFailure>;

    /// Finds out whether the log could take records now, without writing any.
    fn check(&mut self) -> Result<(), NoRoom>;
}

/// Why the log takes no records for now. May pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The disk is full, or as full as it may be.
    #[error("{0}")]
    Full(String),
    #[error("{0}")]
    Unwritable(String),
}

/// The log could not be written or synced. What reached the disk is unknown until the next start.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct LogFailure(pub String);

/// Proof that everything up to a head survives a crash. Comes from a sync and from nowhere else;
/// an answer cannot be made without it.
#[derive(Debug, Clone, Copy)]
pub struct Durable(Head);

impl Durable {
    /// Appends a batch and syncs it.
    pub fn append(log: &mut dyn EventLog, batch: &[Record]) -> Result<Self, LogFailure> {
        let head = log.append(batch)?;
        log.sync()?;
        Ok(Self(head))
    }

    /// Syncs what recovery found: after a crash it may have lived in the page cache only.
    pub fn recovered(log: &mut dyn EventLog, head: Head) -> Result<Self, LogFailure> {
        log.sync()?;
        Ok(Self(head))
    }

    #[must_use]
    pub const fn head(&self) -> Head {
        self.0
    }
}

/// The records of the log from the first one on, each with the head that it makes. What is appended
/// meanwhile is read too.
pub type Records = Box<dyn Iterator<Item = Result<(Record, Head), HistoryFailure>> + Send>;

/// The log could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct HistoryFailure(pub String);

/// What the writer's world has forgotten. Never says of anything that it was not there when it was:
/// what cannot be read is an error.
pub trait Archive: Debug + Send + Sync {
    /// The record of an event that was accepted before.
    fn original(&self, id: EventId) -> Result<Option<Original>, ArchiveFailure>;

    /// A reservation that is closed.
    fn reservation(&self, id: &ReservationId) -> Result<Option<Reservation>, ArchiveFailure>;

    /// A fault that is cleared.
    fn fault(&self, id: EventId) -> Result<Option<Fault>, ArchiveFailure>;
}

/// Makes the archive from the log.
pub trait Archivist: Send {
    /// Takes in some more of what is sealed; `None` when there is nothing, or `stop` says so. That is
    /// asked again and again, at least every few hundred records, and may let the thread rest.
    fn archive_more(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Archived>, ArchiveFailure>;

    /// Throws the archive away and begins a new one.
    fn begin_anew(&mut self) -> Result<(), ArchiveFailure>;
}

/// Everything up to here can be asked of this archive.
#[derive(Debug, Clone)]
pub struct Archived {
    pub up_to: Sequence,
    pub archive: Arc<dyn Archive>,
}

/// The archive could not be read or written. The log is not harmed by that.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct ArchiveFailure {
    pub reason: String,
    /// The same files would fail in the same way for ever; only a new archive helps.
    pub is_damage: bool,
}

/// The projection as its writers see it: rows in, one transaction at a time.
#[async_trait]
pub trait Projection: Send + Sync {
    /// Brings the tables up to date and makes this process the only one that writes them.
    async fn open(&self) -> Result<(), StoreError>;

    /// Up to where the rows are written; the zero head for an empty projection.
    async fn checkpoint(&self) -> Result<Head, StoreError>;

    /// Takes the projection from one head to another, rows and checkpoint in one transaction. Writes
    /// only where it finds `from`; that it finds `to` already is as good. So a repetition is
    /// harmless, and nothing is ever built upon another history.
    async fn advance(&self, rows: &Rows, from: Head, to: Head) -> Result<Standing, StoreError>;

    /// Replaces everything by the rows of all of history up to `head`, in one step, by a successor.
    async fn reset(self: Arc<Self>, rows: &Rows, head: Head) -> Result<(), StoreError>;

    /// Everything that is stored, and the checkpoint it belongs to, as one moment saw them.
    async fn contents(&self) -> Result<(Head, Rows), StoreError>;

    /// The stored state hash of every locker, and the checkpoint they belong to, as one moment saw
    /// them.
    async fn state_hashes(&self) -> Result<(Head, BTreeMap<LockerId, StateHash>), StoreError>;

    /// Begins an empty second projection beside this one; what an interrupted attempt left is
    /// removed. There is one at a time: waits for the end of another one.
    async fn successor(self: Arc<Self>) -> Result<Box<dyn Successor>, StoreError>;

    /// Lets go of the database in order.
    async fn close(&self);
}

/// Where a projection was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Where it was expected, and now where it should be.
    AsLeft,
    /// Somewhere else: a backup was restored, a replica that had missed something took over, or
    /// somebody else writes. Nothing was written.
    Elsewhere(Head),
}

/// A second projection that is to take the place of the first.
#[async_trait]
pub trait Successor: Send + Sync {
    fn projection(&self) -> &dyn Projection;

    /// Takes the place of the first in one step. Whoever reads meanwhile sees the one or the other,
    /// and waits at most a moment. What was replaced is still to be removed.
    async fn take_over(self: Box<Self>) -> Result<Removal, StoreError>;

    /// Removes what there is of it. What is left by a failure, the next one removes.
    async fn abandon(self: Box<Self>) -> Result<(), StoreError>;
}

/// Removes what was replaced. May take a while where somebody still reads it; what is left by a
/// failure, the next successor removes.
pub type Removal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a query found, and the moment it saw.
#[derive(Debug, Clone)]
pub struct Seen<T> {
    pub value: Option<T>,
    /// The projection's checkpoint at that moment.
    pub checkpoint: Head,
}

/// Lockers and their compartments, as the projection has them.
#[async_trait]
pub trait LockerRepository: Send + Sync {
    async fn summary(&self, id: &LockerId) -> Result<Seen<LockerSummary>, StoreError>;

    async fn compartment(&self, locker: &LockerId, id: &CompartmentId) -> Result<Seen<CompartmentStatus>, StoreError>;
}

/// Reservations, as the projection has them.
#[async_trait]
pub trait ReservationRepository: Send + Sync {
    async fn status(&self, id: &ReservationId) -> Result<Seen<ReservationStatus>, StoreError>;
}

/// The database did not do what it was asked. May pass by itself.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the database {doing}: {source}")]
pub struct StoreError {
    /// What failed, as the rest of a sentence: "could not be read".
    doing: &'static str,
    source: Arc<dyn Error + Send + Sync>,
    may_pass: bool,
}

impl StoreError {
    /// Something that will be the same at the next attempt, unless somebody does something.
    pub fn new(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { doing, source: source.into().into(), may_pass: false }
    }

    /// Something that may pass: nobody answers, or not now.
    pub fn passing(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { may_pass: true, ..Self::new(doing, source) }
    }

    /// Whether the same attempt may work some time later with nothing changed by anybody.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        self.may_pass
    }
}
