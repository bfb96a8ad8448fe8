//! What is particular about PostgreSQL: a server that may be away, sessions that may outlive their
//! client, and a schema for each projection.
//!
//! The tables lie in the schema [`LIVE`]; the names in the statements are found through the
//! session's `search_path`. A rebuild fills the schema [`NEXT`] and then renames both in one
//! transaction. PostgreSQL looks names up anew after that, in prepared statements too.

mod claim;
pub mod existing;
mod successor;

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, Postgres};
use tokio::time::timeout;
use uuid::Uuid;

use crate::application::ports::{StoreError, Successor};
use crate::infrastructure::sql::line::{NoAnswer, Role};
use crate::infrastructure::sql::rows::{Chunk, Keys};
use crate::infrastructure::sql::store::SqlStore;
use crate::infrastructure::sql::tables::Table;
use crate::infrastructure::sql::{Dialect, Done, failed};

/// The schema of the projection.
pub const LIVE: &str = "lockstream";
/// The schema of a projection that is being built, and of one that is being dropped.
const NEXT: &str = "lockstream_next";
const OLD: &str = "lockstream_old";

/// A role or a server may want idle sessions to end; this one holds the claim. Not every version
/// knows these settings, and an unknown one is an error where it is asked for by name.
const STAY: &str = "
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('idle_session_timeout', 'transaction_timeout')";

/// What a server answers whose `pg_hba.conf` has no place for a connection of this kind.
const REFUSED: &str = "28000";

/// A schema in a database on a server.
#[derive(Debug, Clone)]
pub struct PostgresPlace {
    options: PgConnectOptions,
    schema: &'static str,
    /// The name under which the server knows this process.
    instance: Arc<str>,
}

impl PostgresPlace {
    /// The projection in use.
    #[must_use]
    pub fn live(options: &PgConnectOptions) -> Self {
        Self { options: options.clone(), schema: LIVE, instance: format!("lockstream {}", Uuid::now_v7()).into() }
    }

    /// The server gives up when the client does, and earlier on the locks of others: so it has said
    /// what is the matter before patience ends.
    async fn connect(&self, limit: Duration, settings: &[(&str, &str)]) -> Result<PgConnection, sqlx::Error> {
        let (limit_ms, lock_ms) = (limit.as_millis().to_string(), (limit / 2).as_millis().max(1).to_string());
        let options = self.options.clone().application_name(&self.instance);
        let options = options.options([
            ("search_path", self.schema),
            ("statement_timeout", &limit_ms),
            ("lock_timeout", &lock_ms),
            ("idle_in_transaction_session_timeout", &limit_ms),
            // Notices tell what is not there to be dropped, and the like.
            ("client_min_messages", "warning"),
            // A session whose client is gone ends soon, and its locks with it.
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ]);
        let options = options.options(settings.iter().copied());
        // As libpq does it: two of the modes try the other way when the server refuses the first.
        let (first, second) = match options.get_ssl_mode() {
            PgSslMode::Allow => (PgSslMode::Disable, Some(PgSslMode::Require)),
            PgSslMode::Prefer => (PgSslMode::Prefer, Some(PgSslMode::Disable)),
            mode => (mode, None),
        };
        let mut connection = match (options.clone().ssl_mode(first).connect().await, second) {
            (Err(sqlx::Error::Database(error)), Some(second)) if error.code().as_deref() == Some(REFUSED) => {
                options.ssl_mode(second).connect().await
            }
            (connected, _) => connected,
        }?;
        connection.execute(STAY).await?;
        Ok(connection)
    }
}

/// The planner's cleverness is of no use to a reader: each statement looks up some keys, and a hash
/// over a whole table, cheap as it seems while the table is small, is never right.
const READER_SETTINGS: [(&str, &str); 6] = [
    ("default_transaction_read_only", "on"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
];

impl Dialect for Postgres {
    // Not `READ WRITE`: who runs a server may have good reasons to make its transactions read-only.
    const BEGIN_WRITING: &'static str = "BEGIN";
    // Without the lock a backup could be put back between this look and the writing.
    const SELECT_CHECKPOINT_TO_WRITE: &'static str =
        "SELECT sequence, chain_hash FROM checkpoint WHERE id = 1 FOR NO KEY UPDATE";
    const BEGIN_READING: &'static str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    const SELECT_TABLES: Option<&'static str> = Some("SELECT 'checkpoint'::regclass::oid::bigint AS tables");

    type Place = PostgresPlace;

    async fn connect(place: &PostgresPlace, role: Role, limit: Duration) -> Result<PgConnection, StoreError> {
        let settings = if role == Role::Reader { &READER_SETTINGS[..] } else { &[] };
        let mut connection = place.connect(limit, settings).await.map_err(failed("could not be reached"))?;
        if role == Role::Writer {
            claim::prepare(&mut connection, place, limit).await?;
        }
        Ok(connection)
    }

    async fn close(connection: PgConnection) {
        // A server that does not hear it finds out.
        let _ = connection.close().await;
    }

    async fn run(connection: &mut PgConnection, statement: &'static str) -> Done<()> {
        sqlx::raw_sql(statement).execute(connection).await.map(|_| ())
    }

    async fn write(connection: &mut PgConnection, rows: Chunk) -> Done<()> {
        sqlx::query(rows.table.for_json()).bind(rows.to_json()).execute(connection).await.map(|_| ())
    }

    fn finding(table: &'static Table, _keys: usize) -> &'static str {
        table.find_by_json()
    }

    async fn fetch(connection: &mut PgConnection, statement: &'static str, keys: Option<&Keys>) -> Done<Vec<PgRow>> {
        let mut query = sqlx::query(statement);
        if let Some(keys) = keys {
            query = query.bind(keys.to_json());
        }
        query.fetch_all(connection).await
    }

    async fn fetch_each(
        connection: &mut PgConnection,
        statement: &'static str,
        mut show: impl FnMut(&PgRow) -> Done<()> + Send,
    ) -> Done<()> {
        let mut rows = sqlx::query(statement).fetch(connection);
        while let Some(row) = rows.try_next().await? {
            show(&row)?;
        }
        Ok(())
    }

    async fn successor(live: &Arc<SqlStore<Self>>) -> Result<Box<dyn Successor>, StoreError> {
        successor::begin(live).await
    }
}

/// Ends work on a connection of its own when nobody answers.
async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(StoreError::passing("could not be reached", NoAnswer(limit))))
}
