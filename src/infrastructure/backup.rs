//! Backups: the log, copied to another folder with a manifest that proves it.
//!
//! A backup is the log and nothing else, for everything else is made from it. `log/` in the
//! backup's folder has the segments as they are, `manifest.json` says up to where they count and
//! with which hash they end ([`manifest`]). [`take`] makes a backup, [`restore`] brings one back.
//!
//! Two things hold throughout. Whatever is copied is proven *in its copy*, line by line, by the
//! chain of hashes; a copy without that is a hope. And nothing counts before the manifest says so:
//! that is replaced last, so a backup that is cut off leaves the one before as it was.

mod files;
pub mod manifest;
pub mod report;
pub mod restore;
pub mod take;

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::ids::Sequence;
use crate::domain::record::Head;
use crate::infrastructure::backup::manifest::Manifest;
use crate::infrastructure::event_log::history::History;
use crate::infrastructure::event_log::history::damage::{Damage, Extent, HistoryError};

/// Why a backup was not taken, or not brought back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{doing}: {source} ({})", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("the manifest of the backup cannot be understood: {reason} ({})", path.display())]
    BadManifest { path: PathBuf, reason: String },
    #[error("{} holds no backup: there is no manifest.json in it. A first backup that was cut off leaves none", .0.display())]
    NoBackup(PathBuf),
    #[error("{} is not empty and holds no backup; give the backup a folder of its own", .0.display())]
    NotEmpty(PathBuf),
    #[error("there is a log already: {}. A restore needs a data folder without one; nothing was changed", .0.display())]
    LogThere(PathBuf),
    #[error("{} holds a backup, and is where a log is put together: move that backup elsewhere. Nothing was changed", .0.display())]
    BackupThere(PathBuf),
    #[error("another backup into {} is under way", .0.display())]
    UnderWay(PathBuf),
    #[error(
        "the log is damaged: {damage}. What proves that more was there: {proof}. The backup stays as it was. \
         docs/log-format.md says what to do; an older backup may still have that segment whole"
    )]
    DamagedLog { damage: Damage, proof: String },
    #[error(
        "the log holds a record that this version cannot take in: {0}. It is whole; a later version may have written \
         it: make the backup with that one. The backup stays as it was"
    )]
    ForeignRecord(Damage),
    #[error(
        "the log ends with sequence {end}, but {witness} that it went on to sequence {proven}. The backup stays as it \
         was. `lockstream verify` shows how far the log is sound"
    )]
    Shortened { end: Sequence, proven: Sequence, witness: &'static str },
    #[error(
        "at sequence {sequence} the log's hash is not the one that {witness}: the log was altered. The backup stays as \
         it was"
    )]
    Altered { sequence: Sequence, witness: &'static str },
    #[error(
        "{} holds the backup of another log: at sequence {sequence} the hashes differ. The backup stays as it was. Give \
         this log another folder. If it should be the same log, one of the two was altered: `lockstream verify` and \
         `lockstream restore --check` prove each by itself", backup.display()
    )]
    OtherLog { backup: PathBuf, sequence: Sequence },
    #[error(
        "the backup in {} goes on to sequence {sequence}, and the log has lost {lost}. The backup stays as it was. \
         Restore it if the log was lost; if an older backup was restored on purpose, back up to another folder",
        backup.display()
    )]
    Behind { backup: PathBuf, sequence: Sequence, lost: String },
    #[error(
        "the backup is damaged: {0}. Nothing was restored. Take another backup; where the log itself is still sound, \
         remove that segment from the backup and run `lockstream backup` again: it copies what is missing"
    )]
    DamagedBackup(String),
    #[error(
        "a copy is not what it was copied from, which is sound: {0}. Look after the disk and the memory of this machine"
    )]
    WrongCopy(HistoryError),
    #[error(transparent)]
    Unreadable(HistoryError),
}

impl BackupError {
    /// Whether something is wrong with a log or a backup, rather than with the attempt.
    #[must_use]
    pub fn is_finding(&self) -> bool {
        match self {
            Self::Io { .. }
            | Self::NoBackup(_)
            | Self::NotEmpty(_)
            | Self::LogThere(_)
            | Self::BackupThere(_)
            | Self::UnderWay(_)
            | Self::Unreadable(_) => false,
            Self::BadManifest { .. }
            | Self::DamagedLog { .. }
            | Self::ForeignRecord(_)
            | Self::Shortened { .. }
            | Self::Altered { .. }
            | Self::OtherLog { .. }
            | Self::Behind { .. }
            | Self::DamagedBackup(_)
            | Self::WrongCopy(_) => true,
        }
    }

    /// What a damaged log means for a backup. `proof` counts where the log itself has none.
    fn damaged_log(error: HistoryError, proof: &str) -> Self {
        match error {
            HistoryError::Damaged(damage) => match &damage.extent {
                Extent::Foreign => Self::ForeignRecord(damage),
                Extent::LostHistory { proof } => Self::DamagedLog { proof: proof.clone(), damage },
                Extent::TornTail { .. } => Self::DamagedLog { proof: proof.to_owned(), damage },
            },
            unreadable @ HistoryError::Unreadable { .. } => Self::Unreadable(unreadable),
        }
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { doing, path, source }
}

/// The folder of a backup's segments.
fn log_of(backup: &Path) -> PathBuf {
    backup.join("log")
}

/// Reads and proves records up to a sequence, or to the end; tells of each, with the bytes read.
fn read_until(
    history: &mut History,
    last: Option<Sequence>,
    mut on_record: impl FnMut(Head, u64),
) -> Result<(), HistoryError> {
    while last.is_none_or(|last| history.head().sequence < last) {
        let Some(item) = history.next() else { break };
        let (_, head) = item?;
        on_record(head, history.bytes_read());
    }
    Ok(())
}

/// Proves that a folder holds what a manifest says. What stands there beyond it does not matter.
fn prove(log: &Path, manifest: &Manifest, mut on_record: impl FnMut(Head, u64)) -> Result<(), Unproven> {
    let mut history = History::open(log)?;
    for entry in &manifest.segments {
        read_until(&mut history, Some(entry.end().sequence), &mut on_record)?;
        let read = history.last_segment().map(|(path, bytes)| (path.file_name() == Some(entry.name.as_ref()), bytes));
        if history.head() != entry.end() || read != Some((true, entry.bytes)) {
            let path = log.join(&entry.name);
            return Err(Unproven::Differs(format!(
                "{} is not what the manifest says: {} bytes that end with sequence {} and hash {}",
                path.display(),
                entry.bytes,
                entry.end().sequence,
                entry.end().chain_hash
            )));
        }
    }
    Ok(())
}

/// Why a folder does not hold what a manifest says.
#[derive(Debug, thiserror::Error)]
enum Unproven {
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("{0}")]
    Differs(String),
}
