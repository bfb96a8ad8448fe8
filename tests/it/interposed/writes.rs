//! `write` that fails or stops half-way: what is not wholly written is never acknowledged.

use rustix::io::Errno;

use crate::interposed::clients::Clients;
use crate::interposed::{Interposed, always, once};
use crate::support::Folder;
use crate::support::events::registered;
use crate::support::server::Server;
use lockstream::random::Random;

const WRITE: &str = "posix/io/rw/write";
/// Writes as many of the bytes as chance has it, and says how many.
const SHORT_WRITE: &str = "posix/io/rw/write/reduce";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_cannot_be_written_is_not_acknowledged_and_not_recorded() {
    for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
        let folder = Folder::new();
        let server = Interposed::start(&folder).await;
        let (known, unlucky) = (registered("L", "A1"), registered("L", "A2"));
        server.accept([&known]).await;

        server.order(&once(WRITE, errno));
        let answer = server.post(&unlucky).await;

        assert!(matches!(answer.status, 503 | 507), "{errno}: {answer:?}");
        drop(server);
        let server = Server::start(&folder).await;
        assert_eq!(server.post(&known).await.sequence(), 1, "{errno}");
        let again = server.post(&unlucky).await;
        assert_eq!((again.status, again.sequence()), (202, 2), "{errno}: it was not recorded before");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stops_taking_writes_at_any_moment_costs_no_promise() {
    let folder = Folder::new();
    let mut clients = Clients::new(6);
    let mut random = Random::new(0x5eed_0002);
    for round in 0..6 {
        let mut server = Interposed::start_with(&folder, &[("LOCKSTREAM_MAX_SEGMENT_BYTES", "8192")]).await;
        let enough = random.index(120);
        // Every other time the bytes that come before the fault are written in part.
        if round % 2 == 1 {
            server.order(&format!("enable name={SHORT_WRITE}"));
        }
        let told = clients.report(&server, enough, true, || server.order(&always(WRITE, Errno::IO))).await;
        assert!(told.heard(503, "log-failed") > 0, "round {round}: {:?}", told.last);
        let last = server.fails();
        assert!(last.contains("Input/output error"), "round {round}: {last}");
        clients.settle(&folder).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_stop_half_way_are_finished() {
    let folder = Folder::new();
    let server = Interposed::spawn(&folder, &[], &[format!("enable name={SHORT_WRITE}")]).await.unwrap();
    for door in 0..20 {
        server.accept([&registered("L", &door.to_string())]).await;
    }
    assert_eq!(server.get("/readyz").await.status, 200);
    assert!(server.server.stop().success());
    assert_eq!(folder.event_ids().len(), 20);
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 20);
}
