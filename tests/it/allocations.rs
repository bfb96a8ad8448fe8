//! How often an event asks for memory on its way from the body to the log and back: counted, on the
//! thread that carries it. Every number is a bound with its reasons; whoever adds a text to each event
//! finds it here.
//!
//! Counted is what the code asks for, whichever allocator answers: the shipped binary has another one
//! than the tests.

mod requests;

use std::hint::black_box;

use lockstream::application::ports::{Durable, EventLog};
use lockstream::domain::event::parse::ReceivedEvent;
use lockstream::domain::event::split::{Form, Piece, Splitter};
use lockstream::domain::ids::Sequence;
use lockstream::domain::parted::PARTS;
use lockstream::domain::record::Head;
use lockstream::domain::world::{Touched, World};
use lockstream::infrastructure::event_log::history::History;
use lockstream::infrastructure::event_log::recovery::Recovered;
use serde_json::Value;

use crate::support::events::{cleared, deposited, expired, fault, picked_up, registered, reserved};
use crate::support::{Folder, logs};

const LOCKERS: usize = 20;
const DOORS: usize = 25;
/// The events of one round: each door has a reservation, a deposit and a pick-up.
const ROUND: usize = LOCKERS * DOORS * 3;

/// What may be asked for besides, however many events there are: a buffer or a map that grows. Far
/// fewer than there are events, so that one more for each event, or each third one, is found.
const BESIDES: u64 = ROUND as u64 / 10;

fn allocations<T>(work: impl FnOnce() -> T) -> u64 {
    let mut done = None;
    let counted = allocation_counter::measure(|| done = Some(black_box(work()))).count_total;
    drop(done);
    counted
}

/// One event of each type.
fn one_of_each_type(locker: &str, door: &str, reservation: &str) -> [Value; 7] {
    let reported = fault(locker, door, 4);
    let repaired = cleared(locker, door, &reported);
    [
        registered(locker, door),
        reserved(locker, door, reservation),
        deposited(locker, reservation),
        picked_up(locker, reservation),
        expired(locker, reservation),
        reported,
        repaired,
    ]
}

/// How the doors of the network come to be.
fn beginning() -> Vec<Value> {
    let doors = (0..DOORS).map(|door| format!("A{door}"));
    doors.flat_map(|door| (0..LOCKERS).map(move |locker| registered(&format!("locker-{locker}"), &door))).collect()
}

/// What a steady network does next: a parcel comes and goes through each door.
fn round(number: usize, reservation_prefix: &str) -> Vec<Value> {
    let places = (0..LOCKERS * DOORS).map(|place| (format!("locker-{}", place / DOORS), place));
    let deliveries = places.flat_map(|(locker, place)| {
        let id = format!("{reservation_prefix}{number}-{place}");
        [reserved(&locker, &format!("A{}", place % DOORS), &id), deposited(&locker, &id), picked_up(&locker, &id)]
    });
    deliveries.collect()
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| (String::from("x"), String::from("y"))), 2);
    assert_eq!(allocations(|| 7), 0);
}

#[test]
fn reading_an_event_from_a_body_takes_one() {
    // Its text.
    const SHORT: u64 = 1;
    // Whatever is spelled with white space goes the long way: its text with and without that; where the
    // check of its grammar stands, an object within an object, and where the pass stands that looks for
    // white space and repeated keys; the keys of the envelope, which are more than the four that a list
    // begins with, and of the payload; the members of both.
    const SPACED: u64 = 2 + 2 + 3 + 2;
    for event in one_of_each_type("locker-1", "A1", "parcel-1") {
        let (compact, spaced) = (event.to_string(), serde_json::to_string_pretty(&event).unwrap());
        // As many clients end what they send.
        let line = format!(" {compact}\r\n");
        let taken = [compact, line, spaced].map(|body| allocations(|| ReceivedEvent::parse(body.as_bytes()).unwrap()));
        assert!(taken[0] <= SHORT && taken[1] <= SHORT && taken[2] <= SPACED, "{taken:?} for {event}");
    }
    // And each identifier of more than 23 bytes, once.
    let [locker, door, reservation] =
        ["locker", "door", "parcel"].map(|name| format!("{name}-01890a5d-ac96-774b-bcce"));
    let longer = one_of_each_type(&locker, &door, &reservation);
    for (event, ids) in longer.iter().zip([2, 3, 2, 2, 2, 2, 2]) {
        let body = event.to_string();
        let taken = allocations(|| ReceivedEvent::parse(body.as_bytes()).unwrap());
        assert!(taken <= SHORT + ids, "{taken} for {event}");
    }
}

#[test]
fn cutting_lines_off_a_body_takes_none() {
    let lines = round(1, "r").iter().map(ToString::to_string).collect::<Vec<_>>().join("\n") + "\n";
    let taken = allocations(|| {
        let (mut splitter, mut unread) = (Splitter::new(Form::Lines, 1 << 16), lines.as_bytes());
        while let Ok(Some(Piece::Text(text))) = splitter.next(&mut unread) {
            black_box(text);
        }
        assert_eq!(splitter.number(), ROUND as u64);
    });
    assert_eq!(taken, 0);
}

/// A network that has lived for a while, of which the past is forgotten as beside an archive.
struct Network {
    world: World,
    last: Sequence,
    touched: Touched,
}

impl Network {
    fn lived_in() -> Self {
        let mut network = Self { world: World::default(), last: Sequence::ZERO, touched: Touched::default() };
        network.take_in(&beginning());
        for number in 0..3 {
            network.take_in(&round(number, "r"));
            network.take_in(&faults());
        }
        network
    }

    /// Decides each event and applies it, as the writer does; how many allocations that takes.
    fn take_in(&mut self, events: &[Value]) -> u64 {
        let records = logs::records(Head { sequence: self.last, ..Head::default() }, events);
        let taken = allocations(|| {
            for record in &records {
                let event = &record.event;
                assert!(self.world.original(event.id).is_none());
                let change = self.world.decide(event).unwrap();
                self.world.apply(change, record, &mut self.touched);
            }
        });
        self.last = records.last().unwrap().sequence;
        self.touched.clear();
        (0..PARTS).for_each(|part| self.world.forget_in(part, self.last));
        taken
    }
}

/// A fault at every door, and its repair.
fn faults() -> Vec<Value> {
    let places = (0..LOCKERS * DOORS).map(|place| (format!("locker-{}", place / DOORS), format!("A{}", place % DOORS)));
    let pairs = places.flat_map(|(locker, door)| {
        let reported = fault(&locker, &door, 4);
        let repaired = cleared(&locker, &door, &reported);
        [reported, repaired]
    });
    pairs.collect()
}

#[test]
fn deciding_and_applying_take_none_in_a_steady_network() {
    let mut network = Network::lived_in();
    let taken = network.take_in(&round(3, "r"));
    assert!(taken <= BESIDES, "{taken} for {ROUND} events");
    // A longer identifier is shared and not copied.
    network.take_in(&round(4, "reservation-01890a5d-ac96-774b-bcce-"));
    let taken = network.take_in(&round(5, "reservation-01890a5d-ac96-774b-bcce-"));
    assert!(taken <= BESIDES, "{taken} for {ROUND} events");
}

#[test]
fn a_fault_and_its_repair_take_none_at_a_door_that_had_one_before() {
    let mut network = Network::lived_in();
    let taken = network.take_in(&faults());
    assert!(taken <= BESIDES, "{taken} for {} faults and repairs", faults().len());
}

/// What its faults lie in, and a place in each of two lists.
#[test]
fn the_first_fault_at_a_door_takes_three_which_it_keeps() {
    // The world's map of faults has 64 parts, which grow for the first time too.
    const GROWTH: u64 = 64 * 4;
    let mut network = Network { world: World::default(), last: Sequence::ZERO, touched: Touched::default() };
    network.take_in(&beginning());
    let (first, second) = (network.take_in(&faults()), network.take_in(&faults()));
    let doors = (LOCKERS * DOORS) as u64;
    assert!((3 * doors..=3 * doors + GROWTH).contains(&first), "{first} for the first faults of {doors} doors");
    assert!(second <= BESIDES, "{second} for the second ones");
}

#[test]
fn writing_records_takes_none() {
    let (folder, events) = (Folder::on_sqlite(), [round(1, "r"), round(2, "r")]);
    let head = *logs::write(&folder.log(), &[beginning()]).last().unwrap();
    let Recovered { mut log, .. } = logs::recover(&folder.log(), &[]).unwrap();
    let mut append = |head, events: &[Value]| {
        let records = logs::records(head, events);
        let bytes = records.iter().map(|record| record.json.as_str().len()).sum();
        let mut head = head;
        let taken = allocations(|| {
            log.make_room(records.len(), bytes).unwrap().unwrap();
            head = Durable::append(&mut log, &records).unwrap().head();
        });
        (head, taken)
    };
    // The buffer of the lines grows with the first batch, and stays.
    let (head, _) = append(head, &events[0]);
    let (_, taken) = append(head, &events[1]);
    assert_eq!(taken, 0, "for a batch of {ROUND} records");
}

#[test]
fn folding_a_record_from_the_log_takes_one() {
    let folder = Folder::on_sqlite();
    let rounds: Vec<_> = (0..4).map(|number| round(number, "r")).collect();
    logs::write(&folder.log(), &[vec![beginning()], rounds].concat());
    let (mut world, mut touched) = (World::default(), Touched::default());
    let mut history = History::open(&folder.log()).unwrap();
    let mut fold = |records: usize| {
        allocations(|| {
            for _ in 0..records {
                let (record, _) = history.next().unwrap().unwrap();
                world.replay(&record, &mut touched).unwrap();
            }
        })
    };
    fold(LOCKERS * DOORS + 3 * ROUND);
    let taken = fold(ROUND);
    // Its text, which a record keeps.
    let text = 1;
    assert!(taken <= ROUND as u64 * text + BESIDES, "{taken} for {ROUND} records");
}
