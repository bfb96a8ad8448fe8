//! Opening, advancing, replacing, closing.

use lockstream::application::ports::Standing;
use lockstream::domain::hash::ChainHash;
use lockstream::domain::record::Head;
use lockstream::domain::reservation::ReservationState;
use lockstream::domain::rows::Rows;

use crate::ports::{Place, compartment, connected, head, locker, reservation, some_rows};
use crate::support::eventually;

on_each_database!(
    an_empty_projection_stands_before_the_first_record,
    opening_again_changes_nothing,
    an_advance_writes_rows_as_they_now_are,
    an_advance_that_was_made_already_is_as_good_and_writes_nothing,
    an_advance_from_elsewhere_writes_nothing_and_says_where,
    an_advance_that_fails_in_the_middle_leaves_nothing_and_can_be_repeated,
    a_reset_replaces_everything,
    what_was_closed_can_be_used_again,
);

async fn an_empty_projection_stands_before_the_first_record(place: Place) {
    assert_eq!(place.projection().checkpoint().await.unwrap(), Head::default());
    assert_eq!(place.contents().await, (Head::default(), Rows::default()));
    let (at, hashes) = place.projection().state_hashes().await.unwrap();
    assert!(at == Head::default() && hashes.is_empty());
}

async fn opening_again_changes_nothing(place: Place) {
    place.advance(&some_rows("L"), Head::default(), head(3)).await;
    place.projection().open().await.unwrap();
    assert_eq!(place.contents().await, (head(3), some_rows("L")));
    // The next process finds the tables as they are.
    place.projection().close().await;
    let next = connected(&place.folder);
    next.projection.open().await.unwrap();
    assert_eq!(next.projection.contents().await.unwrap(), (head(3), some_rows("L")));
}

async fn an_advance_writes_rows_as_they_now_are(place: Place) {
    place.advance(&some_rows("L"), Head::default(), head(3)).await;
    let (at, hashes) = place.projection().state_hashes().await.unwrap();
    let summary = &some_rows("L").lockers[0];
    assert_eq!((at, hashes), (head(3), [(summary.locker_id.clone(), summary.state_hash)].into()));

    let changes = Rows {
        lockers: vec![locker("L", 2)],
        compartments: vec![compartment("L", "A1", false, None), compartment("L", "A2", false, None)],
        reservations: vec![reservation("L", ReservationState::PickedUp)],
    };
    place.advance(&changes, head(3), head(5)).await;
    assert_eq!(place.contents().await, (head(5), changes.clone()));
    assert_eq!(place.projection().checkpoint().await.unwrap(), head(5));

    // What is not among the rows stays.
    place.advance(&Rows { lockers: vec![locker("M", 1)], ..Rows::default() }, head(5), head(6)).await;
    assert_eq!(place.contents().await, (head(6), Rows { lockers: vec![locker("L", 2), locker("M", 1)], ..changes }));
}

async fn an_advance_that_was_made_already_is_as_good_and_writes_nothing(place: Place) {
    place.advance(&some_rows("L"), Head::default(), head(3)).await;
    place.advance(&some_rows("M"), Head::default(), head(3)).await;
    place.advance(&some_rows("M"), head(3), head(3)).await;
    assert_eq!(place.contents().await, (head(3), some_rows("L")));
}

async fn an_advance_from_elsewhere_writes_nothing_and_says_where(place: Place) {
    let other_history = Head { chain_hash: ChainHash::new([9; 32]), ..head(3) };
    let refused = async |from| {
        let before = place.contents().await;
        let standing = place.projection().advance(&some_rows("M"), from, head(4)).await.unwrap();
        assert_eq!(standing, Standing::Elsewhere(before.0), "from {from:?}");
        assert_eq!(place.contents().await, before);
    };
    refused(head(3)).await;
    place.advance(&some_rows("L"), Head::default(), head(3)).await;
    for from in [Head::default(), head(2), head(5), other_history] {
        refused(from).await;
    }
    // Nor does it hold on to anything.
    place.advance(&some_rows("M"), head(3), head(4)).await;
}

async fn an_advance_that_fails_in_the_middle_leaves_nothing_and_can_be_repeated(place: Place) {
    place.advance(&some_rows("L"), Head::default(), head(3)).await;
    // The last of the three tables takes no second one.
    place.folder.execute("CREATE UNIQUE INDEX only_one ON reservations (status)").await;

    for _ in 0..2 {
        let error = place.projection().advance(&some_rows("M"), head(3), head(4)).await.unwrap_err();
        assert!(error.to_string().starts_with("the database could not be written: "), "{error}");
        assert!(!error.may_pass(), "{error}");
        assert_eq!(place.contents().await, (head(3), some_rows("L")));
        assert_eq!(place.locker("M").await.value, None);
    }

    place.folder.execute("DROP INDEX only_one").await;
    place.advance(&some_rows("M"), head(3), head(4)).await;
    assert_eq!(place.locker("M").await.value, some_rows("M").lockers.pop());
}

async fn a_reset_replaces_everything(place: Place) {
    // Of nothing, of something, and of something of another history.
    for (id, sequence) in [("L", 5), ("M", 9), ("N", 2)] {
        place.projection().reset(&some_rows(id), head(sequence)).await.unwrap();
        assert_eq!(place.contents().await, (head(sequence), some_rows(id)));
        let seen = place.locker(id).await;
        assert_eq!((seen.value, seen.checkpoint.sequence.get()), (some_rows(id).lockers.pop(), sequence));
    }
    assert_eq!(place.locker("L").await.value, None);
    assert_eq!(place.reservation("M").await.value, None);
    // It goes on from there.
    place.advance(&some_rows("M"), head(2), head(3)).await;
    place.projection().reset(&Rows::default(), Head::default()).await.unwrap();
    assert_eq!(place.contents().await, (Head::default(), Rows::default()));
    place.advance(&some_rows("L"), Head::default(), head(1)).await;
}

async fn what_was_closed_can_be_used_again(place: Place) {
    place.advance(&some_rows("L"), Head::default(), head(3)).await;
    assert!(place.locker("L").await.value.is_some());
    for sequence in 3..6 {
        place.projection().close().await;
        // A server hears of it a little later.
        eventually("it is closed", async || !place.folder.has_open_database().await).await;
        assert_eq!(place.locker("L").await.checkpoint.sequence.get(), sequence);
        place.projection().close().await;
        place.advance(&Rows::default(), head(sequence), head(sequence + 1)).await;
    }
    place.projection().close().await;
    place.projection().close().await;
}
