//! The event log: append-only JSON Lines in segments, hash-chained, one sync a batch.
//!
//! This file only appends. What a line is stands in [`line`], what a segment is called in
//! [`segments`], reading in [`history`], deciding what a crash left in [`recovery`], and the disk
//! below all of it is [`storage`]. Nothing here ever changes or removes a byte that was synced.

pub mod history;
pub mod line;
pub mod recovery;
pub mod segments;
pub mod storage;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::application::archive::bell::Bell;
use crate::application::ports::{EventLog, LogFailure, NoRoom};
use crate::domain::record::{Head, Record};
use crate::infrastructure::event_log::storage::{Appendable, Left, Storage};

/// The log's limits.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// A batch that could make the segment longer than this starts a new one.
    pub max_segment_bytes: u64,
    /// What is left free on the disk, for the projection and whatever else has to go on.
    pub min_free_bytes: u64,
}

/// The log in a folder, open for appending. Has one owner: the folder's lock is held elsewhere.
#[derive(Debug)]
pub struct FileEventLog {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    segment: PathBuf,
    file: Box<dyn Appendable>,
    /// The length of the current segment.
    segment_bytes: u64,
    /// Up to where the disk keeps room for it.
    reserved_bytes: u64,
    limits: LogLimits,
    head: Head,
    /// What is before the batch that is being written.
    synced: Head,
    /// Kept between batches for its allocation.
    lines: Vec<u8>,
    /// When the folder was last checked, and what came of it.
    checked: Option<(Instant, Result<(), NoRoom>)>,
    /// Rung when a segment is sealed.
    bell: Option<Bell>,
}

/// A file that is written and removed to see whether the folder takes anything.
const CHECK_FILE: &str = "check.tmp";
const CHECK_BYTES: usize = 4096;
/// For how long the outcome of a check holds, so that asking often costs nothing.
const CHECK_HOLDS: Duration = Duration::from_secs(1);
/// How much room is reserved at once, so that not every batch has to ask for it.
const RESERVE_STEP_BYTES: u64 = 1 << 20;

impl FileEventLog {
    /// Appends to `segment` after its first `segment_bytes`, which end with `head`.
    fn resume(
        storage: Arc<dyn Storage>,
        folder: &Path,
        segment: PathBuf,
        segment_bytes: u64,
        head: Head,
        limits: LogLimits,
    ) -> io::Result<Self> {
        Ok(Self {
            file: storage.append_to(&segment)?,
            storage,
            folder: folder.to_owned(),
            segment,
            segment_bytes,
            reserved_bytes: segment_bytes,
            limits,
            head,
            synced: head,
            lines: Vec::new(),
            checked: None,
            bell: None,
        })
    }

    /// Rings from now on whenever a segment is sealed.
    pub fn ring_when_sealed(&mut self, bell: Bell) {
        self.bell = Some(bell);
    }

    /// Starts the next segment. All before it is synced, so its mere existence proves that.
    fn rotate(&mut self) -> io::Result<()> {
        let path = segments::path(&self.folder, self.head.sequence.next());
        self.file = begin_segment(self.storage.as_ref(), &path)?;
        self.segment = path;
        self.segment_bytes = 0;
        self.reserved_bytes = 0;
        if let Some(bell) = &self.bell {
            bell.ring();
        }
        Ok(())
    }

    fn is_full(&self, batch_bytes: u64) -> bool {
        self.segment_bytes > 0 && self.segment_bytes + batch_bytes > self.limits.max_segment_bytes
    }

    /// Looks whether there is room for a batch without taking any; returns how much may be taken.
    fn look_for_room(&self, batch_bytes: u64) -> Result<u64, NoRoom> {
        // Where it goes: a full segment gives way to the next one.
        let at_bytes = if self.is_full(batch_bytes) { 0 } else { self.segment_bytes };
        let Left { disk_bytes, file_bytes } =
            self.file.left(at_bytes).map_err(|error| self.no_room("cannot be seen", &error))?;
        if disk_bytes < self.limits.min_free_bytes.saturating_add(batch_bytes) {
            return Err(NoRoom::Full(format!(
                "the log's disk has {disk_bytes} bytes left, and {} are kept free (LOCKSTREAM_MIN_FREE_BYTES); free \
                 some, and it goes on by itself ({})",
                self.limits.min_free_bytes,
                self.folder.display()
            )));
        }
        if file_bytes < batch_bytes {
            return Err(NoRoom::Full(format!(
                "the system lets this process make no file longer than {} bytes (ulimit -f) ({})",
                at_bytes + file_bytes,
                self.segment.display()
            )));
        }
        Ok(disk_bytes - self.limits.min_free_bytes)
    }

    fn no_room(&self, doing: &str, error: &io::Error) -> NoRoom {
        let told = format!("the log's folder {doing}: {error} ({})", self.folder.display());
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => NoRoom::Full(told),
            _ => NoRoom::Unwritable(told),
        }
    }

    fn failure(&self, doing: &str, error: &io::Error) -> LogFailure {
        LogFailure(format!(
            "the log could not be {doing} after sequence {}: {error} ({}). Nothing of this batch was \
             acknowledged and the process ends. Look after the disk, then start again: recovery keeps \
             what survived, and clients may safely repeat what got no answer.",
            self.synced.sequence,
            self.segment.display(),
        ))
    }

    fn write_check_file(&self) -> io::Result<()> {
        let path = self.folder.join(CHECK_FILE);
        match self.storage.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = self.storage.create(&path)?.append(&[0; CHECK_BYTES]);
        written.and(self.storage.remove(&path))
    }
}

/// Creates an empty segment; its name is on disk before anything is in it.
fn begin_segment(storage: &dyn Storage, path: &Path) -> io::Result<Box<dyn Appendable>> {
    let mut file = storage.create(path)?;
    file.sync_all()?;
    storage.sync_names(path.parent().expect("a segment lies in a folder"))?;
    Ok(file)
}

impl EventLog for FileEventLog {
    /// Asks before anything is written: a disk that runs full in the middle of a batch would leave
    /// it torn. What is reserved here, nobody else can take.
    fn make_room(&mut self, events: usize, event_bytes: usize) -> Result<Result<(), NoRoom>, LogFailure> {
        let batch_bytes = (event_bytes + events * line::MAX_OVERHEAD_BYTES) as u64;
        let free_bytes = match self.look_for_room(batch_bytes) {
            Ok(free_bytes) => free_bytes,
            Err(no_room) => return Ok(Err(no_room)),
        };
        if self.is_full(batch_bytes) {
            let path = segments::path(&self.folder, self.head.sequence.next());
            match self.rotate() {
                Ok(()) => {}
                // A segment that could not even be created has changed nothing. One that was, and
                // could not be synced, is a failed sync like any other.
                Err(error) if self.storage.length_bytes(&path).is_err() => {
                    return Ok(Err(self.no_room("takes no new segment", &error)));
                }
                Err(error) => return Err(self.failure("continued in a new segment", &error)),
            }
        }
        let end = self.segment_bytes + batch_bytes;
        if end > self.reserved_bytes {
            // Nothing ahead of what is to be kept free: the next batch would be turned away for it.
            let step_bytes = if free_bytes >= 2 * RESERVE_STEP_BYTES { RESERVE_STEP_BYTES } else { 0 };
            let ahead = end.max((self.segment_bytes + step_bytes).min(self.limits.max_segment_bytes));
            let mut reserve = |up_to: u64| {
                let reserved = self.file.reserve(self.segment_bytes, up_to - self.segment_bytes);
                reserved.map(|()| self.reserved_bytes = up_to)
            };
            if let Err(error) = reserve(ahead).or_else(|_| reserve(end)) {
                return Ok(Err(self.no_room("has no room", &error)));
            }
        }
        Ok(Ok(()))
    }

    fn append(&mut self, batch: &[Record]) -> Result<Head, LogFailure> {
        self.lines.clear();
        let mut head = self.head;
        for record in batch {
            debug_assert_eq!(record.sequence, head.sequence.next(), "the sequence has no gaps");
            head = line::encode(record, head.chain_hash, &mut self.lines);
        }
        self.file.append(&self.lines).map_err(|error| self.failure("written", &error))?;
        self.segment_bytes += self.lines.len() as u64;
        self.head = head;
        Ok(head)
    }

    fn sync(&mut self) -> Result<(), LogFailure> {
        self.file.sync().map_err(|error| self.failure("synced", &error))?;
        self.synced = self.head;
        Ok(())
    }

    /// Looks for room, writes a file into the log's folder and removes it: that finds a full disk,
    /// one that was made read-only, and a folder that is gone.
    fn check(&mut self) -> Result<(), NoRoom> {
        if let Some((when, outcome)) = &self.checked
            && when.elapsed() < CHECK_HOLDS
        {
            return outcome.clone();
        }
        let written = || self.write_check_file().map_err(|error| self.no_room("takes no files", &error));
        let outcome = self.look_for_room(CHECK_BYTES as u64).and_then(|_| written());
        self.checked = Some((Instant::now(), outcome.clone()));
        outcome
    }
}
