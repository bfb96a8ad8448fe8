//! Answers queries from the projection, each kind in groups of its own and over a line of its own.

use std::hash::Hash;
use std::sync::Arc;

use async_trait::async_trait;

use crate::application::ports::{LockerRepository, ReservationRepository, Seen, StoreError};
use crate::domain::ids::{CompartmentId, LockerId, ReservationId};
use crate::domain::rows::{CompartmentStatus, LockerSummary, ReservationStatus};
use crate::infrastructure::sql::line::Line;
use crate::infrastructure::sql::lookups::{Found, Lookups};
use crate::infrastructure::sql::rows::{
    Cells, Keys, Read, read_checkpoint, read_compartment, read_compartment_id, read_locker, read_locker_id,
    read_reservation, read_reservation_id,
};
use crate::infrastructure::sql::store::SqlStore;
use crate::infrastructure::sql::tables::{COMPARTMENTS, Cell, LOCKERS, RESERVATIONS, Table};
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
                table: &LOCKERS,
                key_column: "locker_id",
                cells: |(locker,): &(LockerId,), cells| cells.push(Cell::Text(locker.to_shared())),
                line: |store| &store.lockers,
                key: |row| Ok((read_locker_id(row)?,)),
                value: read_locker,
            }
            .lookups(store),
            compartments: Kind {
                table: &COMPARTMENTS,
                key_column: "compartment_id",
                cells: |(locker, compartment): &(LockerId, CompartmentId), cells| {
                    cells.extend([Cell::Text(locker.to_shared()), Cell::Text(compartment.to_shared())]);
                },
                line: |store| &store.compartments,
                key: |row| Ok((read_locker_id(row)?, read_compartment_id(row)?)),
                value: |row| read_compartment(row).map(|row| row.status),
            }
            .lookups(store),
            reservations: Kind {
                table: &RESERVATIONS,
                key_column: "reservation_id",
                cells: |(reservation,): &(ReservationId,), cells| cells.push(Cell::Text(reservation.to_shared())),
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
    table: &'static Table,
    /// Null in the row that tells only of the checkpoint.
    key_column: &'static str,
    cells: fn(&K, &mut Vec<Cell>),
    line: fn(&SqlStore<D>) -> &Line<D>,
    key: fn(&D::Row) -> Read<K>,
    value: fn(&D::Row) -> Read<V>,
}

impl<D: Dialect, K, V> Kind<D, K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
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
        let mut cells = Vec::with_capacity(keys.len() * self.table.key_width());
        for key in keys {
            (self.cells)(key, &mut cells);
        }
        let statement = D::finding(self.table, keys.len());
        let rows = (self.line)(store).fetch(statement, Some(&Keys { table: self.table, cells })).await?;
        // Without a checkpoint nothing is known of whatever there may be.
        let tells_checkpoint = |row: &&D::Row| !matches!(row.optional_text("chain_hash"), Ok(None));
        let Some(row) = rows.iter().find(tells_checkpoint) else { return Ok(Found::default()) };
        let checkpoint = read_checkpoint(row).map_err(&reading)?;
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
