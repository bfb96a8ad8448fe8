//! The disk below the log: the few operations that the log needs, and what each of them promises
//! about a crash. Nothing else in the log touches a file.
//!
//! There are two of them: [`Disk`], and the one of the tests, which loses power in the middle of
//! everything and keeps no more than is promised here.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::process::{Resource, getrlimit};

/// Files in folders. What was written and not synced may be lost in a crash, in any part and in any
/// order; so may the names of files until [`Self::sync_names`].
pub trait Storage: fmt::Debug + Send + Sync {
    /// The paths of everything in a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// An error for what is no file: opening a pipe would wait for ever.
    fn length_bytes(&self, file: &Path) -> io::Result<u64>;

    /// Opens a file to read it from its beginning.
    fn open(&self, file: &Path) -> io::Result<Box<dyn Readable>>;

    /// Creates an empty file to append to. One that is there already is an error.
    fn create(&self, file: &Path) -> io::Result<Box<dyn Appendable>>;

    /// Opens a file to append to it.
    fn append_to(&self, file: &Path) -> io::Result<Box<dyn Appendable>>;

    /// Writes over bytes that are there. Becomes durable with the next sync of the file.
    fn overwrite(&self, file: &Path, offset_bytes: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a file off, durably.
    fn cut(&self, file: &Path, length_bytes: u64) -> io::Result<()>;

    /// Gives a file another name, in one step. Takes the place of what had that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, file: &Path) -> io::Result<()>;

    /// Makes the names in a folder survive a crash.
    fn sync_names(&self, folder: &Path) -> io::Result<()>;
}

/// A file that is read.
pub trait Readable: Read + Seek + fmt::Debug + Send {}

impl<T: Read + Seek + fmt::Debug + Send> Readable for T {}

/// A file that grows.
pub trait Appendable: fmt::Debug + Send {
    /// Writes all of `bytes` to the end. After an error any part of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything in the file survive a crash. After an error nobody knows how much of it
    /// does, and a later success says nothing about it: the system may have dropped what it could
    /// not write.
    fn sync(&mut self) -> io::Result<()>;

    /// The same for a file that is new: all that the system knows about it too.
    fn sync_all(&mut self) -> io::Result<()>;

    /// How much could be appended to a file that is `length_bytes` long.
    fn left(&self, length_bytes: u64) -> io::Result<Left>;

    /// Has the disk keep room for `bytes` from `offset_bytes` on, so that appending them cannot fail
    /// for want of it; the file's length stays. Where the file system cannot do that, nothing is
    /// kept.
    fn reserve(&mut self, offset_bytes: u64, bytes: u64) -> io::Result<()>;
}

/// What is left to write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// On the disk, beside what is reserved.
    pub disk_bytes: u64,
    /// Up to the longest file that the system lets this process make.
    pub file_bytes: u64,
}

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Storage for Disk {
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn length_bytes(&self, file: &Path) -> io::Result<u64> {
        let metadata = fs::metadata(file)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a file"));
        }
        Ok(metadata.len())
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn Readable>> {
        Ok(Box::new(File::open(file)?))
    }

    fn create(&self, file: &Path) -> io::Result<Box<dyn Appendable>> {
        Ok(Box::new(File::options().append(true).create_new(true).open(file)?))
    }

    fn append_to(&self, file: &Path) -> io::Result<Box<dyn Appendable>> {
        Ok(Box::new(File::options().append(true).open(file)?))
    }

    fn overwrite(&self, file: &Path, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        File::options().write(true).open(file)?.write_all_at(bytes, offset_bytes)
    }

    fn cut(&self, file: &Path, length_bytes: u64) -> io::Result<()> {
        let file = File::options().write(true).open(file)?;
        file.set_len(length_bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)
    }

    fn sync_names(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

impl Appendable for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        File::sync_all(self)
    }

    fn left(&self, length_bytes: u64) -> io::Result<Left> {
        let disk = fstatvfs(self)?;
        let longest_bytes = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        Ok(Left {
            disk_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            file_bytes: longest_bytes.saturating_sub(length_bytes),
        })
    }

    fn reserve(&mut self, offset_bytes: u64, bytes: u64) -> io::Result<()> {
        use rustix::io::Errno;
        match fallocate(&*self, FallocateFlags::KEEP_SIZE, offset_bytes, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            outcome => Ok(outcome?),
        }
    }
}
