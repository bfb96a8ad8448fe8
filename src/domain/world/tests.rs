//! The rules as stories: given these facts, when this one comes, then that.

use crate::domain::event::json::CompactJson;
use crate::domain::event::{
    CompartmentRegistered, Event, Fact, FaultCleared, FaultReported, ParcelDeposited, ParcelPickedUp,
    ReservationCreated, ReservationExpired, Severity,
};
use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId, Sequence};
use crate::domain::record::{Record, RecordedAt};
use crate::domain::rows::{CompartmentStatus, LockerSummary};
use crate::domain::violation::{Rule, Violation};
use crate::domain::world::{ReplayError, Touched, World};

/// A world under test. The n-th fact of a story is the event number n and, if accepted, tells so.
#[derive(Default)]
struct Story {
    world: World,
    events: u128,
    records: u64,
}

impl Story {
    fn given(facts: impl IntoIterator<Item = (&'static str, Fact)>) -> Self {
        let mut story = Self::default();
        for (locker, fact) in facts {
            story.when(locker, fact).expect("what is given is possible");
        }
        story
    }

    fn when(&mut self, locker_id: &str, fact: Fact) -> Result<Sequence, Violation> {
        self.events += 1;
        let event = Event { id: event_id(self.events), locker_id: locker(locker_id), fact };
        let change = self.world.decide(&event)?;
        let record = self.record(event);
        self.world.apply(change, &record, &mut Touched::default());
        self.records += 1;
        Ok(record.sequence)
    }

    fn record(&self, event: Event) -> Record {
        let json = CompactJson::known(&format!("{event:?}"));
        let sequence = Sequence::new(self.records + 1);
        let recorded_at = RecordedAt::parse("2026-11-21T08:00:00.000000Z").expect("a time");
        Record { sequence, batch: sequence, recorded_at, event, digest: json.digest(), json }
    }

    fn then_refused(&mut self, locker_id: &str, fact: Fact, rule: Rule, conflict: Option<u64>) -> Violation {
        let before = self.world.all_rows_sorted();
        let violation = self.when(locker_id, fact).expect_err("the rules refuse this");
        assert_eq!((violation.rule, violation.conflicting_sequence.map(Sequence::get)), (rule, conflict));
        assert_eq!(self.world.all_rows_sorted(), before, "a refusal leaves no trace");
        violation
    }

    fn locker(&mut self, id: &str) -> LockerSummary {
        let rows = self.world.all_rows();
        rows.lockers.into_iter().find(|row| row.locker_id.as_str() == id).expect("the locker is known")
    }

    fn compartment(&mut self, id: &str) -> CompartmentStatus {
        let rows = self.world.all_rows();
        let row = rows.compartments.into_iter().find(|row| row.status.compartment_id.as_str() == id);
        row.expect("the compartment is known").status
    }

    fn status(&mut self, id: &str) -> &'static str {
        let rows = self.world.all_rows();
        let row = rows.reservations.into_iter().find(|row| row.reservation_id.as_str() == id);
        row.expect("the reservation is known").status.as_str()
    }
}

impl World {
    fn all_rows_sorted(&mut self) -> String {
        let mut rows = self.all_rows();
        rows.lockers.sort_by_key(|row| row.locker_id.clone());
        rows.compartments.sort_by_key(|row| (row.locker_id.clone(), row.status.compartment_id.clone()));
        rows.reservations.sort_by_key(|row| row.reservation_id.clone());
        format!("{rows:?}")
    }
}

fn locker(id: &str) -> LockerId {
    LockerId::parse(id).expect("an id")
}

fn compartment(id: &str) -> CompartmentId {
    CompartmentId::parse(id).expect("an id")
}

fn reservation(id: &str) -> ReservationId {
    ReservationId::parse(id).expect("an id")
}

fn event_id(number: u128) -> EventId {
    uuid::Uuid::from_u128(number).into()
}

fn registered(id: &str) -> Fact {
    Fact::CompartmentRegistered(CompartmentRegistered { compartment_id: compartment(id) })
}

fn reserved(id: &str, door: &str) -> Fact {
    Fact::ReservationCreated(ReservationCreated { reservation_id: reservation(id), compartment_id: compartment(door) })
}

fn deposited(id: &str) -> Fact {
    Fact::ParcelDeposited(ParcelDeposited { reservation_id: reservation(id), compartment_id: None })
}

fn deposited_in(id: &str, door: &str) -> Fact {
    let compartment_id = Some(compartment(door));
    Fact::ParcelDeposited(ParcelDeposited { reservation_id: reservation(id), compartment_id })
}

fn picked_up(id: &str) -> Fact {
    Fact::ParcelPickedUp(ParcelPickedUp { reservation_id: reservation(id), compartment_id: None })
}

fn expired(id: &str) -> Fact {
    Fact::ReservationExpired(ReservationExpired { reservation_id: reservation(id), compartment_id: None })
}

fn fault(door: &str, severity: i64) -> Fact {
    Fact::FaultReported(FaultReported { compartment_id: compartment(door), severity: Severity::new(severity) })
}

fn cleared(door: &str, fault: u128) -> Fact {
    Fact::FaultCleared(FaultCleared { compartment_id: compartment(door), fault_event_id: event_id(fault) })
}

#[test]
fn a_parcel_goes_in_and_out_and_the_door_is_free_again() {
    let mut story = Story::given([("L", registered("A")), ("L", reserved("R", "A"))]);
    assert_eq!((story.status("R"), story.locker("L").active_reservations), ("CREATED", 1));
    assert_eq!(story.compartment("A").active_reservation, Some(reservation("R")));

    story.when("L", deposited("R")).expect("possible");
    assert_eq!((story.status("R"), story.locker("L").active_reservations), ("DEPOSITED", 1));

    story.when("L", picked_up("R")).expect("possible");
    assert_eq!((story.status("R"), story.locker("L").active_reservations), ("PICKED_UP", 0));
    assert_eq!(story.compartment("A").active_reservation, None);
    story.when("L", reserved("R2", "A")).expect("the door is free");
}

#[test]
fn a_door_is_registered_once_in_its_locker() {
    let mut story = Story::given([("L", registered("A"))]);
    story.then_refused("L", registered("A"), Rule::CompartmentAlreadyRegistered, Some(1));
    story.when("M", registered("A")).expect("another locker has doors of its own");
}

#[test]
fn booking_asks_for_the_door_its_state_and_a_new_id_in_this_order() {
    let mut story = Story::given([("L", registered("A")), ("L", registered("B")), ("L", reserved("R", "A"))]);
    story.then_refused("M", reserved("R", "A"), Rule::CompartmentNotRegistered, None);
    story.then_refused("L", reserved("R", "C"), Rule::CompartmentNotRegistered, None);
    story.then_refused("L", reserved("R", "A"), Rule::CompartmentOccupied, Some(3));
    story.then_refused("L", reserved("R", "B"), Rule::ReservationAlreadyExists, Some(3));

    story.when("L", fault("A", 3)).expect("possible");
    let refused = story.then_refused("L", reserved("R", "A"), Rule::CompartmentDegraded, Some(4));
    assert_eq!(refused.involved.fault_event_id, Some(event_id(8)), "the fault that degrades it is named");
}

#[test]
fn a_reservation_id_is_never_used_twice_in_any_locker() {
    let mut story =
        Story::given([("L", registered("A")), ("M", registered("A")), ("L", reserved("R", "A")), ("L", expired("R"))]);
    story.then_refused("M", reserved("R", "A"), Rule::ReservationAlreadyExists, Some(3));
    story.then_refused("L", reserved("R", "A"), Rule::ReservationAlreadyExists, Some(3));
}

#[test]
fn a_step_asks_for_the_reservation_its_place_and_its_state_in_this_order() {
    let setup = [("L", registered("A")), ("L", registered("B")), ("L", reserved("R", "A")), ("L", expired("R"))];
    let mut story = Story::given(setup);
    for (step, state_rule) in [
        (deposited as fn(&str) -> Fact, Rule::ReservationNotAwaitingDeposit),
        (picked_up, Rule::ReservationNotAwaitingPickup),
        (expired, Rule::ReservationAlreadyClosed),
    ] {
        story.then_refused("L", step("S"), Rule::ReservationNotFound, None);
        story.then_refused("M", step("R"), Rule::ReservationElsewhere, Some(3));
        story.then_refused("L", step("R"), state_rule, Some(4));
    }
    story.then_refused("L", deposited_in("R", "B"), Rule::ReservationElsewhere, Some(3));
    story.then_refused("L", deposited_in("R", "A"), Rule::ReservationNotAwaitingDeposit, Some(4));
}

#[test]
fn a_parcel_goes_in_once_and_comes_out_once() {
    let mut story = Story::given([("L", registered("A")), ("L", reserved("R", "A"))]);
    story.then_refused("L", picked_up("R"), Rule::ReservationNotAwaitingPickup, Some(2));
    story.when("L", deposited("R")).expect("possible");
    story.then_refused("L", deposited("R"), Rule::ReservationNotAwaitingDeposit, Some(3));
    story.when("L", picked_up("R")).expect("possible");
    story.then_refused("L", picked_up("R"), Rule::ReservationNotAwaitingPickup, Some(4));
    story.then_refused("L", expired("R"), Rule::ReservationAlreadyClosed, Some(4));
}

#[test]
fn a_reservation_expires_with_or_without_its_parcel() {
    let mut story = Story::given([("L", registered("A")), ("L", registered("B"))]);
    for facts in [vec![reserved("R", "A")], vec![reserved("S", "B"), deposited("S")]] {
        for fact in facts {
            story.when("L", fact).expect("possible");
        }
    }
    story.when("L", expired("R")).expect("possible");
    story.when("L", expired("S")).expect("possible");
    assert_eq!((story.status("R"), story.status("S")), ("EXPIRED", "EXPIRED"));
    assert_eq!(story.locker("L").active_reservations, 0);
}

#[test]
fn a_door_is_degraded_while_any_open_fault_is_severe() {
    let mut story = Story::given([("L", registered("A")), ("L", fault("A", 2))]);
    assert!(!story.compartment("A").degraded);

    story.when("L", fault("A", 3)).expect("possible");
    story.when("L", fault("A", i64::MAX)).expect("possible");
    assert_eq!((story.compartment("A").degraded, story.locker("L").degraded_compartments), (true, 1));

    story.when("L", cleared("A", 3)).expect("possible");
    assert!(story.compartment("A").degraded, "one severe fault is still open");
    story.when("L", cleared("A", 4)).expect("possible");
    assert_eq!((story.compartment("A").degraded, story.locker("L").degraded_compartments), (false, 0));
}

#[test]
fn a_reservation_survives_its_door_becoming_degraded() {
    let mut story = Story::given([("L", registered("A")), ("L", reserved("R", "A")), ("L", fault("A", 5))]);
    assert_eq!(story.compartment("A").active_reservation, Some(reservation("R")));
    story.when("L", deposited("R")).expect("possible");
    story.when("L", picked_up("R")).expect("possible");
}

#[test]
fn a_fault_is_cleared_once_where_it_was_reported() {
    let mut story = Story::given([("L", registered("A")), ("L", registered("B")), ("L", fault("A", 1))]);
    story.then_refused("L", fault("C", 1), Rule::CompartmentNotRegistered, None);
    story.then_refused("L", cleared("C", 3), Rule::CompartmentNotRegistered, None);
    story.then_refused("L", cleared("A", 1), Rule::FaultNotFound, None);
    story.then_refused("L", cleared("B", 3), Rule::FaultElsewhere, Some(3));
    story.when("L", cleared("A", 3)).expect("possible");
    story.then_refused("L", cleared("A", 3), Rule::FaultAlreadyCleared, Some(4));
}

#[test]
fn the_hash_tells_states_apart_and_histories_too() {
    let hash = |facts: Vec<Fact>| Story::given(facts.into_iter().map(|fact| ("L", fact))).locker("L").state_hash;
    let door = || vec![registered("A")];
    let then = |more: Vec<Fact>| hash(door().into_iter().chain(more).collect());
    let hashes = [
        then(vec![]),
        then(vec![registered("B")]),
        then(vec![reserved("R", "A")]),
        then(vec![reserved("S", "A")]),
        then(vec![reserved("R", "A"), deposited("R")]),
        then(vec![reserved("R", "A"), deposited("R"), picked_up("R")]),
        then(vec![reserved("R", "A"), expired("R")]),
        then(vec![reserved("S", "A"), expired("S")]),
        then(vec![fault("A", 1)]),
        then(vec![fault("A", 2)]),
        then(vec![fault("A", 3)]),
        then(vec![fault("A", 3), cleared("A", 2)]),
    ];
    for (at, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..at].contains(hash), "state {at} has a hash of its own");
    }
    let other_locker = Story::given([("M", registered("A"))]).locker("M").state_hash;
    assert_ne!(other_locker, hashes[0]);
}

#[test]
fn the_order_of_registration_leaves_no_mark_in_the_hash() {
    let hash =
        |doors: [&'static str; 2]| Story::given(doors.map(|door| ("L", registered(door)))).locker("L").state_hash;
    assert_eq!(hash(["A", "B"]), hash(["B", "A"]));
}

#[test]
fn a_log_that_repeats_an_event_or_breaks_a_rule_is_no_history() {
    let mut story = Story::given([("L", registered("A"))]);
    let replay = |story: &mut Story, id, fact| {
        let record = story.record(Event { id: event_id(id), locker_id: locker("L"), fact });
        story.world.replay(&record, &mut Touched::default())
    };
    let repeated = replay(&mut story, 1, registered("B"));
    assert!(matches!(repeated, Err(ReplayError::RepeatedEventId(_, first)) if first == Sequence::new(1)));
    let refused = replay(&mut story, 9, registered("A")).expect_err("no history");
    assert!(refused.to_string().contains("compartment-already-registered"), "{refused}");
    replay(&mut story, 10, registered("B")).expect("a history");
}

#[test]
fn rows_come_for_what_was_touched_and_nothing_else() {
    let mut story = Story::given([("L", registered("A")), ("L", registered("B")), ("M", registered("A"))]);
    let event = Event { id: event_id(9), locker_id: locker("L"), fact: reserved("R", "B") };
    let change = story.world.decide(&event).expect("possible");
    let mut touched = Touched::default();
    let record = story.record(event);
    story.world.apply(change, &record, &mut touched);
    let rows = story.world.rows(&touched);
    assert_eq!((rows.lockers.len(), rows.compartments.len(), rows.reservations.len()), (1, 1, 1));
    assert_eq!(rows.compartments[0].status.compartment_id, compartment("B"));
    assert_eq!(story.world.rows(&Touched::default()), crate::domain::rows::Rows::default());
}
