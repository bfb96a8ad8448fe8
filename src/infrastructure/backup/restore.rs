//! Bringing a backup back: into a folder beside, proven there as a whole, and only then to where a
//! server looks.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::domain::record::Head;
use crate::infrastructure::backup::files;
use crate::infrastructure::backup::manifest::Manifest;
use crate::infrastructure::backup::{BackupError, Unproven, failed, log_of, prove};
use crate::infrastructure::event_log::history::damage::HistoryError;
use crate::infrastructure::event_log::recovery::ReadBytes;

/// The manifest of a backup.
pub fn manifest(backup: &Path) -> Result<Manifest, BackupError> {
    Manifest::read(backup)?.ok_or_else(|| BackupError::NoBackup(backup.to_owned()))
}

/// Reads all of a backup and proves it; writes nothing.
pub fn check(backup: &Path, manifest: &Manifest, on_read: impl Fn(ReadBytes)) -> Result<(), BackupError> {
    let total = manifest.bytes();
    prove(&log_of(backup), manifest, |_, done| on_read(ReadBytes { done, total })).map_err(|unproven| match unproven {
        Unproven::History(unreadable @ HistoryError::Unreadable { .. }) => BackupError::Unreadable(unreadable),
        unproven => BackupError::DamagedBackup(unproven.to_string()),
    })
}

/// Copies a backup's log to a folder of its own, and proves the copy; shows the head of each record.
pub fn copy(
    backup: &Path,
    manifest: &Manifest,
    to: &Path,
    on_read: impl Fn(ReadBytes),
    on_head: impl Fn(Head),
) -> Result<(), BackupError> {
    // Each byte is copied and read.
    let (mut done, total) = (0, manifest.bytes() * 2);
    files::create_empty(to).map_err(failed("the log cannot be restored", to))?;
    for entry in &manifest.segments {
        let (from, to) = (log_of(backup).join(&entry.name), to.join(&entry.name));
        // A longer file is of a later backup that was cut off.
        let copied = match files::copy(&from, &to, entry.bytes) {
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            copied => copied.map_err(failed("the segment cannot be restored", &from))?,
        };
        if copied < entry.bytes {
            let found = format!("{} has {copied} bytes of the {} that the manifest lists", from.display(), entry.bytes);
            return Err(BackupError::DamagedBackup(found));
        }
        files::settle(&to, entry.bytes).map_err(failed("the segment cannot be restored", &to))?;
        done += entry.bytes;
        on_read(ReadBytes { done, total });
    }
    files::sync_names(to).map_err(failed("the log cannot be restored", to))?;
    let on_record = |head, bytes| {
        on_head(head);
        on_read(ReadBytes { done: done + bytes, total });
    };
    match prove(to, manifest, on_record) {
        Ok(()) => Ok(()),
        Err(unproven) => {
            // Which of the two is damaged, and where there.
            check(backup, manifest, |_| {})?;
            Err(match unproven {
                Unproven::History(error) => BackupError::WrongCopy(error),
                Unproven::Differs(reason) => BackupError::DamagedBackup(reason),
            })
        }
    }
}

/// Looks whether a log's folder has room for a restored one: there is nothing in it but the empty
/// segment of a server that never recorded anything. Says what there is of that.
pub fn empty_files(log: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let io = |doing| failed(doing, log);
    let entries = match fs::read_dir(log) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io("the log's folder cannot be read"))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<_> = paths.collect::<Result<_, _>>().map_err(io("the log's folder cannot be read"))?;
    paths.sort();
    let is_empty = |path: &&PathBuf| fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0);
    match paths.iter().find(|path| !is_empty(path)) {
        Some(path) => Err(BackupError::LogThere(path.clone())),
        None => Ok(paths),
    }
}

/// Looks whether a log may be put together in a folder: what is left there of an attempt before is
/// removed, and a backup that somebody keeps there must not be.
pub fn no_backup_in(restoring: &Path) -> Result<(), BackupError> {
    Manifest::read(restoring)?.map_or(Ok(()), |_| Err(BackupError::BackupThere(restoring.to_owned())))
}

/// Puts a restored log in its place, in one step. The data folder has to be locked: the empty
/// segment of a server that runs is not for us to remove.
pub fn take_place(restored: &Path, log: &Path) -> Result<(), BackupError> {
    let empty = empty_files(log)?;
    let removed = empty.iter().try_for_each(|path| files::remove(path));
    removed.map_err(failed("the log's folder cannot be written", log))?;
    let renamed = fs::rename(restored, log);
    let root = log.parent().expect("the log lies in a folder");
    renamed.and_then(|()| files::sync_names(root)).map_err(failed("the restored log cannot be put in its place", log))
}

/// Removes what there is of a log that was not restored.
pub fn abandon(restored: &Path) -> Result<(), BackupError> {
    files::remove_folder(restored).map_err(failed("what was restored so far cannot be removed", restored))
}
