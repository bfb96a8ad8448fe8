//! Opening the log after whatever ended the last process.
//!
//! Reads all of it, proves the chain, and decides about damage: a torn last batch is cut off (its
//! bytes are kept beside the log), damaged history is never touched and refuses the start. Mixing
//! the two up would lose acknowledged events or never start again. What is kept is synced before
//! anyone builds on it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::domain::ids::Sequence;
use crate::domain::record::{Head, Record};
use crate::infrastructure::event_log::history::{Damage, Extent, History, HistoryError, Place};
use crate::infrastructure::event_log::{FileEventLog, segments};

/// Something outside the log that proves that it was durable up to a head.
#[derive(Debug, Clone)]
pub struct DurabilityProof {
    pub source: ProofSource,
    pub head: Head,
}

/// Where a proof comes from, as messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofSource {
    #[error("the mark of the last clean stop")]
    CleanStop,
    #[error("the projection's checkpoint")]
    Checkpoint,
}

impl ProofSource {
    /// What to do about a proof that belongs to another log.
    fn remedy(self) -> &'static str {
        match self {
            Self::CleanStop => "move clean-stop.json out of the data folder and start again",
            Self::Checkpoint => "`lockstream rebuild` makes the projection anew from it",
        }
    }
}

/// The opened log and what was found.
#[derive(Debug)]
pub struct Recovered {
    pub log: FileEventLog,
    pub head: Head,
    pub torn: Option<TornTail>,
}

/// How much of the log is read, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct ReadBytes {
    pub done: u64,
    pub total: u64,
}

/// A torn last batch that was cut off.
#[derive(Debug)]
pub struct TornTail {
    pub place: Place,
    pub reason: String,
    pub bytes: u64,
    /// Where the bytes are kept.
    pub kept_at: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError<V> {
    #[error(
        "the log is damaged and acknowledged events are lost: {damage}. What proves that they were \
         there: {proof}. Nothing was changed. Restore the segment from a backup or another copy; \
         `lockstream verify` shows how far the log is sound"
    )]
    LostHistory { damage: Damage, proof: String },
    #[error(
        "the log holds a record that cannot be taken in: {0}. It is whole, so nothing is lost, and nothing was \
         changed. A later version may have written it: start that one"
    )]
    Foreign(Damage),
    #[error(
        "the log ends with sequence {end}, but {source_} proves that it went on to sequence {proven}. \
         Nothing was changed. Restore the missing segments, or read about lost history in \
         docs/log-format.md before you decide to go on without them"
    )]
    Shortened { end: Sequence, source_: ProofSource, proven: Sequence },
    #[error(
        "{source_} names another history: the hash of sequence {sequence} differs. Either it belongs to \
         another log, or the log was altered. Nothing was changed. If the log is the right one, {}", source_.remedy()
    )]
    OtherHistory { source_: ProofSource, sequence: Sequence },
    #[error("sequence {sequence} cannot be taken in: {error}")]
    Visitor { sequence: Sequence, error: V },
    #[error(transparent)]
    Unreadable(HistoryError),
    #[error("{doing}: {source} ({})", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

/// Opens the log in `folder` for appending, shows every record to `visit`, and holds what it finds
/// against the `proofs`.
pub fn recover<V>(
    folder: &Path,
    proofs: &[DurabilityProof],
    max_segment_bytes: u64,
    mut visit: impl FnMut(&Record, Head, ReadBytes) -> Result<(), V>,
) -> Result<Recovered, RecoveryError<V>> {
    let mut history = History::open(folder).map_err(RecoveryError::Unreadable)?;
    let mut torn = None;
    while let Some(item) = history.next() {
        match item {
            Ok((record, head)) => {
                check_history(proofs, head)?;
                let read = ReadBytes { done: history.bytes_read(), total: history.bytes_total() };
                let sequence = record.sequence;
                visit(&record, head, read).map_err(|error| RecoveryError::Visitor { sequence, error })?;
            }
            Err(HistoryError::Damaged(damage)) => match damage.extent.clone() {
                Extent::LostHistory { proof } => return Err(RecoveryError::LostHistory { damage, proof }),
                Extent::Foreign => return Err(RecoveryError::Foreign(damage)),
                Extent::TornTail { bytes } => torn = Some((damage, bytes)),
            },
            Err(error) => return Err(RecoveryError::Unreadable(error)),
        }
    }
    let head = history.head();
    if let Some(proof) = proofs.iter().find(|proof| proof.head.sequence > head.sequence) {
        let (source_, proven) = (proof.source, proof.head.sequence);
        return Err(match torn {
            Some((damage, _)) => {
                let proof = format!("{source_}, which stands at sequence {proven}");
                RecoveryError::LostHistory { damage, proof }
            }
            None => RecoveryError::Shortened { end: head.sequence, source_, proven },
        });
    }
    let torn = torn.map(|(damage, bytes)| cut(damage, bytes)).transpose()?;
    let (segment, segment_bytes) = match history.last_segment() {
        Some((path, bytes)) => (path.to_owned(), bytes),
        None => (first_segment(folder)?, 0),
    };
    let log = FileEventLog::resume(folder, segment.clone(), segment_bytes, head, max_segment_bytes)
        .map_err(|source| RecoveryError::Io { doing: "the log cannot be opened for writing", path: segment, source })?;
    // The last segment's name too may have been in memory only.
    segments::sync_folder(folder).map_err(|source| RecoveryError::Io {
        doing: "the log's folder cannot be synced",
        path: folder.to_owned(),
        source,
    })?;
    Ok(Recovered { log, head, torn })
}

fn check_history<V>(proofs: &[DurabilityProof], head: Head) -> Result<(), RecoveryError<V>> {
    let differs =
        |proof: &&DurabilityProof| proof.head.sequence == head.sequence && proof.head.chain_hash != head.chain_hash;
    proofs
        .iter()
        .find(differs)
        .map_or(Ok(()), |proof| Err(RecoveryError::OtherHistory { source_: proof.source, sequence: head.sequence }))
}

fn first_segment<V>(folder: &Path) -> Result<PathBuf, RecoveryError<V>> {
    let path = segments::path(folder, Sequence::ZERO.next());
    match segments::create(&path) {
        Ok(_) => Ok(path),
        Err(source) => Err(RecoveryError::Io { doing: "the first segment cannot be created", path, source }),
    }
}

/// Moves a torn tail out of the log. The copy is on disk before the tail is cut, so a crash in
/// between only repeats this.
fn cut<V>(damage: Damage, bytes: u64) -> Result<TornTail, RecoveryError<V>> {
    let Damage { place, reason, .. } = damage;
    let moved = keep_copy(&place).and_then(|kept_at| {
        let segment = File::options().write(true).open(&place.segment)?;
        segment.set_len(place.offset_bytes)?;
        segment.sync_all()?;
        Ok(kept_at)
    });
    match moved {
        Ok(kept_at) => Ok(TornTail { place, reason, bytes, kept_at }),
        Err(source) => {
            let doing = "the torn end of the log cannot be cut off";
            Err(RecoveryError::Io { doing, path: place.segment, source })
        }
    }
}

/// Copies everything from `place` on to a file beside the segment, under a name of its own.
fn keep_copy(place: &Place) -> io::Result<PathBuf> {
    let mut tail = Vec::new();
    let mut segment = File::open(&place.segment)?;
    segment.seek(SeekFrom::Start(place.offset_bytes))?;
    segment.read_to_end(&mut tail)?;
    for number in 1.. {
        let path = place.segment.with_extension(format!("jsonl.torn-{}-{number}", place.offset_bytes));
        match File::options().write(true).create_new(true).open(&path) {
            Ok(mut copy) => {
                if let Err(error) = copy.write_all(&tail).and_then(|()| sync_copy(&copy, &path)) {
                    // Half a copy helps nobody, and a full disk has better use for the room. That
                    // the copy failed is what counts, whether this works or not.
                    let _ = fs::remove_file(&path);
                    return Err(error);
                }
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Left by a crash right after the copy was made: it is this very copy, and may have
                // lived in memory only.
                if fs::read(&path)? == tail {
                    sync_copy(&File::open(&path)?, &path)?;
                    return Ok(path);
                }
            }
            Err(error) => return Err(error),
        }
    }
    unreachable!("the numbers do not run out")
}

/// Makes a copy and its name survive a crash.
fn sync_copy(copy: &File, path: &Path) -> io::Result<()> {
    copy.sync_all()?;
    segments::sync_folder(path.parent().expect("a segment lies in a folder"))
}
