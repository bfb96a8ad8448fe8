//! Segments: the files of the log, each named by its first sequence.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::ids::Sequence;
use crate::infrastructure::event_log::storage::Storage;

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

/// The segments of a folder in their order. A `.jsonl` file with another name is an error, for it
/// may be a segment that somebody renamed; files with other endings are none of the log's.
pub fn list(storage: &dyn Storage, folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for path in storage.list(folder)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(digits) = name.strip_suffix(SUFFIX) else { continue };
        let is_number = digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
        let Some(first) = is_number.then(|| digits.parse().ok()).flatten().filter(|first| *first > 0) else {
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::infrastructure::event_log::storage::Disk;

    #[test]
    fn segments_are_listed_in_their_order_and_strange_names_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for first in [10, 1, 9] {
            File::create(path(folder.path(), Sequence::new(first))).unwrap();
        }
        fs::write(folder.path().join("00000000000000000001.jsonl.torn-7-1"), "x").unwrap();
        let firsts = |folder: &Path| -> io::Result<Vec<u64>> {
            Ok(list(&Disk, folder)?.into_iter().map(|segment| segment.first.get()).collect())
        };
        assert_eq!(firsts(folder.path()).unwrap(), [1, 9, 10]);
        assert!(path(folder.path(), Sequence::new(1)).ends_with("00000000000000000001.jsonl"));
        for strange in [
            "1.jsonl",
            "0000000000000000001x.jsonl",
            "99999999999999999999.jsonl",
            "copy.jsonl",
            "00000000000000000000.jsonl",
        ] {
            fs::write(folder.path().join(strange), "").unwrap();
            let error = firsts(folder.path()).unwrap_err().to_string();
            assert!(error.contains(strange) && error.contains("not named like a segment"), "{error}");
            fs::remove_file(folder.path().join(strange)).unwrap();
        }
    }
}
