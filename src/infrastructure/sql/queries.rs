//! Answers queries from the projection, each kind in groups of its own and over a line of its own.

use std::sync::Arc;

use async_trait::async_trait;

use crate::application::ports::{LockerRepository, ReservationRepository, Seen, StoreError};
use crate::domain::ids::{CompartmentId, LockerId, ReservationId};
use crate::domain::record::Head;
use crate::domain::rows::{CompartmentStatus, LockerSummary, ReservationStatus};
use crate::infrastructure::sql::line::Line;
use crate::infrastructure::sql::lookups::{Found, Lookups};
use crate::infrastructure::sql::rows::{
    FoundRow, Keys, Read, read_compartment_of, read_found, read_locker_of, read_reservation_of,
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
                cells: |(locker,): &(LockerId,), cells| cells.push(Cell::Text(locker.to_shared())),
                line: |store| &store.lockers,
                value: |(locker,), row| read_locker_of(locker, row),
            }
            .lookups(store),
            compartments: Kind {
                table: &COMPARTMENTS,
                cells: |(locker, compartment): &(LockerId, CompartmentId), cells| {
                    cells.extend([Cell::Text(locker.to_shared()), Cell::Text(compartment.to_shared())]);
                },
                line: |store| &store.compartments,
                value: |(_, compartment), row| read_compartment_of(compartment, row),
            }
            .lookups(store),
            reservations: Kind {
                table: &RESERVATIONS,
                cells: |(reservation,): &(ReservationId,), cells| cells.push(Cell::Text(reservation.to_shared())),
                line: |store| &store.reservations,
                value: |(reservation,), row| read_reservation_of(reservation, row),
            }
            .lookups(store),
        }
    }
}

/// How one kind of thing is found.
struct Kind<D: Dialect, K, V> {
    table: &'static Table,
    cells: fn(&K, &mut Vec<Cell>),
    line: fn(&SqlStore<D>) -> &Line<D>,
    /// The row has everything but the key.
    value: fn(K, &D::Row) -> Read<V>,
}

impl<D: Dialect, K: Clone + Send + Sync + 'static, V: Send + 'static> Kind<D, K, V> {
    fn lookups(self, store: &Arc<SqlStore<D>>) -> Lookups<K, V> {
        let (kind, store) = (Arc::new(self), Arc::clone(store));
        Lookups::start(move |keys| {
            let (kind, store) = (Arc::clone(&kind), Arc::clone(&store));
            async move { kind.find(&store, &keys).await }
        })
    }

    async fn find(&self, store: &SqlStore<D>, keys: &[K]) -> Result<Found<V>, StoreError> {
        let reading = failed("could not be read");
        let mut cells = Vec::with_capacity(keys.len() * self.table.key_width());
        for key in keys {
            (self.cells)(key, &mut cells);
        }
        let statement = D::finding(self.table, keys.len());
        let rows = (self.line)(store).fetch(statement, Some(&Keys { table: self.table, cells })).await?;
        let mut values: Vec<_> = keys.iter().map(|_| None).collect();
        let mut checkpoint = None;
        for row in &rows {
            match read_found(row, self.table, keys.len()).map_err(&reading)? {
                FoundRow::Of(at) => values[at] = Some((self.value)(keys[at].clone(), row).map_err(&reading)),
                FoundRow::Checkpoint(head) => checkpoint = Some(head),
            }
        }
        let checkpoint = checkpoint.unwrap_or_else(|| {
            // Without one nothing is known of whatever rows there may be.
            values.fill_with(|| None);
            Head::default()
        });
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
