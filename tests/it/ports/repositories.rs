//! Point queries: what they find, and the moment that they saw.

use futures_util::future::join_all;
use lockstream::domain::record::Head;
use lockstream::domain::reservation::ReservationState;
use lockstream::domain::rows::Rows;

use crate::ports::{Place, compartment, head, locker, reservation, some_rows};

on_each_database!(
    a_query_tells_the_moment_that_it_saw_also_when_it_finds_nothing,
    each_of_many_queries_gets_its_own_answer,
    a_compartment_belongs_to_its_locker,
    queries_do_without_tables_in_words_and_heal,
);

async fn a_query_tells_the_moment_that_it_saw_also_when_it_finds_nothing(place: Place) {
    let moments = async || {
        [
            place.locker("X").await.checkpoint.sequence.get(),
            place.compartment("L", "X").await.checkpoint.sequence.get(),
            place.compartment("X", "A1").await.checkpoint.sequence.get(),
            place.reservation("X").await.checkpoint.sequence.get(),
        ]
    };
    assert_eq!(moments().await, [0; 4]);
    place.advance(&Rows::default(), Head::default(), head(1)).await;
    assert_eq!(moments().await, [1; 4]);
    place.advance(&some_rows("L"), head(1), head(7)).await;
    assert_eq!(moments().await, [7; 4]);

    let (locker, compartment) = (place.locker("L").await, place.compartment("L", "A1").await);
    let reservation = place.reservation("L").await;
    assert_eq!([locker.checkpoint, compartment.checkpoint, reservation.checkpoint], [head(7); 3]);
    let found = (locker.value.unwrap(), compartment.value.unwrap(), reservation.value.unwrap());
    let Rows { mut lockers, mut compartments, mut reservations } = some_rows("L");
    assert_eq!(found, (lockers.remove(0), compartments.remove(0).status, reservations.remove(0)));
}

async fn each_of_many_queries_gets_its_own_answer(place: Place) {
    let all = 0..1_000_u64;
    let rows = Rows { lockers: all.clone().map(|n| locker(&format!("L{n}"), n)).collect(), ..Rows::default() };
    place.advance(&rows, Head::default(), head(1)).await;
    // More than fit one statement; every second one finds nothing, and some ask for the same.
    let ask = async |n: u64| {
        let (known, asked) = (n.is_multiple_of(2), n / 4);
        let id = if known { format!("L{asked}") } else { format!("no{asked}") };
        let found = place.locker(&id).await.value.map(|summary| summary.compartments);
        assert_eq!(found, known.then_some(asked), "{id}");
    };
    join_all(all.map(ask)).await;
}

async fn a_compartment_belongs_to_its_locker(place: Place) {
    let rows = Rows {
        compartments: vec![compartment("L", "A1", true, None), compartment("M", "A1", false, Some("R"))],
        reservations: vec![reservation("R", ReservationState::Created)],
        ..Rows::default()
    };
    place.advance(&rows, Head::default(), head(1)).await;
    let degraded = async |locker| place.compartment(locker, "A1").await.value.map(|status| status.degraded);
    let found = tokio::join!(degraded("L"), degraded("M"), degraded("A1"), degraded("N"));
    assert_eq!(found, (Some(true), Some(false), None, None));
    let held = place.compartment("M", "A1").await.value.unwrap().active_reservation;
    assert_eq!(held.unwrap().as_str(), "R");
}

async fn queries_do_without_tables_in_words_and_heal(place: Place) {
    place.advance(&some_rows("L"), Head::default(), head(1)).await;
    assert!(place.locker("L").await.value.is_some());
    place.folder.execute("ALTER TABLE lockers RENAME TO elsewhere").await;
    let id = &some_rows("L").lockers[0].locker_id;
    let error = place.database.lockers.summary(id).await.unwrap_err().to_string();
    assert!(error.starts_with("the database could not be read: ") && error.contains("lockers"), "{error}");
    assert!(place.reservation("L").await.value.is_some(), "the others are answered");
    place.folder.execute("ALTER TABLE elsewhere RENAME TO lockers").await;
    assert!(place.locker("L").await.value.is_some());
}
