//! Queries: what is the state of a locker, a compartment, a reservation.
//!
//! Whoever got an answer to an event sees its effect in every later query, on any connection: a
//! query waits until the projection has reached what was durable when the query arrived. The wait
//! is bounded and does not concern the writer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::application::ports::{LockerRepository, ReservationRepository, Seen, StoreError};
use crate::application::progress::Progress;
use crate::domain::ids::{CompartmentId, LockerId, ReservationId};
use crate::domain::rows::{CompartmentStatus, LockerSummary, ReservationStatus};

/// Why a query has no answer now.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("the projection is still taking in events that were recorded before this query")]
    ProjectionBehind,
    #[error("the database did not answer in time")]
    TimedOut,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Answers from the projection.
pub struct Queries {
    pub lockers: Arc<dyn LockerRepository>,
    pub reservations: Arc<dyn ReservationRepository>,
    pub progress: Arc<Progress>,
    /// How long a query may take, waiting for the projection included.
    pub within: Duration,
}

impl Queries {
    pub async fn locker(&self, id: &LockerId) -> Result<Option<LockerSummary>, QueryError> {
        self.answer(self.lockers.summary(id)).await
    }

    pub async fn compartment(
        &self,
        locker: &LockerId,
        id: &CompartmentId,
    ) -> Result<Option<CompartmentStatus>, QueryError> {
        self.answer(self.lockers.compartment(locker, id)).await
    }

    pub async fn reservation(&self, id: &ReservationId) -> Result<Option<ReservationStatus>, QueryError> {
        self.answer(self.reservations.status(id)).await
    }

    /// Reads once the projection holds whatever was durable when the query arrived.
    ///
    /// What comes from before that moment is no answer, however fresh the database believes it to
    /// be: a replica that had missed something may have taken its place. Nor is what comes from
    /// another history: another server may have taken the database over. Whatever goes wrong makes
    /// the projection's task look after it.
    async fn answer<T>(
        &self,
        read: impl Future<Output = Result<Seen<T>, StoreError>>,
    ) -> Result<Option<T>, QueryError> {
        let deadline = Instant::now() + self.within;
        let due = self.progress.durable();
        if !self.progress.wait_until_projected(due, deadline).await {
            return Err(QueryError::ProjectionBehind);
        }
        let result = match timeout_at(deadline, read).await {
            Ok(Ok(seen)) if seen.checkpoint.sequence >= due && self.progress.is_own(seen.checkpoint) => {
                return Ok(seen.value);
            }
            Ok(Ok(_)) => Err(QueryError::ProjectionBehind),
            Ok(Err(error)) => Err(QueryError::Store(error)),
            Err(_) => Err(QueryError::TimedOut),
        };
        self.progress.doubt_projection();
        result
    }
}
