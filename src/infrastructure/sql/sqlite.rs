//! The projection in SQLite: one connection that writes, a few that read beside it (WAL).

use std::hash::Hash;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Connection, Row};

use crate::application::ports::{LockerRepository, Projection, ReservationRepository, StoreError};
use crate::domain::ids::{CompartmentId, LockerId, ReservationId};
use crate::domain::record::Head;
use crate::domain::rows::{CompartmentRow, CompartmentStatus, LockerSummary, ReservationStatus, Rows};
use crate::infrastructure::sql::lookups::Lookups;
use crate::infrastructure::sql::sqlite_file::rest;
use crate::infrastructure::sql::{
    RowParameters, failed, json_rows, read_checkpoint, read_compartment, read_locker, read_reservation,
};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a statement waits for another process's lock on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a query waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

const READING: &str = "could not be read";
const WRITING: &str = "could not be written";

/// The projection in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, creates it where it is missing, and brings its tables up to date.
    pub async fn open(path: &Path, read_connections: u32) -> Result<Self, StoreError> {
        let opening = failed("could not be opened");
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A crash may take back transactions, never the file's order: the log has them all.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = pool(1).connect_with(options.clone()).await.map_err(&opening)?;
        MIGRATIONS.run(&writer).await.map_err(|error| failed("could not be migrated")(error.into()))?;
        let readers = pool(read_connections).connect_with(options.read_only(true)).await.map_err(&opening)?;
        Ok(Self { writer, readers })
    }

    /// Opens an existing file for reading alone, also beside the process that writes it. A file at
    /// rest is read without a lock and without companions, so nothing is written near it.
    async fn open_read_only(path: &Path, at_rest: bool) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
        let readers = pool(1).connect_with(options.immutable(at_rest)).await.map_err(failed("could not be opened"))?;
        Ok(Self { writer: readers.clone(), readers })
    }

    /// What an existing file holds, without changing anything beside it where that can be helped.
    ///
    /// Every process that has the file open keeps its write-ahead log beside it, be it empty, from
    /// its first look into the file on; the last one to close it in order takes that away. So a
    /// file without one is at rest. Whether it stayed so is asked again afterwards.
    pub async fn contents_of(path: &Path) -> Result<(Head, Rows), StoreError> {
        if let Some(before) = rest(path) {
            let contents = Self::contents_once(path, true).await;
            if rest(path) == Some(before) {
                return contents;
            }
        }
        Self::contents_once(path, false).await
    }

    async fn contents_once(path: &Path, at_rest: bool) -> Result<(Head, Rows), StoreError> {
        let store = Self::open_read_only(path, at_rest).await?;
        let contents = store.contents().await;
        store.close().await;
        contents
    }

    /// The checkpoint of an existing file that no process has open.
    pub async fn checkpoint_of(path: &Path) -> Result<Head, StoreError> {
        let store = Self::open_read_only(path, rest(path).is_some()).await?;
        let checkpoint = store.checkpoint().await;
        store.close().await;
        checkpoint
    }

    /// Moves all that was written into the file itself. Closing does so too, but tells nobody when
    /// it could not.
    pub async fn settle(&self) -> Result<(), StoreError> {
        let settled = async {
            let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.writer).await?;
            let [busy, frames, moved]: [i64; 3] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?];
            Ok(busy == 0 && frames == moved)
        };
        if settled.await.map_err(failed("could not be moved into its file"))? {
            return Ok(());
        }
        Err(StoreError::new("could not be moved into its file", "another process is reading it"))
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn apply_rows(&self, rows: &Rows, head: Head) -> Result<(), sqlx::Error> {
        let mut connection = self.writer.acquire().await?;
        let written = write_rows(&mut connection, rows, head).await;
        if written.is_err() {
            // SQLite may have rolled back by itself, and what the connection believes about its
            // transaction is then wrong for good. The pool opens another one.
            connection.close_on_drop();
        }
        written
    }

    async fn read_all(&self) -> Result<(Head, Rows), sqlx::Error> {
        let mut transaction = self.readers.begin().await?;
        let head = sqlx::query(SELECT_CHECKPOINT).fetch_optional(&mut *transaction).await?;
        let head = head.as_ref().map(read_checkpoint).transpose()?.unwrap_or_default();
        let lockers = sqlx::query("SELECT * FROM lockers").fetch_all(&mut *transaction).await?;
        let compartments = sqlx::query("SELECT * FROM compartments").fetch_all(&mut *transaction).await?;
        let reservations = sqlx::query("SELECT * FROM reservations").fetch_all(&mut *transaction).await?;
        let rows = Rows {
            lockers: lockers.iter().map(read_locker).collect::<Result<_, _>>()?,
            compartments: compartments.iter().map(read_compartment).collect::<Result<_, _>>()?,
            reservations: reservations.iter().map(read_reservation).collect::<Result<_, _>>()?,
        };
        Ok((head, rows))
    }
}

/// Writes rows and the checkpoint in one transaction.
async fn write_rows(connection: &mut SqliteConnection, rows: &Rows, head: Head) -> Result<(), sqlx::Error> {
    let parameters = RowParameters::of(rows);
    let sequence = i64::try_from(head.sequence.get()).expect("a log never reaches 2^63 records");
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for (statement, chunks) in [
        (UPSERT_LOCKERS, parameters.lockers),
        (UPSERT_COMPARTMENTS, parameters.compartments),
        (UPSERT_RESERVATIONS, parameters.reservations),
    ] {
        for rows in chunks {
            sqlx::query(statement).bind(rows).execute(&mut *transaction).await?;
        }
    }
    sqlx::query(UPSERT_CHECKPOINT).bind(sequence).bind(head.chain_hash.to_string()).execute(&mut *transaction).await?;
    transaction.commit().await
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

const UPSERT_LOCKERS: &str = "
    INSERT INTO lockers (locker_id, compartments, active_reservations, degraded_compartments, state_hash)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each($1) WHERE true
    ON CONFLICT (locker_id) DO UPDATE SET
        compartments = excluded.compartments,
        active_reservations = excluded.active_reservations,
        degraded_compartments = excluded.degraded_compartments,
        state_hash = excluded.state_hash";

const UPSERT_COMPARTMENTS: &str = "
    INSERT INTO compartments (locker_id, compartment_id, degraded, active_reservation)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each($1) WHERE true
    ON CONFLICT (locker_id, compartment_id) DO UPDATE SET
        degraded = excluded.degraded,
        active_reservation = excluded.active_reservation";

const UPSERT_RESERVATIONS: &str = "
    INSERT INTO reservations (reservation_id, status)
    SELECT value ->> 0, value ->> 1 FROM json_each($1) WHERE true
    ON CONFLICT (reservation_id) DO UPDATE SET status = excluded.status";

const UPSERT_CHECKPOINT: &str = "
    INSERT INTO checkpoint (id, sequence, chain_hash) VALUES (1, $1, $2)
    ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, chain_hash = excluded.chain_hash";

const SELECT_CHECKPOINT: &str = "SELECT sequence, chain_hash FROM checkpoint";

#[async_trait]
impl Projection for SqliteStore {
    async fn checkpoint(&self) -> Result<Head, StoreError> {
        let row = sqlx::query(SELECT_CHECKPOINT).fetch_optional(&self.readers).await.map_err(failed(READING))?;
        row.as_ref().map_or_else(|| Ok(Head::default()), read_checkpoint).map_err(failed(READING))
    }

    async fn apply(&self, rows: &Rows, head: Head) -> Result<(), StoreError> {
        self.apply_rows(rows, head).await.map_err(failed(WRITING))
    }

    async fn contents(&self) -> Result<(Head, Rows), StoreError> {
        self.read_all().await.map_err(failed(READING))
    }
}

/// Answers queries from the read connections, each kind in groups of its own.
pub struct SqliteQueries {
    lockers: Lookups<LockerId, LockerSummary>,
    compartments: Lookups<(LockerId, CompartmentId), CompartmentStatus>,
    reservations: Lookups<ReservationId, ReservationStatus>,
}

impl SqliteQueries {
    /// Starts the reading tasks.
    #[must_use]
    pub fn start(store: &SqliteStore) -> Self {
        Self {
            lockers: lookups(store, SELECT_LOCKERS, |row| {
                read_locker(row).map(|summary| (summary.locker_id.clone(), summary))
            }),
            compartments: lookups(store, SELECT_COMPARTMENTS, |row| {
                let CompartmentRow { locker_id, status } = read_compartment(row)?;
                Ok(((locker_id, status.compartment_id.clone()), status))
            }),
            reservations: lookups(store, SELECT_RESERVATIONS, |row| {
                read_reservation(row).map(|status| (status.reservation_id.clone(), status))
            }),
        }
    }
}

/// Lookups by a statement that takes the wanted keys as one JSON array.
fn lookups<K, V>(
    store: &SqliteStore,
    statement: &'static str,
    read: fn(&SqliteRow) -> Result<(K, V), sqlx::Error>,
) -> Lookups<K, V>
where
    K: Eq + Hash + Clone + Serialize + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let readers = store.readers.clone();
    Lookups::start(move |keys: Vec<K>| {
        let readers = readers.clone();
        async move {
            let wanted = json_rows(keys.iter());
            let rows = sqlx::query(statement).bind(wanted).fetch_all(&readers).await.map_err(failed(READING))?;
            rows.iter().map(read).collect::<Result<_, _>>().map_err(failed(READING))
        }
    })
}

// `CROSS JOIN` makes SQLite go through the wanted keys and look each up in the primary key.
const SELECT_LOCKERS: &str = "
    SELECT lockers.* FROM json_each($1) AS wanted CROSS JOIN lockers ON locker_id = wanted.value";

const SELECT_COMPARTMENTS: &str = "
    SELECT compartments.* FROM json_each($1) AS wanted CROSS JOIN compartments
    ON locker_id = wanted.value ->> 0 AND compartment_id = wanted.value ->> 1";

const SELECT_RESERVATIONS: &str = "
    SELECT reservations.* FROM json_each($1) AS wanted CROSS JOIN reservations ON reservation_id = wanted.value";

#[async_trait]
impl LockerRepository for SqliteQueries {
    async fn summary(&self, id: &LockerId) -> Result<Option<LockerSummary>, StoreError> {
        self.lockers.find(id.clone()).await
    }

    async fn compartment(
        &self,
        locker: &LockerId,
        id: &CompartmentId,
    ) -> Result<Option<CompartmentStatus>, StoreError> {
        self.compartments.find((locker.clone(), id.clone())).await
    }
}

#[async_trait]
impl ReservationRepository for SqliteQueries {
    async fn status(&self, id: &ReservationId) -> Result<Option<ReservationStatus>, StoreError> {
        self.reservations.find(id.clone()).await
    }
}
