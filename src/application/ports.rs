//! The ports: what the use cases need from the outside. Each has an adapter in `infrastructure`
//! and a test that makes it fail.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::domain::ids::{CompartmentId, LockerId, ReservationId};
use crate::domain::record::{Head, Record};
use crate::domain::rows::{CompartmentStatus, LockerSummary, ReservationStatus, Rows};

/// The time of day. Used for `recorded_at` and for nothing that decides.
pub trait Clock: Send {
    fn now(&self) -> DateTime<Utc>;
}

/// The log as the writer sees it. It has one owner, the writer, and is never asked again after it
/// failed.
pub trait EventLog: Send {
    /// Writes the records of one batch after all before them, in one write. They may be lost in a
    /// crash until [`Self::sync`] returns.
    fn append(&mut self, batch: &[Record]) -> Result<Head, LogFailure>;

    /// Makes everything that was appended survive a crash of the machine.
    fn sync(&mut self) -> Result<(), LogFailure>;

    /// Finds out whether the log could take records now, without writing any. An error here is no
    /// failure of the log: it may pass.
    fn check(&mut self) -> Result<(), LogFailure>;
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

/// The projection as its task sees it: rows in, one transaction at a time.
#[async_trait]
pub trait Projection: Send + Sync {
    /// Up to where the rows are written; the zero head for an empty projection.
    async fn checkpoint(&self) -> Result<Head, StoreError>;

    /// Writes rows and the checkpoint in one transaction. Harmless when repeated.
    async fn apply(&self, rows: &Rows, head: Head) -> Result<(), StoreError>;

    /// Everything that is stored, and the checkpoint it belongs to, as one moment saw them.
    async fn contents(&self) -> Result<(Head, Rows), StoreError>;
}

/// Lockers and their compartments, as the projection has them.
#[async_trait]
pub trait LockerRepository: Send + Sync {
    async fn summary(&self, id: &LockerId) -> Result<Option<LockerSummary>, StoreError>;

    async fn compartment(&self, locker: &LockerId, id: &CompartmentId)
    -> Result<Option<CompartmentStatus>, StoreError>;
}

/// Reservations, as the projection has them.
#[async_trait]
pub trait ReservationRepository: Send + Sync {
    async fn status(&self, id: &ReservationId) -> Result<Option<ReservationStatus>, StoreError>;
}

/// The database did not do what it was asked. May pass by itself.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the database {doing}: {source}")]
pub struct StoreError {
    /// What failed, as the rest of a sentence: "could not be read".
    doing: &'static str,
    source: Arc<dyn Error + Send + Sync>,
}

impl StoreError {
    pub fn new(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { doing, source: source.into().into() }
    }
}
