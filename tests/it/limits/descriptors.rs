//! File descriptors: the log and the database have theirs, however many clients there are.

use crate::support::Folder;
use crate::support::events::registered;
use crate::support::server::{BINARY, Server, lockstream_at};
use crate::support::wire::Wire;

const CAPPED: &str = "fewer connections than set: the system gives this process too few file descriptors";

/// A server whose system was first told this by a shell.
async fn server_after(told: &str, folder: &Folder, settings: &[(&str, &str)]) -> Server {
    let mut command = lockstream_at("/bin/sh".as_ref(), folder);
    command.envs(settings.iter().copied()).args(["-c", &format!(r#"{told}; exec "$0""#), BINARY]);
    Server::spawn(command).await.unwrap()
}

async fn idle_connections(server: &Server, count: usize) -> Vec<Wire> {
    futures_util::future::join_all((0..count).map(|_| Wire::connect(server))).await
}

#[tokio::test]
async fn more_clients_than_descriptors_do_not_stop_the_log_from_going_on() {
    let folder = Folder::new();
    let server = server_after("ulimit -n 128", &folder, &[("LOCKSTREAM_MAX_SEGMENT_BYTES", "1024")]).await;
    assert_eq!(server.lines_saying(CAPPED).len(), 1, "{:?}", server.lines());

    let mut first = Wire::connect(&server).await;
    assert_eq!(first.get("/livez").await.status, 200);
    let mut second = Wire::connect(&server).await;
    // More than there are descriptors, and no more than the system keeps waiting.
    let _idle = idle_connections(&server, 140).await;
    assert_eq!(second.get("/readyz").await.status, 200);

    // Each begins a segment.
    for number in 0..20 {
        let mut event = registered("L", &number.to_string());
        event["photo"] = "x".repeat(1_000).into();
        let reply = first.post(&event).await;
        assert_eq!(reply.status, 202, "{reply:?}: {:?}", server.lines());
    }
    assert_eq!(folder.segments().len(), 20);
    assert_eq!(first.get("/lockers/L").await.json()["compartments"], 20);
    assert_eq!(first.get("/readyz").await.status, 200);
    assert!(server.stop().success());
}

#[tokio::test]
async fn the_service_takes_all_the_descriptors_that_it_may_have() {
    let folder = Folder::new();
    let settings = [("LOCKSTREAM_MAX_CONNECTIONS", "300")];
    let server = server_after("ulimit -S -n 128", &folder, &settings).await;
    assert!(server.lines_saying(CAPPED).is_empty(), "{:?}", server.lines());
    // None of them ends meanwhile, so each has a place of its own.
    for wire in &mut idle_connections(&server, 200).await {
        assert_eq!(wire.get("/livez").await.status, 200);
    }
}
