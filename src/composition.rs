//! The composition root: the only place where adapters and use cases meet. Here a service is put
//! together; [`maintenance`] and [`backup`] have the commands that work on a data folder by themselves.

pub mod backup;
pub mod maintenance;
mod past;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::application::archive::bell::Bell;
use crate::application::archive::{self, ArchiverThread};
use crate::application::ports::{
    Archive, Clock, Durable, EventLog, HistoryFailure, LogFailure, Projection, Records, StoreError,
};
use crate::application::progress::Progress;
use crate::application::project::{Position, Projector};
use crate::application::queries::Queries;
use crate::application::rebuild::{OpenHistory, RebuildError, Rebuilder};
use crate::application::writer::{self, Past, WriterThread};
use crate::composition::past::{KnownPast, known_past, throw_away};
use crate::config::{Limits, StorageSettings, millis};
use crate::domain::hash::StateHash;
use crate::domain::ids::{LockerId, Sequence};
use crate::domain::record::{Head, RecordedAt};
use crate::domain::world::{ReplayError, Touched, World};
use crate::infrastructure::archive::FileArchive;
use crate::infrastructure::archive::archivist::FileArchivist;
use crate::infrastructure::clock::SystemClock;
use crate::infrastructure::data_folder::{DataFolder, DataFolderError, FolderLock};
use crate::infrastructure::event_log::FileEventLog;
use crate::infrastructure::event_log::history::{History, HistoryError};
use crate::infrastructure::event_log::recovery::{
    self, DurabilityProof, ProofSource, ReadBytes, Recovered, RecoveryError,
};
use crate::infrastructure::event_log::storage::{Disk, Storage};
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

/// Somebody wants the start to end before it is done.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
pub struct StoppedEarly;

/// Why the fold of the log ended before the log did.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Stopped(#[from] StoppedEarly),
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

/// Opens the projection and reads its checkpoint. Waits for a server that is not there yet: nothing
/// may be recovered without what the projection proves.
async fn open_database(
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

/// How a rebuild reads the log of a folder.
fn records_of(folder: &DataFolder) -> impl Fn() -> Result<Records, HistoryFailure> + Send + Sync + use<> {
    let log = folder.log();
    move || {
        let failure = |error: HistoryError| HistoryFailure(error.to_string());
        let history = History::open(&log).map_err(failure)?;
        Ok(Box::new(history.map(move |item| item.map_err(failure))))
    }
}

/// Says in the process's log lines how far a long start is, and whether to go on.
fn log_progress(stop: &CancellationToken) -> impl Fn(ReadBytes) -> Result<(), StoppedEarly> {
    const PAUSE: Duration = Duration::from_secs(5);
    let last = Cell::new(Instant::now());
    move |read| {
        if stop.is_cancelled() {
            return Err(StoppedEarly);
        }
        if last.get().elapsed() >= PAUSE {
            last.set(Instant::now());
            info!(read_bytes = read.done, total_bytes = read.total, "reading the log");
        }
        Ok(())
    }
}

/// The recovered log, folded.
struct Opened {
    log: FileEventLog,
    head: Head,
    world: World,
    /// What came after the checkpoint.
    touched: Touched,
    last_recorded_at: Option<RecordedAt>,
    /// What the world need not hold.
    archive: Option<Arc<FileArchive>>,
    /// The state hashes at the checkpoint, where they are wanted and it was passed.
    at_checkpoint: Option<BTreeMap<LockerId, StateHash>>,
}

/// What the fold does where the projection's checkpoint stands.
#[derive(Debug, Clone, Copy)]
enum AtCheckpoint {
    /// Forgets what was touched before.
    Forget(Head),
    /// Notes the state hashes of all lockers.
    NoteHashes(Head),
    Nothing,
}

impl AtCheckpoint {
    /// Whether nobody will ask for what was touched up to here.
    fn needs_nothing_of(self, head: Head) -> bool {
        match self {
            Self::Forget(checkpoint) => head.sequence < checkpoint.sequence,
            // A rebuild writes the rows of everything.
            Self::NoteHashes(_) => true,
            Self::Nothing => false,
        }
    }
}

/// After how many records that is really forgotten.
const FORGET_EVERY: u64 = 1_024;

/// Recovers and folds the log of a locked folder, after the past that is known already.
fn open_log(
    folder: &DataFolder,
    proofs: &[DurabilityProof],
    limits: &Limits,
    at_checkpoint: AtCheckpoint,
    known: Option<KnownPast>,
    on_read: impl Fn(ReadBytes) -> Result<(), StoppedEarly>,
) -> Result<Opened, StartError> {
    let mut proofs = proofs.to_vec();
    if let Some(head) = folder.clean_stop()? {
        proofs.push(DurabilityProof { source: ProofSource::CleanStop, head });
    }
    if known.is_none()
        && let Some(head) = FileArchive::proven_head(&folder.archive(), &folder.log())
    {
        proofs.push(DurabilityProof { source: ProofSource::Archive, head });
    }
    let (archive, mut world, mut last_recorded_at, mut touched) = match known {
        None => (None, World::default(), None, Touched::default()),
        Some(KnownPast { archive, world, last_recorded_at, touched }) => {
            (Some(archive), world, last_recorded_at, touched)
        }
    };
    let begin = archive.as_ref().map_or_else(Head::default, |archive| archive.head());
    let mut noted =
        matches!(at_checkpoint, AtCheckpoint::NoteHashes(head) if head == Head::default()).then(BTreeMap::new);
    let disk: Arc<dyn Storage> = Arc::new(Disk);
    let recovered =
        recovery::recover_after(begin, &disk, &folder.log(), &proofs, limits.log(), |record, head, read| {
            on_read(read)?;
            world.replay(record, &mut touched)?;
            match at_checkpoint {
                AtCheckpoint::Forget(checkpoint) if checkpoint == head => touched = Touched::default(),
                AtCheckpoint::NoteHashes(checkpoint) if checkpoint == head => noted = Some(world.state_hashes()),
                _ => {}
            }
            if at_checkpoint.needs_nothing_of(head) && head.sequence.get().is_multiple_of(FORGET_EVERY) {
                touched = Touched::default();
            }
            last_recorded_at = Some(record.recorded_at);
            Ok::<(), FoldError>(())
        });
    let recovered = recovered.map_err(|error| match error {
        RecoveryError::Visitor { error: FoldError::Stopped(_), .. } => StartError::Stopped,
        error => StartError::Recovery(error),
    })?;
    if let Some(torn) = &recovered.torn {
        warn!(
            place = %torn.place, bytes = torn.bytes, kept_at = %torn.kept_at.display(), reason = torn.reason,
            "the last process was cut off while it wrote; what it wrote last was never acknowledged and is cut off"
        );
    }
    let Recovered { log, head, .. } = recovered;
    Ok(Opened { log, head, world, touched, last_recorded_at, archive, at_checkpoint: noted })
}

/// What to do about a database that cannot be used, unless the error says so itself.
fn database_remedy(url: &DatabaseUrl, source: &StoreError) -> String {
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
