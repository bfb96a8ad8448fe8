//! The projection in SQL: plain rows, no rule, no arithmetic.
//!
//! [`store`] holds what is the same for both databases, [`statements`] and
//! [`tables`] its SQL; [`sqlite`] and
//! [`postgres`] hold what is not: how to connect, and how a second projection takes the place of
//! the first.

pub mod line;
pub mod lookups;
pub mod postgres;
pub mod queries;
pub mod rows;
pub mod sqlite;
pub mod sqlite_file;
pub mod statements;
pub mod store;
pub mod tables;
pub mod url;

use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Postgres, Sqlite};

use crate::application::ports::{LockerRepository, Projection, ReservationRepository, StoreError, Successor};
use crate::domain::record::Head;
use crate::domain::rows::Rows;
use crate::infrastructure::sql::line::Role;
use crate::infrastructure::sql::postgres::PostgresPlace;
use crate::infrastructure::sql::queries::SqlQueries;
use crate::infrastructure::sql::rows::{Cells, Chunk, Keys};
use crate::infrastructure::sql::sqlite::SqlitePlace;
use crate::infrastructure::sql::sqlite_file::at_the_end_of;
use crate::infrastructure::sql::store::SqlStore;
use crate::infrastructure::sql::tables::Table;
use crate::infrastructure::sql::url::DatabaseUrl;

/// What is different from one database to the other.
pub trait Dialect: sqlx::Database<Row: Cells> + Sized {
    /// Begins a transaction that will write.
    const BEGIN_WRITING: &'static str;
    /// Reads the checkpoint in such a transaction; nobody else changes it until that ends.
    const SELECT_CHECKPOINT_TO_WRITE: &'static str;
    /// Begins a transaction in which all reads see one moment.
    const BEGIN_READING: &'static str;

    /// Tells, as `tables`, which tables the names stand for; `None` where a connection never sees
    /// that change.
    const SELECT_TABLES: Option<&'static str>;

    /// The file that a place leads to now; `None` where there is none, or where places are no files.
    fn file(_place: &Self::Place) -> Option<FileNumber> {
        None
    }

    /// Where a projection is.
    type Place: Debug + Send + Sync + 'static;

    /// The statements that end a transaction which covers so many events.
    fn committing(_place: &Self::Place, _events: u64) -> &'static [&'static str] {
        &["COMMIT"]
    }

    /// Opens a connection. A writer's brings the tables up to date, and belongs to the only process
    /// that writes.
    fn connect(
        place: &Self::Place,
        role: Role,
        limit: Duration,
    ) -> impl Future<Output = Result<Self::Connection, StoreError>> + Send;

    /// Closes a connection in order.
    fn close(connection: Self::Connection) -> impl Future<Output = ()> + Send;

    fn run(connection: &mut Self::Connection, statement: &'static str) -> impl Future<Output = Done<()>> + Send;

    /// Writes rows, those that are there already anew.
    fn write(connection: &mut Self::Connection, rows: Chunk) -> impl Future<Output = Done<()>> + Send;

    /// The statement that finds so many keys in a table, and tells the checkpoint of that moment.
    fn finding(table: &'static Table, keys: usize) -> &'static str;

    fn fetch(
        connection: &mut Self::Connection,
        statement: &'static str,
        keys: Option<&Keys>,
    ) -> impl Future<Output = Done<Vec<Self::Row>>> + Send;

    /// Shows each row that a statement gives as soon as it is there: of a whole table not all at once.
    fn fetch_each(
        connection: &mut Self::Connection,
        statement: &'static str,
        show: impl FnMut(&Self::Row) -> Done<()> + Send,
    ) -> impl Future<Output = Done<()>> + Send;

    /// Begins a second projection beside the first.
    fn successor(live: &Arc<SqlStore<Self>>) -> impl Future<Output = Result<Box<dyn Successor>, StoreError>> + Send;
}

/// Tells a file from another one of its name: its device and its number there.
pub type FileNumber = (u64, u64);

type Done<T> = Result<T, sqlx::Error>;

/// How long the database may take for one statement.
#[derive(Debug, Clone, Copy)]
pub struct SqlLimits {
    /// For the projection's own statements.
    pub statement: Duration,
    /// For the statements that answer queries.
    pub query: Duration,
}

/// A database, seen through the ports.
pub struct Database {
    pub projection: Arc<dyn Projection>,
    pub lockers: Arc<dyn LockerRepository>,
    pub reservations: Arc<dyn ReservationRepository>,
}

impl Database {
    /// The database at a URL. Connects to nothing yet.
    #[must_use]
    pub fn at(url: &DatabaseUrl, limits: SqlLimits) -> Self {
        match url {
            DatabaseUrl::Sqlite(path) => Self::of::<Sqlite>(SqlitePlace::writable(&at_the_end_of(path)), limits),
            DatabaseUrl::Postgres(options) => Self::of::<Postgres>(PostgresPlace::live(options), limits),
        }
    }

    fn of<D: Dialect>(place: D::Place, limits: SqlLimits) -> Self {
        let store = SqlStore::<D>::new(place, limits);
        let queries = Arc::new(SqlQueries::start(&store));
        Self { projection: store, lockers: Arc::clone(&queries) as _, reservations: queries }
    }
}

/// What a database holds, read beside whoever writes it; `None` where there is no projection. Tells
/// the checkpoint as soon as that is known; another one later when the reading had to begin again.
pub async fn contents_of(
    url: &DatabaseUrl,
    limits: SqlLimits,
    begun: impl Fn(Head),
) -> Result<Option<(Head, Rows)>, StoreError> {
    match url {
        DatabaseUrl::Sqlite(path) => sqlite::existing::contents_of(&at_the_end_of(path), limits, &begun).await,
        DatabaseUrl::Postgres(options) => postgres::existing::contents_of(options, limits, &begun).await,
    }
}

/// How far a database is, read beside whoever writes it; `None` where there is no projection.
pub async fn checkpoint_of(url: &DatabaseUrl, limits: SqlLimits) -> Result<Option<Head>, StoreError> {
    match url {
        DatabaseUrl::Sqlite(path) => sqlite::existing::checkpoint_of(&at_the_end_of(path), limits).await,
        DatabaseUrl::Postgres(options) => postgres::existing::checkpoint_of(options, limits).await,
    }
}

fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| {
        let passing = may_pass(&source);
        let source: Box<dyn Error + Send + Sync> = match source {
            // The driver adds a line of the server's own source, which looks like one of the statement.
            sqlx::Error::Database(error) => error.message().into(),
            source => source.into(),
        };
        if passing { StoreError::passing(doing, source) } else { StoreError::new(doing, source) }
    }
}

/// Whether the same attempt may work some time later, with nothing changed by anybody.
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        // A load balancer that has nobody to hand a connection to closes it without a word, and the
        // driver takes that for a strange answer.
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code_may_pass(&code)),
        _ => false,
    }
}

fn code_may_pass(code: &str) -> bool {
    /// PostgreSQL's classes 08 (connection), 40 (a transaction that lost to another), 53 (resources)
    /// and 57P (the server starts or stops), and 25006 (read-only, as a standby is until it is
    /// promoted), 55P03 and 57014 (what was waited for took too long); its manual, appendix A.
    const PASSING: [&str; 7] = ["08", "40", "53", "57P", "25006", "55P03", "57014"];
    /// SQLite's `SQLITE_BUSY`, `SQLITE_LOCKED` and `SQLITE_FULL`; the low byte of its codes.
    const PASSING_ON_SQLITE: [i32; 3] = [5, 6, 13];
    match code.parse::<i32>() {
        Ok(number) if code.len() < 5 => PASSING_ON_SQLITE.contains(&(number & 0xff)),
        _ => PASSING.iter().any(|class| code.starts_with(class)),
    }
}

/// Why the tables could not be brought up to date.
fn not_migrated(migrations: &Migrator, error: MigrateError) -> StoreError {
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or_default();
    match error {
        MigrateError::VersionMissing(found) => StoreError::new(
            "is of a newer lockstream",
            format!(
                "its tables have version {found}, and this one knows them up to {known}. Start the newer one, or make \
                 the projection anew with `lockstream rebuild`"
            ),
        ),
        MigrateError::VersionMismatch(found) => StoreError::new(
            "is not what lockstream made",
            format!("version {found} of its tables differs. `lockstream rebuild` makes the projection anew"),
        ),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            failed("could not be brought up to date")(error)
        }
        error => StoreError::new("could not be brought up to date", error),
    }
}
