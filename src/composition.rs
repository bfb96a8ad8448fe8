//! The composition root: the only place where adapters and use cases meet. Here a service is put
//! together; [`maintenance`] and [`backup`] have the commands that work on a data folder by themselves.

pub mod backup;
mod database;
pub mod maintenance;
mod opening;
mod past;

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::application::archive::bell::Bell;
use crate::application::archive::{self, ArchiverThread};
use crate::application::ports::{Archive, Clock, Durable, EventLog, HistoryFailure, LogFailure, Records, StoreError};
use crate::application::progress::Progress;
use crate::application::project::{Position, Projector};
use crate::application::queries::Queries;
use crate::application::rebuild::report::RebuildError;
use crate::application::rebuild::{OpenHistory, Rebuilder};
use crate::application::writer::{self, Past, WriterThread};
use crate::composition::database::{database_remedy, open_database};
use crate::composition::opening::{AtCheckpoint, FoldError, Opened, log_progress, open_log};
use crate::composition::past::{known_past, throw_away};
use crate::config::{Limits, StorageSettings, millis};
use crate::domain::ids::Sequence;
use crate::infrastructure::archive::archivist::FileArchivist;
use crate::infrastructure::clock::SystemClock;
use crate::infrastructure::data_folder::{DataFolder, DataFolderError, FolderLock};
use crate::infrastructure::event_log::history::History;
use crate::infrastructure::event_log::history::damage::HistoryError;
use crate::infrastructure::event_log::recovery::{DurabilityProof, ProofSource, RecoveryError};
use crate::infrastructure::sql::url::DatabaseUrl;
use crate::infrastructure::sql::{Database, sqlite_file};
use crate::web::{App, WebLimits};

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    #[error("{source} ({url}). {}", database_remedy(url, source))]
    Database { url: DatabaseUrl, source: StoreError },
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error(transparent)]
    Recovery(RecoveryError<FoldError>),
    #[error("stopped before the log was read to its end")]
    Stopped,
    #[error(transparent)]
    Log(#[from] LogFailure),
    #[error("the writer thread cannot be started: {0}")]
    Thread(std::io::Error),
}

type WrapLog = Box<dyn FnOnce(Box<dyn EventLog>) -> Box<dyn EventLog> + Send>;

/// The parts that a test replaces to make them fail.
pub struct Adapters {
    pub clock: Box<dyn Clock>,
    /// Wraps the log in whatever the test needs.
    pub log: WrapLog,
}

impl Default for Adapters {
    fn default() -> Self {
        Self { clock: Box::new(SystemClock), log: Box::new(|log| log) }
    }
}

/// A started service that nobody has connected to yet.
pub struct Service {
    pub app: Arc<App>,
    pub writer: WriterThread,
    pub archiver: ArchiverThread,
    pub projector: Projector,
    pub rebuilder: Arc<Rebuilder>,
    pub progress: Arc<Progress>,
    pub folder: DataFolder,
    /// Held until the very end.
    pub locks: Locks,
    /// How much was recovered, for the start-up line.
    pub start: StartReport,
}

/// What keeps other processes away.
#[derive(Debug)]
pub struct Locks {
    _folder: FolderLock,
    /// Another folder's settings may name the same SQLite file.
    _database: Option<File>,
}

/// What the start found.
#[derive(Debug, Clone, Copy)]
pub struct StartReport {
    pub head_sequence: Sequence,
    pub projected_sequence: Sequence,
    pub recovery_ms: u64,
}

/// Recovers the log, opens the projection and starts the writer.
///
/// Reading a long log takes a while; `stop` ends it early, with nothing changed.
pub async fn start(
    storage: &StorageSettings,
    limits: &Limits,
    adapters: Adapters,
    stop: &CancellationToken,
) -> Result<Service, StartError> {
    let begin = Instant::now();
    let folder = storage.folder();
    let locks = lock(storage)?;
    let database = Database::at(&storage.database(), limits.sql());
    let checkpoint = open_database(database.projection.as_ref(), storage, limits, stop).await?;

    let seen = DurabilityProof { source: ProofSource::Checkpoint, head: checkpoint };
    let known = known_past(&folder, checkpoint, log_progress(stop))?;
    let (mut opened, position) =
        match open_log(&folder, &[seen], limits, AtCheckpoint::Forget(checkpoint), known, log_progress(stop)) {
            Err(StartError::Recovery(RecoveryError::OtherHistory { source_: ProofSource::Checkpoint, sequence })) => {
                warn!(
                    %sequence, checkpoint_hash = %checkpoint.chain_hash,
                    "the projection belongs to another log and is made anew"
                );
                (open_log(&folder, &[], limits, AtCheckpoint::Nothing, None, log_progress(stop))?, None)
            }
            opened => (opened?, Some(checkpoint)),
        };
    if opened.archive.is_none() {
        throw_away(&folder);
    }
    let (bell, hearing) = Bell::new();
    opened.log.ring_when_sealed(bell.clone());
    let mut log = (adapters.log)(Box::new(opened.log));
    let durable = Durable::recovered(log.as_mut(), opened.head)?;

    let head_sequence = opened.head.sequence;
    let projected_sequence = position.unwrap_or_default().sequence;
    let progress = Arc::new(Progress::new(opened.head, position.unwrap_or_default()));
    let Opened { world, touched, last_recorded_at, archive, .. } = opened;
    let known: Option<Arc<dyn Archive>> = archive.clone().map(|archive| archive as _);
    let past = Past { world, durable, touched, last_recorded_at, archive: known };
    let writer = writer::start(past, log, adapters.clock, Arc::clone(&progress), bell.clone(), limits.writer())
        .map_err(StartError::Thread)?;
    let forgotten = archive.as_ref().map_or(Sequence::ZERO, |archive| archive.head().sequence);
    let archivist = FileArchivist::new(folder.archive(), folder.log(), limits.log().min_free_bytes, archive);
    let archiver =
        archive::start(Box::new(archivist), (bell, hearing), forgotten, writer.queue.clone(), Arc::clone(&progress));
    let archiver = archiver.map_err(StartError::Thread)?;
    let Database { projection, lockers, reservations } = database;
    let app = App {
        writer: writer.queue.clone(),
        queries: Queries { lockers, reservations, progress: Arc::clone(&progress), within: limits.query_timeout() },
        progress: Arc::clone(&progress),
        projection: Arc::clone(&projection),
        limits: WebLimits {
            body_bytes: limits.max_body_bytes,
            body_timeout: millis(limits.body_timeout_ms),
            lag_events: limits.max_lag_events as u64,
        },
        bulk_places: Arc::new(Semaphore::new(limits.max_bulk_requests)),
        stop: stop.clone(),
    };
    let app = Arc::new(app);
    let position: Position = Arc::new(Mutex::new(position));
    let open_history: OpenHistory = Arc::new(records_of(&folder));
    let rebuilder = Arc::new(Rebuilder::new(
        Arc::clone(&projection),
        Arc::clone(&position),
        Arc::clone(&progress),
        Arc::clone(&open_history),
    ));
    let projector = Projector { projection, progress: Arc::clone(&progress), position, open_history };
    let recovery_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let start = StartReport { head_sequence, projected_sequence, recovery_ms };
    Ok(Service { app, writer, archiver, projector, rebuilder, progress, folder, locks, start })
}

/// Takes the folder, and the SQLite file wherever it lies, for this process. A PostgreSQL database is
/// taken by every connection that writes.
fn lock(storage: &StorageSettings) -> Result<Locks, StartError> {
    let folder = storage.folder().lock()?;
    let database = match storage.database() {
        ref url @ DatabaseUrl::Sqlite(ref path) => {
            Some(sqlite_file::lock(path).map_err(|source| StartError::Database { url: url.clone(), source })?)
        }
        DatabaseUrl::Postgres(_) => None,
    };
    Ok(Locks { _folder: folder, _database: database })
}

/// How a rebuild reads the log of a folder.
fn records_of(folder: &DataFolder) -> impl Fn() -> Result<Records, HistoryFailure> + Send + Sync + use<> {
    let log = folder.log();
    move || {
        let failure = |error: HistoryError| HistoryFailure(error.to_string());
        let history = History::open(&log).map_err(failure)?;
        Ok(Box::new(history.map(move |item| item.map_err(failure))))
    }
}
