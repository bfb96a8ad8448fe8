//! Makes a connection the only one that writes: nobody else has the database, the schema is ours, and its
//! tables are up to date.

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::application::ports::StoreError;
use crate::infrastructure::sql::postgres::{NEXT, PostgresPlace};
use crate::infrastructure::sql::{failed, not_migrated};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// The advisory lock of whoever writes the projections of a database: "lockstre" in ASCII.
const CLAIM: i64 = 0x6c6f_636b_7374_7265;
/// How long to wait between two attempts to get it.
const CLAIM_PAUSE: Duration = Duration::from_millis(50);
/// What it answers when a role may not do something.
const FORBIDDEN: &str = "42501";

const OPENING: &str = "could not be opened";

/// Makes a connection the writer's: the only one that writes, on tables that are up to date.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    place: &PostgresPlace,
    limit: Duration,
) -> Result<(), StoreError> {
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
pub(super) async fn refuse_foreign(connection: &mut PgConnection, schema: &str) -> Result<(), StoreError> {
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
pub(super) async fn claim(
    connection: &mut PgConnection,
    place: &PostgresPlace,
    patience: Duration,
) -> Result<(), StoreError> {
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
