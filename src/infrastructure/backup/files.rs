//! What a backup does to files: each is new, synced before it gets its name, and its name synced
//! before anything builds on it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Copies up to `bytes` bytes to a file that is not there yet; says how many there were. The system
/// shares the blocks of both files where the file system can (`copy_file_range`).
///
/// Never opens a file that is there: it may be a hard link to the very segment that is copied.
pub(super) fn copy(from: &Path, to: &Path, bytes: u64) -> io::Result<u64> {
    let mut to = File::options().write(true).create_new(true).open(to)?;
    io::copy(&mut File::open(from)?.take(bytes), &mut to)
}

/// Whether two names stand for one file.
pub(super) fn is_one(one: &Path, other: &Path) -> io::Result<bool> {
    let number = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    Ok(number(one)? == number(other)?)
}

/// Gives a synced file its name, in the place of what had that before.
pub(super) fn move_in(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    // Of two names of one file, neither is taken away by renaming.
    remove(from)
}

/// Cuts a file to its length and makes it survive a crash.
pub(super) fn settle(path: &Path, bytes: u64) -> io::Result<()> {
    if fs::metadata(path)?.len() != bytes {
        File::options().write(true).open(path)?.set_len(bytes)?;
    }
    File::open(path)?.sync_all()
}

/// Replaces a file so that a crash leaves either the old content or the new one.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_names(path.parent().expect("the file lies in a folder"))
}

/// Makes the names in a folder survive a crash.
pub(super) fn sync_names(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// Creates a folder and those above it, so that their names survive a crash.
pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(folder)?;
    missing.into_iter().filter_map(Path::parent).try_for_each(sync_names)
}

/// Makes an empty folder in the place of one that an attempt before may have left.
pub(super) fn create_empty(folder: &Path) -> io::Result<()> {
    remove_folder(folder)?;
    fs::create_dir(folder)
}

pub(super) fn remove_folder(folder: &Path) -> io::Result<()> {
    absent_is_well(fs::remove_dir_all(folder))
}

pub(super) fn remove(file: &Path) -> io::Result<()> {
    absent_is_well(fs::remove_file(file))
}

fn absent_is_well(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
