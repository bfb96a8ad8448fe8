//! A projection that is built beside the one in use: a second schema, which takes the first one's name.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Postgres};
use tokio::sync::OwnedMutexGuard;
use tracing::warn;

use crate::application::ports::{Projection, Removal, StoreError, Successor};
use crate::infrastructure::sql::postgres::claim::{claim, refuse_foreign};
use crate::infrastructure::sql::postgres::{LIVE, NEXT, OLD, PostgresPlace, in_time};
use crate::infrastructure::sql::store::SqlStore;
use crate::infrastructure::sql::{Dialect, failed};

/// How long dropping the replaced tables waits for somebody who still reads them.
const DROP_LIMIT: &str = "SET lock_timeout = '2s'";

/// Begins with an empty schema.
pub(super) async fn begin(live: &Arc<SqlStore<Postgres>>) -> Result<Box<dyn Successor>, StoreError> {
    let succession = Arc::clone(&live.succession).lock_owned().await;
    let (place, limit) = (PostgresPlace { schema: NEXT, ..PostgresPlace::clone(&live.place) }, live.limits.statement);
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
