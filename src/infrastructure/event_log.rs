//! The event log: append-only JSON Lines in segments, hash-chained, one sync a batch.
//!
//! This file only appends. What a line is stands in [`line`], what a segment is called in
//! [`segments`], reading in [`history`], and deciding what a crash left in [`recovery`]. Nothing
//! here ever changes or removes a byte that was synced.

pub mod history;
pub mod line;
pub mod recovery;
pub mod segments;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::application::ports::{EventLog, LogFailure};
use crate::domain::record::{Head, Record};

/// The log in a folder, open for appending. Has one owner: the folder's lock is held elsewhere.
#[derive(Debug)]
pub struct FileEventLog {
    folder: PathBuf,
    segment: PathBuf,
    file: File,
    /// The length of the current segment.
    segment_bytes: u64,
    /// A batch that would make the segment longer than this starts a new one.
    max_segment_bytes: u64,
    head: Head,
    /// Kept between batches for its allocation.
    lines: Vec<u8>,
    /// When the folder was last checked, and what came of it.
    checked: Option<(Instant, Result<(), LogFailure>)>,
}

/// A file that is written and removed to see whether the folder takes anything.
const CHECK_FILE: &str = "check.tmp";
const CHECK_BYTES: usize = 4096;
/// For how long the outcome of a check holds, so that asking often costs nothing.
const CHECK_HOLDS: Duration = Duration::from_secs(1);

impl FileEventLog {
    /// Appends to `segment` after its first `segment_bytes`, which end with `head`.
    fn resume(
        folder: &Path,
        segment: PathBuf,
        segment_bytes: u64,
        head: Head,
        max_segment_bytes: u64,
    ) -> io::Result<Self> {
        let file = File::options().append(true).open(&segment)?;
        let folder = folder.to_owned();
        Ok(Self { folder, segment, file, segment_bytes, max_segment_bytes, head, lines: Vec::new(), checked: None })
    }

    /// Starts the next segment. All before it is synced, so its mere existence proves that.
    fn rotate(&mut self) -> io::Result<()> {
        let path = segments::path(&self.folder, self.head.sequence.next());
        self.file = segments::create(&path)?;
        self.segment = path;
        self.segment_bytes = 0;
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let batch_bytes = self.lines.len() as u64;
        if self.segment_bytes > 0 && self.segment_bytes + batch_bytes > self.max_segment_bytes {
            self.rotate()?;
        }
        self.file.write_all(&self.lines)?;
        self.segment_bytes += batch_bytes;
        Ok(())
    }

    fn failure(&self, doing: &str, error: &io::Error) -> LogFailure {
        LogFailure(format!(
            "the log could not be {doing} after sequence {}: {error} ({}). Nothing of this batch was \
             acknowledged and the process ends. Look after the disk, then start again: recovery keeps \
             what survived, and clients may safely repeat what got no answer.",
            self.head.sequence,
            self.segment.display(),
        ))
    }
}

impl EventLog for FileEventLog {
    fn append(&mut self, batch: &[Record]) -> Result<Head, LogFailure> {
        self.lines.clear();
        let mut head = self.head;
        for record in batch {
            debug_assert_eq!(record.sequence, head.sequence.next(), "the sequence has no gaps");
            head = line::encode(record, head.chain_hash, &mut self.lines);
        }
        self.write().map_err(|error| self.failure("written", &error))?;
        self.head = head;
        Ok(head)
    }

    fn sync(&mut self) -> Result<(), LogFailure> {
        self.file.sync_data().map_err(|error| self.failure("synced", &error))
    }

    /// Writes a file into the log's folder and removes it: that finds a full disk, one that was
    /// made read-only, and a folder that is gone.
    fn check(&mut self) -> Result<(), LogFailure> {
        if let Some((when, outcome)) = &self.checked
            && when.elapsed() < CHECK_HOLDS
        {
            return outcome.clone();
        }
        let path = self.folder.join(CHECK_FILE);
        let written = fs::write(&path, [0; CHECK_BYTES]);
        let outcome = written.and(fs::remove_file(&path)).map_err(|error| {
            LogFailure(format!("the log's folder takes no files: {error} ({})", self.folder.display()))
        });
        self.checked = Some((Instant::now(), outcome.clone()));
        outcome
    }
}
