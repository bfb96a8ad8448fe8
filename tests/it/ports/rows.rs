//! What is written is what is read, whatever the identifiers and however many rows.

use std::collections::BTreeSet;

use lockstream::domain::hash::StateHash;
use lockstream::domain::ids::LockerId;
use lockstream::domain::record::Head;
use lockstream::domain::reservation::ReservationState;
use lockstream::domain::rows::{LockerSummary, Rows};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::ports::{Place, compartment, connected, head, locker, reservation, sorted};

on_each_database!(
    strange_identifiers_are_kept_and_found_exactly,
    more_rows_than_one_statement_takes_are_written_at_once,
    the_largest_numbers_are_kept,
);

/// Texts that some database, encoding, collation or JSON reader may take for something else.
const TRAPS: [&str; 24] = [
    "a",
    "A",
    "a ",
    " a",
    "é",
    "e\u{301}",
    "ß",
    "ss",
    "İ",
    "i",
    "null",
    "true",
    "1",
    "1.0",
    "1e3",
    "[]",
    "\"",
    "\\",
    "\\u0000",
    "';--",
    "%_",
    "\u{feff}",
    "\u{ffff}",
    "\u{10ffff}",
];

const STATES: [ReservationState; 4] =
    [ReservationState::Created, ReservationState::Deposited, ReservationState::PickedUp, ReservationState::Expired];

fn ids() -> impl Strategy<Value = BTreeSet<String>> {
    let character = any::<char>().prop_filter("a control character", |character| !character.is_control());
    let random = vec(character, 1..=128).prop_map(|characters| characters.into_iter().collect());
    btree_set(prop_oneof![select(&TRAPS[..]).prop_map(str::to_owned), random], 0..24)
}

/// Rows that have nothing to do with each other: SQL holds no rule.
fn rows() -> impl Strategy<Value = Rows> {
    (ids(), ids(), ids(), any::<u8>()).prop_map(|(lockers, doors, parcels, salt)| {
        let active = |n: usize| parcels.iter().nth(n + usize::from(salt));
        let doors = doors.iter().enumerate();
        let doors_of = |locker| {
            doors.clone().map(move |(n, door)| compartment(locker, door, n % 2 == 0, active(n).map(String::as_str)))
        };
        Rows {
            lockers: lockers.iter().map(|id| locker(id, u64::from(salt))).collect(),
            compartments: lockers.iter().take(3).flat_map(|id| doors_of(id)).collect(),
            reservations: parcels
                .iter()
                .zip(STATES.iter().cycle())
                .map(|(id, state)| reservation(id, *state))
                .collect(),
        }
    })
}

async fn strange_identifiers_are_kept_and_found_exactly(place: Place) {
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let kept = TestRunner::new(config).run(&rows(), |rows| {
        block_in_place(|| Handle::current().block_on(check_kept(&place, rows)));
        Ok(())
    });
    kept.unwrap_or_else(|failure| panic!("{failure}"));
}

async fn check_kept(place: &Place, rows: Rows) {
    place.projection().reset(&rows, head(1)).await.unwrap();
    assert_eq!(place.contents().await, sorted((head(1), rows.clone())));
    for row in &rows.lockers {
        assert_eq!(place.locker(row.locker_id.as_str()).await.value.as_ref(), Some(row));
    }
    for row in &rows.compartments {
        let found = place.compartment(row.locker_id.as_str(), row.status.compartment_id.as_str()).await;
        assert_eq!(found.value.as_ref(), Some(&row.status));
    }
    let kept: BTreeSet<_> = rows.reservations.iter().map(|row| row.reservation_id.as_str()).collect();
    for row in &rows.reservations {
        assert_eq!(place.reservation(row.reservation_id.as_str()).await.value.as_ref(), Some(row));
    }
    for absent in TRAPS.iter().filter(|trap| !kept.contains(**trap)) {
        assert_eq!(place.reservation(absent).await.value, None, "{absent:?}");
    }
}

async fn more_rows_than_one_statement_takes_are_written_at_once(place: Place) {
    let rows = |count: u32, state| {
        let ids: Vec<_> = (0..count).map(|n| format!("{n:08}")).collect();
        Rows {
            lockers: ids.iter().map(|id| locker(id, u64::from(count))).collect(),
            compartments: ids.iter().map(|id| compartment(id, id, count == 10_001, Some(id))).collect(),
            reservations: ids.iter().map(|id| reservation(id, state)).collect(),
        }
    };
    let (first, second) = (rows(10_001, ReservationState::Created), rows(20_000, ReservationState::Expired));
    place.advance(&first, Head::default(), head(1)).await;
    assert!(place.contents().await == (head(1), first));
    place.advance(&second, head(1), head(2)).await;
    assert!(place.contents().await == (head(2), second.clone()));
    place.projection().close().await;
    // Nothing of it lived in the connection only.
    let next = connected(&place.folder).projection;
    assert!(sorted(next.contents().await.unwrap()) == (head(2), second));
}

async fn the_largest_numbers_are_kept(place: Place) {
    const MOST: u64 = i64::MAX.cast_unsigned();
    let largest = LockerSummary {
        locker_id: LockerId::parse("L").unwrap(),
        compartments: MOST,
        active_reservations: MOST - 1,
        degraded_compartments: MOST - 2,
        state_hash: StateHash::new([255; 32]),
    };
    let rows = Rows { lockers: vec![largest], ..Rows::default() };
    place.advance(&rows, Head::default(), head(MOST)).await;
    assert_eq!(place.contents().await, (head(MOST), rows));
    assert_eq!(place.locker("L").await.checkpoint.sequence.get(), MOST);
}
