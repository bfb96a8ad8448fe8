//! Damage: where a log is not what it should be, and what follows from that.

use std::path::PathBuf;
use std::{fmt, io};

use crate::domain::ids::Sequence;
use crate::domain::record::Head;
use crate::infrastructure::event_log::line::{self, Header};

/// Where in the log something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub segment: PathBuf,
    /// From 1.
    pub line: u64,
    /// The line's first byte in the segment, from 0.
    pub offset_bytes: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}, byte offset {}", self.segment.display(), self.line, self.offset_bytes)
    }
}

/// The first place where the log is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason} (sequence {sequence} is due here)")]
pub struct Damage {
    pub place: Place,
    /// The sequence that should stand there.
    pub sequence: Sequence,
    pub reason: String,
    pub extent: Extent,
}

/// What the damage means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Nothing behind the damage proves that it was ever synced.
    TornTail { bytes: u64 },
    /// Nothing is damaged: a whole, sealed record is not one that this version can take in.
    Foreign,
    /// Acknowledged records are damaged or missing; says what proves it.
    LostHistory { proof: String },
}

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// Looks in what follows `head`, damaged as it is, for a record of a later batch than the one that
/// the next record belongs to.
///
/// That record belongs either to the batch of `head` or to one that begins with itself. So a batch
/// that begins after it is a later one. Only beginnings of lines count: a compact event holds no
/// line feed, so no client can put something there that looks like a record.
pub(super) fn later_batch(tail: &[u8], head: Head) -> Option<Header> {
    let due = head.sequence.next();
    let is_later = |header: &Header| header.batch > due && header.sequence >= header.batch;
    let line_starts =
        std::iter::once(0).chain(tail.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1));
    if let Some(later) = line_starts.filter_map(|at| line::peek_header(&tail[at..])).find(is_later) {
        return Some(later);
    }
    // A whole record whose end of line alone is damaged hides the beginning of the next line.
    let end = line::sealed_prefix(tail, head)?;
    let hidden = [end, end + 1].into_iter().filter_map(|at| line::peek_header(tail.get(at..)?));
    hidden.into_iter().find(is_later)
}
