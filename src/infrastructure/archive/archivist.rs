//! The archivist: makes the archive from the log, one stretch of sealed segments at a time.
//!
//! Everything is written and synced under names that no manifest knows yet; then the manifest is
//! replaced; then what it does not name any more is removed. So a crash at any moment leaves either
//! the archive before or the one after, and at worst files that the next stretch removes.

mod fold;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::statvfs;
use tracing::{debug, warn};

use super::file;
use super::manifest::{FileLine, Manifest, RunLine, SegmentLine};
use super::merge::{self, LOOK_ENTRIES};
use super::run::writer::RunWriter;
use super::run::{self, Run, Stamp};
use super::snapshot::Snapshot;
use super::{FileArchive, damaged, failure};
use crate::application::ports::{ArchiveFailure, Archived, Archivist};
use crate::domain::hash::ChainHash;
use crate::domain::ids::Sequence;
use crate::domain::record::Head;
use crate::domain::world::present::Present;
use crate::infrastructure::archive::archivist::fold::{Stopped, Stretch};
use crate::infrastructure::event_log::segments::{self, Segment};
use crate::infrastructure::event_log::storage::Disk;

/// How much of the log one stretch takes in, unless a single segment is longer: its entries are in
/// memory together.
const STRETCH_BYTES: u64 = 64 << 20;

/// Makes the archive of one log, in the folder of which this process is the owner.
#[derive(Debug)]
pub struct FileArchivist {
    folder: PathBuf,
    log: PathBuf,
    min_free_bytes: u64,
    archive: Option<Arc<FileArchive>>,
    /// How far an archive went that was thrown away: one that knows less is of no use to anybody.
    owed: Sequence,
    stretch_bytes: u64,
}

impl FileArchivist {
    /// Goes on from an archive that is believed, or from none: then the folder is cleared first.
    #[must_use]
    pub fn new(folder: PathBuf, log: PathBuf, min_free_bytes: u64, archive: Option<Arc<FileArchive>>) -> Self {
        Self { folder, log, min_free_bytes, archive, owed: Sequence::ZERO, stretch_bytes: STRETCH_BYTES }
    }

    fn head(&self) -> Head {
        self.archive.as_ref().map_or_else(Head::default, |archive| archive.head)
    }

    /// The segments of the next stretch, and the last record in each of them.
    fn upcoming(&self) -> io::Result<Vec<(Segment, Sequence)>> {
        let mut listed = segments::list(&Disk, &self.log)?;
        listed.retain(|segment| segment.first > self.head().sequence);
        let last = |next: &Segment| Sequence::new(next.first.get() - 1);
        let pairs: Vec<_> = listed.windows(2).map(|pair| (pair[0].clone(), last(&pair[1]))).collect();
        let mut sealed_bytes = 0;
        let mut stretch = Vec::new();
        for (segment, last) in pairs {
            if sealed_bytes < self.stretch_bytes {
                sealed_bytes += fs::metadata(&segment.path)?.len();
                stretch.push((segment, last));
            }
        }
        // A snapshot is written for each stretch; it should not be longer than what it saves.
        let snapshot_bytes = match &self.archive {
            Some(archive) => fs::metadata(self.folder.join(&archive.manifest.snapshot.name))?.len(),
            None => 0,
        };
        if sealed_bytes < snapshot_bytes.min(self.stretch_bytes) && self.head().sequence >= self.owed {
            stretch.clear();
        }
        Ok(stretch)
    }

    fn last_snapshot(&self) -> io::Result<Snapshot> {
        let Some(archive) = &self.archive else {
            return Ok(Snapshot { head: Head::default(), last_recorded_at: None, present: Present::default() });
        };
        let path = self.folder.join(&archive.manifest.snapshot.name);
        let bytes = file::read_known(&path, archive.manifest.snapshot.sha256)?;
        Snapshot::from_bytes(&bytes).ok_or_else(|| damaged(&path, "it is no snapshot"))
    }

    /// Writes what a stretch adds to the archive, and makes it the archive.
    fn write(&mut self, stretch: Stretch, stop: &dyn Fn() -> bool) -> io::Result<Result<(), Stopped>> {
        let Stretch { segments, entries, snapshot } = stretch;
        let from = self.head().sequence.next().get();
        let head = snapshot.head;
        let stamp = Stamp { from, to: head.sequence.get(), seed: self.seed(head) };
        let bytes = snapshot.to_bytes();
        self.look_for_room(bytes.len() + run::max_bytes(entries.len()))?;
        let (mut archive, is_first) = match &self.archive {
            Some(archive) => (FileArchive::clone(archive), false),
            None => (FileArchive::empty(), true),
        };
        if is_first {
            make_folder(&self.folder)?;
            Manifest::clean(&self.folder, None)?;
        }
        let path = self.run_path(stamp);
        let mut writer = RunWriter::create(&path, stamp, entries.len())?;
        for (written, entry) in entries.into_iter().enumerate() {
            writer.push(entry)?;
            if written.is_multiple_of(LOOK_ENTRIES) && stop() {
                return Ok(Err(Stopped));
            }
        }
        let Some((run, hash)) = writer.finish(stop)? else { return Ok(Err(Stopped)) };
        archive.manifest.runs.push(line_of(&run, 0, hash));
        archive.runs.push(Arc::new(run));
        for sealed in segments {
            let name = format!("{:020}.marks", sealed.first.get());
            let sha256 = file::write(&self.folder.join(&name), &sealed.marks_to_bytes())?;
            archive.manifest.segments.push(SegmentLine {
                first: sealed.first.get(),
                last: sealed.last.get(),
                before: sealed.before,
                file: sealed.file,
                marks: FileLine { name, sha256 },
            });
            archive.segments.push(Arc::new(sealed));
        }
        let name = format!("{:020}.world", head.sequence.get());
        let sha256 = file::write(&self.folder.join(&name), &bytes)?;
        archive.manifest.snapshot = FileLine { name, sha256 };
        (archive.manifest.sequence, archive.manifest.hash, archive.head) = (head.sequence.get(), head.chain_hash, head);
        self.switch_to(archive).map(Ok)
    }

    /// The seed of the next run: that of the others, so that a key is hashed once for all of them.
    fn seed(&self, head: Head) -> u64 {
        let newest = self.archive.as_ref().and_then(|archive| archive.runs.last());
        let of_log = || head.chain_hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        newest.map_or_else(of_log, |run| run.stamp().seed)
    }

    /// Merges runs until none are due.
    fn merge(&mut self, stop: &dyn Fn() -> bool) -> io::Result<Result<(), Stopped>> {
        while let Some(archive) = &self.archive {
            let levels: Vec<_> = archive.manifest.runs.iter().map(|run| run.level).collect();
            let Some(range) = merge::due(&levels) else { break };
            let runs: Vec<_> = archive.runs[range.clone()].iter().map(Arc::as_ref).collect();
            let entries = runs.iter().map(|run| run.entries()).sum::<u64>();
            self.look_for_room(run::max_bytes(usize::try_from(entries).unwrap_or(usize::MAX)))?;
            let stamp = Stamp { from: runs[0].stamp().from, ..runs[runs.len() - 1].stamp() };
            let Some((run, hash)) = merge::merge(&runs, &self.run_path(stamp), stop)? else { return Ok(Err(Stopped)) };
            let mut archive = FileArchive::clone(archive);
            archive.manifest.runs.splice(range.clone(), [line_of(&run, levels[range.start] + 1, hash)]);
            archive.runs.splice(range, [Arc::new(run)]);
            self.switch_to(archive)?;
        }
        Ok(Ok(()))
    }

    fn switch_to(&mut self, archive: FileArchive) -> io::Result<()> {
        file::sync_names(&self.folder)?;
        archive.manifest.replace(&self.folder)?;
        // It is the archive from here on, whether the one before can be removed or not.
        let archive = self.archive.insert(Arc::new(archive));
        if let Err(error) = Manifest::clean(&self.folder, Some(&archive.manifest)) {
            debug!(%error, "what the archive does not need any more cannot be removed");
        }
        Ok(())
    }

    fn run_path(&self, stamp: Stamp) -> PathBuf {
        self.folder.join(format!("{:020}-{:020}.run", stamp.from, stamp.to))
    }

    /// The archive takes nothing of what is kept free for others.
    fn look_for_room(&self, bytes: usize) -> io::Result<()> {
        let disk = statvfs(&self.log)?;
        let left_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed_bytes = self.min_free_bytes.saturating_add(bytes as u64);
        if left_bytes < needed_bytes {
            let message = format!("the disk has {left_bytes} bytes left, and {needed_bytes} are needed");
            return Err(io::Error::new(ErrorKind::StorageFull, message));
        }
        Ok(())
    }
}

impl FileArchivist {
    fn take_in_more(&mut self, stop: &dyn Fn() -> bool) -> io::Result<Option<Archived>> {
        let upcoming = self.upcoming()?;
        if upcoming.is_empty() {
            return Ok(None);
        }
        let Ok(stretch) = fold::fold(&self.log, self.last_snapshot()?, &upcoming, stop)? else { return Ok(None) };
        let Ok(()) = self.write(stretch, stop)? else { return Ok(None) };
        match self.merge(stop) {
            Ok(Ok(())) => {}
            Ok(Err(Stopped)) => debug!("the merging of runs is left for after the next stretch"),
            Err(error) if failure(&error).is_damage => return Err(error),
            // What is archived is archived. It is tried again after the next stretch.
            Err(error) => warn!(%error, "the tables of the archive cannot be merged for now"),
        }
        let archive = self.archive.clone().expect("it was just written");
        Ok(Some(Archived { up_to: archive.head.sequence, archive }))
    }
}

impl Archivist for FileArchivist {
    fn archive_more(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Archived>, ArchiveFailure> {
        let outcome = self.take_in_more(stop);
        if outcome.is_err() || stop() {
            // What was begun takes room that others may need. The next stretch removes it at the latest.
            let manifest = self.archive.as_ref().map(|archive| &archive.manifest);
            if let Err(error) = Manifest::clean(&self.folder, manifest) {
                debug!(%error, "what was begun of the archive cannot be removed");
            }
        }
        outcome.map_err(|error| failure(&error))
    }

    fn begin_anew(&mut self) -> Result<(), ArchiveFailure> {
        self.owed = self.owed.max(self.head().sequence);
        self.archive = None;
        Manifest::clean(&self.folder, None).map_err(|error| failure(&error))
    }
}

impl FileArchive {
    /// The archive of an empty log.
    fn empty() -> Self {
        let snapshot = FileLine { name: String::new(), sha256: file::ContentHash::default() };
        let manifest = Manifest {
            v: Manifest::version(),
            sequence: 0,
            hash: ChainHash::default(),
            segments: Vec::new(),
            runs: Vec::new(),
            snapshot,
        };
        Self { manifest, head: Head::default(), segments: Vec::new(), runs: Vec::new() }
    }
}

fn line_of(run: &Run, level: u32, sha256: file::ContentHash) -> RunLine {
    let name = run.path().file_name().and_then(|name| name.to_str()).expect("runs are named in ASCII").to_owned();
    RunLine { level, entries: run.entries(), file: FileLine { name, sha256 } }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| file::sync_names(folder.parent().unwrap_or(folder))),
    }
}

#[cfg(test)]
mod tests;
