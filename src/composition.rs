//! The composition root: the only place where adapters and use cases meet.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::application::ports::{Clock, Durable, EventLog, LogFailure, Projection, StoreError};
use crate::application::progress::Progress;
use crate::application::project::Projector;
use crate::application::queries::Queries;
use crate::application::verify::{Report, Verification};
use crate::application::writer::{self, Past, WriterThread};
use crate::config::{Limits, StorageSettings, millis};
use crate::domain::ids::Sequence;
use crate::domain::record::{Head, RecordedAt};
use crate::domain::world::{ReplayError, Touched, World};
use crate::infrastructure::clock::SystemClock;
use crate::infrastructure::data_folder::{DataFolder, DataFolderError, FolderLock};
use crate::infrastructure::event_log::FileEventLog;
use crate::infrastructure::event_log::history::{Extent, History, HistoryError};
use crate::infrastructure::event_log::recovery::{
    self, DurabilityProof, ProofSource, ReadBytes, Recovered, RecoveryError,
};
use crate::infrastructure::sql::sqlite::{SqliteQueries, SqliteStore};
use crate::infrastructure::sql::sqlite_file::SqliteReplacement;
use crate::web::{self, App, WebLimits};

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    #[error("{source} ({}). {}", path.display(), database_remedy(path))]
    Database { path: PathBuf, source: StoreError },
    #[error("the database cannot be replaced: {source} ({})", path.display())]
    Replacement { path: PathBuf, source: std::io::Error },
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
    pub router: Router,
    pub writer: WriterThread,
    pub projector: Projector,
    pub progress: Arc<Progress>,
    pub store: SqliteStore,
    pub folder: DataFolder,
    /// Held until the very end.
    pub lock: FolderLock,
    /// How much was recovered, for the start-up line.
    pub start: StartReport,
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
    let lock = folder.lock()?;
    let read_connections = u32::try_from(limits.read_connections).expect("the setting's bound is far below");
    let database = |source| StartError::Database { path: storage.database(), source };
    let store = SqliteStore::open(&storage.database(), read_connections).await.map_err(database)?;
    let checkpoint = store.checkpoint().await.map_err(database)?;

    let seen = DurabilityProof { source: ProofSource::Checkpoint, head: checkpoint };
    let opened = open_log(&folder, &[seen], limits, checkpoint, log_progress(stop))?;
    let mut log = (adapters.log)(Box::new(opened.log));
    let durable = Durable::recovered(log.as_mut(), opened.head)?;

    let head_sequence = opened.head.sequence;
    let progress = Arc::new(Progress::new(head_sequence, checkpoint.sequence));
    let Opened { world, touched, last_recorded_at, .. } = opened;
    let past = Past { world, durable, touched, last_recorded_at };
    let writer =
        writer::start(past, log, adapters.clock, Arc::clone(&progress), limits.writer()).map_err(StartError::Thread)?;
    let projection: Arc<dyn Projection> = Arc::new(store.clone());
    let queries = Arc::new(SqliteQueries::start(&store));
    let app = App {
        writer: writer.queue.clone(),
        queries: Queries {
            lockers: Arc::clone(&queries) as _,
            reservations: queries,
            progress: Arc::clone(&progress),
            within: limits.query_timeout(),
        },
        progress: Arc::clone(&progress),
        projection: Arc::clone(&projection),
        limits: WebLimits {
            body_bytes: limits.max_body_bytes,
            body_timeout: millis(limits.body_timeout_ms),
            lag_events: limits.max_lag_events as u64,
        },
    };
    let projector = Projector { projection, progress: Arc::clone(&progress) };
    let recovery_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let start = StartReport { head_sequence, projected_sequence: checkpoint.sequence, recovery_ms };
    Ok(Service { router: web::router(Arc::new(app)), writer, projector, progress, store, folder, lock, start })
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
}

/// Recovers and folds the log of a locked folder.
fn open_log(
    folder: &DataFolder,
    proofs: &[DurabilityProof],
    limits: &Limits,
    checkpoint: Head,
    on_read: impl Fn(ReadBytes) -> Result<(), StoppedEarly>,
) -> Result<Opened, StartError> {
    let mut proofs = proofs.to_vec();
    if let Some(head) = folder.clean_stop()? {
        proofs.push(DurabilityProof { source: ProofSource::CleanStop, head });
    }
    let (mut world, mut touched) = (World::default(), Touched::default());
    let mut last_recorded_at = None;
    let max_segment_bytes = limits.max_segment_bytes as u64;
    let recovered = recovery::recover(&folder.log(), &proofs, max_segment_bytes, |record, head, read| {
        on_read(read)?;
        world.replay(record, &mut touched)?;
        if head.sequence == checkpoint.sequence {
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
    Ok(Opened { log, head, world, touched, last_recorded_at })
}

/// What to do about a database that cannot be used.
fn database_remedy(path: &Path) -> String {
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

/// What `lockstream rebuild` did.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct RebuildReport {
    /// The records that were folded.
    pub records: u64,
    pub lockers: u64,
    pub compartments: u64,
    pub reservations: u64,
    pub elapsed_ms: u128,
}

/// Makes the projection anew: in a file beside the old one, which takes its place at the end.
pub async fn rebuild(
    storage: &StorageSettings,
    limits: &Limits,
    on_read: impl Fn(ReadBytes),
) -> Result<RebuildReport, StartError> {
    let begin = Instant::now();
    let folder = storage.folder();
    let _lock = folder.lock()?;
    let proof = old_checkpoint(&storage.database()).await;
    let on_read = |read| {
        on_read(read);
        Ok(())
    };
    let opened = match open_log(&folder, proof.as_slice(), limits, Head::default(), on_read) {
        // A projection of another history says nothing about this log; it is what gets replaced.
        Err(StartError::Recovery(RecoveryError::OtherHistory { .. })) if proof.is_some() => {
            open_log(&folder, &[], limits, Head::default(), on_read)
        }
        opened => opened,
    };
    let mut opened = opened?;
    Durable::recovered(&mut opened.log, opened.head)?;
    let rows = opened.world.rows(&opened.touched);

    let replaced = |source| StartError::Replacement { path: storage.database(), source };
    let replacement = SqliteReplacement::beside(&storage.database()).map_err(replaced)?;
    let database = |source| StartError::Database { path: replacement.path().to_owned(), source };
    let store = SqliteStore::open(replacement.path(), 1).await.map_err(database)?;
    store.apply(&rows, opened.head).await.map_err(database)?;
    store.settle().await.map_err(database)?;
    store.close().await;
    replacement.take_place().map_err(replaced)?;
    Ok(RebuildReport {
        records: opened.head.sequence.get(),
        lockers: rows.lockers.len() as u64,
        compartments: rows.compartments.len() as u64,
        reservations: rows.reservations.len() as u64,
        elapsed_ms: begin.elapsed().as_millis(),
    })
}

/// What the database that a rebuild replaces proves about the log, as far as it can still be read.
/// Without it, damage to records that were acknowledged could pass for a torn batch and be cut off.
async fn old_checkpoint(database: &Path) -> Option<DurabilityProof> {
    let head = SqliteStore::checkpoint_of(database).await.ok()?;
    Some(DurabilityProof { source: ProofSource::Checkpoint, head })
}

/// Why a verification could not be carried out; findings are no errors.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("there is no log in {}: is LOCKSTREAM_DATA_DIR right?", .0.display())]
    NoLog(PathBuf),
    #[error(transparent)]
    Log(HistoryError),
    #[error(transparent)]
    Database(#[from] StoreError),
    #[error(transparent)]
    Mark(#[from] DataFolderError),
}

/// Walks the log and compares the projection with it. Reads only, and takes no lock: a server may
/// be running.
pub async fn verify(storage: &StorageSettings, on_read: impl Fn(ReadBytes)) -> Result<Report, VerifyError> {
    let folder = storage.folder();
    if !folder.log().is_dir() {
        return Err(VerifyError::NoLog(folder.log()));
    }
    let mut verification = Verification::default();
    // The projection first: the log that is read after it is never behind it.
    let database = storage.database();
    if database.exists() {
        verification.expect_projection(SqliteStore::contents_of(&database).await?);
    }
    match folder.clean_stop() {
        Ok(mark) => mark.into_iter().for_each(|head| verification.expect_head(head)),
        Err(unusable @ DataFolderError::BadMark { .. }) => verification.unreadable_mark(unusable.to_string()),
        Err(unreadable) => return Err(unreadable.into()),
    }
    let mut history = History::open(&folder.log()).map_err(VerifyError::Log)?;
    while let Some(item) = history.next() {
        match item {
            Ok((record, head)) => {
                verification.take(&record, head);
                on_read(ReadBytes { done: history.bytes_read(), total: history.bytes_total() });
            }
            Err(HistoryError::Damaged(damage)) => match damage.extent {
                Extent::TornTail { bytes } => verification.torn_tail(damage.sequence, &damage.to_string(), bytes),
                Extent::Foreign => verification.foreign_record(damage.to_string()),
                Extent::LostHistory { ref proof } => {
                    verification.lost_history(damage.sequence, &format!("{damage}; {proof}"));
                }
            },
            Err(error) => return Err(VerifyError::Log(error)),
        }
    }
    Ok(verification.finish())
}
