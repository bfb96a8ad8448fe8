//! Opening the projection's database, and what to do when that fails.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::application::ports::{Projection, StoreError};
use crate::composition::StartError;
use crate::config::{Limits, StorageSettings, millis};
use crate::domain::record::Head;
use crate::infrastructure::sql::url::DatabaseUrl;

/// Opens the projection and reads its checkpoint. Waits for a server that is not there yet: nothing
/// may be recovered without what the projection proves.
pub(super) async fn open_database(
    projection: &dyn Projection,
    storage: &StorageSettings,
    limits: &Limits,
    stop: &CancellationToken,
) -> Result<Head, StartError> {
    const PAUSE: Duration = Duration::from_millis(500);
    let deadline = Instant::now() + millis(limits.database_wait_ms);
    let mut said = None;
    loop {
        let attempt = async {
            projection.open().await?;
            projection.checkpoint().await
        };
        let source = tokio::select! {
            () = stop.cancelled() => return Err(StartError::Stopped),
            attempted = attempt => match attempted {
                Ok(checkpoint) => return Ok(checkpoint),
                Err(error) => error,
            },
        };
        if !source.may_pass() || Instant::now() >= deadline {
            return Err(StartError::Database { url: storage.database(), source });
        }
        if said.as_ref() != Some(&source.to_string()) {
            warn!(error = %source, "waiting for the database");
            said = Some(source.to_string());
        }
        tokio::select! {
            () = stop.cancelled() => return Err(StartError::Stopped),
            () = sleep(PAUSE) => {}
        }
    }
}

/// What to do about a database that cannot be used, unless the error says so itself.
pub(super) fn database_remedy(url: &DatabaseUrl, source: &StoreError) -> String {
    let path = match url {
        _ if ["`lockstream rebuild`", "another lockstream", "cannot be used"]
            .iter()
            .any(|said| source.to_string().contains(said)) =>
        {
            return String::new();
        }
        DatabaseUrl::Postgres(_) if source.may_pass() => {
            return "Is the server running, and is DATABASE_URL right?".to_owned();
        }
        DatabaseUrl::Postgres(_) => return "Is DATABASE_URL right?".to_owned(),
        DatabaseUrl::Sqlite(path) => path,
    };
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            format!(
                "There is no folder {}: is DATABASE_URL right? The file is made where it is missing, its folder is not",
                folder.display()
            )
        }
        _ => "Check that the file can be written; if it is damaged, `lockstream rebuild` makes it anew: it holds \
              nothing that the log does not"
            .to_owned(),
    }
}
