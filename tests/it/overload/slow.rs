//! Clients that are slow on purpose: heads and bodies that come byte by byte, answers that nobody
//! takes.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::load::Load;
use super::{Bound, alone, memory};
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Folder, PATIENCE};

const MANY: usize = 200;
const HEAD: &str = "POST /events HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n";
const INFLIGHT_BYTES: usize = 4 << 20;

/// Nobody is given up here for being slow, however busy the machine is.
async fn server(folder: &Folder) -> Server {
    const AN_HOUR: &str = "3600000";
    let settings = [
        ("LOCKSTREAM_MAX_INFLIGHT_BYTES", &*INFLIGHT_BYTES.to_string()),
        ("LOCKSTREAM_HEAD_TIMEOUT_MS", AN_HOUR),
        ("LOCKSTREAM_BODY_TIMEOUT_MS", AN_HOUR),
        ("LOCKSTREAM_WRITE_TIMEOUT_MS", AN_HOUR),
    ];
    Server::start_with(folder, &settings).await
}

#[tokio::test]
async fn hundreds_of_slow_writers_and_readers_harm_nobody() {
    let _alone = alone().await;
    let folder = Folder::new();
    let server = server(&folder).await;
    let before = memory(&server);
    let connect = || join_all((0..MANY).map(|_| Wire::connect(&server)));
    let (mut in_head, mut in_body) = (connect().await, connect().await);
    let mut readers = join_all((0..MANY).map(|_| Wire::connect_reluctantly(&server))).await;
    for wire in &mut in_head {
        wire.send(HEAD).await;
    }
    for wire in &mut in_body {
        wire.send(format!("{HEAD}content-length: 60000\r\n\r\n")).await;
    }
    // Far more answers than the buffers on the way hold: packed files, and problems of their own.
    let twice = (100..200).map(|n| format!("\"{n}{0}\":0,\"{n}{0}\":0", "k".repeat(150)));
    let invalid = format!("{{{}}}", twice.collect::<Vec<_>>().join(","));
    let invalid = format!("{HEAD}content-length: {}\r\n\r\n{invalid}", invalid.len());
    let packed = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: test\r\naccept-encoding: gzip\r\n\r\n".repeat(20);
    let requests = [packed, invalid.repeat(2)];
    let asked = readers.iter_mut().zip(requests.iter().cycle()).map(|(wire, request)| wire.send(request));
    join_all(asked).await;

    let over = CancellationToken::new();
    let still = over.clone();
    // A task of its own: what it does must not take the other clients' turns.
    let dripping = tokio::spawn(async move {
        let mut drops = interval(Duration::from_millis(250));
        drops.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !still.is_cancelled() {
            drops.tick().await;
            for wire in in_head.iter_mut().chain(&mut in_body) {
                wire.send("x").await;
            }
            for wire in &mut readers {
                wire.sip().await.expect("who takes a little is not cut off");
            }
        }
    });
    let load = Load { number: 0, clients: 8, lasts: Duration::from_secs(4), rate: None };
    let outcome = load.run(&server).await;
    over.cancel();
    dripping.await.unwrap();

    outcome.tell("beside 600 slow ones");
    outcome.is_answered_within(PATIENCE / 2);
    assert_eq!(server.get("/readyz").await.status, 200);
    let events = outcome.accepted.len();
    Bound { before, connections: 3 * MANY, inflight_bytes: INFLIGHT_BYTES, events }.holds_for(&server);
}

/// Each byte comes by itself; kept as it came, it would keep a whole buffer of its connection alive.
#[tokio::test]
async fn a_body_takes_no_more_memory_for_coming_byte_by_byte() {
    const CLIENTS: usize = 20;
    const BYTES: usize = 3_000;
    let _alone = alone().await;
    let folder = Folder::new();
    let server = server(&folder).await;
    let before = memory(&server);
    let mut wires = join_all((0..CLIENTS).map(|_| Wire::connect(&server))).await;
    for wire in &mut wires {
        wire.send(format!("{HEAD}content-length: {BYTES}\r\n\r\n")).await;
    }
    let mut other = Wire::connect(&server).await;
    for _ in 1..BYTES {
        for wire in &mut wires {
            wire.send(" ").await;
        }
        // Once this is answered, most of those bytes were read.
        assert_eq!(other.get("/livez").await.status, 200);
    }
    let grown = memory(&server).now.saturating_sub(before.now);
    eprintln!("{CLIENTS} bodies of {BYTES} bytes: {} KiB", grown >> 10);
    assert!(grown < 32 << 20, "{grown} bytes for {} that were sent", CLIENTS * BYTES);
    for wire in &mut wires {
        wire.send(" ").await;
        assert_eq!(wire.reply().await.unwrap().status, 422, "blanks alone are no event");
    }
}

#[tokio::test]
async fn a_file_is_packed_once_and_the_same_for_everybody() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let css = async |accepted: &'static str| {
        let answer = server.send("GET", "/docs/swagger-ui.css", &[("accept-encoding", accepted)], "").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/css"), "{accepted}");
        assert!(answer.header("vary").contains("accept-encoding"), "{:?}", answer.headers);
        let length: usize = answer.header("content-length").parse().unwrap_or_default();
        (answer.header("content-encoding") == "gzip", length)
    };
    let packed = css("gzip").await;
    assert!(packed.0);
    for accepted in ["gzip", "deflate, gzip;q=0.5", "br, GZIP"] {
        assert!(css(accepted).await.0, "{accepted}");
        assert_eq!(css(accepted).await, css("gzip").await, "{accepted}");
    }
    let plain = css("identity").await;
    for accepted in ["gzip;q=0", "br", ""] {
        assert_eq!(css(accepted).await, plain, "{accepted}");
    }
    assert!(!plain.0 && plain.1 > 3 * packed.1, "{plain:?} and packed {packed:?}");
    // What there is not is not kept either.
    for _ in 0..2 {
        assert_eq!(server.get("/docs/none.css").await.status, 404);
    }
}
