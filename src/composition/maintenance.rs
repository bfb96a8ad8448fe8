//! The commands that work on a data folder by themselves: `verify` and `rebuild`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use crate::application::ports::{Durable, Projection, Standing, StoreError};
use crate::application::rebuild::{Differences, RebuildError, RebuildReport};
use crate::application::verify::{Report, Verification, Way};
use crate::composition::{AtCheckpoint, StartError, lock, open_log};
use crate::config::{Limits, StorageSettings};
use crate::domain::record::Head;
use crate::domain::rows::Rows;
use crate::infrastructure::data_folder::DataFolderError;
use crate::infrastructure::event_log::history::{Extent, History, HistoryError};
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
pub async fn verify(
    storage: &StorageSettings,
    limits: &Limits,
    on_read: impl Fn(ReadBytes),
) -> Result<Report, VerifyError> {
    let folder = storage.folder();
    if !folder.log().is_dir() {
        return Err(VerifyError::NoLog(folder.log()));
    }
    if let Some(report) = verify_in(Way::Quick, storage, limits, &on_read).await? {
        return Ok(report);
    }
    let told = verify_in(Way::Exact, storage, limits, &on_read).await?;
    Ok(told.expect("the exact way always tells"))
}

async fn verify_in(
    way: Way,
    storage: &StorageSettings,
    limits: &Limits,
    on_read: impl Fn(ReadBytes),
) -> Result<Option<Report>, VerifyError> {
    let folder = storage.folder();
    let mut verification = Verification::new(way);
    // The projection first: the log that is read after it is never behind it.
    if let Some(contents) = contents_of(&storage.database(), limits.sql()).await? {
        verification.expect_projection(contents);
    }
    match folder.clean_stop() {
        Ok(mark) => mark.into_iter().for_each(|head| verification.expect_head(head)),
        Err(unusable @ DataFolderError::BadMark { .. }) => verification.unreadable_mark(unusable.to_string()),
        Err(unreadable) => return Err(unreadable.into()),
    }
    let mut history = History::open(&folder.log()).map_err(VerifyError::Log)?.events_only().with_all_processors();
    while let Some(item) = history.next() {
        if verification.is_in_vain() {
            break;
        }
        match item {
            Ok((placed, head)) => {
                verification.take(&placed, head);
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
