//! What is particular about SQLite: a file, one writer at a time, and a new file for a new
//! projection.

pub mod existing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::migrate::Migrator;
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row, Sqlite};
use tokio::sync::OwnedMutexGuard;

use crate::application::ports::{Projection, Removal, StoreError, Successor};
use crate::infrastructure::sql::line::Role;
use crate::infrastructure::sql::rows::{Chunk, Keys};
use crate::infrastructure::sql::sqlite_file::{SqliteReplacement, file_number};
use crate::infrastructure::sql::statements::SELECT_CHECKPOINT;
use crate::infrastructure::sql::store::SqlStore;
use crate::infrastructure::sql::tables::{Cell, MAX_KEYS, Table};
use crate::infrastructure::sql::{Dialect, Done, FileNumber, failed, not_migrated};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// What the file that is being made may have of its pages in memory: 64 MiB, as SQLite spells that.
const FRESH_CACHE: &str = "-65536";

/// What the connection that writes may have of the file's pages in memory: 32 MiB. With the 2 MiB that
/// are usual, a transaction under load is larger than that, so pages go out before it ends, and come
/// back, and go out again.
const WRITER_CACHE: &str = "-32768";

/// From how many events on a transaction is a large one. In the time that the projection gathers, single
/// events come to half of that where two processors do nothing else, and bulks to more.
const LARGE_EVENTS: u64 = 10_000;

/// SQLite makes a checkpoint (moves its write-ahead log into the file) at 1,000 pages of 4 KiB, which is its
/// own limit: what goes there is synced at once, and the syncs of events wait for that. The limit has to
/// stand when a transaction is committed; nothing comes after that, so what is committed has not failed.
const COMMIT: [&str; 2] = ["PRAGMA wal_autocheckpoint = 1000", "COMMIT"];

/// At 8,000 pages after a large transaction: a page that changes again and again goes there less often, and
/// bulks are not so pressed.
const COMMIT_LARGE: [&str; 2] = ["PRAGMA wal_autocheckpoint = 8000", "COMMIT"];

/// How many rows SQLite's thread may be ahead of whoever reads a whole table.
const READ_AHEAD_ROWS: usize = 4_096;

/// What a reader may have of the file's pages in memory: 8 MiB. A page that is not there has to be
/// asked of the system, which costs about as much as finding a row. Not mapped into memory instead:
/// a disk that fails would then end the process, and not one query.
const READER_CACHE: &str = "-8192";

const OPENING: &str = "could not be opened";

/// A SQLite file and what may be done to it.
#[derive(Debug, Clone)]
pub struct SqlitePlace {
    path: PathBuf,
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Writable,
    /// Written before anybody else knows of it, and thrown away if anything goes wrong meanwhile.
    Fresh,
    /// Read beside the process that writes.
    ReadOnly,
    /// Read without a lock and without companions, so nothing is written near it.
    AtRest,
}

impl SqlitePlace {
    #[must_use]
    pub fn writable(path: &Path) -> Self {
        Self { path: path.to_owned(), access: Access::Writable }
    }

    /// A file that is not in use yet. It has to be synced before it is.
    fn fresh(path: &Path) -> Self {
        Self { path: path.to_owned(), access: Access::Fresh }
    }
}

impl Dialect for Sqlite {
    // A transaction that begins to write later is refused at once when another one writes.
    const BEGIN_WRITING: &'static str = "BEGIN IMMEDIATE";
    const SELECT_CHECKPOINT_TO_WRITE: &'static str = SELECT_CHECKPOINT;
    const BEGIN_READING: &'static str = "BEGIN";
    const SELECT_TABLES: Option<&'static str> = None;

    type Place = SqlitePlace;

    fn file(place: &SqlitePlace) -> Option<FileNumber> {
        file_number(&place.path)
    }

    fn committing(place: &SqlitePlace, events: u64) -> &'static [&'static str] {
        // A file that is made anew moves what it has while nobody waits for it, and not when it takes the
        // other one's place.
        let is_large = events >= LARGE_EVENTS && place.access != Access::Fresh;
        if is_large { &COMMIT_LARGE } else { &COMMIT }
    }

    async fn connect(place: &SqlitePlace, role: Role, limit: Duration) -> Result<SqliteConnection, StoreError> {
        // Half of the time for the locks of others: so SQLite has said what is the matter before
        // patience ends.
        let options = SqliteConnectOptions::new().filename(&place.path).busy_timeout(limit / 2);
        let options = match (role, place.access) {
            (Role::Writer, Access::Writable) => options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                // A crash may take back transactions, never the file's order: the log has them all.
                .synchronous(SqliteSynchronous::Normal)
                .pragma("cache_size", WRITER_CACHE),
            (Role::Writer, Access::Fresh) => options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Off)
                // What a transaction changes is written once, and not on the way as well.
                .pragma("cache_size", FRESH_CACHE),
            (_, access @ (Access::ReadOnly | Access::AtRest)) => options
                .read_only(true)
                .immutable(access == Access::AtRest)
                // Whole tables are read here: that takes its time, and a thread that is woken for every
                // few rows takes twice that.
                .disable_statement_logging()
                .row_buffer_size(READ_AHEAD_ROWS),
            (Role::Reader, Access::Writable | Access::Fresh) => options
                .read_only(true)
                .pragma("cache_size", READER_CACHE)
                // A full group's rows, the checkpoint and the word that this was all: the thread that
                // reads them need not wait for whoever takes them.
                .row_buffer_size(MAX_KEYS + 2),
        };
        let mut connection = options.connect().await.map_err(failed(OPENING))?;
        if role == Role::Writer {
            // What `run` does, without a generic parameter that no future is general enough for.
            let migrated = MIGRATIONS.run_direct(None, &mut connection, false).await;
            migrated.map_err(|error| not_migrated(&MIGRATIONS, error))?;
        }
        Ok(connection)
    }

    async fn close(connection: SqliteConnection) {
        // A file that cannot be closed in order is one for the next start.
        let _ = connection.close().await;
    }

    async fn run(connection: &mut SqliteConnection, statement: &'static str) -> Done<()> {
        sqlx::query(statement).execute(connection).await.map(|_| ())
    }

    async fn write(connection: &mut SqliteConnection, rows: Chunk) -> Done<()> {
        let Chunk { table, cells } = rows;
        let mut left = cells.len() / table.width();
        let mut cells = cells.into_iter();
        while left > 0 {
            let (statement, size) = table.for_values(left);
            let values = cells.by_ref().take(size * table.width());
            values.fold(sqlx::query(statement), bind).execute(&mut *connection).await?;
            left -= size;
        }
        Ok(())
    }

    fn finding(table: &'static Table, keys: usize) -> &'static str {
        table.find_by_values(keys)
    }

    async fn fetch(
        connection: &mut SqliteConnection,
        statement: &'static str,
        keys: Option<&Keys>,
    ) -> Done<Vec<SqliteRow>> {
        let cells = keys.into_iter().flat_map(|keys| &keys.cells);
        cells.cloned().fold(sqlx::query(statement), bind).fetch_all(connection).await
    }

    async fn fetch_each(
        connection: &mut SqliteConnection,
        statement: &'static str,
        mut show: impl FnMut(&SqliteRow) -> Done<()> + Send,
    ) -> Done<()> {
        let mut rows = sqlx::query(statement).fetch(connection);
        while let Some(row) = rows.try_next().await? {
            show(&row)?;
        }
        Ok(())
    }

    async fn successor(live: &Arc<SqlStore<Self>>) -> Result<Box<dyn Successor>, StoreError> {
        let succession = Arc::clone(&live.succession).lock_owned().await;
        let replacement =
            SqliteReplacement::beside(&live.place.path).map_err(|error| StoreError::new(OPENING, error))?;
        let store = SqlStore::new(SqlitePlace::fresh(replacement.path()), live.limits);
        store.open().await?;
        Ok(Box::new(SqliteSuccessor { live: Arc::clone(live), store, replacement, _succession: succession }))
    }
}

fn bind(query: Query<'_, Sqlite, SqliteArguments>, cell: Cell) -> Query<'_, Sqlite, SqliteArguments> {
    match cell {
        Cell::Text(text) => query.bind(text),
        Cell::Count(count) => query.bind(count.cast_signed()),
        Cell::Flag(flag) => query.bind(flag),
        Cell::Null => query.bind(None::<i64>),
    }
}

/// A second file.
struct SqliteSuccessor {
    live: Arc<SqlStore<Sqlite>>,
    store: Arc<SqlStore<Sqlite>>,
    replacement: SqliteReplacement,
    _succession: OwnedMutexGuard<()>,
}

#[async_trait]
impl Successor for SqliteSuccessor {
    fn projection(&self) -> &dyn Projection {
        self.store.as_ref()
    }

    async fn take_over(self: Box<Self>) -> Result<Removal, StoreError> {
        settle(&self.store).await?;
        self.store.close().await;
        // While the files change places nobody has either of them open: two databases that share
        // one name share their companions too, and spoil each other.
        let _held = self.live.hold().await;
        self.replacement.take_place().map_err(|error| StoreError::new("cannot be replaced", error))?;
        // The replaced file is gone already.
        Ok(Box::pin(std::future::ready(())))
    }

    async fn abandon(self: Box<Self>) -> Result<(), StoreError> {
        self.store.close().await;
        self.replacement.remove().map_err(|error| StoreError::new("could not be removed", error))
    }
}

/// Moves all that was written into the file itself. Closing does so too, but tells nobody when it
/// could not.
pub(super) async fn settle(store: &SqlStore<Sqlite>) -> Result<(), StoreError> {
    let settling = failed("could not be moved into its file");
    let mut line = store.writer.take().await?;
    let rows = line.fetch("PRAGMA wal_checkpoint(TRUNCATE)", None).await.map_err(&settling)?;
    let settled = rows.first().map_or(Ok(false), |row| {
        let [busy, frames, moved]: [i64; 3] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?];
        Ok(busy == 0 && frames == moved)
    });
    line.put_back();
    if settled.map_err(settling)? {
        return Ok(());
    }
    Err(StoreError::new("could not be moved into its file", "another process is reading it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sqlite_has_taken_the_settings_of_the_connection_that_writes() {
        // It says nothing about a setting that it does not know.
        let folder = tempfile::tempdir().unwrap();
        let place = SqlitePlace::writable(&folder.path().join("projection.db"));
        let mut connection = Sqlite::connect(&place, Role::Writer, Duration::from_secs(60)).await.unwrap();
        let settings =
            [("PRAGMA cache_size", -32_768), ("PRAGMA wal_autocheckpoint", 1_000), ("PRAGMA synchronous", 1)];
        for (question, expected) in settings {
            let value: i64 = sqlx::query_scalar(question).fetch_one(&mut connection).await.unwrap();
            assert_eq!(value, expected, "{question}");
        }
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn the_limit_of_the_write_ahead_log_is_larger_after_ten_thousand_events_at_once() {
        let (live, fresh) = (SqlitePlace::writable(Path::new("live")), SqlitePlace::fresh(Path::new("fresh")));
        let usual = ["PRAGMA wal_autocheckpoint = 1000", "COMMIT"];
        assert_eq!(Sqlite::committing(&live, 0), usual);
        assert_eq!(Sqlite::committing(&live, 9_999), usual);
        assert_eq!(Sqlite::committing(&live, 10_000), ["PRAGMA wal_autocheckpoint = 8000", "COMMIT"]);
        assert_eq!(Sqlite::committing(&fresh, 10_000), usual);
    }
}
