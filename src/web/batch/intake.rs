//! From the bytes of a body to chunks of events, with no more in memory than has room.

use std::borrow::Cow;

use axum::body::Bytes;

use crate::application::inflight::Room;
use crate::application::ingest::bulk::{BulkLimits, Chunk};
use crate::domain::event::flat;
use crate::domain::event::parse::ReceivedEvent;
use crate::domain::event::split::{Broken, Form, Piece, Splitter};
use crate::web::batch::lines::Slot;

/// How many lines are read before others get a turn. As a rule a piece of a body has fewer; it may have
/// thousands that are next to nothing and cost as much each.
const LINES_A_TURN: usize = 128;

/// What a line of our log has around its event, and more.
const KEPT_AROUND_BYTES: usize = 1 << 10;

/// In which forms an event may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// As `POST /events` takes it.
    Event,
    /// Also as a predecessor or a log keeps it: an import.
    AnyKept,
}

/// What waits to be handed in.
#[derive(Debug)]
pub struct Gathered {
    pub slots: Vec<(u64, Slot)>,
    events: Vec<ReceivedEvent>,
    bytes: usize,
    pub room: Room,
    /// Nothing more goes in.
    pub is_closed: bool,
}

impl Gathered {
    pub fn new(room: Room) -> Self {
        Self { slots: Vec::new(), events: Vec::new(), bytes: 0, room, is_closed: false }
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The memory that its lines take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What goes to the writer, and the lines that get their answers from it.
    pub fn into_chunk(self) -> (Vec<(u64, Slot)>, Chunk) {
        (self.slots, Chunk { events: self.events, room: self.room })
    }

    /// Takes room for one more line; closes where it does not fit. An empty one stays open: whoever
    /// fills it has to wait for the room, and there is nothing to hand in meanwhile.
    fn has_place(&mut self, read: &Read, kept_bytes: usize, limits: &BulkLimits) -> bool {
        let bytes = self.bytes + read.bytes();
        let is_full = bytes > limits.chunk_bytes && !self.is_empty();
        if is_full || self.room.grow_to(bytes + kept_bytes).is_err() {
            self.is_closed = !self.is_empty();
            return false;
        }
        self.bytes = bytes;
        true
    }

    fn add(&mut self, read: Read, limits: &BulkLimits) {
        let slot = match read.what {
            What::Event(event) => {
                let slot = Slot::Event(event.event_id);
                self.events.push(event);
                slot
            }
            What::Other(slot) => slot,
        };
        self.slots.push((read.line, slot));
        self.is_closed = self.slots.len() >= limits.chunk_events;
    }
}

/// A line that was read.
struct Read {
    line: u64,
    what: What,
}

enum What {
    Event(ReceivedEvent),
    Other(Slot),
}

impl Read {
    /// The memory that it takes.
    fn bytes(&self) -> usize {
        let more = match &self.what {
            // The text, and as much again for the typed event.
            What::Event(event) => size_of::<ReceivedEvent>() + 2 * event.waiting_bytes(),
            What::Other(Slot::Invalid(problems)) => {
                problems.iter().map(|problem| size_of_val(problem) + problem.pointer.len() + problem.detail.len()).sum()
            }
            What::Other(_) => 0,
        };
        size_of::<(u64, Slot)>() + more
    }
}

/// Reads what has arrived of a body.
pub struct Intake {
    splitter: Splitter,
    dialect: Dialect,
    max_event_bytes: usize,
    /// What has arrived and how much of it is read.
    arrived: Bytes,
    read: usize,
    /// A line that did not fit into the chunk before.
    parked: Option<Read>,
    /// Nothing more will arrive.
    ended: bool,
    finished: bool,
    broken: Option<Broken>,
}

impl Intake {
    pub fn new(form: Form, dialect: Dialect, max_event_bytes: usize) -> Self {
        let around = if dialect == Dialect::AnyKept { KEPT_AROUND_BYTES } else { 0 };
        Self {
            splitter: Splitter::new(form, max_event_bytes + around),
            dialect,
            max_event_bytes,
            arrived: Bytes::new(),
            read: 0,
            parked: None,
            ended: false,
            finished: false,
            broken: None,
        }
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Takes the next bytes. Those before have been read.
    pub fn arrive(&mut self, bytes: Bytes) {
        debug_assert!(self.read == self.arrived.len(), "nothing is lost");
        (self.arrived, self.read) = (bytes, 0);
    }

    /// The body ended in order.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether nothing more will come of it.
    pub fn is_done(&self) -> bool {
        self.parked.is_none() && (self.finished || self.broken.is_some())
    }

    /// Why it cannot be read on.
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// The memory that is taken by what is in no chunk.
    pub fn waiting_bytes(&self) -> usize {
        self.splitter.kept_bytes() + self.parked.as_ref().map_or(0, Read::bytes)
    }

    /// Moves a line that waits into a chunk that goes nowhere, for its answer.
    pub fn give_up(&mut self, gathered: &mut Gathered) {
        if let Some(Read { line, what }) = self.parked.take() {
            let slot = match what {
                What::Event(event) => Slot::Event(event.event_id),
                What::Other(slot) => slot,
            };
            gathered.slots.push((line, slot));
        }
    }

    /// Whether a line waits for a chunk that has room for it.
    pub fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// Reads on until the chunk takes nothing more or everything that arrived is read. False when the
    /// turn is over before.
    pub fn fill(&mut self, gathered: &mut Gathered, limits: &BulkLimits) -> bool {
        for _ in 0..LINES_A_TURN {
            if gathered.is_closed {
                return true;
            }
            let Some(read) = self.parked.take().or_else(|| self.next()) else { return true };
            if !gathered.has_place(&read, self.splitter.kept_bytes(), limits) {
                self.parked = Some(read);
                return true;
            }
            gathered.add(read, limits);
        }
        false
    }

    fn next(&mut self) -> Option<Read> {
        if self.finished || self.broken.is_some() {
            return None;
        }
        let mut unread = &self.arrived[self.read..];
        let cut = match self.splitter.next(&mut unread) {
            Ok(None) if self.ended => {
                self.finished = true;
                self.read = self.arrived.len();
                self.splitter.finish()
            }
            cut => {
                self.read = self.arrived.len() - unread.len();
                cut
            }
        };
        let what = match cut {
            Ok(Some(Piece::Text(text))) => Some(read_event(text, self.dialect, self.max_event_bytes)),
            Ok(Some(Piece::TooLong)) => Some(What::Other(Slot::TooLong)),
            Ok(None) => None,
            Err(broken) => {
                self.broken = Some(broken);
                None
            }
        };
        what.map(|what| Read { line: self.splitter.number(), what })
    }
}

fn read_event(text: &[u8], dialect: Dialect, max_bytes: usize) -> What {
    let event = match dialect {
        Dialect::Event => Cow::Borrowed(text),
        Dialect::AnyKept => flat::event_of(text),
    };
    if event.len() > max_bytes {
        return What::Other(Slot::TooLong);
    }
    match ReceivedEvent::parse(&event) {
        Ok(event) => What::Event(event),
        Err(problems) => What::Other(Slot::Invalid(problems)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::application::inflight::Budget;

    const LIMITS: BulkLimits = BulkLimits {
        chunk_events: 1_000,
        chunk_bytes: 1 << 20,
        inflight_bytes: 1 << 20,
        archive_lag_events: 1_000_000,
        lag_events: 1,
        wait: Duration::ZERO,
    };

    #[test]
    fn others_get_a_turn_while_many_lines_are_read() {
        let mut gathered = Gathered::new(Budget::new(1 << 20).no_room());
        let mut intake = Intake::new(Form::Lines, Dialect::Event, 1_024);
        intake.arrive(Bytes::from("1\n".repeat(2 * LINES_A_TURN + 1)));
        let mut turns = 1;
        while !intake.fill(&mut gathered, &LIMITS) {
            turns += 1;
        }
        assert_eq!((gathered.slots.len(), turns), (2 * LINES_A_TURN + 1, 3));
    }

    #[test]
    fn a_first_line_waits_for_room_and_a_later_one_for_the_next_chunk() {
        let budget = Budget::new(1_024);
        let (mut gathered, mut other) = (Gathered::new(budget.no_room()), budget.no_room());
        let mut intake = Intake::new(Form::Lines, Dialect::Event, 1_024);
        intake.arrive(Bytes::from("1\n2\n3\n"));
        assert_eq!(other.grow_to(1_024), Ok(()));
        assert!(intake.fill(&mut gathered, &LIMITS));
        assert!(intake.is_parked() && gathered.is_empty() && !gathered.is_closed, "it can be filled later");

        drop(other);
        assert_eq!(gathered.room.grow_to(intake.waiting_bytes()), Ok(()));
        let mut rest = budget.no_room();
        assert_eq!(rest.grow_to(1_024 - intake.waiting_bytes()), Ok(()));
        assert!(intake.fill(&mut gathered, &LIMITS));

        assert!(intake.is_parked() && gathered.is_closed, "it can be handed in");
        assert_eq!(gathered.slots.len(), 1);
    }
}
