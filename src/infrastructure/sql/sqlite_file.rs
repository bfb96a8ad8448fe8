//! The SQLite file as a file: its companions, whether a process has it open, and how a new one
//! takes its place. What is in it is the store's business.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::application::ports::StoreError;
use crate::infrastructure::sql::FileNumber;

/// The file that a path leads to, whether it is there yet or not. One file may have several paths,
/// but its companions and its lock lie beside the file, and a new one has to take its own place.
pub(super) fn at_the_end_of(path: &Path) -> PathBuf {
    /// As many as Linux follows (`path_resolution(7)`).
    const MAX_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = folder_of(&path).join(target);
    }
    match (fs::canonicalize(folder_of(&path)), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        // No such folder: whoever opens the file says so.
        _ => path,
    }
}

/// Takes a file for this process, until the answer is dropped or the process ends.
pub fn lock(database: &Path) -> Result<File, StoreError> {
    let path = with_suffix(&at_the_end_of(database), ".lock");
    let failed = |error: io::Error| StoreError::new("could not be locked", error);
    let lock = File::options().write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::new("is in use", "another lockstream process writes it. Stop that one first"))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// A new database file that will take the place of an old one.
#[derive(Debug)]
pub struct SqliteReplacement {
    old: PathBuf,
    new: PathBuf,
}

impl SqliteReplacement {
    /// Names a fresh file beside the old one; what interrupted attempts left there is removed.
    ///
    /// The name is one that this process has not used: a connection of an attempt that was given up
    /// may still be closing, and takes the companions away that it knows by name.
    pub fn beside(old: &Path) -> io::Result<Self> {
        static ATTEMPTS: AtomicU64 = AtomicU64::new(1);
        remove_leftovers(old)?;
        let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { old: old.to_owned(), new: with_suffix(old, &format!(".new-{attempt}")) })
    }

    /// Removes the new file.
    pub fn remove(&self) -> io::Result<()> {
        family(&self.new).iter().try_for_each(|file| remove_if_present(file))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.new
    }

    /// Puts the new file in the old one's place. Both have to be closed.
    ///
    /// Each step is on disk before the next: a crash in between leaves no database, which the next
    /// start makes anew, and never one file with the companions of the other.
    pub fn take_place(self) -> io::Result<()> {
        let [new, unsettled, _] = family(&self.new);
        if fs::metadata(&unsettled).is_ok_and(|wal| wal.len() > 0) {
            let message = format!("the new one is not whole: {} is not empty", unsettled.display());
            return Err(io::Error::other(message));
        }
        // Nothing of it was synced while it was made.
        File::open(&new)?.sync_all()?;
        let folder = File::open(folder_of(&self.old))?;
        let [old, wal, index] = family(&self.old);
        remove_if_present(&old)?;
        folder.sync_all()?;
        remove_if_present(&wal)?;
        remove_if_present(&index)?;
        folder.sync_all()?;
        fs::rename(new, old)?;
        folder.sync_all()
    }
}

/// Removes what attempts to replace a file left beside it.
fn remove_leftovers(file: &Path) -> io::Result<()> {
    let Some(name) = with_suffix(file, ".new").file_name().map(OsStr::to_owned) else { return Ok(()) };
    for entry in fs::read_dir(folder_of(file))? {
        let entry = entry?;
        let entry_name = entry.file_name();
        let rest = entry_name.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"-")) {
            remove_if_present(&entry.path())?;
        }
    }
    Ok(())
}

/// A database file and its companions, the write-ahead log and its index.
fn family(file: &Path) -> [PathBuf; 3] {
    [file.to_owned(), with_suffix(file, "-wal"), with_suffix(file, "-shm")]
}

/// The folder that a file lies in.
fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How to recognise a file again that no process has open; `None` for one that a process has, or
/// had when it was killed.
pub(super) fn rest(file: &Path) -> Option<(u64, SystemTime)> {
    let [file, wal, _] = family(file);
    if fs::exists(wal).unwrap_or(true) {
        return None;
    }
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

/// Tells a file from another one that takes its name while this one is still there or open; `None`
/// where there is none.
pub(super) fn file_number(file: &Path) -> Option<FileNumber> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, SqliteConnection};

    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    use sqlx::Sqlite;

    use crate::application::ports::Projection;
    use crate::domain::hash::ChainHash;
    use crate::domain::ids::Sequence;
    use crate::domain::record::Head;
    use crate::domain::rows::Rows;
    use crate::infrastructure::sql::SqlLimits;
    use crate::infrastructure::sql::sqlite::existing::contents_of;
    use crate::infrastructure::sql::sqlite::{SqlitePlace, settle};
    use crate::infrastructure::sql::store::SqlStore;

    const LIMITS: SqlLimits = SqlLimits { statement: Duration::from_secs(10), query: Duration::from_secs(10) };

    const FIRST: Head = Head { sequence: Sequence::new(1), chain_hash: ChainHash::new([1; 32]) };

    async fn open(file: &Path) -> Arc<SqlStore<Sqlite>> {
        let store = SqlStore::new(SqlitePlace::writable(file), LIMITS);
        store.open().await.unwrap();
        store
    }

    /// A file with a name that no URL could hold as it is.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("50% of ?mode=ro#1.db");
        (folder, file)
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_new_file_takes_the_place_of_the_old_one_and_of_its_companions() {
        let (folder, file) = place();
        for leftover in family(&file).into_iter().chain(family(&with_suffix(&file, ".new-7"))) {
            fs::write(leftover, "of another time").unwrap();
        }
        let neighbour = with_suffix(&file, ".newer");
        fs::write(&neighbour, "somebody's").unwrap();
        let replacement = SqliteReplacement::beside(&file).unwrap();
        let store = open(replacement.path()).await;
        let head = Head { sequence: Sequence::new(7), ..Head::default() };
        store.advance(&Rows::default(), Head::default(), head).await.unwrap();
        settle(&store).await.unwrap();
        store.close().await;
        replacement.take_place().unwrap();
        fs::remove_file(neighbour).unwrap();
        assert_eq!(names(&folder), [file.file_name().unwrap().to_str().unwrap()]);
        assert_eq!(contents_of(&file, LIMITS, &|_| {}).await.unwrap(), Some((head, Rows::default())));
    }

    #[tokio::test]
    async fn a_new_file_that_is_given_up_and_closed_late_takes_nothing_from_the_next_one() {
        let (_folder, file) = place();
        let given_up = SqliteReplacement::beside(&file).unwrap();
        let late = open(given_up.path()).await;
        late.advance(&Rows::default(), Head::default(), FIRST).await.unwrap();
        let next = SqliteReplacement::beside(&file).unwrap();
        assert_ne!(given_up.path(), next.path());
        assert!(!given_up.path().exists());
        let store = open(next.path()).await;
        assert_eq!(store.checkpoint().await.unwrap(), Head::default());
        store.advance(&Rows::default(), Head::default(), FIRST).await.unwrap();
        late.close().await;
        assert_eq!(store.contents().await.unwrap().0, FIRST);
        settle(&store).await.unwrap();
    }

    #[tokio::test]
    async fn a_new_file_that_is_not_whole_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("projection.db");
        fs::write(&file, "old").unwrap();
        let replacement = SqliteReplacement::beside(&file).unwrap();
        let store = open(replacement.path()).await;
        // Somebody who reads keeps what is written from being moved into the file.
        let url = format!("sqlite:{}", replacement.path().display());
        let mut reader = SqliteConnection::connect(&url).await.unwrap();
        let mut reading = reader.begin().await.unwrap();
        sqlx::query("SELECT * FROM checkpoint").fetch_optional(&mut *reading).await.unwrap();
        store.advance(&Rows::default(), Head::default(), FIRST).await.unwrap();
        let error = settle(&store).await.unwrap_err().to_string();
        assert!(error.contains("could not be moved into its file"), "{error}");
        store.close().await;
        let before = names(&folder);
        let error = replacement.take_place().unwrap_err().to_string();
        assert!(error.contains("-wal is not empty"), "{error}");
        assert_eq!((fs::read(&file).unwrap(), names(&folder)), (b"old".to_vec(), before));
    }

    #[tokio::test]
    async fn a_file_is_at_rest_only_while_no_process_has_it_open() {
        let (_folder, file) = place();
        assert_eq!(rest(&file), None, "there is none");
        open(&file).await.close().await;
        let before = rest(&file);
        assert!(before.is_some());
        let store = open(&file).await;
        assert_eq!(rest(&file), None, "open and idle, with nothing written since");
        store.advance(&Rows::default(), Head::default(), FIRST).await.unwrap();
        assert_eq!(rest(&file), None);
        store.close().await;
        assert!(rest(&file).is_some() && rest(&file) != before, "it is another file now");
    }
}
