//! Networks held against the rules themselves: the domain's own world judges what they send.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::domain::event::parse::ReceivedEvent;
use crate::domain::ids::Sequence;
use crate::domain::record::{Record, RecordedAt};
use crate::domain::violation::Rule;
use crate::domain::world::{Touched, World};

const NETWORK: Network = Network { seed: 7, lockers: 9, compartments: 6, orderly: false };

fn stream(part: &mut Part, events: usize) -> Vec<(Planned, String)> {
    let mut next = || {
        let mut event = Vec::new();
        let planned = part.next_event(&mut event);
        (planned, String::from_utf8(event).unwrap())
    };
    (0..events).map(|_| next()).collect()
}

/// A world that events are brought to, as a server would.
#[derive(Default)]
struct Judge {
    world: World,
    records: u64,
}

impl Judge {
    fn verdict(&mut self, event: &str) -> Expected {
        let received = ReceivedEvent::parse(event.as_bytes()).expect("a valid envelope");
        let parsed = received.content.expect("a valid payload");
        if let Some(original) = self.world.original(parsed.id) {
            assert!(original.digest == received.digest, "an event is repeated as it was: {event}");
            return Expected::Duplicate;
        }
        let change = match self.world.decide(&parsed) {
            Err(violation) => return Expected::Refused(violation.rule),
            Ok(change) => change,
        };
        self.records += 1;
        let sequence = Sequence::new(self.records);
        let recorded_at = RecordedAt::parse("2026-01-01T00:00:00.000000Z").unwrap();
        let (json, digest) = (received.json, received.digest);
        let record = Record { sequence, batch: sequence, recorded_at, event: parsed, json, digest };
        self.world.apply(change, &record, &mut Touched::default());
        Expected::Accepted
    }
}

#[test]
fn each_event_of_an_orderly_network_is_admitted() {
    for seed in 0..8 {
        let network = Network { seed, lockers: 5, compartments: 3, orderly: true };
        let mut judge = Judge::default();
        for (planned, event) in stream(&mut network.whole(), 3_000) {
            assert_eq!(planned.expected, Expected::Accepted, "{event}");
            assert_eq!(judge.verdict(&event), Expected::Accepted, "seed {seed}, {}: {event}", planned.place);
        }
    }
}

#[test]
fn every_other_network_is_judged_as_it_says_itself() {
    for seed in 0..8 {
        let network = Network { seed, ..NETWORK };
        let mut judge = Judge::default();
        for (planned, event) in stream(&mut network.whole(), 5_000) {
            assert_eq!(judge.verdict(&event), planned.expected, "seed {seed}, {}: {event}", planned.place);
        }
        let counts = judge.world.counts();
        assert_eq!(counts.lockers, 9);
        assert!((50..=9 * 6).contains(&counts.compartments), "nearly all have grown to their size: {counts:?}");
    }
}

#[test]
fn what_a_server_has_of_a_network_already_changes_nothing_when_it_comes_again() {
    let events = stream(&mut NETWORK.whole(), 4_000);
    for cut in [1, 500, 1_733, 3_999] {
        let mut judge = Judge::default();
        for (_, event) in &events[..cut] {
            judge.verdict(event);
        }
        let mut again = BTreeMap::<_, usize>::new();
        for (planned, event) in &events {
            let verdict = judge.verdict(event);
            if planned.expected == Expected::Accepted {
                assert!(!matches!(verdict, Expected::Refused(_)), "cut at {cut}, {}: {event}", planned.place);
            }
            *again.entry(verdict == Expected::Duplicate).or_default() += 1;
        }
        assert!(again[&true] > cut / 2, "{again:?}");
    }
}

#[test]
fn every_share_of_disorder_is_there_and_small() {
    let events = stream(&mut NETWORK.whole(), 20_000);
    let per_100_000 = |count: usize| count * 100_000 / events.len();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (planned, event) in &events {
        let named = match planned.expected {
            Expected::Refused(rule) => rule.code().to_owned(),
            other => format!("{other:?}"),
        };
        *counts.entry(named).or_default() += 1;
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        *counts.entry(event["type"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let refusals = [
        Rule::ReservationNotFound,
        Rule::ReservationNotAwaitingPickup,
        Rule::FaultNotFound,
        Rule::CompartmentDegraded,
        Rule::CompartmentOccupied,
    ];
    for code in refusals.map(Rule::code) {
        assert!((5..2_000).contains(&per_100_000(counts[code])), "{code}: {counts:?}");
    }
    assert!((1_000..3_000).contains(&per_100_000(counts["Duplicate"])), "{counts:?}");
    assert!(per_100_000(counts["Accepted"]) > 93_000, "{counts:?}");
    for event_type in ["ReservationCreated", "ParcelDeposited", "ParcelPickedUp", "ReservationExpired"] {
        assert!(per_100_000(counts[event_type]) > 3_000, "{event_type}: {counts:?}");
    }
    for event_type in ["CompartmentRegistered", "FaultReported", "FaultCleared"] {
        assert!(counts[event_type] > 50, "{event_type}: {counts:?}");
    }
}

#[test]
fn some_events_are_late_and_some_clocks_are_off() {
    let mut times: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
    for (planned, event) in stream(&mut Network { lockers: 60, ..NETWORK }.whole(), 20_000) {
        let event: serde_json::Value = serde_json::from_str(&event).unwrap();
        let time = chrono::DateTime::parse_from_rfc3339(event["occurred_at"].as_str().unwrap()).unwrap();
        times.entry(planned.locker).or_default().push(time.timestamp());
    }
    let begins = |years: std::ops::Range<i64>| {
        let year = |times: &&Vec<i64>| years.contains(&(times[0] / (365 * 86_400) + 1_970));
        times.values().filter(year).count()
    };
    assert!((1..12).contains(&(60 - begins(2_026..2_027))), "clocks that are off by months or years");
    let late: usize =
        times.values().map(|times| times.windows(2).filter(|pair| pair[1] + 3_600 < pair[0]).count()).sum();
    assert!((150..800).contains(&late), "{late} of 20000 occurred long before the one that came before them");
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
    let bytes = |network: Network| stream(&mut network.whole(), 500);
    assert_eq!(bytes(NETWORK), bytes(NETWORK));
    let others =
        [Network { seed: 8, ..NETWORK }, Network { compartments: 7, ..NETWORK }, Network { orderly: true, ..NETWORK }];
    let lockers = |network: Network| -> BTreeSet<String> {
        let part = network.whole();
        part.lockers().iter().map(|locker| locker.id().to_owned()).collect()
    };
    for other in others {
        assert_ne!(bytes(other), bytes(NETWORK), "{other:?}");
        assert!(lockers(other).is_disjoint(&lockers(NETWORK)), "two networks have no locker in common: {other:?}");
    }
    let larger = Network { lockers: 12, ..NETWORK };
    assert!(lockers(larger).is_superset(&lockers(NETWORK)), "more lockers are a larger network of the same kind");
}

#[test]
fn the_parts_of_a_network_are_together_the_whole() {
    let mut together: Vec<(u64, String)> = Vec::new();
    for mut part in NETWORK.parts(4) {
        while part.next_place() < 2_000 {
            together.extend(stream(&mut part, 1).into_iter().map(|(planned, event)| (planned.place, event)));
        }
    }
    together.sort();
    let whole: Vec<_> =
        stream(&mut NETWORK.whole(), 2_000).into_iter().map(|(planned, event)| (planned.place, event)).collect();
    assert_eq!(together, whole);
    assert!(whole.iter().map(|(place, _)| *place).eq(0..2_000), "the places are whole numbers without a gap");
}

#[test]
fn the_open_reservations_are_bounded_by_the_compartments() {
    let mut part = NETWORK.whole();
    let mut judge = Judge::default();
    for (_, event) in stream(&mut part, 15_000) {
        judge.verdict(&event);
    }
    let rows = judge.world.all_rows();
    let active: u64 = rows.lockers.iter().map(|row| row.active_reservations).sum();
    assert!((10..=9 * 6).contains(&active), "{active}");
    assert!(rows.reservations.len() > 2_500, "and the network lives on");
}
