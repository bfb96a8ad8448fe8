//! Looks into a file of whoever else may have it open, or of nobody, and leaves it as it is.

use std::path::Path;
use std::time::Duration;

use sqlx::Sqlite;

use crate::application::ports::{Projection, StoreError};
use crate::domain::record::Head;
use crate::domain::rows::Rows;
use crate::infrastructure::sql::line::Role;
use crate::infrastructure::sql::sqlite::{Access, SqlitePlace};
use crate::infrastructure::sql::sqlite_file::{file_number, rest};
use crate::infrastructure::sql::store::SqlStore;
use crate::infrastructure::sql::{Dialect, SqlLimits, failed};

/// What an existing file holds.
pub async fn contents_of(
    path: &Path,
    limits: SqlLimits,
    begun: &dyn Fn(Head),
) -> Result<Option<(Head, Rows)>, StoreError> {
    look_into(path, limits, async |store| store.contents_begun(begun).await).await
}

/// The checkpoint in an existing file.
pub async fn checkpoint_of(path: &Path, limits: SqlLimits) -> Result<Option<Head>, StoreError> {
    look_into(path, limits, async |store| store.checkpoint().await).await
}

/// Looks into an existing file, without changing anything beside it where that can be helped.
async fn look_into<T>(
    path: &Path,
    limits: SqlLimits,
    read: impl AsyncFn(&SqlStore<Sqlite>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    loop {
        let Some(before) = file_number(path) else { return Ok(None) };
        let found = look_into_one(path, limits, &read).await;
        // A rebuild that put another file there in between may have shown something of both.
        if file_number(path) == Some(before) {
            return found;
        }
    }
}

/// Every process that has the file open keeps its write-ahead log beside it, be it empty, from its
/// first look into the file on; the last one to close it in order takes that away. So a file without
/// one is at rest. Whether it stayed so is asked again afterwards.
async fn look_into_one<T>(
    path: &Path,
    limits: SqlLimits,
    read: impl AsyncFn(&SqlStore<Sqlite>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let look = async |access| {
        let place = SqlitePlace { path: path.to_owned(), access };
        if !has_tables(&place, limits.statement).await? {
            return Ok(None);
        }
        let store = SqlStore::<Sqlite>::new(place, limits);
        let found = read(&store).await;
        store.close().await;
        found.map(Some)
    };
    if let Some(before) = rest(path) {
        let found = look(Access::AtRest).await;
        if rest(path) == Some(before) {
            return found;
        }
    }
    look(Access::ReadOnly).await
}

/// Whether there is a projection in the file. A crash may take back its very first transactions too,
/// and then it is as good as none.
async fn has_tables(place: &SqlitePlace, limit: Duration) -> Result<bool, StoreError> {
    let mut connection = <Sqlite as Dialect>::connect(place, Role::Reader, limit).await?;
    let exists = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'checkpoint')")
        .fetch_one(&mut connection)
        .await
        .map_err(failed("could not be read"))?;
    <Sqlite as Dialect>::close(connection).await;
    Ok(exists)
}
