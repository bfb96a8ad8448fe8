//! Answers queries from the projection, each kind in groups of its own and over a line of its own.

use std::hash::Hash;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

use crate::application::ports::{LockerRepository, ReservationRepository, Seen, StoreError};
use crate::domain::ids::{CompartmentId, LockerId, ReservationId};
use crate::domain::record::Head;
use crate::domain::rows::{CompartmentStatus, LockerSummary, ReservationStatus};
use crate::infrastructure::sql::line::Line;
use crate::infrastructure::sql::lookups::{Found, Lookups};
use crate::infrastructure::sql::rows::{
    Cells, Read, json_rows, read_checkpoint, read_compartment, read_compartment_id, read_locker, read_locker_id,
    read_reservation, read_reservation_id,
};
use crate::infrastructure::sql::store::SqlStore;
use crate::infrastructure::sql::{Dialect, failed};

/// The repositories of a SQL database. A key is a tuple: the columns that are looked up.
pub struct SqlQueries {
    lockers: Lookups<(LockerId,), LockerSummary>,
    compartments: Lookups<(LockerId, CompartmentId), CompartmentStatus>,
    reservations: Lookups<(ReservationId,), ReservationStatus>,
}

impl SqlQueries {
    /// Starts the reading tasks.
    #[must_use]
    pub fn start<D: Dialect>(store: &Arc<SqlStore<D>>) -> Self {
        Self {
            lockers: Kind {
                statement: D::STATEMENTS.find_lockers,
                key_column: "locker_id",
                line: |store| &store.lockers,
                key: |row| Ok((read_locker_id(row)?,)),
                value: read_locker,
            }
            .lookups(store),
            compartments: Kind {
                statement: D::STATEMENTS.find_compartments,
                key_column: "compartment_id",
                line: |store| &store.compartments,
                key: |row| Ok((read_locker_id(row)?, read_compartment_id(row)?)),
                value: |row| read_compartment(row).map(|row| row.status),
            }
            .lookups(store),
            reservations: Kind {
                statement: D::STATEMENTS.find_reservations,
                key_column: "reservation_id",
                line: |store| &store.reservations,
                key: |row| Ok((read_reservation_id(row)?,)),
                value: read_reservation,
            }
            .lookups(store),
        }
    }
}

/// How one kind of thing is found.
struct Kind<D: Dialect, K, V> {
    statement: &'static str,
    /// Null in the row that tells only of the checkpoint.
    key_column: &'static str,
    line: fn(&SqlStore<D>) -> &Line<D>,
    key: fn(&D::Row) -> Read<K>,
    value: fn(&D::Row) -> Read<V>,
}

impl<D: Dialect, K, V> Kind<D, K, V>
where
    K: Eq + Hash + Clone + Serialize + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn lookups(self, store: &Arc<SqlStore<D>>) -> Lookups<K, V> {
        let (kind, store) = (Arc::new(self), Arc::clone(store));
        Lookups::start(move |keys| {
            let (kind, store) = (Arc::clone(&kind), Arc::clone(&store));
            async move { kind.find(&store, &keys).await }
        })
    }

    async fn find(&self, store: &SqlStore<D>, keys: &[K]) -> Result<Found<K, V>, StoreError> {
        let reading = failed("could not be read");
        let rows = (self.line)(store).fetch(self.statement, Some(json_rows(keys.iter()))).await?;
        let checkpoint = rows.first().map_or(Ok(Head::default()), read_checkpoint).map_err(&reading)?;
        let read = |row: &D::Row| match row.optional_text(self.key_column) {
            Ok(None) => None,
            Ok(Some(_)) => Some((self.key)(row).map(|key| (key, (self.value)(row).map_err(&reading)))),
            Err(error) => Some(Err(error)),
        };
        let values = rows.iter().filter_map(read).collect::<Result<_, _>>().map_err(&reading)?;
        Ok(Found { values, checkpoint })
    }
}

#[async_trait]
impl LockerRepository for SqlQueries {
    async fn summary(&self, id: &LockerId) -> Result<Seen<LockerSummary>, StoreError> {
        self.lockers.find((id.clone(),)).await
    }

    async fn compartment(&self, locker: &LockerId, id: &CompartmentId) -> Result<Seen<CompartmentStatus>, StoreError> {
        self.compartments.find((locker.clone(), id.clone())).await
    }
}

#[async_trait]
impl ReservationRepository for SqlQueries {
    async fn status(&self, id: &ReservationId) -> Result<Seen<ReservationStatus>, StoreError> {
        self.reservations.find((id.clone(),)).await
    }
}
