//! Opening the log: recovered, folded, and how far that is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::composition::StartError;
use crate::composition::past::KnownPast;
use crate::config::Limits;
use crate::domain::hash::StateHash;
use crate::domain::ids::LockerId;
use crate::domain::record::{Head, RecordedAt};
use crate::domain::world::{ReplayError, Touched, World};
use crate::infrastructure::archive::FileArchive;
use crate::infrastructure::data_folder::DataFolder;
use crate::infrastructure::event_log::FileEventLog;
use crate::infrastructure::event_log::recovery::{
    self, DurabilityProof, ProofSource, ReadBytes, Recovered, RecoveryError,
};
use crate::infrastructure::event_log::storage::{Disk, Storage};

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

/// The recovered log, folded.
pub(super) struct Opened {
    pub log: FileEventLog,
    pub head: Head,
    pub world: World,
    /// What came after the checkpoint.
    pub touched: Touched,
    pub last_recorded_at: Option<RecordedAt>,
    /// What the world need not hold.
    pub archive: Option<Arc<FileArchive>>,
    /// The state hashes at the checkpoint, where they are wanted and it was passed.
    pub at_checkpoint: Option<BTreeMap<LockerId, StateHash>>,
}

/// What the fold does where the projection's checkpoint stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum AtCheckpoint {
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
pub(super) fn open_log(
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

/// Says in the process's log lines how far a long start is, and whether to go on.
pub(super) fn log_progress(stop: &CancellationToken) -> impl Fn(ReadBytes) -> Result<(), StoppedEarly> {
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
