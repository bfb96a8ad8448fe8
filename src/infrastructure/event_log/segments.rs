//! Segments: the files of the log, each named by its first sequence.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::domain::ids::Sequence;

const SUFFIX: &str = ".jsonl";
const DIGITS: usize = 20;

/// A file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub first: Sequence,
    pub path: PathBuf,
}

/// The path of the segment that starts with `first`.
#[must_use]
pub fn path(folder: &Path, first: Sequence) -> PathBuf {
    folder.join(format!("{:0DIGITS$}{SUFFIX}", first.get()))
}

/// Creates an empty segment; its name is on disk before anything is in it.
pub fn create(path: &Path) -> io::Result<File> {
    let file = File::options().append(true).create_new(true).open(path)?;
    file.sync_all()?;
    sync_folder(path.parent().expect("a segment lies in a folder"))?;
    Ok(file)
}

/// The segments of a folder in their order. A `.jsonl` file with another name is an error, for it
/// may be a segment that somebody renamed; files with other endings are none of the log's.
pub fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(digits) = name.strip_suffix(SUFFIX) else { continue };
        let is_number = digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
        let Some(first) = is_number.then(|| digits.parse().ok()).flatten() else {
            let message = format!(
                "{} is not named like a segment of the log; move it out of the folder, or give it back its name",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        segments.push(Segment { first: Sequence::new(first), path });
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// Makes the names in a folder survive a crash.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_listed_in_their_order_and_strange_names_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for first in [10, 1, 9] {
            create(&path(folder.path(), Sequence::new(first))).unwrap();
        }
        fs::write(folder.path().join("00000000000000000001.jsonl.torn-7-1"), "x").unwrap();
        let firsts = |folder: &Path| -> io::Result<Vec<u64>> {
            Ok(list(folder)?.into_iter().map(|segment| segment.first.get()).collect())
        };
        assert_eq!(firsts(folder.path()).unwrap(), [1, 9, 10]);
        assert!(path(folder.path(), Sequence::new(1)).ends_with("00000000000000000001.jsonl"));
        for strange in ["1.jsonl", "0000000000000000001x.jsonl", "99999999999999999999.jsonl", "copy.jsonl"] {
            fs::write(folder.path().join(strange), "").unwrap();
            let error = firsts(folder.path()).unwrap_err().to_string();
            assert!(error.contains(strange) && error.contains("not named like a segment"), "{error}");
            fs::remove_file(folder.path().join(strange)).unwrap();
        }
    }

    #[test]
    fn a_segment_is_never_begun_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), Sequence::new(1));
        create(&path).unwrap();
        assert_eq!(create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
