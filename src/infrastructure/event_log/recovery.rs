//! Opening the log after whatever ended the last process.
//!
//! Reads all of it, proves the chain, and decides about damage: a torn last batch is cut off (its
//! bytes are kept beside the log), damaged history is never touched and refuses the start. Mixing
//! the two up would lose acknowledged events or never start again. What is kept is synced before
//! anyone builds on it.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::ids::Sequence;
use crate::domain::record::{Head, Record};
use crate::infrastructure::event_log::history::damage::{Damage, Extent, HistoryError, Place};
use crate::infrastructure::event_log::history::{Batch, History};
use crate::infrastructure::event_log::storage::Storage;
use crate::infrastructure::event_log::{FileEventLog, LogLimits, begin_segment, segments};

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
    /// Only what was sealed is archived.
    #[error("the archive")]
    Archive,
}

impl ProofSource {
    /// What to do about a proof that belongs to another log.
    fn remedy(self) -> &'static str {
        match self {
            Self::CleanStop => "move clean-stop.json out of the data folder and start again",
            Self::Checkpoint => "`lockstream rebuild` makes the projection anew from it",
            Self::Archive => "remove the folder archive",
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
    storage: &Arc<dyn Storage>,
    folder: &Path,
    proofs: &[DurabilityProof],
    limits: LogLimits,
    visit: impl FnMut(&Record, Head, ReadBytes) -> Result<(), V>,
) -> Result<Recovered, RecoveryError<V>> {
    recover_after(Head::default(), storage, folder, proofs, limits, visit)
}

/// The same from a head on that ends a sealed segment: whoever knows it has read everything up to
/// there at some time, and has held the proofs that are not behind it against that.
pub fn recover_after<V>(
    begin: Head,
    storage: &Arc<dyn Storage>,
    folder: &Path,
    proofs: &[DurabilityProof],
    limits: LogLimits,
    mut visit: impl FnMut(&Record, Head, ReadBytes) -> Result<(), V>,
) -> Result<Recovered, RecoveryError<V>> {
    let history = History::on_after(Arc::clone(storage), folder, begin).map_err(RecoveryError::Unreadable)?;
    let mut history = history.with_all_processors();
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
    let torn = torn.map(|(damage, bytes)| cut(storage.as_ref(), damage, bytes)).transpose()?;
    let (segment, segment_bytes) = match history.last_segment() {
        Some((path, bytes)) => (path.to_owned(), bytes),
        None if begin != Head::default() => {
            let (path, kind) = (segments::path(folder, begin.sequence.next()), io::ErrorKind::NotFound);
            return Err(io_error("the segment after the archived ones cannot be opened", &path, kind.into()));
        }
        None => (first_segment(storage.as_ref(), folder)?, 0),
    };
    let log = FileEventLog::resume(Arc::clone(storage), folder, segment.clone(), segment_bytes, head, limits)
        .map_err(|source| io_error("the log cannot be opened for writing", &segment, source))?;
    if let Some(batch) = history.last_batch() {
        write_again(storage.as_ref(), &segment, batch, head)
            .map_err(|source| io_error("the end of the log cannot be written again", &segment, source))?;
    }
    // The last segment's name too may have been in memory only.
    storage.sync_names(folder).map_err(|source| io_error("the log's folder cannot be synced", folder, source))?;
    Ok(Recovered { log, head, torn })
}

fn io_error<V>(doing: &'static str, path: &Path, source: io::Error) -> RecoveryError<V> {
    RecoveryError::Io { doing, path: path.to_owned(), source }
}

fn check_history<V>(proofs: &[DurabilityProof], head: Head) -> Result<(), RecoveryError<V>> {
    // An archive of another history says nothing about this one, and is thrown away.
    let differs = |proof: &&DurabilityProof| {
        proof.head.sequence == head.sequence
            && proof.head.chain_hash != head.chain_hash
            && proof.source != ProofSource::Archive
    };
    proofs
        .iter()
        .find(differs)
        .map_or(Ok(()), |proof| Err(RecoveryError::OtherHistory { source_: proof.source, sequence: head.sequence }))
}

fn first_segment<V>(storage: &dyn Storage, folder: &Path) -> Result<PathBuf, RecoveryError<V>> {
    let path = segments::path(folder, Sequence::ZERO.next());
    match begin_segment(storage, &path) {
        Ok(_) => Ok(path),
        Err(source) => Err(io_error("the first segment cannot be created", &path, source)),
    }
}

/// Writes the last batch again where it stands, byte for byte, so that the next sync really writes
/// it. When the last process ended because a sync failed, the system may have given up on these
/// bytes: they can still be read, but no sync would bring them to the disk any more (Rebello et al.,
/// "Can Applications Recover from fsync Failures?", USENIX ATC 2020). Whatever comes before the last
/// batch was synced with success.
///
/// For the same reason they may be gone from memory by now, and what the disk has in their place must
/// not be taken for what was judged.
fn write_again(storage: &dyn Storage, segment: &Path, batch: &Batch, head: Head) -> io::Result<()> {
    let bytes = read_from(storage, segment, batch.bytes.start)?;
    if !batch.is(&bytes, head) {
        let message = "what was read a moment ago is not there any more; start again";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    storage.overwrite(segment, batch.bytes.start, &bytes)
}

fn read_from(storage: &dyn Storage, segment: &Path, offset_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut input = storage.open(segment)?;
    input.seek(SeekFrom::Start(offset_bytes))?;
    input.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Moves a torn tail out of the log. The copy is on disk before the tail is cut, so a crash in
/// between only repeats this.
fn cut<V>(storage: &dyn Storage, damage: Damage, bytes: u64) -> Result<TornTail, RecoveryError<V>> {
    let Damage { place, reason, .. } = damage;
    let moved = keep_copy(storage, &place).and_then(|kept_at| {
        storage.sync_names(place.segment.parent().expect("a segment lies in a folder"))?;
        storage.cut(&place.segment, place.offset_bytes)?;
        Ok(kept_at)
    });
    match moved {
        Ok(kept_at) => Ok(TornTail { place, reason, bytes, kept_at }),
        Err(source) => Err(io_error("the torn end of the log cannot be cut off", &place.segment, source)),
    }
}

/// Copies everything from `place` on to a file beside the segment, under a name of its own.
fn keep_copy(storage: &dyn Storage, place: &Place) -> io::Result<PathBuf> {
    let tail = read_from(storage, &place.segment, place.offset_bytes)?;
    let mut number = 1;
    let kept_at = loop {
        let path = place.segment.with_extension(format!("jsonl.torn-{}-{number}", place.offset_bytes));
        match read_from(storage, &path, 0) {
            // Left by a crash right after the copy was made: it is this very copy, all of which was
            // on disk before it got its name.
            Ok(kept) if kept == tail => return Ok(path),
            Ok(_) => number += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break path,
            Err(error) => return Err(error),
        }
    };
    let beside = place.segment.with_extension("jsonl.torn-new");
    if let Err(error) = write_copy(storage, &beside, &tail).and_then(|()| storage.rename(&beside, &kept_at)) {
        // Half a copy helps nobody, and a full disk has better use for the room. That the copy
        // failed is what counts, whether this works or not.
        let _ = storage.remove(&beside);
        return Err(error);
    }
    Ok(kept_at)
}

/// Writes and syncs a copy in the place of what an interrupted attempt left.
fn write_copy(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut copy = storage.create(path)?;
    copy.append(bytes)?;
    copy.sync_all()
}
