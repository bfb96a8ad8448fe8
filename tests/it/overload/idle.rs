//! Thousands of connections that do nothing.

use std::time::Duration;

use futures_util::future::join_all;

use super::load::Load;
use super::{Bound, EVENT_BYTES, alone, memory, permitted};
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Folder, PATIENCE};

const CONNECTIONS: usize = 5_000;
/// What a connection takes that was answered once and does nothing since.
const IDLE_BYTES: usize = 32 << 10;
/// For limits that must not be the reason.
const AN_HOUR: &str = "3600000";

#[tokio::test]
async fn five_thousand_idle_connections_cost_little_and_harm_nobody() {
    let _alone = alone().await;
    let count = permitted(CONNECTIONS);
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_HEAD_TIMEOUT_MS", AN_HOUR)]).await;
    let before = memory(&server);
    let mut after = Vec::new();
    for round in 0..2 {
        let mut idle = Vec::with_capacity(count);
        while idle.len() < count {
            let some = (count - idle.len()).min(250);
            idle.extend(join_all((0..some).map(|_| Wire::connect(&server))).await);
            // Answered once, a connection has all its buffers.
            for wire in idle.iter_mut().rev().take(some) {
                assert_eq!(wire.get("/livez").await.status, 200, "of {count} connections permitted");
            }
        }
        let each = memory(&server).now.saturating_sub(before.now) / count;
        eprintln!("{count} idle connections: {each} bytes each");
        assert!(each <= IDLE_BYTES, "{each} bytes for each of {count} idle connections");

        let load = Load { number: round, clients: 8, lasts: Duration::from_secs(2), rate: None };
        let outcome = load.run(&server).await;
        outcome.tell("beside idle ones");
        outcome.is_answered_within(PATIENCE / 2);
        for at in [0, count / 2, count - 1] {
            assert_eq!(idle[at].get("/readyz").await.status, 200, "they are still served");
        }
        let events = folder.event_ids().len();
        Bound { before, connections: count, inflight_bytes: 0, events }.holds_for(&server);
        after.push((memory(&server).now, events));
    }
    let [(first, events), (second, all_events)] = after[..] else { unreachable!("two rounds") };
    let more = (all_events - events) * EVENT_BYTES + (32 << 20);
    assert!(second < first + more, "other connections take the memory of those that ended: {after:?}");
}
