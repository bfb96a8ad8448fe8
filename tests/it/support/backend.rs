//! Which database a folder's projection is in, and what tests do to it: the same by SQL on each.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use tokio::time::timeout;

use crate::support::postgres::Cluster;
use crate::support::postgres::database::Database;
use crate::support::{Folder, PATIENCE, block_on};

/// The variable that says on which database the tests run.
pub const VARIABLE: &str = "LOCKSTREAM_TEST_DATABASE";

pub enum Backend {
    /// The file in the data folder.
    Sqlite,
    /// A database of its own, made when it is first needed: many folders hold no more than a log.
    Postgres(OnceLock<Database>),
}

impl Backend {
    /// The one that the tests are run on.
    pub fn chosen() -> Self {
        Self::named(std::env::var_os(VARIABLE).as_deref()).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn named(name: Option<&OsStr>) -> Result<Self, String> {
        match name.map(OsStr::to_string_lossy).as_deref() {
            None | Some("sqlite") => Ok(Self::Sqlite),
            Some("postgres") => Ok(Self::on_postgres()),
            Some(other) => Err(format!("{VARIABLE} must be sqlite or postgres, and not {other:?}")),
        }
    }

    pub fn on_postgres() -> Self {
        Self::Postgres(OnceLock::new())
    }
}

/// Where the service keeps its tables on PostgreSQL.
const SCHEMA: &str = "lockstream";

impl Folder {
    pub fn is_on_postgres(&self) -> bool {
        matches!(self.backend, Backend::Postgres(_))
    }

    /// The database on PostgreSQL.
    pub fn postgres(&self) -> &Database {
        match &self.backend {
            Backend::Sqlite => panic!("this folder is on SQLite"),
            Backend::Postgres(database) => database.get_or_init(|| Cluster::shared().create_database()),
        }
    }

    /// The file of the database on SQLite.
    pub fn database(&self) -> PathBuf {
        self.path().join("projection.db")
    }

    /// The write-ahead log of that file.
    pub fn write_ahead_log(&self) -> PathBuf {
        self.path().join("projection.db-wal")
    }

    /// What `DATABASE_URL` has to say; nothing when it need not be set.
    pub fn database_url(&self) -> Option<String> {
        self.is_on_postgres().then(|| self.postgres().url())
    }

    /// Changes the database behind the service's back.
    pub async fn execute(&self, statements: &str) {
        let mut connected = self.connect().await;
        connected.execute(statements).await;
        connected.close().await;
    }

    /// The sequence and hash up to which the projection is written.
    pub async fn checkpoint(&self) -> (u64, String) {
        const QUERY: &str = "SELECT sequence, chain_hash FROM checkpoint";
        let mut connected = self.connect().await;
        let (sequence, hash): (i64, _) = match &mut connected {
            Connected::Sqlite(connection) => {
                let row = sqlx::query(QUERY).fetch_one(connection).await.unwrap();
                (row.get(0), row.get(1))
            }
            Connected::Postgres(connection) => {
                let row = sqlx::query(QUERY).fetch_one(connection).await.unwrap();
                (row.get(0), row.get(1))
            }
        };
        connected.close().await;
        (u64::try_from(sequence).unwrap(), hash)
    }

    /// The first column of what a query finds, whole numbers.
    pub async fn numbers(&self, query: &'static str) -> Vec<i64> {
        let mut connected = self.connect().await;
        let numbers = match &mut connected {
            Connected::Sqlite(connection) => sqlx::query_scalar(query).fetch_all(connection).await.unwrap(),
            Connected::Postgres(connection) => sqlx::query_scalar(query).fetch_all(connection).await.unwrap(),
        };
        connected.close().await;
        numbers
    }

    /// Another program that works on the database and does not come to an end: nothing can be
    /// written until it is let go.
    pub async fn hold_up(&self) -> Holder {
        let mut connected = self.connect().await;
        let begin = match connected {
            Connected::Sqlite(_) => "BEGIN EXCLUSIVE",
            Connected::Postgres(_) => "BEGIN; LOCK TABLE checkpoint IN EXCLUSIVE MODE",
        };
        connected.execute(begin).await;
        Holder(connected)
    }

    /// The same, and nothing can be read either.
    pub async fn hold_up_readers(&self) -> Holder {
        let mut connected = self.connect().await;
        let begin = match connected {
            Connected::Sqlite(_) => "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE",
            Connected::Postgres(_) => "BEGIN; LOCK TABLE lockers IN ACCESS EXCLUSIVE MODE",
        };
        connected.execute(begin).await;
        Holder(connected)
    }

    /// Whether some process still has the database open.
    pub async fn has_open_database(&self) -> bool {
        match &self.backend {
            Backend::Sqlite => self.path().join("projection.db-wal").exists(),
            Backend::Postgres(_) => {
                let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND \
                                backend_type = 'client backend' AND pid <> pg_backend_pid()";
                self.postgres().value::<i64>(sessions).await > 0
            }
        }
    }

    /// Removes the projection with all that belongs to it, as an operator might.
    pub fn delete_database(&self) {
        if self.is_on_postgres() {
            return block_on(self.postgres().execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")));
        }
        for suffix in ["", "-wal", "-shm"] {
            let mut path = self.database().into_os_string();
            path.push(suffix);
            let _ = fs::remove_file(path);
        }
    }

    /// Puts a copy of another folder's database in the place of this one's.
    pub fn take_database_of(&mut self, other: &Self) {
        match &mut self.backend {
            Backend::Sqlite => drop(fs::copy(other.database(), self.database()).unwrap()),
            Backend::Postgres(database) => {
                let copy = format!("TEMPLATE {}", other.postgres().name());
                *database = OnceLock::from(Cluster::shared().create_database_with(&copy));
            }
        }
    }

    async fn connect(&self) -> Connected {
        if self.is_on_postgres() {
            let mut connection = self.postgres().connect().await;
            let path = format!("SET search_path = {SCHEMA}");
            connection.execute(AssertSqlSafe(path)).await.unwrap();
            return Connected::Postgres(connection);
        }
        let options = SqliteConnectOptions::new().filename(self.database()).busy_timeout(PATIENCE);
        Connected::Sqlite(SqliteConnection::connect_with(&options).await.unwrap())
    }
}

enum Connected {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Connected {
    async fn execute(&mut self, statements: &str) {
        let executing = async {
            match self {
                Self::Sqlite(connection) => {
                    connection.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await.map(drop)
                }
                Self::Postgres(connection) => {
                    connection.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await.map(drop)
                }
            }
        };
        let executed = timeout(PATIENCE, executing).await.expect("nobody else holds the database up");
        executed.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    async fn close(self) {
        match self {
            Self::Sqlite(connection) => connection.close().await.unwrap(),
            Self::Postgres(connection) => connection.close().await.unwrap(),
        }
    }
}

/// Who holds a database up.
pub struct Holder(Connected);

impl Holder {
    /// Lets it go, with nothing changed.
    pub async fn release(mut self) {
        self.0.execute("ROLLBACK").await;
        self.0.close().await;
    }
}
