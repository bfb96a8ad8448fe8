//! Values that somebody else put into the database: told in words that name the column, never
//! taken for an answer.

use futures_util::future::join_all;
use lockstream::application::ports::{Seen, StoreError};
use lockstream::domain::record::Head;

use crate::ports::{Place, head, some_rows};

on_each_database!(
    a_foreign_value_of_a_locker_is_told,
    a_foreign_value_of_a_compartment_is_told,
    a_foreign_value_of_a_reservation_is_told,
    a_foreign_identifier_is_told,
    a_foreign_checkpoint_is_told_and_nothing_is_built_upon_it,
    a_foreign_value_is_no_trouble_for_others,
    rows_without_a_checkpoint_are_no_answers,
);

#[track_caller]
fn assert_told<T: std::fmt::Debug>(result: Result<T, StoreError>, column: &str, value: &str) {
    let error = result.expect_err("a foreign value is no answer").to_string();
    let words = format!("column {column} holds {value:?}, which lockstream never writes");
    assert!(error.starts_with("the database could not be ") && error.contains(&words), "{error}");
}

async fn summary(place: &Place, id: &str) -> Result<Seen<impl std::fmt::Debug + use<>>, StoreError> {
    place.database.lockers.summary(&lockstream::domain::ids::LockerId::parse(id).unwrap()).await
}

async fn filled(place: &Place) {
    place.advance(&some_rows("L"), Head::default(), head(3)).await;
}

async fn a_foreign_value_of_a_locker_is_told(place: Place) {
    filled(&place).await;
    let long = "0".repeat(65);
    for (column, value) in [
        ("compartments", "-1"),
        ("active_reservations", "-9223372036854775808"),
        ("degraded_compartments", "-2"),
        ("state_hash", ""),
        ("state_hash", &long),
        ("state_hash", "0101010101010101010101010101010101010101010101010101010101010G01"),
    ] {
        place.folder.execute(&format!("UPDATE lockers SET {column} = '{value}'")).await;
        assert_told(summary(&place, "L").await, column, value);
        assert_told(place.projection().contents().await, column, value);
        if column == "state_hash" {
            assert_told(place.projection().state_hashes().await, column, value);
        }
        // Writing takes no notice, and puts it right.
        place.projection().reset(&some_rows("L"), head(3)).await.unwrap();
        assert_eq!(place.contents().await, (head(3), some_rows("L")));
        assert_eq!(place.locker("L").await.value, some_rows("L").lockers.pop());
    }
}

async fn a_foreign_value_of_a_compartment_is_told(place: Place) {
    filled(&place).await;
    let long = "R".repeat(129);
    let mut foreign = vec![("active_reservation", ""), ("active_reservation", &long)];
    if !place.folder.is_on_postgres() {
        // SQLite has no type for what is true or false.
        foreign.extend([("degraded", "2"), ("degraded", "-1")]);
    }
    for (column, value) in foreign {
        filled_anew(&place).await;
        place.folder.execute(&format!("UPDATE compartments SET {column} = '{value}'")).await;
        let row = &some_rows("L").compartments[0];
        let found = place.database.lockers.compartment(&row.locker_id, &row.status.compartment_id).await;
        assert_told(found, column, value);
        assert_told(place.projection().contents().await, column, value);
    }
}

async fn a_foreign_value_of_a_reservation_is_told(place: Place) {
    for value in ["", "LOST", "created", "CREATED ", "PICKED_UP\n"] {
        filled_anew(&place).await;
        place.folder.execute(&format!("UPDATE reservations SET status = '{value}'")).await;
        let id = &some_rows("L").reservations[0].reservation_id;
        assert_told(place.database.reservations.status(id).await, "status", value);
        assert_told(place.projection().contents().await, "status", value);
    }
}

async fn a_foreign_identifier_is_told(place: Place) {
    for (table, column) in [
        ("lockers", "locker_id"),
        ("compartments", "locker_id"),
        ("compartments", "compartment_id"),
        ("reservations", "reservation_id"),
    ] {
        for value in ["", "A\n1"] {
            filled_anew(&place).await;
            place.folder.execute(&format!("UPDATE {table} SET {column} = '{value}'")).await;
            assert_told(place.projection().contents().await, column, value);
        }
    }
}

async fn a_foreign_checkpoint_is_told_and_nothing_is_built_upon_it(place: Place) {
    for (column, value) in [("sequence", "-1"), ("sequence", "-2"), ("chain_hash", ""), ("chain_hash", "none")] {
        filled_anew(&place).await;
        place.folder.execute(&format!("UPDATE checkpoint SET {column} = '{value}'")).await;
        assert_told(place.projection().checkpoint().await, column, value);
        assert_told(place.projection().contents().await, column, value);
        assert_told(place.projection().state_hashes().await, column, value);
        assert_told(place.projection().advance(&some_rows("M"), head(3), head(4)).await, column, value);
        assert_told(summary(&place, "L").await, column, value);
        assert_told(summary(&place, "X").await, column, value);
        // At the same moment, so that they share a statement: none of them is taken for the checkpoint.
        for told in join_all(["X", "L", "Y"].map(|id| summary(&place, id))).await {
            assert_told(told, column, value);
        }
    }
    filled_anew(&place).await;
    assert_eq!(place.contents().await, (head(3), some_rows("L")));
}

async fn a_foreign_value_is_no_trouble_for_others(place: Place) {
    let mut rows = some_rows("L");
    rows.lockers.extend(some_rows("M").lockers);
    place.advance(&rows, Head::default(), head(3)).await;
    place.folder.execute("UPDATE lockers SET compartments = -1 WHERE locker_id = 'M'").await;
    // At the same moment, so that they share a statement.
    let (healthy, foreign, unknown) = tokio::join!(place.locker("L"), summary(&place, "M"), place.locker("X"));
    assert_eq!(healthy.value, some_rows("L").lockers.pop());
    assert_eq!((unknown.value, unknown.checkpoint.sequence.get()), (None, 3));
    assert_told(foreign, "compartments", "-1");
}

async fn rows_without_a_checkpoint_are_no_answers(place: Place) {
    filled(&place).await;
    place.folder.execute("DELETE FROM checkpoint").await;
    let (locker, unknown) = tokio::join!(place.locker("L"), place.locker("X"));
    assert_eq!((locker.value, locker.checkpoint), (None, Head::default()));
    assert_eq!((unknown.value, unknown.checkpoint), (None, Head::default()));
    place.folder.execute("UPDATE lockers SET compartments = -1").await;
    assert_eq!(place.locker("L").await.value, None, "nor is one that cannot be read");
}

/// As [`filled`], whatever was there.
async fn filled_anew(place: &Place) {
    place.projection().reset(&some_rows("L"), head(3)).await.unwrap();
}
