//! The data folder: one process's property, with the log, the mark of a clean stop and, unless
//! told otherwise, the SQLite projection.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::hash::ChainHash;
use crate::domain::ids::Sequence;
use crate::domain::record::Head;

const LOCK_FILE: &str = "lockstream.lock";
const CLEAN_STOP_FILE: &str = "clean-stop.json";
const MARK_VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    #[error("{doing}: {source} ({}); check that the folder exists and that this user may write in it", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the data folder {} is in use by another lockstream process; stop that one first, or give this one \
         another folder with LOCKSTREAM_DATA_DIR", .0.display()
    )]
    InUse(PathBuf),
    #[error(
        "the mark of the last clean stop cannot be understood: {reason} ({}). It is only a proof that the log went \
         so far: run `lockstream verify`, and when the head that it names is the one you expect, move this file away",
        path.display()
    )]
    BadMark { path: PathBuf, reason: String },
}

/// The paths in a data folder.
#[derive(Debug, Clone)]
pub struct DataFolder {
    root: PathBuf,
}

/// Holds the folder against other processes until it is dropped, or the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl DataFolder {
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.root.join("projection.db")
    }

    /// What is made from sealed segments of the log, to start and to go on without reading them.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.root.join("archive")
    }

    /// Where a log stands that is being restored, until it is whole.
    #[must_use]
    pub fn restoring(&self) -> PathBuf {
        self.root.join("log.restoring")
    }

    /// Where the server of this folder takes orders from whoever runs it.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.root.join("admin.sock")
    }

    /// Creates what is missing and takes the folder for this process.
    pub fn lock(&self) -> Result<FolderLock, DataFolderError> {
        let log = self.log();
        let missing: Vec<_> = log.ancestors().take_while(|folder| !folder.exists()).collect();
        fs::create_dir_all(&log).map_err(|source| failed("the data folder cannot be created", &self.root, source))?;
        // The names of new folders have to survive a crash like what is in them. Folders that were
        // there may lie where this user cannot read, and need no sync.
        for parent in missing.into_iter().filter_map(Path::parent) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            sync_folder(parent).map_err(|source| failed("the data folder cannot be synced", parent, source))?;
        }
        let path = self.root.join(LOCK_FILE);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| failed("the data folder cannot be written", &path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DataFolderError::InUse(self.root.clone())),
            Err(TryLockError::Error(source)) => Err(failed("the data folder cannot be locked", &path, source)),
        }
    }

    /// The head at the last clean stop; `None` when there was none yet.
    pub fn clean_stop(&self) -> Result<Option<Head>, DataFolderError> {
        let path = self.root.join(CLEAN_STOP_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("the mark of the last clean stop cannot be read", &path, source)),
        };
        let bad = |reason: String| DataFolderError::BadMark { path: path.clone(), reason };
        let not_json = |error: serde_json::Error| bad(error.to_string());
        let Version { v } = serde_json::from_slice(&text).map_err(not_json)?;
        if v != MARK_VERSION {
            return Err(bad(format!("its version is {v}, and this lockstream knows {MARK_VERSION} only")));
        }
        let mark: CleanStop = serde_json::from_slice(&text).map_err(not_json)?;
        let chain_hash = ChainHash::parse(&mark.hash).ok_or_else(|| bad("the hash has not 64 hex digits".into()))?;
        Ok(Some(Head { sequence: Sequence::new(mark.seq), chain_hash }))
    }

    /// Marks that everything up to `head` was durable when the process stopped. Stays true for
    /// ever, so nothing has to take it back.
    pub fn mark_clean_stop(&self, head: Head) -> Result<(), DataFolderError> {
        let path = self.root.join(CLEAN_STOP_FILE);
        let mark = CleanStop { v: MARK_VERSION, seq: head.sequence.get(), hash: head.chain_hash.to_string() };
        let text = serde_json::to_string(&mark).expect("numbers and text have a JSON form");
        replace(&path, text.as_bytes())
            .map_err(|source| failed("the mark of a clean stop cannot be written", &path, source))
    }

    /// Takes the mark away, where what it says turned out not to be so.
    pub fn remove_clean_stop(&self) -> Result<(), DataFolderError> {
        let path = self.root.join(CLEAN_STOP_FILE);
        let removed = fs::remove_file(&path).and_then(|()| sync_folder(&self.root));
        removed.map_err(|source| failed("the mark of a clean stop cannot be removed", &path, source))
    }
}

/// What a mark of any version has.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Serialize, Deserialize)]
struct CleanStop {
    v: u32,
    seq: u64,
    hash: String,
}

/// Replaces a file so that a crash leaves either the old content or the new one.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_folder(path.parent().expect("the mark lies in the data folder"))
}

/// Makes the names in a folder survive a crash.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> DataFolderError {
    DataFolderError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_a_clean_stop_reads_back_and_the_newest_counts() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(root.path());
        assert_eq!(folder.clean_stop().unwrap(), None);
        for sequence in [3, 7] {
            let head = Head { sequence: Sequence::new(sequence), chain_hash: ChainHash::new([9; 32]) };
            folder.mark_clean_stop(head).unwrap();
            assert_eq!(folder.clean_stop().unwrap(), Some(head));
        }
    }

    #[test]
    fn a_mark_that_cannot_be_understood_is_named() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(root.path());
        let texts = [&b""[..], b"\xff", b"{}", br#"{"v":1,"seq":-1,"hash":"00"}"#, br#"{"v":1,"seq":1,"hash":"00"}"#];
        for text in texts {
            fs::write(root.path().join(CLEAN_STOP_FILE), text).unwrap();
            let error = folder.clean_stop().unwrap_err();
            assert!(matches!(error, DataFolderError::BadMark { .. }), "{text:?}: {error}");
            assert!(error.to_string().contains(CLEAN_STOP_FILE), "{error}");
        }
    }

    #[test]
    fn a_mark_of_another_version_is_refused_as_such() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(root.path());
        let head = Head { sequence: Sequence::new(3), chain_hash: ChainHash::new([9; 32]) };
        folder.mark_clean_stop(head).unwrap();
        let path = root.path().join(CLEAN_STOP_FILE);
        let text = fs::read_to_string(&path).unwrap();
        for text in [text.replace(r#""v":1"#, r#""v":2"#), r#"{"v":2,"heads":[]}"#.to_owned()] {
            fs::write(&path, text).unwrap();
            let error = folder.clean_stop().unwrap_err().to_string();
            assert!(error.contains("its version is 2") && error.contains("move this file away"), "{error}");
        }
    }

    #[test]
    fn a_folder_has_one_owner_until_the_lock_is_let_go() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(root.path().join("new/folder"));
        let lock = folder.lock().unwrap();
        assert!(matches!(folder.lock(), Err(DataFolderError::InUse(_))));
        drop(lock);
        folder.lock().unwrap();
    }
}
