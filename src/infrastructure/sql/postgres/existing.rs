//! Looks into a database that somebody else may write, or nobody, and leaves it as it is.

use sqlx::Postgres;
use sqlx::postgres::PgConnectOptions;

use crate::application::ports::{Projection, StoreError};
use crate::domain::record::Head;
use crate::domain::rows::Rows;
use crate::infrastructure::sql::postgres::{PostgresPlace, in_time};
use crate::infrastructure::sql::store::SqlStore;
use crate::infrastructure::sql::{Dialect, SqlLimits, failed};

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
