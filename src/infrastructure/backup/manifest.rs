//! The manifest of a backup: what the backup holds, and the hash that proves it.
//!
//! Format 1, `manifest.json`:
//!
//! ```json
//! {
//!   "v": 1,
//!   "taken_at": "2026-11-21T15:04:05Z",
//!   "sequence": 42,
//!   "chain_hash": "<64 hex>",
//!   "segments": [
//!     {"name": "00000000000000000001.jsonl", "first": 1, "last": 42, "bytes": 9001, "chain_hash": "<64 hex>"}
//!   ]
//! }
//! ```
//!
//! `bytes` says how much of the file in `log/` belongs to this backup: a later one that was cut off
//! may have left a longer file there, which begins with the same bytes. `chain_hash` is the hash of
//! the record `last`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::hash::ChainHash;
use crate::domain::ids::Sequence;
use crate::domain::record::Head;
use crate::infrastructure::backup::BackupError;
use crate::infrastructure::backup::files::replace;
use crate::infrastructure::event_log::segments;

const FILE: &str = "manifest.json";
const VERSION: u32 = 1;
/// What no sequence and no length reaches. Larger numbers are damage, and too large to reckon with.
const MAX_NUMBER: u64 = 1 << 60;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    v: u32,
    pub taken_at: DateTime<Utc>,
    sequence: u64,
    chain_hash: ChainHash,
    pub segments: Vec<Entry>,
}

/// A segment in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    first: u64,
    last: u64,
    /// How much of the file belongs to the backup.
    pub bytes: u64,
    chain_hash: ChainHash,
}

/// What a manifest of any version has.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl Entry {
    /// A segment that holds `bytes` bytes of whole records, from the one after `before` to `end`.
    #[must_use]
    pub fn new(before: Head, end: Head, bytes: u64) -> Self {
        let first = before.sequence.next();
        Self { name: name_of(first), first: first.get(), last: end.sequence.get(), bytes, chain_hash: end.chain_hash }
    }

    /// The last record.
    #[must_use]
    pub fn end(&self) -> Head {
        Head { sequence: Sequence::new(self.last), chain_hash: self.chain_hash }
    }
}

impl Manifest {
    #[must_use]
    pub fn new(taken_at: DateTime<Utc>, segments: Vec<Entry>) -> Self {
        let Head { sequence, chain_hash } = segments.last().map(Entry::end).unwrap_or_default();
        Self { v: VERSION, taken_at, sequence: sequence.get(), chain_hash, segments }
    }

    /// The end of the history that the backup holds.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { sequence: Sequence::new(self.sequence), chain_hash: self.chain_hash }
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|entry| entry.bytes).sum()
    }

    /// Reads the manifest of a backup; `None` where there is none.
    pub fn read(backup: &Path) -> Result<Option<Self>, BackupError> {
        let path = Self::path(backup);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BackupError::Io { doing: "the manifest cannot be read", path, source }),
        };
        let bad = |reason: String| BackupError::BadManifest { path: path.clone(), reason };
        let not_json = |error: serde_json::Error| bad(error.to_string());
        let Version { v } = serde_json::from_slice(&text).map_err(not_json)?;
        if v != VERSION {
            return Err(bad(format!("its version is {v}, and this lockstream knows {VERSION} only")));
        }
        let manifest: Self = serde_json::from_slice(&text).map_err(not_json)?;
        manifest.check().map_err(bad)?;
        Ok(Some(manifest))
    }

    /// Puts this manifest in the place of the last one; a crash leaves the one or the other.
    pub fn write(&self, backup: &Path) -> Result<(), BackupError> {
        let path = Self::path(backup);
        let mut text = serde_json::to_vec_pretty(self).expect("numbers and text have a JSON form");
        text.push(b'\n');
        replace(&path, &text).map_err(|source| BackupError::Io {
            doing: "the manifest cannot be written",
            path,
            source,
        })
    }

    fn path(backup: &Path) -> PathBuf {
        backup.join(FILE)
    }

    /// The segments follow one another without a gap and end with the head. The names come from
    /// the sequences, so none leads out of the folder.
    fn check(&self) -> Result<(), String> {
        let (mut end, mut bytes) = (Head::default(), 0_u64);
        for entry in &self.segments {
            bytes = bytes.saturating_add(entry.bytes);
            if entry.last.max(bytes) > MAX_NUMBER {
                return Err(format!("with the segment {:?} it would be larger than any log", entry.name));
            }
            let due = end.sequence.next();
            if entry.first != due.get() || entry.name != name_of(due) || entry.last < entry.first {
                return Err(format!("the segment {:?} does not follow sequence {}", entry.name, end.sequence));
            }
            end = entry.end();
        }
        if end != self.head() {
            return Err(format!("its segments do not end with its sequence {} and hash", self.sequence));
        }
        Ok(())
    }
}

fn name_of(first: Sequence) -> String {
    segments::path(Path::new(""), first).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(sequence: u64) -> Head {
        Head { sequence: Sequence::new(sequence), chain_hash: ChainHash::new([7; 32]) }
    }

    fn two_segments() -> Manifest {
        let entries = vec![Entry::new(Head::default(), head(3), 900), Entry::new(head(3), head(4), 300)];
        Manifest::new("2026-11-21T15:04:05Z".parse().unwrap(), entries)
    }

    #[test]
    fn a_manifest_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), None);
        for manifest in [two_segments(), Manifest::new(Utc::now(), Vec::new())] {
            manifest.write(folder.path()).unwrap();
            assert_eq!(Manifest::read(folder.path()).unwrap(), Some(manifest));
        }
        assert_eq!((two_segments().head(), two_segments().bytes()), (head(4), 1_200));
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        two_segments().write(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        let cases = [
            ("\"v\": 1", "\"v\": 2", "its version is 2"),
            ("\"v\": 1", "\"v\": \"one\"", "invalid type"),
            ("\"first\": 4", "\"first\": 5", "does not follow sequence 3"),
            ("00000000000000000004.jsonl", "../00000000000000000004.jsonl", "does not follow sequence 3"),
            ("\"last\": 3", "\"last\": 0", "does not follow sequence 0"),
            ("\"sequence\": 4", "\"sequence\": 5", "do not end with its sequence 5"),
            ("0707", "0807", "do not end with its sequence 4"),
            ("0707", "07", "64 lower-case hex digits"),
            ("\"last\": 3", "\"last\": 18446744073709551615", "larger than any log"),
            ("\"bytes\": 900", "\"bytes\": 18446744073709551615", "larger than any log"),
            ("\n}\n", "\n", "EOF"),
        ];
        for (from, to, words) in cases {
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let error = Manifest::read(folder.path()).unwrap_err();
            assert!(matches!(error, BackupError::BadManifest { .. }), "{to}: {error}");
            assert!(error.to_string().contains(words), "{to}: {error}");
        }
    }
}
