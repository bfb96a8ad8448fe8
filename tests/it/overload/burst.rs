//! Clients that all connect at the same moment, as cabinets do when their network comes back, while the
//! service has no time for them.
//!
//! Each sends its request in one piece: who has no place and sends several may be reset, and that is
//! the system's doing.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tokio::time::timeout;

use super::{alone, permitted};
use crate::support::events::registered;
use crate::support::server::Server;
use crate::support::wire::{Wire, post_request};
use crate::support::{Folder, PATIENCE};

/// How many may wait to be accepted (`WAITING_CONNECTIONS` of `src/lifecycle.rs`).
const WAITING: usize = 4_096;
/// How many more come.
const TOO_MANY: usize = 200;

/// How many the system lets wait at most, whatever a server asks for.
fn let_wait() -> usize {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    assert!(most >= 500, "the system lets {most} connections wait (net.core.somaxconn): too few for this test");
    WAITING.min(most)
}

fn event(client: usize) -> Value {
    registered("L", &client.to_string())
}

#[tokio::test]
async fn thousands_that_connect_while_the_server_has_no_time_wait_in_line_and_all_are_answered() {
    let _alone = alone().await;
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_QUEUE_EVENTS", "10000")]).await;
    let clients = permitted(let_wait() + TOO_MANY);
    let waiting = clients - TOO_MANY;

    kill_process(server.pid(), Signal::STOP).unwrap();
    let mut connecting: FuturesUnordered<_> = (0..clients).map(|_| Wire::connect(&server)).collect();
    let mut wires = Vec::with_capacity(clients);
    let in_line = async {
        while wires.len() < waiting {
            wires.push(connecting.next().await.unwrap());
        }
    };
    let in_time = timeout(PATIENCE, in_line).await.is_ok();
    assert!(in_time, "{} of {waiting} were let in line; the others have to try again", wires.len());
    // What they send before they are accepted is kept.
    for (client, wire) in wires.iter_mut().enumerate() {
        wire.send(post_request(&event(client))).await;
    }
    eprintln!("{} of {clients} are in line, the others try again", wires.len());
    kill_process(server.pid(), Signal::CONT).unwrap();

    // The system does that for them, after a second and more.
    let others = async {
        while let Some(mut wire) = connecting.next().await {
            wire.send(post_request(&event(wires.len()))).await;
            wires.push(wire);
        }
    };
    timeout(PATIENCE, others).await.expect("whoever found no place in the line gets in later");
    for wire in &mut wires {
        assert_eq!(wire.reply().await.expect("nobody is sent away").status, 202);
    }
    assert_eq!(folder.records().len(), clients);
}
