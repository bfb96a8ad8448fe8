//! The contract of the database ports, held against both adapters in one run, whatever database the
//! other tests are run on.

/// Makes each test one for SQLite and one for PostgreSQL.
macro_rules! on_each_database {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
                async fn $test() {
                    super::$test($crate::ports::Place::of($crate::support::Folder::on_sqlite()).await).await;
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
                async fn $test() {
                    super::$test($crate::ports::Place::of($crate::support::Folder::on_postgres()).await).await;
                }
            )+
        }
    };
}

mod foreign;
mod projection;
mod repositories;
mod rows;
mod successor;

use std::sync::Arc;
use std::time::Duration;

use lockstream::application::ports::{Projection, Seen, Standing};
use lockstream::domain::hash::{ChainHash, StateHash};
use lockstream::domain::ids::{CompartmentId, LockerId, ReservationId, Sequence};
use lockstream::domain::record::Head;
use lockstream::domain::reservation::ReservationState;
use lockstream::domain::rows::{CompartmentRow, CompartmentStatus, LockerSummary, ReservationStatus, Rows};
use lockstream::infrastructure::sql::{Database, SqlLimits};

use crate::support::Folder;

/// A database of a test's own, seen through the ports.
struct Place {
    folder: Folder,
    database: Database,
}

impl Place {
    /// An open projection, still empty.
    async fn of(folder: Folder) -> Self {
        let place = Self { database: connected(&folder), folder };
        place.projection().open().await.unwrap();
        place
    }

    fn projection(&self) -> Arc<dyn Projection> {
        Arc::clone(&self.database.projection)
    }

    /// Takes the projection from one head to another, as it has to work.
    async fn advance(&self, rows: &Rows, from: Head, to: Head) {
        let standing = self.projection().advance(rows, from, to).await.unwrap();
        assert_eq!(standing, Standing::AsLeft);
    }

    /// Everything that is stored, each table in the order of its keys.
    async fn contents(&self) -> (Head, Rows) {
        sorted(self.projection().contents().await.unwrap())
    }

    async fn locker(&self, id: &str) -> Seen<LockerSummary> {
        self.database.lockers.summary(&LockerId::parse(id).unwrap()).await.unwrap()
    }

    async fn compartment(&self, locker: &str, id: &str) -> Seen<CompartmentStatus> {
        let (locker, id) = (LockerId::parse(locker).unwrap(), CompartmentId::parse(id).unwrap());
        self.database.lockers.compartment(&locker, &id).await.unwrap()
    }

    async fn reservation(&self, id: &str) -> Seen<ReservationStatus> {
        self.database.reservations.status(&ReservationId::parse(id).unwrap()).await.unwrap()
    }
}

/// A folder's database, as one more process would use it.
fn connected(folder: &Folder) -> Database {
    let url = folder.database_url().unwrap_or_else(|| format!("sqlite:{}", folder.database().display()));
    let limits = SqlLimits { statement: Duration::from_secs(30), query: Duration::from_secs(30) };
    Database::at(&url.parse().unwrap(), limits)
}

fn sorted((head, mut rows): (Head, Rows)) -> (Head, Rows) {
    rows.lockers.sort_by(|a, b| a.locker_id.cmp(&b.locker_id));
    let key = |row: &CompartmentRow| (row.locker_id.clone(), row.status.compartment_id.clone());
    rows.compartments.sort_by_key(key);
    rows.reservations.sort_by(|a, b| a.reservation_id.cmp(&b.reservation_id));
    (head, rows)
}

/// A head of the one history that the tests tell.
fn head(sequence: u64) -> Head {
    let first = sequence.to_be_bytes()[7];
    Head { sequence: Sequence::new(sequence), chain_hash: ChainHash::new([first; 32]) }
}

fn locker(id: &str, compartments: u64) -> LockerSummary {
    LockerSummary {
        locker_id: LockerId::parse(id).unwrap(),
        compartments,
        active_reservations: 1,
        degraded_compartments: 0,
        state_hash: StateHash::new([compartments.to_be_bytes()[7]; 32]),
    }
}

fn compartment(locker: &str, id: &str, degraded: bool, active: Option<&str>) -> CompartmentRow {
    let status = CompartmentStatus {
        compartment_id: CompartmentId::parse(id).unwrap(),
        degraded,
        active_reservation: active.map(|id| ReservationId::parse(id).unwrap()),
    };
    CompartmentRow { locker_id: LockerId::parse(locker).unwrap(), status }
}

fn reservation(id: &str, status: ReservationState) -> ReservationStatus {
    ReservationStatus { reservation_id: ReservationId::parse(id).unwrap(), status }
}

/// A locker with a compartment and its reservation.
fn some_rows(id: &str) -> Rows {
    Rows {
        lockers: vec![locker(id, 1)],
        compartments: vec![compartment(id, "A1", true, Some(id))],
        reservations: vec![reservation(id, ReservationState::Deposited)],
    }
}
