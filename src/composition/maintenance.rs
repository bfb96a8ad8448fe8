//! The commands that work on a data folder by themselves: `verify` and `rebuild`.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use tracing::warn;

use crate::application::ports::{Durable, Projection, Standing, StoreError};
use crate::application::rebuild::report::{Differences, RebuildError, RebuildReport};
use crate::application::verify::{Report, Verification, Way};
use crate::composition::opening::{AtCheckpoint, open_log};
use crate::composition::{StartError, lock};
use crate::config::{Limits, StorageSettings};
use crate::domain::record::Head;
use crate::domain::rows::Rows;
use crate::infrastructure::data_folder::{DataFolder, DataFolderError};
use crate::infrastructure::event_log::history::History;
use crate::infrastructure::event_log::history::damage::{Extent, HistoryError};
use crate::infrastructure::event_log::recovery::{DurabilityProof, ProofSource, ReadBytes, RecoveryError};
use crate::infrastructure::sql::{Database, contents_of};

/// Makes the projection anew while no server runs: beside the old one, which it replaces at the
/// end. With `force` also where the old one differs from what the log gives.
pub async fn rebuild(
    storage: &StorageSettings,
    limits: &Limits,
    force: bool,
    on_read: impl Fn(ReadBytes),
) -> Result<RebuildReport, StartError> {
    let begin = Instant::now();
    let _locks = lock(storage)?;
    let live = Database::at(&storage.database(), limits.sql()).projection;
    let database = |source| StartError::Database { url: storage.database(), source };
    let successor = Arc::clone(&live).successor().await.map_err(database)?;
    let made = match make(storage, limits, force, live.as_ref(), on_read).await {
        Ok((rows, head, report)) => match successor.projection().advance(&rows, Head::default(), head).await {
            Ok(Standing::AsLeft) => Ok(report),
            Ok(Standing::Elsewhere(_)) => Err(RebuildError::UnderWay.into()),
            Err(error) => Err(database(error)),
        },
        Err(error) => Err(error),
    };
    let report = match made {
        Ok(report) => report,
        Err(error) => {
            if let Err(left) = successor.abandon().await {
                warn!(error = %left, "what there is of the second projection stays until the next rebuild");
            }
            return Err(error);
        }
    };
    successor.take_over().await.map_err(database)?.await;
    live.close().await;
    Ok(report.after(begin))
}

/// Folds the log, compares the old projection with it where that stands, and gives the rows of the
/// new one.
async fn make(
    storage: &StorageSettings,
    limits: &Limits,
    force: bool,
    live: &dyn Projection,
    on_read: impl Fn(ReadBytes),
) -> Result<(Rows, Head, RebuildReport), StartError> {
    // What the old one proves about the log, as far as it can still be read. Without it, damage to
    // records that were acknowledged could pass for a torn batch and be cut off.
    let old = match live.state_hashes().await {
        Ok(old) => Some(old),
        Err(source) if source.may_pass() => return Err(StartError::Database { url: storage.database(), source }),
        Err(error) => {
            warn!(%error, "the old projection cannot be compared");
            None
        }
    };
    let checkpoint = old.as_ref().map(|(checkpoint, _)| *checkpoint);
    let on_read = |read| {
        on_read(read);
        Ok(())
    };
    let folder = storage.folder();
    let at_checkpoint = checkpoint.map_or(AtCheckpoint::Nothing, AtCheckpoint::NoteHashes);
    let seen = checkpoint.map(|head| DurabilityProof { source: ProofSource::Checkpoint, head });
    let opened = match open_log(&folder, seen.as_slice(), limits, at_checkpoint, None, on_read) {
        // A projection of another history says nothing about this log; it is what gets replaced.
        Err(StartError::Recovery(RecoveryError::OtherHistory { source_: ProofSource::Checkpoint, .. })) => {
            warn!("the old projection belongs to another log and is not compared");
            open_log(&folder, &[], limits, AtCheckpoint::Nothing, None, on_read)
        }
        opened => opened,
    };
    let mut opened = opened?;
    Durable::recovered(&mut opened.log, opened.head)?;

    let comparable = old.zip(opened.at_checkpoint);
    let differences = comparable.as_ref().map(|((_, stored), folded)| Differences::between(folded, stored));
    if let Some(differences) = differences.as_ref().filter(|differences| differences.count > 0 && !force) {
        return Err(RebuildError::Differs(differences.clone()).into());
    }
    let report = RebuildReport {
        compared_lockers: comparable.map(|((_, stored), _)| stored.len() as u64),
        differing_lockers: differences.map_or(0, |differences| differences.count as u64),
        ..RebuildReport::of(&opened.world, opened.head)
    };
    Ok((opened.world.all_rows(), opened.head, report))
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
pub fn verify(storage: &StorageSettings, limits: &Limits, on_read: impl Fn(ReadBytes)) -> Result<Report, VerifyError> {
    let begin = Instant::now();
    if !storage.folder().log().is_dir() {
        return Err(VerifyError::NoLog(storage.folder().log()));
    }
    let quick = verify_in(Way::Quick, storage, limits, &on_read)?;
    let report = match quick {
        Some(report) => report,
        None => verify_in(Way::Exact, storage, limits, &on_read)?.expect("the exact way always tells"),
    };
    Ok(report.after(begin))
}

/// After how many records it is told how far the reading is.
const TELL_EVERY: u64 = 1_024;

/// The rows of the projection, which may still be on their way; `None` when they are not of the
/// checkpoint that was told.
type ComingRows<'s> = Box<dyn FnOnce() -> Result<Option<Rows>, StoreError> + 's>;

/// Verifies in one way; `None` when another has to.
fn verify_in(
    way: Way,
    storage: &StorageSettings,
    limits: &Limits,
    on_read: impl Fn(ReadBytes),
) -> Result<Option<Report>, VerifyError> {
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let read = move || read_projection(storage, limits, &tell);
        let reading = thread::Builder::new().name("projection-reader".into()).spawn_scoped(scope, read);
        let reading = reading.map_err(|error| StoreError::new("could not be read", error))?;
        let contents = move || reading.join().expect("reading the projection does not panic");
        // Where the projection stands is known before the log is read: so the log is never behind it.
        let (checkpoint, mut rows): (_, Option<ComingRows<'_>>) = match told.recv() {
            Ok(begun) if way == Way::Quick => {
                let rows = move || {
                    let of_begun = |(checkpoint, rows)| (checkpoint == begun).then_some(rows);
                    Ok(contents()?.and_then(of_begun))
                };
                (Some(begun), Some(Box::new(rows)))
            }
            _ => match contents()? {
                Some((checkpoint, rows)) => (Some(checkpoint), Some(Box::new(|| Ok(Some(rows))))),
                None => (None, None),
            },
        };
        let walked = walk(way, &storage.folder(), checkpoint, &mut rows, on_read);
        // What is wrong with the database is told before what is wrong with the log.
        match rows.map(|rows| rows()).transpose()? {
            // What was held against the log is not there any more.
            Some(None) => Ok(None),
            _ => walked,
        }
    })
}

/// Reads the projection on this thread, and tells its checkpoint first.
fn read_projection(
    storage: &StorageSettings,
    limits: &Limits,
    tell: &mpsc::Sender<Head>,
) -> Result<Option<(Head, Rows)>, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| StoreError::new("could not be read", error))?;
    // Only the first is listened for.
    let begun = |checkpoint| tell.send(checkpoint).unwrap_or_default();
    runtime.block_on(contents_of(&storage.database(), limits.sql(), begun))
}

/// Folds the log and compares it with whatever else claims to know history.
fn walk(
    way: Way,
    folder: &DataFolder,
    checkpoint: Option<Head>,
    rows: &mut Option<ComingRows<'_>>,
    on_read: impl Fn(ReadBytes),
) -> Result<Option<Report>, VerifyError> {
    let mut verification = Verification::new(way);
    if let Some(checkpoint) = checkpoint {
        verification.expect_projection(checkpoint);
    }
    match folder.clean_stop() {
        Ok(mark) => mark.into_iter().for_each(|head| verification.expect_head(head)),
        Err(unusable @ DataFolderError::BadMark { .. }) => verification.unreadable_mark(unusable.to_string()),
        Err(unreadable) => return Err(unreadable.into()),
    }
    let history = History::open(&folder.log()).map_err(VerifyError::Log)?;
    let mut history = history.events_only().with_all_processors();
    loop {
        if verification.wants_rows()
            && let Some(rows) = rows.take()
        {
            let begin = Instant::now();
            let Some(rows) = rows()? else { return Ok(None) };
            verification.compare_with(&rows, begin);
        }
        if verification.is_in_vain() {
            return Ok(None);
        }
        let Some(item) = history.next() else { break };
        match item {
            Ok((placed, head)) => {
                verification.take(&placed, head);
                if head.sequence.get().is_multiple_of(TELL_EVERY) {
                    on_read(ReadBytes { done: history.bytes_read(), total: history.bytes_total() });
                }
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
