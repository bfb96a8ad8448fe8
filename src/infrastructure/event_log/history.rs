//! Reading the log: every record in order, each proven by the chain, until the end or the first
//! damage.
//!
//! Read-only, and so safe beside a running server. Damage is told apart here in the one way that
//! matters: a batch is written only after the one before it was synced, so damage with anything of
//! a later batch behind it is *lost history*, and damage with nothing later behind it is a *torn
//! tail*, a write that nobody was told about. Acting on that is left to
//! [`recovery`](crate::infrastructure::event_log::recovery).

mod ahead;

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, vec};

use crate::domain::ids::Sequence;
use crate::domain::record::{Head, PlacedEvent, Record};
use crate::infrastructure::event_log::history::ahead::{Ahead, Help, Line, Team};
use crate::infrastructure::event_log::line::{self, FromLine, Header, LineError};
use crate::infrastructure::event_log::segments::{self, Segment};
use crate::infrastructure::event_log::storage::{Disk, Readable, Storage};

const READ_BUFFER_BYTES: usize = 1 << 20;

/// Where in the log something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub segment: PathBuf,
    /// From 1.
    pub line: u64,
    /// The line's first byte in the segment, from 0.
    pub offset_bytes: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}, byte offset {}", self.segment.display(), self.line, self.offset_bytes)
    }
}

/// The first place where the log is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason} (sequence {sequence} is due here)")]
pub struct Damage {
    pub place: Place,
    /// The sequence that should stand there.
    pub sequence: Sequence,
    pub reason: String,
    pub extent: Extent,
}

/// What the damage means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Nothing behind the damage proves that it was ever synced.
    TornTail { bytes: u64 },
    /// Nothing is damaged: a whole, sealed record is not one that this version can take in.
    Foreign,
    /// Acknowledged records are damaged or missing; says what proves it.
    LostHistory { proof: String },
}

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// An iterator over the records of a log, or over what is wanted of them. Ends after its first error.
#[derive(Debug)]
pub struct History<R = Record> {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    upcoming: vec::IntoIter<Segment>,
    reader: Option<Reader<R>>,
    head: Head,
    bytes_read: u64,
    bytes_total: u64,
    ended: bool,
    /// How many are to help, and those who do.
    help: Help,
    team: Option<Arc<Team<R>>>,
}

/// A batch in a segment.
#[derive(Debug, Clone)]
pub struct Batch {
    first: Sequence,
    /// What it follows.
    pub before: Head,
    /// Where it lies.
    pub bytes: Range<u64>,
}

impl Batch {
    /// Whether these are the very records that were read, up to `head`.
    #[must_use]
    pub fn is(&self, bytes: &[u8], head: Head) -> bool {
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let end = lines.try_fold(self.before, |before, line| {
            line::decode(line.strip_suffix(b"\n")?, before).ok().map(|(_, head)| head)
        });
        end == Some(head)
    }
}

#[derive(Debug)]
struct Reader<R> {
    segment: Segment,
    input: BufReader<Box<dyn Readable>>,
    line: Vec<u8>,
    /// The lines that others have read by now, or do just now. What `input` is at does not matter
    /// meanwhile.
    ahead: Option<Ahead<R>>,
    /// The place of the next line.
    line_number: u64,
    offset_bytes: u64,
    /// The batch that was read last.
    batch: Option<Batch>,
}

impl<R> Reader<R> {
    /// Where the next line is.
    fn place(&self) -> Place {
        Place { segment: self.segment.path.clone(), line: self.line_number, offset_bytes: self.offset_bytes }
    }
}

impl History {
    /// Starts at the first record. What is appended meanwhile is read too.
    pub fn open(folder: &Path) -> Result<Self, HistoryError> {
        Self::on(Arc::new(Disk), folder)
    }

    /// The same on any disk.
    pub fn on(storage: Arc<dyn Storage>, folder: &Path) -> Result<Self, HistoryError> {
        let unreadable = |source| HistoryError::Unreadable { path: folder.to_owned(), source };
        let listed = segments::list(storage.as_ref(), folder).map_err(unreadable)?;
        let sizes = listed.iter().map(|Segment { path, .. }| {
            storage.length_bytes(path).map_err(|source| HistoryError::Unreadable { path: path.clone(), source })
        });
        let bytes_total = sizes.sum::<Result<u64, _>>()?;
        Ok(Self {
            storage,
            folder: folder.to_owned(),
            upcoming: listed.into_iter(),
            reader: None,
            head: Head::default(),
            bytes_read: 0,
            bytes_total,
            ended: false,
            help: Help::NONE,
            team: None,
        })
    }

    /// Starts after a head that is known already and ends a segment.
    pub fn open_after(folder: &Path, head: Head) -> Result<Self, HistoryError> {
        Self::on_after(Arc::new(Disk), folder, head)
    }

    /// The same on any disk.
    pub fn on_after(storage: Arc<dyn Storage>, folder: &Path, head: Head) -> Result<Self, HistoryError> {
        let mut history = Self::on(storage, folder)?;
        let later: Vec<_> = history.upcoming.filter(|segment| segment.first > head.sequence).collect();
        history.upcoming = later.into_iter();
        history.head = head;
        Ok(history)
    }

    /// Reads what the rules need and nothing else. To be said before the reading begins.
    #[must_use]
    pub fn events_only(self) -> History<PlacedEvent> {
        let Self { storage, folder, upcoming, head, bytes_read, bytes_total, ended, help, .. } = self;
        let (reader, team) = (None, None);
        History { storage, folder, upcoming, reader, head, bytes_read, bytes_total, ended, help, team }
    }
}

impl<R: FromLine> History<R> {
    /// Reads with all processors that the machine has, where the log is long enough. For whoever has
    /// nothing else to do with them.
    #[must_use]
    pub fn with_all_processors(self) -> Self {
        Self { help: Help::of_this_machine(), ..self }
    }

    /// The segments that are still to be read, as they were when the reading began.
    #[must_use]
    pub fn upcoming(&self) -> &[Segment] {
        self.upcoming.as_slice()
    }

    /// The end of what was read so far.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    #[must_use]
    pub const fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The size of the log when the reading began.
    #[must_use]
    pub const fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    /// The segment that was read last, and how many good bytes it begins with.
    #[must_use]
    pub fn last_segment(&self) -> Option<(&Path, u64)> {
        self.reader.as_ref().map(|reader| (reader.segment.path.as_path(), reader.offset_bytes))
    }

    /// The batch that was read last; `None` when nothing of the last segment was read.
    #[must_use]
    pub fn last_batch(&self) -> Option<&Batch> {
        self.reader.as_ref()?.batch.as_ref()
    }

    fn read(&mut self) -> Result<Option<(R, Head)>, HistoryError> {
        loop {
            let Some(reader) = &mut self.reader else {
                if !self.open_next()? {
                    return Ok(None);
                }
                continue;
            };
            let unreadable = |source| HistoryError::Unreadable { path: reader.segment.path.clone(), source };
            if let Some(ahead) = &mut reader.ahead {
                if let Some(Line { record, head, length_bytes }) = ahead.next(self.head) {
                    return Ok(Some(self.go_on(record, head, length_bytes)));
                }
                reader.ahead = None;
                reader.input.seek(SeekFrom::Start(reader.offset_bytes)).map_err(unreadable)?;
            }
            reader.line.clear();
            let length = reader.input.read_until(b'\n', &mut reader.line).map_err(unreadable)?;
            if length == 0 {
                if self.open_next()? {
                    continue;
                }
                return Ok(None);
            }
            let outcome = match reader.line.split_last() {
                Some((b'\n', line)) => line::decode_as(line, self.head),
                _ => Err(LineError::NotARecord),
            };
            let (record, head) = match outcome {
                Ok(read) => read,
                Err(LineError::Foreign(foreign)) => {
                    let (place, sequence) = (reader.place(), self.head.sequence.next());
                    let reason = foreign.to_string();
                    return Err(Damage { place, sequence, reason, extent: Extent::Foreign }.into());
                }
                Err(error) => {
                    self.damaged(&error)?;
                    continue;
                }
            };
            return Ok(Some(self.go_on(record, head, length)));
        }
    }

    /// Goes on behind a good line.
    fn go_on(&mut self, record: R, head: Head, length_bytes: usize) -> (R, Head) {
        let reader = self.reader.as_mut().expect("a line is read in a segment");
        let start = reader.offset_bytes;
        reader.offset_bytes += length_bytes as u64;
        match &mut reader.batch {
            Some(batch) if batch.first == record.batch() => batch.bytes.end = reader.offset_bytes,
            batch => {
                *batch = Some(Batch { first: record.batch(), before: self.head, bytes: start..reader.offset_bytes });
            }
        }
        reader.line_number += 1;
        self.bytes_read += length_bytes as u64;
        self.head = head;
        (record, head)
    }

    /// Goes on to the next segment, which has to begin where the log ends so far.
    fn open_next(&mut self) -> Result<bool, HistoryError> {
        let due = self.head.sequence.next();
        let Some(segment) = self.upcoming.next().or_else(|| self.begun_since(due)) else { return Ok(false) };
        if segment.first < due {
            let Segment { first, path } = segment;
            let message = format!(
                "its name says that it begins with sequence {first}, but the segments before it go on to sequence {}: \
                 if it is a copy, move it out of the folder",
                self.head.sequence
            );
            return Err(HistoryError::Unreadable { path, source: io::Error::new(io::ErrorKind::InvalidData, message) });
        }
        if segment.first > due {
            let place = Place { segment: segments::path(&self.folder, due), line: 1, offset_bytes: 0 };
            let proof = format!("the next segment there is {}", segment.path.display());
            let before = self
                .reader
                .as_ref()
                .map_or_else(String::new, |reader| format!(", or {} was longer once", reader.segment.path.display()));
            let reason = format!("the segment that should begin here is missing{before}");
            return Err(Damage { place, sequence: due, reason, extent: Extent::LostHistory { proof } }.into());
        }
        let unreadable = |source| HistoryError::Unreadable { path: segment.path.clone(), source };
        let file = self.storage.open(&segment.path).map_err(unreadable)?;
        let input = BufReader::with_capacity(READ_BUFFER_BYTES, file);
        let ahead = self.read_ahead(&segment.path).map_err(unreadable)?;
        let (line, batch) = (Vec::new(), None);
        self.reader = Some(Reader { segment, input, line, ahead, line_number: 1, offset_bytes: 0, batch });
        Ok(true)
    }

    /// Has others read a segment ahead, if it is long.
    fn read_ahead(&mut self, segment: &Path) -> io::Result<Option<Ahead<R>>> {
        if !self.help.is_worth(self.storage.length_bytes(segment)?) {
            return Ok(None);
        }
        let team = self.team.get_or_insert_with(|| Arc::new(Team::start(self.help)));
        Ok(Some(Ahead::start(team, self.storage.open(segment)?, self.head)))
    }

    /// The segment that a server has begun since they were listed.
    fn begun_since(&self, due: Sequence) -> Option<Segment> {
        let is_new = self.reader.as_ref().is_some_and(|reader| reader.segment.first != due);
        let path = segments::path(&self.folder, due);
        (is_new && self.storage.length_bytes(&path).is_ok()).then_some(Segment { first: due, path })
    }

    /// Finds out what the damage at the present place means. `Ok` when there is none after all: a
    /// server that writes just now has finished the line meanwhile, and it is to be read again.
    fn damaged(&mut self, error: &LineError) -> Result<(), HistoryError> {
        let reader = self.reader.as_mut().expect("damage is found in a segment that is being read");
        let path = reader.segment.path.clone();
        let place = reader.place();
        let extent = if let Some(next) = self.upcoming.next() {
            // A segment is begun only after everything before it was synced.
            Extent::LostHistory { proof: format!("a later segment exists: {}", next.path.display()) }
        } else {
            let mut tail = Vec::new();
            let read = reader
                .input
                .seek(SeekFrom::Start(reader.offset_bytes))
                .and_then(|_| reader.input.read_to_end(&mut tail));
            if let Err(source) = read {
                return Err(HistoryError::Unreadable { path, source });
            }
            // What was read before and what is there now must not be judged together: between the
            // two the unfinished line may have become whole, and later batches may follow it.
            let end = tail.iter().position(|byte| *byte == b'\n');
            let now = end.map(|end| line::decode_as::<R>(&tail[..end], self.head));
            if matches!(now, Some(Ok(_) | Err(LineError::Foreign(_)))) {
                let again = reader.input.seek(SeekFrom::Start(reader.offset_bytes));
                return again.map(|_| ()).map_err(|source| HistoryError::Unreadable { path, source });
            }
            match later_batch(&tail, self.head) {
                Some(later) => Extent::LostHistory {
                    proof: format!("sequence {} of the later batch {} stands behind it", later.sequence, later.batch),
                },
                None => Extent::TornTail { bytes: tail.len() as u64 },
            }
        };
        Err(Damage { place, sequence: self.head.sequence.next(), reason: error.to_string(), extent }.into())
    }
}

impl<R: FromLine> Iterator for History<R> {
    /// A record, and the head that it makes.
    type Item = Result<(R, Head), HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.read().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

/// Looks in what follows `head`, damaged as it is, for a record of a later batch than the one that
/// the next record belongs to.
///
/// That record belongs either to the batch of `head` or to one that begins with itself. So a batch
/// that begins after it is a later one. Only beginnings of lines count: a compact event holds no
/// line feed, so no client can put something there that looks like a record.
fn later_batch(tail: &[u8], head: Head) -> Option<Header> {
    let due = head.sequence.next();
    let is_later = |header: &Header| header.batch > due && header.sequence >= header.batch;
    let line_starts =
        std::iter::once(0).chain(tail.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1));
    if let Some(later) = line_starts.filter_map(|at| line::peek_header(&tail[at..])).find(is_later) {
        return Some(later);
    }
    // A whole record whose end of line alone is damaged hides the beginning of the next line.
    let end = line::sealed_prefix(tail, head)?;
    let hidden = [end, end + 1].into_iter().filter_map(|at| line::peek_header(tail.get(at..)?));
    hidden.into_iter().find(is_later)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::domain::event::parse::ReceivedEvent;
    use crate::domain::record::RecordedAt;

    /// Batches of one record each.
    fn log_lines(count: u64) -> Vec<u8> {
        let (mut lines, mut head) = (Vec::new(), Head::default());
        for number in 1..=count {
            let event = format!(
                r#"{{"event_id":"01890a5d-ac96-774b-bcce-b302099a{number:04x}","occurred_at":"2026-11-21T08:00:00Z","locker_id":"L","type":"CompartmentRegistered","payload":{{"compartment_id":"{number}"}}}}"#
            );
            let ReceivedEvent { json, digest, content, .. } = ReceivedEvent::parse(event.as_bytes()).unwrap();
            let recorded_at = RecordedAt::parse("2026-11-21T08:00:00.000000Z").unwrap();
            let sequence = head.sequence.next();
            let record = Record { sequence, batch: sequence, recorded_at, event: content.unwrap(), json, digest };
            head = line::encode(&record, head.chain_hash, &mut lines);
        }
        lines
    }

    #[test]
    fn a_line_that_a_server_finishes_while_it_is_read_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(segments::path(folder.path(), Sequence::new(1)), log_lines(3)).unwrap();
        let mut history = History::open(folder.path()).unwrap();
        history.next().unwrap().unwrap();
        // As if the second line had been half there a moment ago, and all three are now.
        history.damaged(&LineError::NotARecord).expect("it is whole by now");
        let sequences: Vec<_> = history.by_ref().map(|item| item.unwrap().0.sequence.get()).collect();
        assert_eq!(sequences, [2, 3], "reading goes on at that line");
        assert_eq!(history.bytes_read(), history.bytes_total());
    }

    /// Everything that can be seen of a reading, to its end.
    fn reading(folder: &Path, help: Help, team: Option<Arc<Team<Record>>>) -> String {
        let mut history = History { help, team, ..History::open(folder).unwrap() };
        let read: Vec<_> = history.by_ref().collect();
        let History { head, bytes_read, ended, .. } = history;
        format!("{read:?} {head:?} {bytes_read} {ended} {:?} {:?}", history.last_segment(), history.last_batch())
    }

    #[test]
    fn what_many_read_ahead_is_what_one_reads_whatever_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = segments::path(folder.path(), Sequence::new(1));
        let sound = log_lines(40);
        let starts: Vec<_> = std::iter::once(0).chain((1..sound.len()).filter(|at| sound[at - 1] == b'\n')).collect();
        // The pieces are so small that there are many, and lines that are longer than one.
        let helps = [(1, 100), (3, 1_000)].map(|(threads, piece_bytes)| Help { threads, piece_bytes });
        let teams = helps.map(|help| (help, Arc::new(Team::start(help))));
        let alike = |bytes: &[u8], case: &str| {
            fs::write(&path, bytes).unwrap();
            let alone = reading(folder.path(), Help::NONE, None);
            for (help, team) in &teams {
                let together = reading(folder.path(), *help, Some(Arc::clone(team)));
                assert!(alone == together, "{case}, {help:?}: {together}, not {alone}");
            }
        };
        alike(&sound, "sound");
        for at in (0..sound.len()).step_by(17) {
            let mut flipped = sound.clone();
            flipped[at] ^= 1 << (at % 8);
            alike(&flipped, &format!("byte {at} flipped"));
            alike(&sound[..at], &format!("{at} bytes left"));
        }
        for pair in starts.windows(3) {
            let [first, second, third] = [pair[0], pair[1], pair[2]];
            let [head, lines, tail] = [&sound[..first], &sound[first..third], &sound[third..]];
            let (one, other) = lines.split_at(second - first);
            alike(&[head, other, one, tail].concat(), "two lines in the wrong order");
            alike(&[head, other, tail].concat(), "a line is missing");
            alike(&[head, one, one, other, tail].concat(), "a line is there twice");
            alike(&[head, one, b"\n", other, tail].concat(), "an empty line");
        }
        // The same on a second segment, and with one behind it.
        let (first, second) = sound.split_at(starts[10]);
        let next = |sequence| segments::path(folder.path(), Sequence::new(sequence));
        fs::write(next(11), second).unwrap();
        alike(first, "two segments");
        alike(&first[..first.len() - 1], "a segment without its end");
        for at in (0..second.len()).step_by(31) {
            fs::write(next(11), &second[..at]).unwrap();
            alike(first, &format!("{at} bytes left of the second segment"));
        }
        fs::write(next(12), second).unwrap();
        alike(first, "a segment of another name");
    }
}
