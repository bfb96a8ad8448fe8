//! Queries: what is the state of a locker, a compartment, a reservation.
//!
//! Whoever got an answer to an event sees its effect in every later query, on any connection: a
//! query waits until the projection has reached what was durable when the query arrived. The wait
//! is bounded and does not concern the writer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::application::ports::{LockerRepository, ReservationRepository, StoreError};
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
    async fn answer<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, QueryError> {
        let deadline = Instant::now() + self.within;
        if !self.progress.wait_until_projected(deadline).await {
            return Err(QueryError::ProjectionBehind);
        }
        timeout_at(deadline, read).await.map_err(|_| QueryError::TimedOut)?.map_err(QueryError::Store)
    }
}
