//! One locker of a simulated network: what its seed lets happen there, for ever.
//!
//! A locker knows its own doors, so each event that it reports is possible, and it can say
//! beforehand how a service that keeps the rules answers. What a real network adds to that is here
//! too, in small shares with names: events said twice, told late, told in the wrong order, and
//! bookings of a door that is taken. A clock that is off is off for good.
//!
//! What is sent does not depend on what is answered: so a seed always gives the same bytes.

use std::collections::VecDeque;
use std::fmt;

use chrono::{DateTime, FixedOffset};
use uuid::Uuid;

use crate::domain::violation::Rule;
use crate::random::Random;
use crate::simulate::event::{Happening, new_id, write};

/// Of a hundred new events: sent again after a while, as they were.
pub const REPEATED_PERCENT: u64 = 2;
/// Of a hundred new events: told hours or days after they occurred.
pub const LATE_PERCENT: u64 = 2;
/// Of a hundred events with a successor: sent only after that, which is refused and sent again.
pub const SWAPPED_PERCENT: u64 = 2;
/// Of a hundred looks at a door that is taken: somebody books it all the same.
pub const DOUBLE_BOOKED_PERCENT: u64 = 2;
/// Of a hundred lockers: their clock is off.
pub const CLOCK_OFF_PERCENT: u64 = 5;

const FAULT_PERCENT: u64 = 2;
const REPAIR_PERCENT: u64 = 20;
/// Of a hundred bookings: no parcel ever comes.
const NEVER_DEPOSITED_PERCENT: u64 = 12;
/// Of a hundred parcels: nobody fetches them.
const NEVER_PICKED_UP_PERCENT: u64 = 8;
/// Doors that a locker has from the beginning; the others come one by one.
const FIRST_DOORS: usize = 4;
const NEW_DOOR_PERCENT: u64 = 3;
const MAX_FAULTS: usize = 2;

/// 1 January 2026, 06:00 in UTC, in milliseconds: when every simulation begins.
const BEGIN_MS: i64 = 1_767_247_200_000;
/// The time between two events of a locker that is not busy, at most.
const PAUSE_MS: u64 = 2 * 40 * 60_000;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// How a service that keeps the rules answers an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Accepted,
    Duplicate,
    Refused(Rule),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => write!(f, "accepted"),
            Self::Duplicate => write!(f, "duplicate"),
            Self::Refused(rule) => write!(f, "refused ({})", rule.code()),
        }
    }
}

/// A locker.
#[derive(Debug)]
pub struct Locker {
    id: String,
    random: Random,
    orderly: bool,
    /// How many events it has for one of a quiet locker.
    busy: u64,
    clock_ms: i64,
    clock_off_ms: i64,
    offset: FixedOffset,
    compartments: usize,
    doors: Vec<Door>,
    reservations: u64,
    /// What comes before anything else.
    next: VecDeque<(Vec<u8>, Expected)>,
    /// What is said once more, after so many other events.
    repetitions: VecDeque<(u64, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Door {
    /// The active reservation, and whether its parcel is in.
    reservation: Option<(u64, bool)>,
    /// Open faults with their severities.
    faults: Vec<(Uuid, u64)>,
}

impl Door {
    fn is_degraded(&self) -> bool {
        self.faults.iter().any(|(_, severity)| *severity >= 3)
    }
}

impl Locker {
    /// The locker of this number. An orderly one never repeats, delays or confuses anything.
    #[must_use]
    pub fn new(seed: u64, number: u32, compartments: u16, orderly: bool) -> Self {
        let (part, name) = if orderly { ("orderly locker", "orderly") } else { ("locker", "sim") };
        let random = Random::of_part(seed, part, u64::from(number) << 16 | u64::from(compartments));
        let mut locker = Self {
            // Whatever decides the events is in the name: two networks never share a locker.
            id: format!("{name}-{seed}-{compartments}-{number:04}"),
            random,
            orderly,
            busy: busyness(seed, number),
            clock_ms: BEGIN_MS,
            clock_off_ms: 0,
            offset: FixedOffset::east_opt(0).expect("no offset is an offset"),
            compartments: usize::from(compartments),
            doors: Vec::new(),
            reservations: 0,
            next: VecDeque::new(),
            repetitions: VecDeque::new(),
        };
        locker.clock_ms += locker.up_to(DAY_MS / 4);
        if locker.random.percent(50) {
            locker.offset = FixedOffset::east_opt(3_600).expect("an hour is an offset");
        }
        if !orderly && locker.random.percent(CLOCK_OFF_PERCENT) {
            locker.clock_off_ms = locker.up_to(4_000 * DAY_MS) - 2_000 * DAY_MS.cast_signed();
        }
        locker
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Appends the next event, and says how it has to be answered.
    pub fn next_event(&mut self, into: &mut Vec<u8>) -> Expected {
        if let Some((event, expected)) = self.next.pop_front() {
            into.extend_from_slice(&event);
            return expected;
        }
        if let Some((after, _)) = self.repetitions.front_mut() {
            if let Some(less) = after.checked_sub(1) {
                *after = less;
            } else if let Some((_, event)) = self.repetitions.pop_front() {
                into.extend_from_slice(&event);
                return Expected::Duplicate;
            }
        }
        self.clock_ms += self.up_to(PAUSE_MS / self.busy);
        self.happen(into)
    }

    fn happen(&mut self, into: &mut Vec<u8>) -> Expected {
        let doors = self.doors.len();
        if doors < self.compartments && (doors < FIRST_DOORS || self.random.percent(NEW_DOOR_PERCENT)) {
            self.doors.push(Door::default());
            return self.tell(into, Happening::Registered { door: doors });
        }
        let door = self.random.index(doors);
        let Door { reservation, ref faults } = self.doors[door];
        let degraded = self.doors[door].is_degraded();
        if faults.len() < MAX_FAULTS && self.random.percent(FAULT_PERCENT) {
            return self.break_down(into, door);
        }
        if let Some(&(fault, _)) = faults.first()
            && ((degraded && reservation.is_none()) || self.random.percent(REPAIR_PERCENT))
        {
            self.doors[door].faults.remove(0);
            return self.tell(into, Happening::Repaired { door, fault });
        }
        let Some((reservation, deposited)) = reservation else { return self.reserve(into, door) };
        if self.happens(DOUBLE_BOOKED_PERCENT) {
            let id = new_id(&mut self.random);
            self.write(into, id, 0, Happening::Reserved { reservation, door });
            return Expected::Refused(if degraded { Rule::CompartmentDegraded } else { Rule::CompartmentOccupied });
        }
        self.deliver(into, door, reservation, deposited)
    }

    fn reserve(&mut self, into: &mut Vec<u8>, door: usize) -> Expected {
        self.reservations += 1;
        let reservation = self.reservations;
        self.doors[door].reservation = Some((reservation, false));
        let reserved = Happening::Reserved { reservation, door };
        if !self.happens(SWAPPED_PERCENT) {
            return self.tell(into, reserved);
        }
        self.doors[door].reservation = Some((reservation, true));
        let deposited = Happening::Deposited { reservation, door: None };
        self.tell_swapped(into, [reserved, deposited], Rule::ReservationNotFound)
    }

    /// Takes a reservation one step further.
    fn deliver(&mut self, into: &mut Vec<u8>, door: usize, reservation: u64, deposited: bool) -> Expected {
        // Devices may leave the compartment out.
        let named = self.random.percent(50).then_some(door);
        let never = if deposited { NEVER_PICKED_UP_PERCENT } else { NEVER_DEPOSITED_PERCENT };
        if self.random.percent(never) {
            self.doors[door].reservation = None;
            return self.tell(into, Happening::Expired { reservation, door: named });
        }
        let picked_up = Happening::PickedUp { reservation, door: named };
        if deposited {
            self.doors[door].reservation = None;
            return self.tell(into, picked_up);
        }
        let deposited = Happening::Deposited { reservation, door: named };
        if !self.happens(SWAPPED_PERCENT) {
            self.doors[door].reservation = Some((reservation, true));
            return self.tell(into, deposited);
        }
        self.doors[door].reservation = None;
        self.tell_swapped(into, [deposited, picked_up], Rule::ReservationNotAwaitingPickup)
    }

    fn break_down(&mut self, into: &mut Vec<u8>, door: usize) -> Expected {
        let severity = self.random.between(1, 5);
        let faulty = Happening::Faulty { door, severity };
        let id = new_id(&mut self.random);
        if !self.happens(SWAPPED_PERCENT) {
            self.doors[door].faults.push((id, severity));
            return self.tell_as(into, id, faulty);
        }
        let repaired = (new_id(&mut self.random), Happening::Repaired { door, fault: id });
        self.tell_swapped_as(into, [(id, faulty), repaired], Rule::FaultNotFound)
    }

    fn tell(&mut self, into: &mut Vec<u8>, happening: Happening) -> Expected {
        let id = new_id(&mut self.random);
        self.tell_as(into, id, happening)
    }

    /// Writes an event that is possible; at times it is late, at times it will be said again.
    fn tell_as(&mut self, into: &mut Vec<u8>, id: Uuid, happening: Happening) -> Expected {
        let begin = into.len();
        let late_ms = if self.happens(LATE_PERCENT) { self.up_to(7 * DAY_MS) + HOUR_MS.cast_signed() } else { 0 };
        self.write(into, id, -late_ms, happening);
        if self.happens(REPEATED_PERCENT) {
            self.repetitions.push_back((self.random.below(4), into[begin..].to_vec()));
        }
        Expected::Accepted
    }

    fn tell_swapped(&mut self, into: &mut Vec<u8>, happenings: [Happening; 2], rule: Rule) -> Expected {
        let events = happenings.map(|happening| (new_id(&mut self.random), happening));
        self.tell_swapped_as(into, events, rule)
    }

    /// The second event overtakes the first, is refused, and comes again after it: a device with a
    /// queue of what is to be sent does that.
    fn tell_swapped_as(&mut self, into: &mut Vec<u8>, events: [(Uuid, Happening); 2], rule: Rule) -> Expected {
        let [(first_id, first), (second_id, second)] = events;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        self.write(&mut before, first_id, 0, first);
        self.write(&mut after, second_id, 1_000, second);
        into.extend_from_slice(&after);
        self.next.extend([(before, Expected::Accepted), (after, Expected::Accepted)]);
        Expected::Refused(rule)
    }

    fn write(&self, into: &mut Vec<u8>, id: Uuid, moved_ms: i64, happening: Happening) {
        let time = DateTime::from_timestamp_millis(self.clock_ms + self.clock_off_ms + moved_ms);
        // After some ten thousand years of simulated time all clocks stand still.
        let time = time.unwrap_or(DateTime::UNIX_EPOCH).with_timezone(&self.offset);
        write(into, &self.id, id, time, happening);
    }

    /// Whether something happens that never does in an orderly network.
    fn happens(&mut self, percent: u64) -> bool {
        !self.orderly && self.random.percent(percent)
    }

    fn up_to(&mut self, most_ms: u64) -> i64 {
        self.random.between(1, most_ms).cast_signed()
    }
}

/// How busy a locker is: some are at a station, some in a village.
#[must_use]
pub fn busyness(seed: u64, number: u32) -> u64 {
    Random::of_part(seed, "busy", u64::from(number)).between(1, 3)
}
