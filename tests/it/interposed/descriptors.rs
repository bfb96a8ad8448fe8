//! No file descriptor is left, by a limit that the system lowers while the service runs.

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::support::events::registered;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Folder, eventually};

/// Limits how many descriptors the process may have; those that it has, it keeps. Returns the
/// limit that there was.
fn limit(server: &Server, descriptors: Rlimit) -> Rlimit {
    prlimit(Some(server.pid()), Resource::Nofile, descriptors).unwrap()
}

#[tokio::test]
async fn without_descriptors_the_present_clients_are_served_and_the_next_ones_wait() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let mut present = Wire::connect(&server).await;
    assert_eq!(present.post(&registered("L", "A1")).await.status, 202);
    let maximum = getrlimit(Resource::Nofile).maximum;
    let before = limit(&server, Rlimit { current: Some(3), maximum });

    let mut next = Wire::connect(&server).await;
    next.send("GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").await;
    eventually("it is told", || async { !server.lines_saying("no connection could be accepted").is_empty() }).await;
    assert_eq!(present.post(&registered("L", "A2")).await.status, 202, "the log is open already");

    limit(&server, before);
    assert_eq!(next.reply().await.unwrap().status, 200, "it was only kept waiting");
    assert_eq!(next.get("/lockers/L").await.json()["compartments"], 2);
    assert!(server.stop().success());
}

#[tokio::test]
async fn without_a_descriptor_for_the_next_segment_events_are_turned_away_until_there_is_one() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_SEGMENT_BYTES", "4096")]).await;
    let mut client = Wire::connect(&server).await;
    assert_eq!(client.post(&registered("L", "A0")).await.status, 202);
    let maximum = getrlimit(Resource::Nofile).maximum;
    let before = limit(&server, Rlimit { current: Some(3), maximum });

    let mut accepted = 1;
    let turned_away = loop {
        let answer = client.post(&registered("L", &format!("A{accepted}"))).await;
        if answer.status != 202 {
            break answer;
        }
        accepted += 1;
    };
    assert_eq!((turned_away.status, turned_away.code().as_str()), (503, "log-unwritable"), "{turned_away:?}");
    assert!(turned_away.head.contains("retry-after: 1"), "{turned_away:?}");

    limit(&server, before);
    assert_eq!(client.post(&registered("L", "more")).await.status, 202);
    assert_eq!(client.get("/lockers/L").await.json()["compartments"], accepted + 1);
    assert!(server.stop().success());
    assert_eq!(folder.records().len(), accepted + 1);
}
