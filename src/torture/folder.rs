//! The folder of a torture: its own, and nobody's data.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Tells a torture's folder from any other, and is locked while one runs.
const MARK: &str = "torture.lock";
/// There when a run found something, so that no other run removes what it left.
const FINDINGS: &str = "findings.txt";
/// What a run leaves.
const DATA: &str = "data";
const JOURNAL: &str = "journal.jsonl";
const SERVER_LOG: &str = "server.log";

/// A folder that belongs to this run.
#[derive(Debug)]
pub struct TortureFolder {
    root: PathBuf,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{} is not empty, and no torture made what is in it; choose another folder", .0.display())]
    Foreign(PathBuf),
    #[error(
        "{} holds what a run left that found something (see {FINDINGS}); look into it, then remove it, or choose \
         another folder", .0.display()
    )]
    Evidence(PathBuf),
    #[error("another torture runs in {}", .0.display())]
    InUse(PathBuf),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl TortureFolder {
    /// Takes a folder that is not there, is empty, or was left by a run that found nothing.
    pub fn take(root: &Path) -> Result<Self, FolderError> {
        let failed = |source| FolderError::Io { path: root.to_owned(), source };
        fs::create_dir_all(root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let mark = root.join(MARK);
        if !mark.exists() && fs::read_dir(&root).map_err(failed)?.next().is_some() {
            return Err(FolderError::Foreign(root));
        }
        if root.join(FINDINGS).exists() {
            return Err(FolderError::Evidence(root));
        }
        let lock = File::options().write(true).create(true).truncate(false).open(&mark).map_err(failed)?;
        lock.try_lock().map_err(|_| FolderError::InUse(root.clone()))?;
        let folder = Self { root, _lock: lock };
        folder.clear().map_err(failed)?;
        Ok(folder)
    }

    /// Removes what a run made, and nothing else.
    pub fn clear(&self) -> io::Result<()> {
        remove(fs::remove_dir_all(self.data()))?;
        remove(fs::remove_file(self.journal()))?;
        remove(fs::remove_file(self.server_log()))
    }

    /// Removes all that the run made, and the folder itself where that can be: it may be the root of a
    /// disk, or hold something that no run made.
    pub fn remove(self) -> io::Result<()> {
        self.clear()?;
        fs::remove_file(self.root.join(MARK))?;
        let _ = fs::remove_dir(&self.root);
        Ok(())
    }

    /// Keeps what was found, and with it the folder.
    pub fn keep_findings(&self, text: &str) -> io::Result<()> {
        fs::write(self.root.join(FINDINGS), text)
    }

    /// Removes the database of the server, which is not running.
    pub fn delete_database(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.data())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("projection.db") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The length of the segment that the server writes.
    pub fn last_segment_bytes(&self) -> io::Result<u64> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(self.data().join("log"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "jsonl") {
                segments.push(path);
            }
        }
        segments.into_iter().max().map_or(Ok(0), |last| Ok(fs::metadata(last)?.len()))
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.join(DATA)
    }

    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join(JOURNAL)
    }

    #[must_use]
    pub fn server_log(&self) -> PathBuf {
        self.root.join(SERVER_LOG)
    }

    /// The kind of the file system that it lies on, where the system tells.
    #[must_use]
    pub fn file_system(&self) -> Option<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let mounts = mounts.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((PathBuf::from(words.next()?), words.next()?))
        });
        // A later mount hides an earlier one at the same place.
        let below = mounts.filter(|(place, _)| self.root.starts_with(place));
        below.max_by_key(|(place, _)| place.components().count()).map(|(_, kind)| kind.to_owned())
    }
}

fn remove(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
