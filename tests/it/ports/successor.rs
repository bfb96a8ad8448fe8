//! A second projection beside the first, which takes its place or goes without a trace.

use lockstream::application::ports::Successor;
use lockstream::domain::record::Head;
use lockstream::domain::rows::Rows;

use crate::ports::{Place, connected, head, some_rows};

on_each_database!(
    a_successor_begins_empty_and_the_live_one_does_not_notice,
    a_successor_that_takes_over_is_what_everybody_sees,
    a_successor_that_is_discarded_leaves_no_trace_after_the_next_one,
    a_successor_that_is_abandoned_leaves_nothing_at_all,
    successors_may_follow_each_other,
);

/// Whether there is anything of a second projection.
async fn is_anything_left(place: &Place) -> bool {
    if place.folder.is_on_postgres() {
        let others = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'lockstream\\__%'";
        return place.folder.postgres().value::<i64>(others).await > 0;
    }
    let files = std::fs::read_dir(place.folder.path()).unwrap();
    files.into_iter().any(|file| file.unwrap().file_name().to_string_lossy().contains(".new"))
}

/// The live one at 3 with "L", a second one at 5 with "M".
async fn with_successor(place: &Place) -> Box<dyn Successor> {
    place.advance(&some_rows("L"), Head::default(), head(3)).await;
    let successor = place.projection().successor().await.unwrap();
    successor.projection().advance(&some_rows("M"), Head::default(), head(5)).await.unwrap();
    successor
}

async fn a_successor_begins_empty_and_the_live_one_does_not_notice(place: Place) {
    place.advance(&some_rows("L"), Head::default(), head(3)).await;
    let successor = place.projection().successor().await.unwrap();
    let second = successor.projection();
    assert_eq!(second.checkpoint().await.unwrap(), Head::default());
    assert_eq!(second.contents().await.unwrap(), (Head::default(), Rows::default()));
    second.advance(&some_rows("M"), Head::default(), head(4)).await.unwrap();
    assert_eq!(second.contents().await.unwrap(), (head(4), some_rows("M")));
    assert_eq!(second.state_hashes().await.unwrap().0, head(4));

    assert_eq!(place.contents().await, (head(3), some_rows("L")));
    assert_eq!(place.locker("M").await.value, None);
    place.advance(&Rows::default(), head(3), head(4)).await;
    assert_eq!(place.contents().await, (head(4), some_rows("L")));
    assert_eq!(place.locker("L").await.checkpoint.sequence.get(), 4);
}

async fn a_successor_that_takes_over_is_what_everybody_sees(place: Place) {
    let successor = with_successor(&place).await;
    // Connections that have seen the first, and statements that were prepared for it.
    assert!(place.locker("L").await.value.is_some() && place.reservation("L").await.value.is_some());
    assert!(place.compartment("L", "A1").await.value.is_some());
    assert_eq!(place.projection().checkpoint().await.unwrap(), head(3));

    successor.take_over().await.unwrap().await;

    assert_eq!(place.projection().checkpoint().await.unwrap(), head(5));
    assert_eq!(place.contents().await, (head(5), some_rows("M")));
    let (old, new) = (place.locker("L").await, place.locker("M").await);
    assert_eq!((old.value, old.checkpoint.sequence.get(), new.checkpoint.sequence.get()), (None, 5, 5));
    assert_eq!(new.value, some_rows("M").lockers.pop());
    assert_eq!(place.compartment("L", "A1").await.value, None);
    assert_eq!(place.reservation("M").await.value, some_rows("M").reservations.pop());
    assert!(!is_anything_left(&place).await);

    // It is written on, and another process finds it.
    place.advance(&some_rows("N"), head(5), head(6)).await;
    assert_eq!(place.locker("N").await.checkpoint.sequence.get(), 6);
    place.projection().close().await;
    let next = connected(&place.folder).projection;
    next.open().await.unwrap();
    assert_eq!(next.checkpoint().await.unwrap(), head(6));
}

async fn a_successor_that_is_discarded_leaves_no_trace_after_the_next_one(place: Place) {
    drop(with_successor(&place).await);
    assert_eq!(place.contents().await, (head(3), some_rows("L")));

    // Again and again, while connections of the ones before may still be closing.
    for _ in 0..5 {
        let discarded = place.projection().successor().await.unwrap();
        assert_eq!(discarded.projection().contents().await.unwrap(), (Head::default(), Rows::default()));
        discarded.projection().advance(&some_rows("M"), Head::default(), head(5)).await.unwrap();
    }

    let successor = place.projection().successor().await.unwrap();
    assert_eq!(successor.projection().contents().await.unwrap(), (Head::default(), Rows::default()));
    successor.projection().advance(&some_rows("N"), Head::default(), head(4)).await.unwrap();
    successor.take_over().await.unwrap().await;
    assert_eq!(place.contents().await, (head(4), some_rows("N")));
    assert!(!is_anything_left(&place).await);
}

async fn a_successor_that_is_abandoned_leaves_nothing_at_all(place: Place) {
    let successor = with_successor(&place).await;
    assert!(is_anything_left(&place).await, "this test knows where to look");
    successor.abandon().await.unwrap();
    assert!(!is_anything_left(&place).await);
    assert_eq!(place.contents().await, (head(3), some_rows("L")));
    place.advance(&some_rows("M"), head(3), head(4)).await;
}

async fn successors_may_follow_each_other(place: Place) {
    let mut from = Head::default();
    for sequence in 1..=5 {
        let successor = place.projection().successor().await.unwrap();
        successor.projection().advance(&some_rows("M"), Head::default(), head(10 * sequence)).await.unwrap();
        successor.take_over().await.unwrap().await;
        assert_eq!(place.locker("M").await.checkpoint.sequence.get(), 10 * sequence);
        from = head(10 * sequence + 1);
        place.advance(&some_rows("L"), head(10 * sequence), from).await;
    }
    assert_eq!(place.projection().checkpoint().await.unwrap(), from);
}
