//! What the writer holds: the present and the records since the last archived segment, however long
//! history is.

use crate::archive::{forget, forgotten, live};
use crate::support::Folder;
use crate::support::events::{deposited, picked_up, reserved};
use crate::support::server::Server;

/// Segments of about twenty records.
const SMALL: [(&str, &str); 2] =
    [("LOCKSTREAM_MAX_SEGMENT_BYTES", "8192"), ("RUST_LOG", "info,lockstream::application::writer=debug")];

/// What [`live`] leaves open: a reservation and a fault.
const OPEN: u64 = 2;

#[tokio::test]
async fn what_is_held_does_not_grow_with_history() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &SMALL).await;
    live(&server).await;
    for number in 0..150 {
        let id = format!("r{number}");
        server.accept(&[reserved("L", "B", &id), deposited("L", &id), picked_up("L", &id)]).await;
    }
    let records = folder.records().len() as u64;
    forget(&server, records).await;

    let last = server.lines_saying("the past is forgotten").pop().unwrap();
    let (held, recent) = (last["held"].as_u64().unwrap(), folder.records().len() as u64 - forgotten(&server));
    assert!(records > 450 && recent < records / 2, "{recent} of {records} records are recent");
    // Of a recent record there is its id, and a reservation or fault at most.
    assert!(held <= 2 * recent + OPEN, "{held} things are held for {recent} recent records");
}
