//! The manifest: which files belong together and make the archive, up to which head.
//!
//! One line of JSON and one with its SHA-256. It is replaced in one step, after everything that it
//! names is on disk; what it does not name is no part of the archive.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::{ContentHash, damaged, hash_of, sync_names};
use super::sealed::FileState;
use crate::domain::hash::ChainHash;

const NAME: &str = "manifest.json";
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub v: u32,
    /// The last record that is archived.
    pub sequence: u64,
    pub hash: ChainHash,
    /// All of the log's segments up to there.
    pub segments: Vec<SegmentLine>,
    /// In the order of history.
    pub runs: Vec<RunLine>,
    pub snapshot: FileLine,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentLine {
    pub first: u64,
    pub last: u64,
    /// The hash of the record before it.
    pub before: ChainHash,
    #[serde(flatten)]
    pub file: FileState,
    pub marks: FileLine,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLine {
    pub level: u32,
    pub entries: u64,
    /// Its hash is that of the table.
    #[serde(flatten)]
    pub file: FileLine,
}

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLine {
    pub name: String,
    pub sha256: ContentHash,
}

impl Manifest {
    #[must_use]
    pub const fn version() -> u32 {
        VERSION
    }

    /// Every file of the archive but the manifest.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let runs = self.runs.iter().map(|run| run.file.name.as_str());
        let marks = self.segments.iter().map(|segment| segment.marks.name.as_str());
        runs.chain(marks).chain([self.snapshot.name.as_str()])
    }

    /// `None` when there is no archive.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        let path = folder.join(NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let lines = text.strip_suffix('\n').and_then(|text| text.split_once('\n'));
        let (json, stated) = lines.ok_or_else(|| damaged(&path, "it is not whole"))?;
        if hash_of(json.as_bytes()).to_string() != stated {
            return Err(damaged(&path, "its content and its checksum differ"));
        }
        let manifest: Self = serde_json::from_str(json).map_err(|error| damaged(&path, &error.to_string()))?;
        if manifest.v != VERSION {
            return Err(damaged(&path, &format!("its version is {}, and this is {VERSION}", manifest.v)));
        }
        Ok(Some(manifest))
    }

    /// Takes the place of the manifest before. What it names has to be synced, names and all.
    pub fn replace(&self, folder: &Path) -> io::Result<()> {
        let json = serde_json::to_string(self).expect("numbers and text have a JSON form");
        let path = folder.join(NAME);
        let beside = path.with_extension("new");
        let mut file = File::create(&beside)?;
        write!(file, "{json}\n{}\n", hash_of(json.as_bytes()))?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        sync_names(folder)
    }

    /// Removes what the archive once left in its folder, all but the files of `keep`. What else lies
    /// there is not touched.
    pub fn clean(folder: &Path, keep: Option<&Self>) -> io::Result<()> {
        let listed = match fs::read_dir(folder) {
            Ok(listed) => listed,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if keep.is_none() {
            // First: an archive without its manifest is none.
            match fs::remove_file(folder.join(NAME)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => sync_names(folder)?,
            }
        }
        let kept: HashSet<_> = keep.into_iter().flat_map(Self::files).collect();
        for entry in listed {
            let path = entry?.path();
            let ours =
                path.extension().is_some_and(|end| ["run", "marks", "world", "new"].iter().any(|our| end == *our));
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if ours && !kept.contains(name) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}
