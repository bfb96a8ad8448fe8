//! How long a chunk that is not full waits for more of a body that is not at its end: two
//! milliseconds, twenty where the length was announced, and a hundred at most while more keeps
//! coming. By a clock that stands still unless the test moves it, and so does a bulk share exactly as
//! many syncs as it has chunks.

use std::time::Duration;

use lockstream::composition::Adapters;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::advance;

use crate::bulk::{Answered, NDJSON, ndjson, story};
use crate::support::Folder;
use crate::support::clock::{eventually_meanwhile, stand_still};
use crate::support::events::registered;
use crate::support::inside::{Inside, LogControl};

/// A bulk whose lines come one by one.
struct Drops<'s> {
    server: &'s Inside,
    stream: TcpStream,
    is_announced: bool,
    sent: u64,
}

impl<'s> Drops<'s> {
    async fn begin(server: &'s Inside, is_announced: bool) -> Self {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        // Each line goes at once, and does not wait for the one before to be confirmed.
        stream.set_nodelay(true).unwrap();
        let length = if is_announced { "content-length: 1000000" } else { "transfer-encoding: chunked" };
        let head = format!("POST /events/batch HTTP/1.1\r\nhost: test\r\ncontent-type: {NDJSON}\r\n{length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { server, stream, is_announced, sent: 0 }
    }

    /// Sends a line, which the server has when this returns.
    async fn send(&mut self) {
        self.sent += 1;
        let line = format!("{}\n", registered("L", &self.sent.to_string()));
        let bytes = if self.is_announced { line } else { format!("{:x}\r\n{line}\r\n", line.len()) };
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
        // It shares its only thread with the test: who is answered later was read later.
        for _ in 0..3 {
            assert_eq!(self.server.get("/livez").await.status, 200);
        }
    }
}

async fn pass(milliseconds: u64) {
    advance(Duration::from_millis(milliseconds)).await;
}

/// Waits until so many events are recorded; tells which sequences their batches begin with.
async fn batches(folder: &Folder, count: usize) -> Vec<u64> {
    eventually_meanwhile("it is recorded", async || folder.records_so_far() >= count).await;
    let mut batches: Vec<_> = folder.records().iter().map(|record| record["batch"].as_u64().unwrap()).collect();
    batches.dedup();
    batches
}

async fn serving(folder: &Folder) -> Inside {
    let server = Inside::start(folder, Adapters::default());
    assert_eq!(server.get("/readyz").await.status, 200);
    server
}

#[tokio::test(start_paused = true)]
async fn a_chunk_waits_for_two_milliseconds_of_silence() {
    let _held = stand_still();
    let folder = Folder::on_sqlite();
    let server = serving(&folder).await;
    let mut drops = Drops::begin(&server, false).await;
    for _ in 0..3 {
        pass(1).await;
        drops.send().await;
    }
    pass(2).await;
    assert_eq!(batches(&folder, 3).await, [1], "all three together, and no later");
}

#[tokio::test(start_paused = true)]
async fn a_chunk_of_a_body_of_known_length_waits_for_twenty() {
    let _held = stand_still();
    let folder = Folder::on_sqlite();
    let server = serving(&folder).await;
    let mut drops = Drops::begin(&server, true).await;
    for _ in 0..3 {
        pass(19).await;
        drops.send().await;
    }
    pass(20).await;
    assert_eq!(batches(&folder, 3).await, [1], "all three together, and no later");
}

#[tokio::test(start_paused = true)]
async fn no_event_waits_for_more_than_a_hundred_while_more_keeps_coming() {
    let _held = stand_still();
    let folder = Folder::on_sqlite();
    let server = serving(&folder).await;
    let mut drops = Drops::begin(&server, false).await;
    drops.send().await;
    for _ in 1..=100 {
        pass(1).await;
        drops.send().await;
    }
    assert_eq!(batches(&folder, 101).await, [1], "all of them together, and no later");
}

#[tokio::test(start_paused = true)]
async fn a_bulk_of_four_thousand_events_is_four_syncs() {
    let _held = stand_still();
    let folder = Folder::on_sqlite();
    let control = LogControl::new();
    let server = Inside::start(&folder, control.adapters());
    assert_eq!(server.get("/readyz").await.status, 200);
    let before = control.syncs();

    let answered = Answered::of(&server.send_batch(ndjson(&story("north", 4_000))).await);

    assert_eq!((answered.sequences().len(), answered.end["complete"].as_bool()), (4_000, Some(true)));
    // No chunk that is not full, because no time passes.
    assert_eq!(batches(&folder, 4_000).await, [1, 1_001, 2_001, 3_001]);
    assert_eq!(control.syncs() - before, 4);
}
