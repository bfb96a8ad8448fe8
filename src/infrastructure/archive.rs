//! The archive: the past of sealed segments in files of their own beside the log, so that neither
//! memory nor a start grows with it.
//!
//! Disposable: everything here is made from the log, and an archive that is doubted in any way is
//! thrown away and made anew. This file opens an archive and looks things up in it; [`archivist`]
//! makes it. Nothing here decides anything.

pub mod archivist;
mod entry;
mod file;
mod filter;
mod manifest;
mod merge;
mod run;
mod sealed;
pub mod snapshot;

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use crate::application::ports::{Archive, ArchiveFailure};
use crate::domain::event::{Event, Fact};
use crate::domain::fault::Fault;
use crate::domain::hash::ChainHash;
use crate::domain::ids::{EventId, ReservationId, Sequence};
use crate::domain::record::{Head, Record};
use crate::domain::reservation::{Reservation, ReservationState};
use crate::domain::world::Original;
use crate::infrastructure::archive::entry::{Entry, Key, Kind};
use crate::infrastructure::archive::file::damaged;
use crate::infrastructure::archive::filter::Probe;
use crate::infrastructure::archive::manifest::{Manifest, SegmentLine};
use crate::infrastructure::archive::run::Run;
use crate::infrastructure::archive::sealed::{FileState, Sealed};
use crate::infrastructure::archive::snapshot::Snapshot;
use crate::infrastructure::event_log::segments::{self, Segment};
use crate::infrastructure::event_log::storage::Disk;

/// An archive as one manifest names it. Its files may be removed while it is in use.
#[derive(Debug, Clone)]
pub struct FileArchive {
    manifest: Manifest,
    head: Head,
    /// As the manifest has them.
    segments: Vec<Arc<Sealed>>,
    /// As the manifest has them.
    runs: Vec<Arc<Run>>,
}

impl FileArchive {
    /// Opens the archive of a log and the present at its end; `None` when there is none. An error
    /// tells why it is not to be believed.
    pub fn open(folder: &Path, log: &Path) -> io::Result<Option<(Self, Snapshot)>> {
        let Some(manifest) = Manifest::read(folder)? else { return Ok(None) };
        let head = Head { sequence: Sequence::new(manifest.sequence), chain_hash: manifest.hash };
        check_segments(&manifest, log)?;
        let segments = manifest.segments.iter().map(|line| open_segment(line, folder, log).map(Arc::new));
        let segments = segments.collect::<io::Result<Vec<_>>>()?;
        let runs = manifest
            .runs
            .iter()
            .map(|line| Run::open(&folder.join(&line.file.name), line.entries, line.file.sha256).map(Arc::new));
        let runs = runs.collect::<io::Result<Vec<_>>>()?;
        check_runs(folder, &runs, head)?;
        let path = folder.join(&manifest.snapshot.name);
        let bytes = file::read_known(&path, manifest.snapshot.sha256)?;
        let snapshot = Snapshot::from_bytes(&bytes).ok_or_else(|| damaged(&path, "it is no snapshot"))?;
        let archive = Self { manifest, head, segments, runs };
        if snapshot.head != head || !archive.has_passed(head)? {
            return Err(damaged(folder, "its head is not one of this log"));
        }
        Ok(Some((archive, snapshot)))
    }

    /// The head that this log went on to, whatever became of it and of the archive since. `None` when
    /// nothing shows that the one was made from the other.
    #[must_use]
    pub fn proven_head(folder: &Path, log: &Path) -> Option<Head> {
        let Manifest { sequence, hash, segments, .. } = Manifest::read(folder).ok()??;
        let ends = segments.iter().skip(1).map(|next| next.before).chain([hash]);
        let is_there = |(line, end): (&SegmentLine, ChainHash)| {
            let path = segments::path(log, Sequence::new(line.first));
            sealed::stated_end(&path, line.file.bytes).is_ok_and(|stated| stated == Some(end))
        };
        segments.iter().zip(ends).any(is_there).then_some(Head { sequence: Sequence::new(sequence), chain_hash: hash })
    }

    /// Removes what there is of an archive.
    pub fn throw_away(folder: &Path) -> io::Result<()> {
        Manifest::clean(folder, None)
    }

    /// The last record that it knows.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Whether the log went through this head, which is not behind the archive's.
    pub fn has_passed(&self, head: Head) -> io::Result<bool> {
        Ok(head == Head::default() || self.record(head.sequence, None)?.1 == head)
    }

    /// The head before the segment that holds a record, to read on from there.
    #[must_use]
    pub fn head_before_segment_of(&self, sequence: Sequence) -> Option<Head> {
        let segment = self.segment_of(sequence)?;
        Some(Head { sequence: Sequence::new(segment.first.get() - 1), chain_hash: segment.before })
    }

    fn segment_of(&self, sequence: Sequence) -> Option<&Sealed> {
        let after = self.segments.partition_point(|segment| segment.first <= sequence);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (sequence <= segment.last).then_some(segment)
    }

    /// Reads a record of the log. When that fails it is not the archive's fault, and another archive of
    /// the same log would not help.
    fn record(&self, sequence: Sequence, offset_bytes: Option<u64>) -> io::Result<(Record, Head)> {
        let segment = self.segment_of(sequence);
        let unknown = || io::Error::new(ErrorKind::InvalidData, format!("sequence {sequence} is not archived"));
        let record = segment.ok_or_else(unknown)?.record(sequence, offset_bytes);
        record.map_err(|error| io::Error::other(format!("the log cannot be read: {error}; see `lockstream verify`")))
    }

    fn find(&self, key: Key) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        let Some(newest) = self.runs.last() else { return Ok(found) };
        let probe = Probe::new(&key, newest.stamp().seed);
        // The newest first: what is repeated is mostly recent.
        for run in self.runs.iter().rev().filter(|run| run.may_hold(&probe)) {
            run.find(&key, &mut found)?;
        }
        Ok(found)
    }

    fn find_original(&self, id: EventId) -> io::Result<Option<Original>> {
        let is_original = |entry: &Entry| entry.kind == Kind::Original;
        let Some(entry) = self.find(entry::key_of_event(id))?.into_iter().find(is_original) else { return Ok(None) };
        let (Record { sequence, recorded_at, digest, event, .. }, _) =
            self.record(Sequence::new(entry.first), Some(entry.second))?;
        if event.id != id {
            return Err(strange(sequence, "the event"));
        }
        Ok(Some(Original { sequence, recorded_at, digest }))
    }

    fn find_reservation(&self, wanted: &ReservationId) -> io::Result<Option<Reservation>> {
        for entry in self.find(entry::key_of_reservation(wanted))? {
            let state = match entry.kind {
                Kind::PickedUp => ReservationState::PickedUp,
                Kind::Expired => ReservationState::Expired,
                Kind::Original | Kind::Fault => continue,
            };
            let (Record { sequence: created, event, .. }, _) = self.record(Sequence::new(entry.first), None)?;
            let Event { locker_id, fact: Fact::ReservationCreated(fact), .. } = event else {
                return Err(strange(created, "the creation of a reservation"));
            };
            if fact.reservation_id == *wanted {
                let (compartment_id, changed) = (fact.compartment_id, Sequence::new(entry.second));
                return Ok(Some(Reservation { locker_id, compartment_id, state, created, changed }));
            }
        }
        Ok(None)
    }

    fn find_fault(&self, wanted: EventId) -> io::Result<Option<Fault>> {
        for entry in self.find(entry::key_of_fault(wanted))? {
            if entry.kind != Kind::Fault {
                continue;
            }
            let (Record { sequence: reported, event, .. }, _) = self.record(Sequence::new(entry.first), None)?;
            let Event { id, locker_id, fact: Fact::FaultReported(fact) } = event else {
                return Err(strange(reported, "the report of a fault"));
            };
            if id == wanted {
                let (compartment_id, cleared) = (fact.compartment_id, Some(Sequence::new(entry.second)));
                return Ok(Some(Fault { locker_id, compartment_id, reported, cleared }));
            }
        }
        Ok(None)
    }
}

impl Archive for FileArchive {
    fn original(&self, id: EventId) -> Result<Option<Original>, ArchiveFailure> {
        self.find_original(id).map_err(|error| failure(&error))
    }

    fn reservation(&self, id: &ReservationId) -> Result<Option<Reservation>, ArchiveFailure> {
        self.find_reservation(id).map_err(|error| failure(&error))
    }

    fn fault(&self, id: EventId) -> Result<Option<Fault>, ArchiveFailure> {
        self.find_fault(id).map_err(|error| failure(&error))
    }
}

fn failure(error: &io::Error) -> ArchiveFailure {
    // Whatever the system refuses may pass; what was read and makes no sense does not, nor does a place
    // that the disk itself cannot read.
    let is_damage = matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::NotFound)
        || error.raw_os_error() == Some(Errno::IO.raw_os_error());
    ArchiveFailure { reason: error.to_string(), is_damage }
}

fn strange(sequence: Sequence, what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("sequence {sequence} of the log is not {what} that was archived"))
}

/// The log has to have the very segments that were archived, as they were, and then at least one that
/// goes on from there: only a later segment proves that they are sealed.
fn check_segments(manifest: &Manifest, log: &Path) -> io::Result<()> {
    let listed = segments::list(&Disk, log)?;
    let doubt = |path: &Path, what: &str| Err(damaged(path, what));
    for (line, at) in manifest.segments.iter().zip(0..) {
        let path = segments::path(log, Sequence::new(line.first));
        if listed.get(at).is_none_or(|segment| segment.first.get() != line.first) {
            return doubt(&path, "the log has not the segments that were archived");
        }
        if FileState::of(&path)? != line.file {
            return doubt(&path, "it changed since it was archived");
        }
    }
    match listed.get(manifest.segments.len()) {
        Some(Segment { first, .. }) if first.get() == manifest.sequence + 1 => Ok(()),
        _ => doubt(log, "the segment after the archived ones is missing"),
    }
}

fn open_segment(line: &SegmentLine, folder: &Path, log: &Path) -> io::Result<Sealed> {
    let path = folder.join(&line.marks.name);
    let bytes = file::read_known(&path, line.marks.sha256)?;
    let marks = sealed::marks_from_bytes(&bytes).ok_or_else(|| damaged(&path, "it holds no marks"))?;
    let (first, last) = (Sequence::new(line.first), Sequence::new(line.last));
    Ok(Sealed { path: segments::path(log, first), first, last, file: line.file, before: line.before, marks })
}

/// The runs have to tell of every record once, in order, and to have one seed.
fn check_runs(folder: &Path, runs: &[Arc<Run>], head: Head) -> io::Result<()> {
    let mut due = 1;
    for run in runs {
        if run.stamp().seed != runs[0].stamp().seed {
            return Err(damaged(run.path(), "its seed is not that of the others"));
        }
        if run.stamp().from != due {
            return Err(damaged(run.path(), "it does not go on from the run before it"));
        }
        due = run.stamp().to + 1;
    }
    if due == head.sequence.get() + 1 { Ok(()) } else { Err(damaged(folder, "its runs do not go on to its head")) }
}
