//! Reading the log: every record in order, each proven by the chain, until the end or the first
//! damage.
//!
//! Read-only, and so safe beside a running server. Damage is told apart here in the one way that
//! matters: a batch is written only after the one before it was synced, so damage with anything of
//! a later batch behind it is *lost history*, and damage with nothing later behind it is a *torn
//! tail*, a write that nobody was told about. Acting on that is left to
//! [`recovery`](crate::infrastructure::event_log::recovery).

mod ahead;
pub mod damage;

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use crate::domain::ids::Sequence;
use crate::domain::record::{Head, PlacedEvent, Record};
use crate::infrastructure::event_log::history::ahead::{Ahead, Help, Line, Team};
use crate::infrastructure::event_log::history::damage::{Damage, Extent, HistoryError, Place, later_batch};
use crate::infrastructure::event_log::line::{self, FromLine, LineError};
use crate::infrastructure::event_log::segments::{self, Segment};
use crate::infrastructure::event_log::storage::{Disk, Readable, Storage};

const READ_BUFFER_BYTES: usize = 1 << 20;

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

#[cfg(test)]
mod tests;
