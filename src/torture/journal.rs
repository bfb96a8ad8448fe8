//! The journal: every request that the clients sent, and what came of it, as data.
//!
//! It is kept in memory for the checker and appended to a file, so that a run that found something
//! can be looked into.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Serialize, Serializer};

use crate::domain::event::json::ContentDigest;
use crate::domain::ids::EventId;
use crate::domain::record::RecordedAt;

/// One request with an event.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    pub cycle: u64,
    pub client: usize,
    pub event_id: EventId,
    /// What was sent under that id.
    #[serde(serialize_with = "as_text")]
    pub digest: ContentDigest,
    pub expected: Expected,
    /// Taken before the first byte was sent, in nanoseconds since the run began.
    pub sent_ns: u64,
    /// Taken after the last byte of the answer, or when the client gave up.
    pub ended_ns: u64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What an answer may be, as far as the client can know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// Nobody else touches what the event is about, and the rules allow it.
    Accepted,
    /// Nobody else touches what the event is about, and this rule refuses it.
    Refused(&'static str),
    /// The event competes with those of other clients.
    AcceptedOrRefused,
    /// The event is not valid.
    Invalid,
    /// The id was acknowledged before; whether the content is the same.
    Known { same_content: bool },
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// 202.
    Accepted {
        sequence: u64,
        #[serde(serialize_with = "as_text")]
        recorded_at: RecordedAt,
    },
    /// 200.
    Duplicate {
        sequence: u64,
        #[serde(serialize_with = "as_text")]
        recorded_at: RecordedAt,
        content_matches: bool,
    },
    /// 409.
    Refused { code: Box<str> },
    /// 422.
    Invalid,
    /// 503 or 507, with a code that says that nothing was recorded.
    TurnedAway { status: u16, code: Box<str> },
    /// 503 with a code that leaves open whether it was recorded.
    LeftOpen { code: Box<str> },
    /// The whole request may have arrived, and no answer came.
    NoAnswer { reason: Box<str> },
    /// Only a part of the request was sent.
    CutOff,
    /// An answer that the contract does not know.
    Unknown { status: u16, body: Box<str> },
}

impl Outcome {
    /// The place that the answer names.
    #[must_use]
    pub const fn place(&self) -> Option<(u64, RecordedAt)> {
        match self {
            Self::Accepted { sequence, recorded_at } | Self::Duplicate { sequence, recorded_at, .. } => {
                Some((*sequence, *recorded_at))
            }
            _ => None,
        }
    }

    /// Whether the client cannot know if this request recorded the event.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::LeftOpen { .. } | Self::NoAnswer { .. } | Self::Unknown { .. })
    }

    /// Whether the client has to send the event again.
    #[must_use]
    pub const fn is_unsettled(&self) -> bool {
        matches!(self, Self::LeftOpen { .. } | Self::NoAnswer { .. } | Self::TurnedAway { .. } | Self::CutOff)
    }
}

fn as_text<T: ToString, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

/// The entries, shared by all clients.
#[derive(Debug)]
pub struct Journal {
    begin: Instant,
    entries: Mutex<Vec<Entry>>,
    file: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    file: BufWriter<File>,
    /// How many entries stand there.
    entries: usize,
}

impl Journal {
    /// Begins an empty one over whatever the file held.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = Written { file: BufWriter::new(File::create(path)?), entries: 0 };
        Ok(Self { begin: Instant::now(), entries: Mutex::default(), file: Mutex::new(file) })
    }

    /// The time of day of the journal.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).expect("no run takes centuries")
    }

    pub fn add(&self, entry: Entry) {
        self.entries().push(entry);
    }

    pub fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what was added since the last time to the file.
    pub fn write(&self) -> io::Result<()> {
        let mut written = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = self.entries();
        for entry in &entries[written.entries..] {
            serde_json::to_writer(&mut written.file, entry)?;
            written.file.write_all(b"\n")?;
        }
        written.entries = entries.len();
        written.file.flush()
    }
}
