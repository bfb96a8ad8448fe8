//! How long the projection gathers: fifty milliseconds while nobody waits for it, not at all for
//! somebody who does. By a clock that stands still unless the test moves it, so that nothing here
//! depends on how fast the machine is; the server, its log and its database are the real ones.

use std::ops::RangeInclusive;
use std::time::Duration;

use lockstream::composition::Adapters;
use tokio::time::advance;

use crate::support::Folder;
use crate::support::clock::{eventually_meanwhile, stand_still};
use crate::support::events::registered;
use crate::support::inside::Inside;

/// Has SQLite note every transaction of the projection, by the sequence that it ends with.
const NOTED: &str = "
    CREATE TABLE noted (sequence INTEGER);
    CREATE TRIGGER note AFTER INSERT ON checkpoint BEGIN INSERT INTO noted VALUES (new.sequence); END;
    CREATE TRIGGER note_again AFTER UPDATE ON checkpoint BEGIN INSERT INTO noted VALUES (new.sequence); END";

/// The transactions so far.
async fn noted(folder: &Folder) -> Vec<i64> {
    folder.numbers("SELECT sequence FROM noted ORDER BY rowid").await
}

/// Waits until the projection has everything, without being one who waits for it.
async fn all_is_projected(server: &Inside) {
    let has_all = async || server.get("/readyz").await.json()["lag_events"] == 0;
    eventually_meanwhile("all is projected", has_all).await;
}

#[tokio::test(start_paused = true)]
async fn the_projection_gathers_fifty_milliseconds_unless_somebody_waits() {
    let _held = stand_still();
    let folder = Folder::on_sqlite();
    let server = Inside::start(&folder, Adapters::default());
    assert_eq!(server.get("/readyz").await.status, 200);
    folder.execute(NOTED).await;
    let accept = async |doors: RangeInclusive<i64>| {
        for door in doors {
            assert_eq!(server.post(&registered("L", &door.to_string())).await.status, 202);
        }
    };

    // After a quiet time a lone event is written at once: the clock stands.
    advance(Duration::from_millis(50)).await;
    accept(1..=1).await;
    all_is_projected(&server).await;

    // What comes next waits until the last transaction is fifty milliseconds ago, and is one.
    accept(2..=30).await;
    advance(Duration::from_millis(49)).await;
    accept(31..=60).await;
    advance(Duration::from_millis(1)).await;
    all_is_projected(&server).await;
    assert_eq!(noted(&folder).await, [1, 60]);

    // Somebody who asks waits for no timer.
    for door in 61..=70 {
        accept(door..=door).await;
        assert_eq!(server.get("/lockers/L").await.json()["compartments"], door);
    }
    assert_eq!(noted(&folder).await, [vec![1], (60..=70).collect()].concat());
    server.stop().await;
}
