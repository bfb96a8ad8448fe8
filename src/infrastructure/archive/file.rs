//! The small files of the archive: written whole, read whole, with a SHA-256 at their end.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::domain::hash::ChainHash;

const DIGEST_BYTES: usize = 32;

/// The SHA-256 of a content.
pub type ContentHash = ChainHash;

#[must_use]
pub fn hash_of(content: &[u8]) -> ContentHash {
    ContentHash::new(Sha256::digest(content).into())
}

/// Writes a file that survives a crash as soon as its folder is synced; a crash in between leaves
/// what had the name before.
pub fn write(path: &Path, content: &[u8]) -> io::Result<ContentHash> {
    let hash = hash_of(content);
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.write_all(hash.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    Ok(hash)
}

/// Reads what [`write()`] wrote; an error for anything else.
pub fn read(path: &Path) -> io::Result<(Vec<u8>, ContentHash)> {
    let mut content = fs::read(path)?;
    let stated = content.split_off(content.len().saturating_sub(DIGEST_BYTES));
    let hash = hash_of(&content);
    if hash.as_bytes() != stated.as_slice() {
        return Err(damaged(path, "its content and its checksum differ"));
    }
    Ok((content, hash))
}

/// The same for a file whose hash is known.
pub fn read_known(path: &Path, known: ContentHash) -> io::Result<Vec<u8>> {
    let (content, hash) = read(path)?;
    if hash == known { Ok(content) } else { Err(damaged(path, "it is another file than the manifest names")) }
}

pub fn sync_names(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// An error about a file that can be read and makes no sense.
pub fn damaged(path: &Path, what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}
