//! The log that is damaged, and where everything in it lies: the oracle of this module. Knows what
//! was written (batches of stated sizes, a line a record) and nothing of how it is read back.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use lockstream::domain::record::Head;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::events::{cleared, deposited, event, fault, picked_up, registered, reserved};
use crate::support::{Folder, logs};

pub const RECORDS: usize = 1000;
const SEGMENT_BYTES: u64 = 6_000;
/// How many records the batches have, over and over.
const BATCHES: [usize; 16] = [1, 2, 3, 1, 5, 8, 1, 13, 1, 1, 21, 4, 34, 1, 50, 2];

/// A line of the log, written with its line feed from `start` up to `end` of its segment.
#[derive(Debug, Clone)]
pub struct Line {
    pub segment: usize,
    /// From 1, in its segment.
    pub number: u64,
    pub start: usize,
    pub end: usize,
    /// The first and last sequence of the batch that it was written with.
    pub batch: (usize, usize),
}

/// The whole log in memory.
pub struct Layout {
    /// Name and content of each segment.
    pub segments: Vec<(String, Vec<u8>)>,
    /// The line of sequence 1 first.
    pub lines: Vec<Line>,
    /// The head after no record, after one, …
    pub heads: Vec<Head>,
}

impl Layout {
    /// The one log of a thousand records that all cases start from.
    pub fn get() -> &'static Self {
        static LAYOUT: OnceLock<Layout> = OnceLock::new();
        LAYOUT.get_or_init(|| Self::write(RECORDS))
    }

    /// Writes a log and notes where everything went.
    pub fn write(records: usize) -> Self {
        let batches = batches(records);
        let folder = Folder::new();
        logs::write_with(&folder.log(), SEGMENT_BYTES, &batches);
        let read = folder.segments().into_iter().map(|path| (name(&path), fs::read(path).unwrap()));
        let segments: Vec<_> = read.collect();
        let mut ends = batches.iter().scan(0, |end, batch| {
            *end += batch.len();
            Some((*end + 1 - batch.len(), *end))
        });
        let (mut lines, mut batch): (Vec<Line>, _) = (Vec::new(), ends.next().unwrap());
        for (segment, (_, bytes)) in segments.iter().enumerate() {
            let starts = logs::line_starts(bytes);
            for (number, bounds) in (1..).zip(starts.windows(2)) {
                if lines.len() == batch.1 {
                    batch = ends.next().unwrap();
                }
                lines.push(Line { segment, number, start: bounds[0], end: bounds[1], batch });
            }
        }
        assert_eq!(lines.len(), records, "every record is a line");
        let hash = |line: &Line| {
            let (_, bytes) = &segments[line.segment];
            let record: Value = serde_json::from_slice(&bytes[line.start..line.end]).unwrap();
            record["hash"].as_str().unwrap().to_owned()
        };
        let heads = (0..=records).map(|sequence| head(sequence, sequence.checked_sub(1).map(|at| hash(&lines[at]))));
        let heads = heads.collect();
        Self { segments, lines, heads }
    }

    /// How many bytes of a segment.
    pub fn len(&self, segment: usize) -> usize {
        self.segments[segment].1.len()
    }

    /// The sequences in a segment.
    pub fn sequences(&self, segment: usize) -> std::ops::RangeInclusive<usize> {
        let first = self.lines.iter().position(|line| line.segment == segment).unwrap() + 1;
        let last = self.lines.iter().rposition(|line| line.segment == segment).unwrap() + 1;
        first..=last
    }

    /// The line of a sequence.
    pub fn line(&self, sequence: usize) -> &Line {
        &self.lines[sequence - 1]
    }

    /// The sequence whose line the byte of a segment belongs to, its line feed included.
    pub fn at(&self, segment: usize, byte: usize) -> usize {
        let hit = |line: &Line| line.segment == segment && (line.start..line.end).contains(&byte);
        self.lines.iter().position(hit).expect("a byte of the log") + 1
    }

    /// The name of a segment that would begin with a sequence.
    pub fn name(sequence: usize) -> String {
        format!("{sequence:020}.jsonl")
    }
}

/// A place for a log, in memory where the system has such a place: that is many times faster, and
/// what a disk does is no part of this matrix. Holds the first segments of the layout between two
/// cases, and sees that a case leaves nothing else changed.
pub struct Scratch {
    place: TempDir,
    /// How many segments are there as they were written.
    whole: Cell<usize>,
}

/// The files of a log's folder by name.
pub type Files = BTreeMap<String, Vec<u8>>;

impl Scratch {
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let place = place.unwrap();
        fs::create_dir(place.path().join("log")).unwrap();
        Self { place, whole: Cell::new(0) }
    }

    pub fn log(&self) -> PathBuf {
        self.place.path().join("log")
    }

    /// Has the first `count` segments as they were written, and no other file.
    pub fn lay(&self, layout: &Layout, count: usize) {
        for (name, bytes) in layout.segments.iter().take(count).skip(self.whole.get()) {
            fs::write(self.log().join(name), bytes).unwrap();
        }
        for (name, _) in layout.segments.iter().take(self.whole.get()).skip(count) {
            fs::remove_file(self.log().join(name)).unwrap();
        }
        self.whole.set(count);
    }

    /// Removes all, for the next [`Self::lay`] to make anew.
    pub fn clear(&self) {
        fs::remove_dir_all(self.log()).unwrap();
        fs::create_dir(self.log()).unwrap();
        self.whole.set(0);
    }

    /// Writes files beside the segments.
    pub fn put(&self, files: &Files) {
        for (name, bytes) in files {
            fs::write(self.log().join(name), bytes).unwrap();
        }
    }

    /// What is in the folder beside the first segments, which have to be there still, each as long
    /// as it was. Everything else is removed; the next [`Self::lay`] makes it anew.
    pub fn take_beside(&self, layout: &Layout, untouched: usize) -> Files {
        let mut beside = Files::new();
        let mut untouched_bytes = 0;
        let names: Vec<_> = layout.segments[..untouched].iter().map(|(name, _)| name.as_str()).collect();
        for entry in fs::read_dir(self.log()).unwrap() {
            let (path, name) = entry.map(|entry| (entry.path(), name(&entry.path()))).unwrap();
            if names.binary_search(&name.as_str()).is_ok() {
                untouched_bytes += fs::metadata(&path).unwrap().len() as usize;
            } else {
                beside.insert(name, fs::read(&path).unwrap());
                fs::remove_file(path).unwrap();
            }
        }
        self.whole.set(untouched);
        let due: usize = (0..untouched).map(|segment| layout.len(segment)).sum();
        assert_eq!(untouched_bytes, due, "the segments before are as they were");
        beside
    }

    /// The same for all that a case left alone, byte for byte.
    pub fn check(&self, layout: &Layout) {
        for (name, bytes) in &layout.segments[..self.whole.get()] {
            assert_eq!(fs::read(self.log().join(name)).unwrap(), *bytes, "{name} is as it was");
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn head(sequence: usize, hash: Option<String>) -> Head {
    use lockstream::domain::hash::ChainHash;
    use lockstream::domain::ids::Sequence;
    let Some(hash) = hash else { return Head::default() };
    Head { sequence: Sequence::new(sequence as u64), chain_hash: ChainHash::parse(&hash).unwrap() }
}

/// A history that the rules admit, in batches of all sizes from 1 to 50.
fn batches(records: usize) -> Vec<Vec<Value>> {
    let mut events = history(records).into_iter();
    let sizes = BATCHES.iter().cycle();
    sizes.map(|size| events.by_ref().take(*size).collect()).take_while(|batch: &Vec<_>| !batch.is_empty()).collect()
}

/// Parcels that come and go, faults that come and go, in lockers with plain and with odd names.
fn history(records: usize) -> Vec<Value> {
    let mut events = Vec::new();
    for number in 0.. {
        let locker = ["campus", "Straße 5 🦀", "north \"7\""][number % 3];
        let (compartment, parcel) = (format!("A{number}"), format!("R{number}"));
        let broken = fault(locker, &compartment, 3);
        let mended = cleared(locker, &compartment, &broken);
        let mut noted =
            event("ParcelPickedUp", locker, serde_json::json!({"reservation_id": parcel, "note": "\n{\"v\":1,"}));
        noted["extra"] = 1.into();
        events.extend([
            registered(locker, &compartment),
            reserved(locker, &compartment, &parcel),
            deposited(locker, &parcel),
            if number % 2 == 0 { noted } else { picked_up(locker, &parcel) },
            broken,
            mended,
        ]);
        if events.len() >= records {
            events.truncate(records);
            return events;
        }
    }
    unreachable!("the numbers do not run out")
}
