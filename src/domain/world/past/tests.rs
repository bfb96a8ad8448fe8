//! Random histories in three worlds. One keeps everything. One only follows, and gives up at once what
//! closes; that is laid aside. And one forgets all the time, everything that is past or some parts of
//! it, goes on from its present alone now and then, and has handed back, when it needs it, what the
//! follower laid aside. No answer tells it from the first.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::domain::event::json::CompactJson;
use crate::domain::event::{CompartmentRegistered, FaultReported, Severity};
use crate::domain::ids::{CompartmentId, LockerId};
use crate::domain::parted::PARTS;
use crate::domain::record::{Record, RecordedAt};
use crate::domain::violation::Rule;

/// What was laid aside.
#[derive(Default)]
struct Past {
    originals: HashMap<EventId, Sequence>,
    reservations: HashMap<ReservationId, Reservation>,
    faults: HashMap<EventId, Fault>,
}

impl Past {
    fn keep(&mut self, closed: Closed<'_>) {
        let is_new = match closed {
            Closed::Reservation(id, reservation) => {
                assert!(!reservation.state.is_active(), "only what is closed is given up");
                self.reservations.insert(id.clone(), reservation.clone()).is_none()
            }
            Closed::Fault(id, fault, cleared) => {
                assert_eq!(fault.cleared, Some(cleared));
                self.faults.insert(id, fault.clone()).is_none()
            }
        };
        assert!(is_new, "nothing is given up twice: {closed:?}");
    }

    /// What an archive tells that goes up to this record.
    fn recall(&self, unknown: Unknown<'_>, up_to: Sequence) -> Option<Recalled> {
        match unknown {
            Unknown::Reservation(id) => {
                let known = self.reservations.get(id).filter(|known| known.changed <= up_to);
                known.map(|known| Recalled::Reservation(id.clone(), known.clone()))
            }
            Unknown::Fault(id) => {
                let known = self.faults.get(&id).filter(|known| known.cleared.is_some_and(|cleared| cleared <= up_to));
                known.map(|known| Recalled::Fault(id, known.clone()))
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Event {
        id: u128,
        locker: usize,
        door: usize,
        kind: usize,
        reservation: usize,
    },
    /// Forgets up to so many records before the end.
    Forget(u64),
    /// The same for so many parts from this one on; the others keep what they have.
    ForgetSome(usize, usize, u64),
    /// Goes on from the present alone, once everything is forgotten that can be.
    GoOn,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event = (1..60_u128, 0..2_usize, 0..3_usize, 0..12_usize, 0..8_usize);
    let event =
        event.prop_map(|(id, locker, door, kind, reservation)| Step::Event { id, locker, door, kind, reservation });
    let some = (0..PARTS, 1..PARTS, 0..6_u64).prop_map(|(first, parts, end)| Step::ForgetSome(first, parts, end));
    let step = prop_oneof![12 => event, 2 => (0..6_u64).prop_map(Step::Forget), 2 => some, 1 => Just(Step::GoOn)];
    prop::collection::vec(step, 1..150)
}

fn event(mut id: u128, mut locker: usize, mut door: usize, kind: usize, reservation: usize) -> Event {
    let mut fault = id.wrapping_mul(7) % 60;
    if matches!(kind, 10 | 11) && reservation > 0 {
        // Most faults are among these four, each at its door, so that one is reported, cleared and named again.
        fault = 1 + id % 4;
        (locker, door) = (0, usize::try_from(fault % 3).unwrap());
        id = if kind == 10 { fault } else { id + 4 };
    }
    let compartment_id = CompartmentId::parse(["A", "B", "C"][door]).unwrap();
    let reservation_id = ReservationId::parse(&format!("r{reservation}")).unwrap();
    let named = kind.is_multiple_of(2).then(|| compartment_id.clone());
    let fault = EventId::from(uuid::Uuid::from_u128(fault));
    let fact = match kind {
        0 => Fact::CompartmentRegistered(CompartmentRegistered { compartment_id }),
        1..=3 => Fact::ReservationCreated(ReservationCreated { reservation_id, compartment_id }),
        4 | 5 => Fact::ParcelDeposited(ParcelDeposited { reservation_id, compartment_id: named }),
        6 | 7 => Fact::ParcelPickedUp(ParcelPickedUp { reservation_id, compartment_id: named }),
        8 | 9 => Fact::ReservationExpired(ReservationExpired { reservation_id, compartment_id: named }),
        10 => Fact::FaultReported(FaultReported {
            compartment_id,
            severity: Severity::new(i64::try_from(id % 5).unwrap()),
        }),
        _ => Fact::FaultCleared(FaultCleared { compartment_id, fault_event_id: fault }),
    };
    Event {
        id: EventId::from(uuid::Uuid::from_u128(id)),
        locker_id: LockerId::parse(["L", "M"][locker]).unwrap(),
        fact,
    }
}

/// The worlds, what was laid aside, and everything that two of them have touched.
#[derive(Default)]
struct Twins {
    whole: World,
    forgetful: World,
    past: Past,
    follower: World,
    /// The last record of what may be forgotten.
    up_to: Sequence,
    records: u64,
    touched: (Touched, Touched),
    refusals: HashSet<&'static str>,
}

impl Twins {
    fn take(&mut self, event: Event) {
        let known = self.whole.original(event.id).map(|original| original.sequence);
        let recent = self.forgetful.original(event.id).map(|original| original.sequence);
        let archived = || self.past.originals.get(&event.id).copied().filter(|sequence| *sequence <= self.up_to);
        assert_eq!(known, recent.or_else(archived));
        if known.is_some() {
            return;
        }
        let recalled = self.forgetful.unknown(&event).and_then(|unknown| self.past.recall(unknown, self.up_to));
        let decided = (self.whole.decide(&event), self.forgetful.decide_with(&event, recalled.as_ref()));
        let sequence = Sequence::new(self.records + 1);
        match decided {
            (Ok(one), Ok(other)) => {
                let json = CompactJson::known(&format!("{event:?}"));
                let recorded_at = RecordedAt::parse("2026-11-21T08:00:00.000000Z").unwrap();
                let record = Record { sequence, batch: sequence, recorded_at, event, digest: json.digest(), json };
                self.follower.follow(sequence, &record.event).expect("the others take it in");
                self.follower.forget_closed_by(&record.event, |closed| self.past.keep(closed));
                self.past.originals.insert(record.event.id, sequence);
                self.whole.apply(one, &record, &mut self.touched.0);
                self.forgetful.apply(other, &record, &mut self.touched.1);
                self.records += 1;
            }
            (one, other) => {
                let one = one.expect_err("both refuse");
                self.refusals.insert(one.rule.code());
                assert_eq!(one, other.expect_err("both refuse"), "word for word");
            }
        }
    }

    fn forget(&mut self, up_to: u64) {
        self.forget_in(0..PARTS, up_to);
    }

    fn forget_in(&mut self, parts: Range<usize>, up_to: u64) {
        let up_to = Sequence::new(up_to);
        parts.for_each(|part| self.forgetful.forget_in(part % PARTS, up_to));
        self.up_to = self.up_to.max(up_to);
    }

    fn compare(&mut self) {
        assert_eq!(self.whole.present(), self.forgetful.present());
        assert_eq!(self.whole.present(), self.follower.present());
        assert_eq!(self.whole.state_hashes(), self.forgetful.state_hashes());
        assert_eq!(self.whole.counts(), self.forgetful.counts());
        let sorted = |world: &mut World, touched: &Touched| {
            let mut rows = world.rows(touched);
            rows.lockers.sort_by(|one, other| one.locker_id.cmp(&other.locker_id));
            rows.compartments.sort_by_key(|row| (row.locker_id.clone(), row.status.compartment_id.clone()));
            rows.reservations.sort_by_key(|row| row.reservation_id.clone());
            rows
        };
        assert_eq!(sorted(&mut self.whole, &self.touched.0), sorted(&mut self.forgetful, &self.touched.1));
    }
}

fn play(steps: Vec<Step>) -> Twins {
    let mut twins = Twins::default();
    for step in steps {
        match step {
            Step::Event { id, locker, door, kind, reservation } => {
                twins.take(event(id, locker, door, kind, reservation));
            }
            Step::Forget(before_the_end) => twins.forget(twins.records.saturating_sub(before_the_end)),
            Step::ForgetSome(first, parts, before_the_end) => {
                twins.forget_in(first..first + parts, twins.records.saturating_sub(before_the_end));
            }
            Step::GoOn => {
                twins.forget(twins.records);
                assert_eq!(twins.forgetful.held(), twins.follower.held(), "all that is past is forgotten");
                twins.forgetful = World::from_present(twins.forgetful.present());
                twins.follower = World::from_present(twins.follower.present());
            }
        }
        twins.compare();
    }
    twins
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_tells_a_forgetful_world_from_one_that_forgets_nothing(steps in steps()) {
        play(steps);
    }
}

#[test]
fn what_is_forgotten_takes_no_room_and_what_is_open_stays() {
    let mut twins = Twins::default();
    for door in 0..3 {
        twins.take(event(door as u128 + 1, 0, door, 0, 0));
        twins.take(event(door as u128 + 11, 0, door, 1, door));
    }
    twins.take(event(20, 0, 1, 9, 1));
    twins.take(event(21, 0, 2, 10, 0));
    assert_eq!(twins.forgetful.held(), 8 + 3 + 1);
    twins.forget(6);
    assert_eq!(twins.forgetful.held(), 2 + 3 + 1, "the reservation that closed later is still recent");
    twins.forget(8);
    assert_eq!(twins.forgetful.held(), 2 + 1, "two open reservations and one open fault");
    twins.take(event(30, 1, 0, 0, 0));
    twins.take(event(31, 1, 0, 1, 1));
    twins.take(event(32, 0, 1, 9, 1));
    assert!(twins.refusals.contains("reservation-already-exists"), "{:?}", twins.refusals);
    assert!(twins.refusals.contains("reservation-already-closed"), "{:?}", twins.refusals);
}

#[test]
fn rows_of_a_stretch_that_is_folded_already_are_those_of_its_end() {
    let mut twins = Twins::default();
    let events = [(1, 0, 0, 0, 0), (2, 0, 1, 0, 0), (3, 1, 0, 0, 0), (4, 0, 0, 1, 1), (5, 0, 0, 5, 1), (6, 0, 0, 7, 1)];
    let mut noted = Touched::default();
    for (id, locker, door, kind, reservation) in events {
        let event = event(id, locker, door, kind, reservation);
        if id > 3 {
            noted.note(&event);
        }
        twins.take(event);
    }
    twins.forget(6);
    twins.forgetful.touch_whole_lockers(&mut noted);
    let rows = twins.forgetful.rows(&noted);
    assert_eq!((rows.lockers.len(), rows.compartments.len()), (1, 2), "the other locker was not touched");
    assert_eq!(rows.reservations[0].status, ReservationState::PickedUp);
}

#[test]
fn what_is_recalled_speaks_for_its_own_id_alone() {
    let mut twins = Twins::default();
    twins.take(event(1, 0, 0, 0, 0));
    let (locker_id, compartment_id) = (LockerId::parse("L").unwrap(), CompartmentId::parse("A").unwrap());
    let at = Sequence::new(1);
    let fault =
        Fault { locker_id: locker_id.clone(), compartment_id: compartment_id.clone(), reported: at, cleared: Some(at) };
    let reservation =
        Reservation { locker_id, compartment_id, state: ReservationState::Expired, created: at, changed: at };
    let (deposit_of_r2, repair_of_3) = (event(9, 0, 0, 4, 2), event(9, 0, 0, 11, 0));
    for recalled in [
        Recalled::Reservation(ReservationId::parse("r1").unwrap(), reservation),
        Recalled::Fault(EventId::from(uuid::Uuid::from_u128(2)), fault),
    ] {
        let refused_by = |event| twins.whole.decide_with(event, Some(&recalled)).err().map(|refused| refused.rule);
        assert_eq!(refused_by(&deposit_of_r2), Some(Rule::ReservationNotFound), "{recalled:?}");
        assert_eq!(refused_by(&repair_of_3), Some(Rule::FaultNotFound), "{recalled:?}");
    }
}
