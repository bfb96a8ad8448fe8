//! What an earlier backup has of the same log: whether it goes on from there, and what stays.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use crate::domain::hash::ChainHash;
use crate::domain::record::Head;
use crate::infrastructure::backup::manifest::Manifest;
use crate::infrastructure::backup::take::{Taking, length_bytes};
use crate::infrastructure::backup::{BackupError, failed, files, log_of};
use crate::infrastructure::event_log::{line, segments};

impl Taking<'_> {
    /// The log still has all that the backup has: each segment ends, there where the backup's copy
    /// does, with the same hash. Which is all that has to be read: the hash commits to the rest.
    pub(super) fn is_continued_from(&self, old: &Manifest) -> Result<(), BackupError> {
        let Head { sequence, .. } = old.head();
        let behind = |lost| BackupError::Behind { backup: self.order.backup.to_owned(), sequence, lost };
        for entry in &old.segments {
            let path = self.order.log.join(&entry.name);
            match ends_with(&path, entry.bytes, entry.end().chain_hash) {
                Ok(true) => {}
                Ok(false) => {
                    let (backup, sequence) = (self.order.backup.to_owned(), entry.end().sequence);
                    return Err(BackupError::OtherLog { backup, sequence });
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(behind(format!("the segment {}", entry.name)));
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(behind(format!("the end of the segment {}", entry.name)));
                }
                Err(error) => return Err(failed("the log cannot be read", &path)(error)),
            }
        }
        match self.order.up_to.head() {
            Some(head) if head.sequence < sequence => {
                Err(behind(format!("what follows its sequence {}", head.sequence)))
            }
            _ => Ok(()),
        }
    }

    /// Keeps what is complete in the log and whole in the backup, up to the first segment that is
    /// not.
    pub(super) fn keep(&mut self, old: &Manifest) -> Result<(), BackupError> {
        for entry in &old.segments {
            let path = log_of(self.order.backup).join(&entry.name);
            let copied_bytes = length_bytes(&path)?;
            if copied_bytes.is_none_or(|bytes| bytes < entry.bytes) {
                let found = copied_bytes.map_or("is gone".to_owned(), |bytes| format!("has {bytes} bytes"));
                self.report.notes.push(format!(
                    "{} {found} and should have {}; from there on all is copied again",
                    path.display(),
                    entry.bytes
                ));
                return Ok(());
            }
            let next = segments::path(self.order.log, entry.end().sequence.next());
            let source = self.order.log.join(&entry.name);
            let whole = [copied_bytes, length_bytes(&source)?];
            if whole != [Some(entry.bytes); 2] || length_bytes(&next)?.is_none() {
                return Ok(());
            }
            // Linked by a backup that was allowed to.
            let is_linked = files::is_one(&path, &source).map_err(failed("the segment cannot be seen", &path))?;
            if is_linked && !self.order.hard_link {
                return Ok(());
            }
            self.head = entry.end();
            self.entries.push(entry.clone());
            self.report.kept_segments += 1;
        }
        Ok(())
    }
}

/// Whether the first `bytes` bytes of a segment end with the seal of this hash.
fn ends_with(segment: &Path, bytes: u64, hash: ChainHash) -> io::Result<bool> {
    let due = line::ending(hash);
    let mut file = File::open(segment)?;
    let Some(start) = bytes.checked_sub(due.len() as u64) else { return Ok(false) };
    let mut found = vec![0; due.len()];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut found)?;
    Ok(found == due)
}
