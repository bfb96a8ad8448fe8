//! Making a backup: what the backup has already stays, what is new is copied and proven, and the
//! manifest is replaced last.
//!
//! A second backup into the same folder reads nothing that the first one has proven: it looks at
//! the length and the last hash of each segment, and goes on behind the last one that was complete.
//! It does not read the old copies again, for a backup that takes longer each day is not made each
//! day. `lockstream restore --check` reads all of it, and does so too where the log is not.

mod earlier;

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::domain::hash::ChainHash;
use crate::domain::ids::Sequence;
use crate::domain::record::Head;
use crate::infrastructure::backup::files;
use crate::infrastructure::backup::manifest::{Entry, Manifest};
use crate::infrastructure::backup::report::BackupReport;
use crate::infrastructure::backup::{BackupError, failed, log_of, read_until};
use crate::infrastructure::event_log::history::History;
use crate::infrastructure::event_log::history::damage::{Extent, HistoryError};
use crate::infrastructure::event_log::recovery::ReadBytes;
use crate::infrastructure::event_log::segments::Segment;

/// Held while a backup is made; there from the beginning on, so it also tells a backup's folder.
const LOCK_FILE: &str = "backup.lock";
/// Where copies stand until they are proven. Whatever is left there is of no use.
const INCOMING: &str = "incoming";

/// What to back up, and to where.
#[derive(Debug, Clone, Copy)]
pub struct Order<'o> {
    pub log: &'o Path,
    pub backup: &'o Path,
    pub up_to: UpTo,
    /// Whether complete segments may become hard links.
    pub hard_link: bool,
}

/// Up to where a log is backed up.
#[derive(Debug, Clone, Copy)]
pub enum UpTo {
    /// Up to what the server that writes it knows to be durable.
    Head(Head),
    /// Up to the last whole record; nobody writes it. What is known to be durable has to be there.
    End(Proven),
}

/// How far a log is known to have gone.
#[derive(Debug, Clone, Copy)]
pub struct Proven {
    pub sequence: Sequence,
    /// Who knows it: the first half of a sentence that goes on with "that it went on to".
    pub witness: &'static str,
}

impl UpTo {
    fn head(self) -> Option<Head> {
        match self {
            Self::Head(head) => Some(head),
            Self::End(_) => None,
        }
    }
}

/// Makes a backup, or brings the one that is there up to date.
pub fn take(
    order: Order<'_>,
    taken_at: DateTime<Utc>,
    on_read: impl Fn(ReadBytes),
) -> Result<BackupReport, BackupError> {
    let begin = Instant::now();
    let _lock = open(order.backup)?;
    let old = Manifest::read(order.backup)?;
    let mut taking = Taking::begin(order, old.as_ref())?;
    let incoming = order.backup.join(INCOMING);
    files::create_empty(&incoming).map_err(failed("the backup's folder cannot be written", &incoming))?;
    taking.bring_all(&incoming, on_read)?;
    taking.check_end()?;

    let log = log_of(order.backup);
    files::sync_names(&log).map_err(failed("the backup's folder cannot be synced", &log))?;
    let manifest = Manifest::new(taken_at, taking.entries);
    manifest.write(order.backup)?;
    // It is empty; the next backup begins with removing it too.
    let _ = files::remove_folder(&incoming);
    let total_bytes = manifest.bytes();
    let elapsed_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(BackupReport { taken_at, total_bytes, elapsed_ms, ..taking.report })
}

/// Takes a folder for this backup, and creates it where it is missing. A folder with anything else
/// in it is left alone: it may be the log itself, or somebody's only copy.
fn open(backup: &Path) -> Result<File, BackupError> {
    let io = |doing| failed(doing, backup);
    let path = backup.join(LOCK_FILE);
    if !path.exists() && Manifest::read(backup)?.is_none() {
        let is_empty = match fs::read_dir(backup) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => return Err(io("the backup's folder cannot be read")(error)),
        };
        if !is_empty {
            return Err(BackupError::NotEmpty(backup.to_owned()));
        }
    }
    files::create_folder(backup).map_err(io("the backup's folder cannot be created"))?;
    let lock = File::options().write(true).create(true).truncate(false).open(&path);
    let lock = lock.map_err(io("the backup's folder cannot be written"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(BackupError::UnderWay(backup.to_owned())),
        Err(TryLockError::Error(error)) => return Err(io("the backup's folder cannot be locked")(error)),
    }
    files::create_folder(&log_of(backup)).map_err(io("the backup's folder cannot be written"))?;
    Ok(lock)
}

/// A backup under way.
struct Taking<'o> {
    order: Order<'o>,
    proven: Proven,
    /// What the new manifest lists so far.
    entries: Vec<Entry>,
    /// The end of that.
    head: Head,
    report: BackupReport,
}

impl<'o> Taking<'o> {
    /// Goes on behind what an old backup has of the same log.
    fn begin(order: Order<'o>, old: Option<&Manifest>) -> Result<Self, BackupError> {
        let report = BackupReport {
            head_sequence: Sequence::ZERO,
            head_hash: ChainHash::default(),
            taken_at: DateTime::default(),
            kept_segments: 0,
            copied_segments: 0,
            linked_segments: 0,
            copied_bytes: 0,
            total_bytes: 0,
            elapsed_ms: 0,
            notes: Vec::new(),
        };
        let proven = match order.up_to {
            UpTo::Head(head) => Proven { sequence: head.sequence, witness: "the server says" },
            UpTo::End(proven) => proven,
        };
        let mut taking = Self { order, proven, entries: Vec::new(), head: Head::default(), report };
        if let Some(old) = old {
            taking.is_continued_from(old)?;
            if old.head().sequence > taking.proven.sequence {
                taking.proven = Proven { sequence: old.head().sequence, witness: "the last backup proves" };
            }
            taking.keep(old)?;
        }
        Ok(taking)
    }

    /// Brings every segment that the backup has not.
    fn bring_all(&mut self, incoming: &Path, on_read: impl Fn(ReadBytes)) -> Result<(), BackupError> {
        let log = self.order.log;
        let due = |segment: &Segment| {
            let is_wanted = self.order.up_to.head().is_none_or(|head| segment.first <= head.sequence);
            segment.first > self.head.sequence && is_wanted
        };
        let history = History::open(log).map_err(BackupError::Unreadable)?;
        let listed = history.upcoming();
        let (mut pending, mut total) = (Vec::new(), 0);
        for (at, segment) in listed.iter().enumerate().filter(|(_, segment)| due(segment)) {
            // The server that writes the last one may go on doing so.
            let bytes = length_bytes(&segment.path)?.unwrap_or_default();
            total += bytes;
            pending.push((segment, bytes, listed.get(at + 1)));
        }
        if let (UpTo::End(_), Some((last, _, None))) = (self.order.up_to, pending.last()) {
            // What a killed process wrote may be in memory only. No backup may know of a record that
            // the log loses again.
            let synced = File::open(&last.path).and_then(|file| file.sync_all());
            synced.map_err(failed("the log cannot be synced", &last.path))?;
        }
        let mut before = 0;
        for (segment, bytes, next) in pending {
            let on_record = |_, bytes| on_read(ReadBytes { done: before + bytes, total });
            self.bring(segment, bytes, next, incoming, on_record)?;
            before += bytes;
        }
        Ok(())
    }

    /// Brings one segment: links or copies it, proves what came, and gives it its place.
    fn bring(
        &mut self,
        segment: &Segment,
        length_bytes: u64,
        next: Option<&Segment>,
        incoming: &Path,
        on_record: impl FnMut(Head, u64),
    ) -> Result<(), BackupError> {
        // A segment is complete when the next one exists. When that begins behind the wanted head,
        // this one has more than is wanted.
        let wanted = self.order.up_to.head().map(|head| head.sequence);
        let is_complete = next.is_some_and(|next| wanted.is_none_or(|wanted| next.first <= wanted.next()));
        let name = segment.path.file_name().expect("a segment has a name");
        let (staged, place) = (incoming.join(name), log_of(self.order.backup).join(name));
        // Never the open one: it would go on growing, and recovery may cut it.
        let is_linked = is_complete && self.order.hard_link && self.link(&segment.path, &staged);
        if !is_linked {
            files::copy(&segment.path, &staged, length_bytes)
                .map_err(failed("the segment cannot be copied", &staged))?;
        }

        let mut history = History::open_after(incoming, self.head).map_err(BackupError::Unreadable)?;
        let read = read_until(&mut history, wanted.filter(|_| !is_complete), on_record);
        let (end, bytes) = (history.head(), history.last_segment().map_or(0, |(_, bytes)| bytes));
        if let Err(error) = read {
            let torn = self.torn_bytes(&error).filter(|_| next.is_none() && end.sequence >= self.proven.sequence);
            let Some(torn) = torn else { return Err(self.fault(error)) };
            let path = segment.path.display();
            self.report.notes.push(format!(
                "the log's last {torn} bytes are no whole record and were left out; nothing proves that they were ever \
                 acknowledged, and the next start cuts them off ({path}, byte offset {bytes})"
            ));
        }
        if bytes == 0 {
            // Begun, and nothing written yet.
            files::remove(&staged).map_err(failed("the backup's folder cannot be written", &staged))?;
            return Ok(());
        }
        let settled = if is_linked { Ok(()) } else { files::settle(&staged, bytes) };
        settled
            .and_then(|()| files::move_in(&staged, &place))
            .map_err(failed("the segment cannot be copied", &place))?;
        self.entries.push(Entry::new(self.head, end, bytes));
        self.head = end;
        let report = &mut self.report;
        if is_linked {
            report.linked_segments += 1;
        } else {
            report.copied_segments += 1;
            report.copied_bytes += bytes;
        }
        Ok(())
    }

    /// Links a segment; where that cannot be, it is to be copied.
    fn link(&mut self, segment: &Path, staged: &Path) -> bool {
        // What is linked is the file, also where its name in the log is a symbolic link.
        match fs::canonicalize(segment).and_then(|file| fs::hard_link(file, staged)) {
            Ok(()) => true,
            Err(error) => {
                let note = format!("segments cannot be linked to there ({error}) and are copied");
                if !self.report.notes.contains(&note) {
                    self.report.notes.push(note);
                }
                false
            }
        }
    }

    /// The length of a torn end, in a log that nobody writes.
    fn torn_bytes(&self, error: &HistoryError) -> Option<u64> {
        match (self.order.up_to, error) {
            (UpTo::End(_), HistoryError::Damaged(damage)) => match damage.extent {
                Extent::TornTail { bytes } => Some(bytes),
                _ => None,
            },
            _ => None,
        }
    }

    /// Finds out whether what is wrong with a copy is wrong with the log, and says where there.
    fn fault(&self, in_copy: HistoryError) -> BackupError {
        let HistoryError::Damaged(damage) = &in_copy else { return BackupError::Unreadable(in_copy) };
        let read = History::open_after(self.order.log, self.head)
            .and_then(|mut history| read_until(&mut history, Some(damage.sequence), |_, _| {}));
        let proof = format!("{} that it went on to sequence {}", self.proven.witness, self.proven.sequence);
        read.map_or_else(|error| BackupError::damaged_log(error, &proof), |()| BackupError::WrongCopy(in_copy))
    }

    /// What was brought is what was wanted.
    fn check_end(&mut self) -> Result<(), BackupError> {
        let Proven { sequence, witness } = self.proven;
        if self.head.sequence < sequence {
            return Err(BackupError::Shortened { end: self.head.sequence, proven: sequence, witness });
        }
        if self.order.up_to.head().is_some_and(|head| head != self.head) {
            return Err(BackupError::Altered { sequence: self.head.sequence, witness: "the server wrote" });
        }
        self.report.head_sequence = self.head.sequence;
        self.report.head_hash = self.head.chain_hash;
        Ok(())
    }
}

/// `None` where there is no such file.
fn length_bytes(path: &Path) -> Result<Option<u64>, BackupError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("the segment cannot be seen", path)(error)),
    }
}
