//! What is particular about PostgreSQL: a server that may be away, sessions that may outlive their
//! client, and a schema for each projection.
//!
//! The tables lie in the schema [`LIVE`]; the names in the statements are found through the
//! session's `search_path`. A rebuild fills the schema [`NEXT`] and then renames both in one
//! transaction. PostgreSQL looks names up anew after that, in prepared statements too.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Postgres};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use uuid::Uuid;

use crate::application::ports::{Projection, Removal, StoreError, Successor};
use crate::domain::record::Head;
use crate::domain::rows::Rows;
use crate::infrastructure::sql::line::{NoAnswer, Role};
use crate::infrastructure::sql::rows::{Chunk, Keys};
use crate::infrastructure::sql::store::SqlStore;
use crate::infrastructure::sql::tables::Table;
use crate::infrastructure::sql::{Dialect, Done, SqlLimits, failed, not_migrated};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// The schema of the projection.
pub const LIVE: &str = "lockstream";
/// The schema of a projection that is being built, and of one that is being dropped.
const NEXT: &str = "lockstream_next";
const OLD: &str = "lockstream_old";

/// The advisory lock of whoever writes the projections of a database: "lockstre" in ASCII.
const CLAIM: i64 = 0x6c6f_636b_7374_7265;
/// How long to wait between two attempts to get it.
const CLAIM_PAUSE: Duration = Duration::from_millis(50);
/// How long dropping the replaced tables waits for somebody who still reads them.
const DROP_LIMIT: &str = "SET lock_timeout = '2s'";

/// A role or a server may want idle sessions to end; this one holds the claim. Not every version
/// knows these settings, and an unknown one is an error where it is asked for by name.
const STAY: &str = "
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('idle_session_timeout', 'transaction_timeout')";

/// What a server answers whose `pg_hba.conf` has no place for a connection of this kind.
const REFUSED: &str = "28000";

/// What it answers when a role may not do something.
const FORBIDDEN: &str = "42501";

const OPENING: &str = "could not be opened";

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
            prepare(&mut connection, place, limit).await?;
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
        let succession = Arc::clone(&live.succession).lock_owned().await;
        let (place, limit) =
            (PostgresPlace { schema: NEXT, ..PostgresPlace::clone(&live.place) }, live.limits.statement);
        let clearing = async {
            let mut connection = place.connect(limit, &[]).await.map_err(failed("could not be reached"))?;
            claim(&mut connection, &place, limit / 2).await?;
            for schema in [LIVE, NEXT, OLD] {
                refuse_foreign(&mut connection, schema).await?;
            }
            let dropped = drop_schemas(&mut connection, &[NEXT, OLD]).await;
            dropped.map_err(failed("still has tables of an earlier rebuild"))?;
            Postgres::close(connection).await;
            Ok(())
        };
        in_time(limit, clearing).await?;
        let store = SqlStore::new(place, live.limits);
        store.open().await?;
        Ok(Box::new(PostgresSuccessor { store, _succession: succession }))
    }
}

/// Makes a connection the writer's: the only one that writes, on tables that are up to date.
async fn prepare(connection: &mut PgConnection, place: &PostgresPlace, limit: Duration) -> Result<(), StoreError> {
    claim(connection, place, limit / 2).await?;
    let opening = failed(OPENING);
    let encoding: String =
        sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *connection).await.map_err(&opening)?;
    if encoding != "UTF8" {
        let reason = format!("its encoding is {encoding}; make one with ENCODING 'UTF8', which holds every identifier");
        return Err(StoreError::new("cannot be used", reason));
    }
    let create = format!("CREATE SCHEMA IF NOT EXISTS {}", place.schema);
    connection.execute(AssertSqlSafe(create)).await.map_err(|error| match error {
        sqlx::Error::Database(error) if error.code().as_deref() == Some(FORBIDDEN) => StoreError::new(
            "cannot be used",
            format!("{}. Its role has to own it, or needs GRANT CREATE ON DATABASE, for a schema", error.message()),
        ),
        error => opening(error),
    })?;
    refuse_foreign(connection, place.schema).await?;
    // What `run` does, without a generic parameter that no future is general enough for.
    let migrated = MIGRATIONS.run_direct(None, connection, false).await;
    migrated.map_err(|error| not_migrated(&MIGRATIONS, error))
}

/// Nothing is put into a schema, and none is dropped, that somebody else made.
async fn refuse_foreign(connection: &mut PgConnection, schema: &str) -> Result<(), StoreError> {
    let foreign: bool =
        sqlx::query_scalar(SELECT_FOREIGN).bind(schema).fetch_one(connection).await.map_err(failed(OPENING))?;
    if !foreign {
        return Ok(());
    }
    let reason = format!("its schema {schema} holds tables of somebody else. Give them or lockstream another database");
    Err(StoreError::new("cannot be used", reason))
}

/// Whether there is anything in a schema, but not the table that comes with the first of ours.
const SELECT_FOREIGN: &str = "
    SELECT count(*) > 0 AND NOT coalesce(bool_or(relname = '_sqlx_migrations'), false)
    FROM pg_class WHERE relnamespace = to_regnamespace($1)";

/// Takes the projections of this database for this process, as long as the connection lives.
///
/// Every writing connection does so, hence two servers never write in turns. The lock may be held
/// by a session of this very process whose connection broke without the server noticing; that one
/// is ended. A rebuild beside a running server's projection shares the server's claim.
async fn claim(connection: &mut PgConnection, place: &PostgresPlace, patience: Duration) -> Result<(), StoreError> {
    let claiming = failed("could not be claimed");
    let deadline = Instant::now() + patience;
    loop {
        let claimed: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(CLAIM)
            .fetch_one(&mut *connection)
            .await
            .map_err(&claiming)?;
        if claimed {
            return Ok(());
        }
        let holder: Option<(i32, Option<String>, Option<String>)> =
            sqlx::query_as(SELECT_HOLDER).bind(CLAIM).fetch_optional(&mut *connection).await.map_err(&claiming)?;
        if let Some((pid, name, _)) = &holder
            && name.as_deref() == Some(&*place.instance)
        {
            if place.schema == NEXT {
                return Ok(());
            }
            info!(pid, "ending a session of this process whose connection was lost");
            let end = sqlx::query("SELECT pg_terminate_backend($1)").bind(pid);
            end.execute(&mut *connection).await.map_err(&claiming)?;
        }
        if Instant::now() >= deadline {
            let who = holder.map_or_else(String::new, |(pid, name, address)| {
                let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unnamed".into());
                let address = address.unwrap_or_else(|| "this machine".to_owned());
                format!(" (session {pid}, {name}, from {address})")
            });
            let reason = format!(
                "another lockstream process writes its projection{who}. Stop that one first, or give this one another \
                 database; a session whose process is gone ends by itself within a minute"
            );
            return Err(StoreError::new("is in use", reason));
        }
        sleep(CLAIM_PAUSE).await;
    }
}

/// The session that holds the claim. `pg_locks` splits the key into two halves.
const SELECT_HOLDER: &str = "
    SELECT pid, application_name, client_addr::text
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
        AND classid::bigint = $1 >> 32 AND objid::bigint = $1 & 4294967295
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Ends work on a connection of its own when nobody answers.
async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(StoreError::passing("could not be reached", NoAnswer(limit))))
}

async fn drop_schemas(connection: &mut PgConnection, schemas: &[&str]) -> Result<(), sqlx::Error> {
    connection.execute(DROP_LIMIT).await?;
    for schema in schemas {
        connection.execute(AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {schema} CASCADE"))).await?;
    }
    Ok(())
}

/// A second schema.
struct PostgresSuccessor {
    store: Arc<SqlStore<Postgres>>,
    _succession: OwnedMutexGuard<()>,
}

#[async_trait]
impl Successor for PostgresSuccessor {
    fn projection(&self) -> &dyn Projection {
        self.store.as_ref()
    }

    async fn take_over(self: Box<Self>) -> Result<Removal, StoreError> {
        let replacing = failed("cannot be replaced");
        let mut line = self.store.writer.take().await?;
        let renamed = async {
            line.run(Postgres::BEGIN_WRITING).await?;
            line.run("CREATE SCHEMA IF NOT EXISTS lockstream").await?;
            line.run("ALTER SCHEMA lockstream RENAME TO lockstream_old").await?;
            line.run("ALTER SCHEMA lockstream_next RENAME TO lockstream").await?;
            line.run("COMMIT").await
        };
        renamed.await.map_err(replacing)?;
        line.put_back();
        Ok(Box::pin(async move {
            if let Err(error) = drop_on(&self.store, "DROP SCHEMA lockstream_old CASCADE").await {
                warn!(%error, "the replaced tables (schema {OLD}) stay until the next rebuild");
            }
            self.store.close().await;
        }))
    }

    async fn abandon(self: Box<Self>) -> Result<(), StoreError> {
        drop_on(&self.store, "DROP SCHEMA lockstream_next CASCADE").await?;
        self.store.close().await;
        Ok(())
    }
}

/// Drops a schema over the line of whoever writes.
async fn drop_on(store: &SqlStore<Postgres>, statement: &'static str) -> Result<(), StoreError> {
    let mut line = store.writer.take().await?;
    let dropped = async {
        line.run(DROP_LIMIT).await?;
        line.run(statement).await
    };
    dropped.await.map_err(failed("could not be removed"))?;
    line.put_back();
    Ok(())
}

/// What the projection of a database holds, read beside whoever writes it.
pub async fn contents_of(
    options: &PgConnectOptions,
    limits: SqlLimits,
    begun: &dyn Fn(Head),
) -> Result<Option<(Head, Rows)>, StoreError> {
    look_into(options, limits, async |store| store.contents_begun(begun).await).await
}

/// The checkpoint in a database.
pub async fn checkpoint_of(options: &PgConnectOptions, limits: SqlLimits) -> Result<Option<Head>, StoreError> {
    look_into(options, limits, async |store| store.checkpoint().await).await
}

async fn look_into<T>(
    options: &PgConnectOptions,
    limits: SqlLimits,
    read: impl AsyncFn(&SqlStore<Postgres>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let place = PostgresPlace::live(options);
    let looking = async {
        let connecting = place.connect(limits.statement, &[]);
        let mut connection = connecting.await.map_err(failed("could not be reached"))?;
        let exists: bool = sqlx::query_scalar("SELECT to_regclass('checkpoint') IS NOT NULL")
            .fetch_one(&mut connection)
            .await
            .map_err(failed("could not be read"))?;
        Postgres::close(connection).await;
        Ok(exists)
    };
    if !in_time(limits.statement, looking).await? {
        return Ok(None);
    }
    let store = SqlStore::<Postgres>::new(place, limits);
    let found = read(&store).await;
    store.close().await;
    found.map(Some)
}
