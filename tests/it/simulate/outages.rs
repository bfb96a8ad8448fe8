//! Servers that go away: what was under way is sent again, and counts once.

use std::net::TcpListener;

use crate::simulate::{Simulation, count, report, simulate};
use crate::support::proxy::{Mode, Proxy};
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, eventually};

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_has_every_event_once() {
    let folder = Folder::new();
    let mut server = Server::start(&folder).await;
    let way = Proxy::to_port(server.addr.port());
    let url = format!("http://127.0.0.1:{}", way.port());
    let arguments = ["--to", &url, "--events", "2500", "--seed", "7", "--connections", "6", "--give-up-after", "60"];
    let simulation = Simulation::start(&folder, &arguments);
    for records in [300, 900] {
        eventually("the log grows", || async { folder.records_so_far() > records }).await;
        server.kill();
        server = Server::start(&folder).await;
        way.lead_to_port(server.addr.port());
    }
    // Answers are lost on the way too, and the server knows nothing of it.
    eventually("the log grows", || async { folder.records_so_far() > 1_500 }).await;
    way.set(Mode::Reset);
    way.set(Mode::Pass);
    let ended = simulation.ended().await;
    let report = report(&ended);
    assert_eq!((ended.code, count(&report, "events"), count(&report, "wrong")), (Some(0), 2_500, 0), "{ended:?}");
    assert!(count(&report, "unanswered_requests") > 0 && count(&report, "sent_again") > 0, "{report}");
    assert!(ended.stderr.contains("events have to be sent again"), "{ended:?}");

    assert!(server.stop().success());
    let mut verify = lockstream(&folder);
    verify.arg("verify");
    assert_eq!(run(verify).code, Some(0));
    let ids = folder.event_ids();
    assert_eq!(ids.len() as u64, count(&report, "accepted") + count(&report, "found_recorded"), "{report}");
}

#[test]
fn a_server_that_never_comes_is_given_up() {
    let folder = Folder::on_sqlite();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    let ended = simulate(&folder, &["--to", &url, "--seconds", "50", "--give-up-after", "1", "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report = report(&ended);
    let failure = report["failure"].as_str().unwrap();
    assert!(failure.starts_with("no verdict on an event for 1 s; the last try: "), "{failure}");
    assert_eq!((count(&report, "events"), &report["sound"]), (0, &true.into()), "nothing that was answered was wrong");
    assert!(count(&report, "unsettled") > 0, "{report}");
    assert_eq!(ended.stderr.lines().count(), 1, "it is said once that nobody answers: {ended:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let folder = Folder::on_sqlite();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let ended = simulate(&folder, &["--to", &url, "--connections", "2", "--give-up-after", "1"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("given up: no verdict on an event for 1 s; the last try: "), "{ended:?}");
    assert!(ended.stdout.contains("2 events have no verdict; a run with the same seed sends them again"), "{ended:?}");
}
