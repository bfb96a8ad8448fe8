//! Sealed segments: files of the log that never change again, and how one record of them is read.
//!
//! A record that is read by itself is proven like one that is read in order: its hash is computed
//! from the hash of the line before it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::file::damaged;
use crate::domain::hash::ChainHash;
use crate::domain::ids::Sequence;
use crate::domain::record::{Head, Record};
use crate::infrastructure::event_log::line;

/// About so many bytes are between two marks.
pub const MARK_BYTES: u64 = 16 << 10;
/// How much of a line is read at first.
const LINE_BYTES: usize = 1 << 10;

/// What a file was when it was archived. A segment whose file is another is folded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileState {
    pub bytes: u64,
    /// Since 1970.
    pub modified_ns: u64,
}

impl FileState {
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { bytes: metadata.len(), modified_ns: u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX) })
    }
}

/// The hash that the last line of a segment states, which was so long when it was sealed.
pub fn stated_end(path: &Path, length_bytes: u64) -> io::Result<Option<ChainHash>> {
    let mut ending = [0; line::ENDING_BYTES];
    File::open(path)?.read_exact_at(&mut ending, length_bytes.saturating_sub(line::ENDING_BYTES as u64))?;
    Ok(line::stated_hash(&ending))
}

/// Where a record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub sequence: u64,
    pub offset_bytes: u64,
}

/// A segment that is archived.
#[derive(Debug)]
pub struct Sealed {
    pub path: PathBuf,
    pub first: Sequence,
    pub last: Sequence,
    pub file: FileState,
    /// The hash of the record before its first.
    pub before: ChainHash,
    /// In order; the first one is the segment's beginning.
    pub marks: Vec<Mark>,
}

impl Sealed {
    /// Reads a record of this segment, which begins there, or somewhere.
    pub fn record(&self, sequence: Sequence, offset_bytes: Option<u64>) -> io::Result<(Record, Head)> {
        let file = File::open(&self.path)?;
        let offset_bytes = match offset_bytes {
            Some(offset_bytes) => offset_bytes,
            None => self.find(&file, sequence)?,
        };
        let before = self.hash_before(&file, offset_bytes)?;
        let line = self.line(&file, offset_bytes)?;
        let head = Head { sequence: Sequence::new(sequence.get() - 1), chain_hash: before };
        line::decode(&line, head).map_err(|error| self.damaged(offset_bytes, &error.to_string()))
    }

    /// Where a record begins, found by counting lines from the mark before it.
    fn find(&self, file: &File, sequence: Sequence) -> io::Result<u64> {
        let after = self.marks.partition_point(|mark| mark.sequence <= sequence.get());
        let mark = after.checked_sub(1).map(|at| self.marks[at]);
        let mark = mark.ok_or_else(|| self.damaged(0, "it has no mark before that record"))?;
        let end = self.marks.get(after).map_or(self.file.bytes, |mark| mark.offset_bytes);
        let stretch = self.read(file, mark.offset_bytes, end)?;
        let lines_before = sequence.get() - mark.sequence;
        let mut ends = stretch.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at as u64 + 1);
        let begin = match lines_before.checked_sub(1) {
            None => Some(0),
            Some(skipped) => usize::try_from(skipped).ok().and_then(|skipped| ends.nth(skipped)),
        };
        begin
            .map(|begin| mark.offset_bytes + begin)
            .ok_or_else(|| self.damaged(mark.offset_bytes, "there are fewer lines than there were"))
    }

    /// The hash that the line before an offset states.
    fn hash_before(&self, file: &File, offset_bytes: u64) -> io::Result<ChainHash> {
        if offset_bytes == 0 {
            return Ok(self.before);
        }
        let begin = offset_bytes.saturating_sub(line::ENDING_BYTES as u64);
        let ending = self.read(file, begin, offset_bytes)?;
        line::stated_hash(&ending).ok_or_else(|| self.damaged(begin, "no record ends there"))
    }

    /// The line that begins there, without its end of line.
    fn line(&self, file: &File, offset_bytes: u64) -> io::Result<Vec<u8>> {
        let mut length = LINE_BYTES;
        loop {
            let end = offset_bytes.saturating_add(length as u64).min(self.file.bytes);
            let mut bytes = self.read(file, offset_bytes, end)?;
            if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                bytes.truncate(end);
                return Ok(bytes);
            }
            if end == self.file.bytes {
                return Err(self.damaged(offset_bytes, "no line ends there"));
            }
            length *= 8;
        }
    }

    fn read(&self, file: &File, begin: u64, end: u64) -> io::Result<Vec<u8>> {
        let length = end.checked_sub(begin).and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or_else(|| self.damaged(begin, "it is shorter than it was"))?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, begin)?;
        Ok(bytes)
    }

    fn damaged(&self, offset_bytes: u64, what: &str) -> io::Error {
        damaged(&self.path, &format!("byte offset {offset_bytes}: {what}"))
    }

    /// The marks as bytes.
    #[must_use]
    pub fn marks_to_bytes(&self) -> Vec<u8> {
        let numbers = self.marks.iter().flat_map(|mark| [mark.sequence, mark.offset_bytes]);
        numbers.flat_map(u64::to_be_bytes).collect()
    }
}

/// Reads marks back; `None` for what are none.
#[must_use]
pub fn marks_from_bytes(bytes: &[u8]) -> Option<Vec<Mark>> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    let (pairs, odd) = numbers.as_chunks::<2>();
    let mark = |pair: &[[u8; 8]; 2]| {
        let [sequence, offset_bytes] = pair.map(u64::from_be_bytes);
        Mark { sequence, offset_bytes }
    };
    (rest.is_empty() && odd.is_empty()).then(|| pairs.iter().map(mark).collect())
}
