//! Four times the rate that the machine can take: `LOCKSTREAM_OVERLOAD_SECONDS` says for how long.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::load::{Load, Outcome};
use super::{Bound, EVENT_BYTES, alone, memory};
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Folder, PATIENCE, eventually};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What an answer may take beyond the service's own limits, on a machine that has other work.
const LATE: Duration = Duration::from_secs(20);
const INFLIGHT_BYTES: usize = 1 << 20;

/// Each event has a sync of its own, so that the disk is the narrow place even where it is fast, and
/// few may wait for it.
const SETTINGS: [(&str, &str); 5] = [
    ("LOCKSTREAM_MAX_BATCH_EVENTS", "1"),
    ("LOCKSTREAM_MAX_QUEUE_EVENTS", "16"),
    ("LOCKSTREAM_MAX_INFLIGHT_BYTES", "1048576"),
    ("LOCKSTREAM_ANSWER_TIMEOUT_MS", "10000"),
    ("LOCKSTREAM_QUERY_TIMEOUT_MS", "10000"),
];

/// Fewer clients than the queue holds: none is turned away.
const FITTING: u32 = 8;
const TOO_MANY: u32 = 128;

fn seconds() -> f64 {
    let stated = std::env::var("LOCKSTREAM_OVERLOAD_SECONDS").ok();
    stated.map_or(6.0, |stated| stated.parse().expect("LOCKSTREAM_OVERLOAD_SECONDS is a number of seconds"))
}

async fn at_leisure(server: &Server, number: u32) -> Outcome {
    let load = Load { number, clients: FITTING, lasts: Duration::from_secs(2), rate: None };
    let outcome = load.run(server).await;
    outcome.tell("as fast as answered");
    outcome
}

/// Four times the usual rate for a while, and more of the same until it was too much.
async fn overload(server: &Server, number: u32, lasts: Duration, usual: &Outcome) -> Outcome {
    let begin = Instant::now();
    let mut all = Outcome::default();
    for part in 0.. {
        let number = number + 1_000 * (part + 1);
        let load = Load { number, clients: TOO_MANY, lasts, rate: Some(4.0 * usual.rate()) };
        all.go_on(load.run(server).await);
        if all.refused.len() > 100 {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "it was no overload: {}", all.refused.len());
    }
    all.tell("four times that");
    assert!(all.percentile(99) < ANSWER_TIMEOUT + LATE, "{:?}", all.percentile(99));
    all
}

#[tokio::test]
async fn four_times_the_rate_is_answered_in_time_or_refused_and_leaves_nothing_behind() {
    let _alone = alone().await;
    let folder = Folder::new();
    let server = Server::start_with(&folder, &SETTINGS).await;
    let before = memory(&server);
    let usual = at_leisure(&server, 0).await;
    assert!(usual.refused.is_empty() && usual.unknown.is_empty(), "the queue holds them all");

    // A long round, then two short ones that show whether anything piles up.
    let mut outcomes = vec![usual];
    let mut after = Vec::new();
    for (number, share) in (1..).zip([1.0, 0.25, 0.25]) {
        let lasts = Duration::from_secs_f64(seconds() * share);
        outcomes.push(overload(&server, number, lasts, &outcomes[0]).await);
        eventually("it is ready", async || server.get("/readyz").await.status == 200).await;
        after.push(memory(&server).now);
    }
    let events = outcomes.iter().map(|outcome| outcome.accepted.len()).sum();
    Bound { before, connections: TOO_MANY as usize, inflight_bytes: INFLIGHT_BYTES, events }.holds_for(&server);
    let grown = after[2].saturating_sub(after[1]);
    let accepted = outcomes[3].accepted.len();
    assert!(grown < accepted * EVENT_BYTES + (8 << 20), "{grown} bytes more for {accepted} events: {after:?}");

    // As before: within a wide margin and sooner or later, for the machine has other work.
    let begin = Instant::now();
    for number in 4.. {
        let again = at_leisure(&server, number).await;
        let as_before = again.rate() > outcomes[0].rate() / 5.0
            && again.percentile(50) < outcomes[0].percentile(50) * 5 + Duration::from_millis(20);
        outcomes.push(again);
        if as_before {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "it is not as fast as before");
    }
    let accepted: HashSet<_> = outcomes.iter().flat_map(|outcome| &outcome.accepted).collect();
    let refused: HashSet<_> = outcomes.iter().flat_map(|outcome| &outcome.refused).collect();
    let ids = folder.event_ids();
    let recorded: HashSet<_> = ids.iter().collect();
    assert_eq!(recorded.len(), ids.len(), "each is in the log once");
    assert!(accepted.is_subset(&recorded), "what was acknowledged is in the log");
    assert!(refused.is_disjoint(&recorded), "what was refused is not");
    assert!(server.stop().success());
}

#[tokio::test]
async fn queries_and_readiness_are_answered_in_their_time_beside_an_overload() {
    const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
    let _alone = alone().await;
    let folder = Folder::new();
    let server = Server::start_with(&folder, &SETTINGS).await;
    let usual = at_leisure(&server, 0).await;
    let over = CancellationToken::new();
    let asking = async |path: &str| {
        let (mut wire, mut answers) = (Wire::connect(&server).await, Vec::new());
        while !over.is_cancelled() {
            let asked = Instant::now();
            let reply = wire.get(path).await;
            let can_wait = reply.status == 503 && reply.head.contains("retry-after: 1\r\n");
            assert!(reply.status == 200 || can_wait, "{path}: {reply:?}");
            assert!(asked.elapsed() < QUERY_TIMEOUT + LATE, "{path}: {:?}", asked.elapsed());
            answers.push(reply.status);
        }
        let well = answers.iter().filter(|status| **status == 200).count();
        eprintln!("{path}: {} answers, {well} of them 200", answers.len());
        assert!(well > 0 && 2 * well > answers.len(), "{path}: {well} of {}", answers.len());
    };
    let loading = async {
        overload(&server, 1, Duration::from_secs(3), &usual).await;
        over.cancel();
    };
    tokio::join!(
        loading,
        join_all((0..8).map(|_| asking("/lockers/L0-0-0"))),
        join_all((0..8).map(|_| asking("/readyz"))),
    );
}
