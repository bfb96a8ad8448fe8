//! What a backup did, for people and for programs.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::domain::hash::ChainHash;
use crate::domain::ids::Sequence;

/// What a backup did.
#[derive(Debug, Serialize)]
pub struct BackupReport {
    /// The last record of the backup.
    pub head_sequence: Sequence,
    pub head_hash: ChainHash,
    pub taken_at: DateTime<Utc>,
    /// How many segments the backup had already.
    pub kept_segments: u64,
    pub copied_segments: u64,
    pub linked_segments: u64,
    pub copied_bytes: u64,
    /// The size of the whole backup.
    pub total_bytes: u64,
    pub elapsed_ms: u64,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

impl fmt::Display for BackupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kept_segments, copied_segments, linked_segments, copied_bytes, total_bytes, elapsed_ms, .. } = self;
        writeln!(f, "backed up to sequence {}, hash {}", self.head_sequence, self.head_hash)?;
        write!(f, "segments: {copied_segments} copied ({copied_bytes} bytes), {linked_segments} linked, ")?;
        write!(f, "{kept_segments} there already; {total_bytes} bytes in all, in {elapsed_ms} ms")?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}
