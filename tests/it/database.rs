//! The database's bad days: a disk that is full for a while, a file that is not to be written, a
//! folder that is gone. It holds nothing of its own, so none of them may cost more than time.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Resource, Rlimit, prlimit};

use crate::bulk::{NDJSON, ndjson, send};
use crate::folder::{one_error_line, powerless};
use crate::support::events::registered;
use crate::support::server::{Server, lockstream, lockstream_limited, run};
use crate::support::{Folder, eventually, logs};

/// A page of a SQLite file.
const PAGE_BYTES: u64 = 4_096;
/// A page in its write-ahead log, with what is said of it (SQLite's file format, section 4.1).
const FRAME_BYTES: u64 = 24 + PAGE_BYTES;

#[tokio::test]
async fn a_database_whose_disk_was_full_for_a_while_works_again_without_a_restart() {
    let folder = Folder::on_sqlite();
    // No file of this process may grow beyond some hundred kilobytes. The log's segments stay far
    // below; the database's own log does not.
    let mut command = lockstream_limited(&folder, "-S -f 200");
    command.env("LOCKSTREAM_MAX_SEGMENT_BYTES", "20000").env("LOCKSTREAM_QUERY_TIMEOUT_MS", "300");
    let server = Server::spawn(command).await.unwrap();
    let mut accepted = 0;
    while server.lines_saying("the projection is held up").len() < 2 {
        accepted += 1;
        assert!(accepted < 5_000, "the database never came to its limit");
        server.accept(&[registered("L", &accepted.to_string())]).await;
    }
    assert_eq!(server.get("/lockers/L").await.status, 503, "what is behind is not shown");

    let unlimited = Rlimit { current: None, maximum: None };
    prlimit(Some(server.pid()), Resource::Fsize, unlimited).unwrap();

    eventually("the projection works again", || async { server.get("/lockers/L").await.status == 200 }).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], accepted);
    let said_so = async || server.lines_saying("the projection works again").len() == 1;
    eventually("it says so", said_so).await;
    assert!(server.stop().success());
    let mut verify = lockstream(&folder);
    verify.arg("verify");
    assert_eq!(run(verify).code, Some(0));
}

#[tokio::test]
async fn the_write_ahead_log_grows_to_1000_pages_and_goes_into_the_file_then() {
    let folder = Folder::on_sqlite();
    let server = Server::start(&folder).await;
    let log = folder.write_ahead_log();
    let mut lengths = vec![0];
    // Lockers far from each other, so that most rows have a page for themselves in each transaction.
    let mut names = (0_u64..).map(|number| format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    while lengths.len() < 4 || lengths[lengths.len() - 1] > lengths[lengths.len() - 4] {
        assert!(lengths.len() < 100, "it never goes into the file: {lengths:?}");
        let events: Vec<_> = names.by_ref().take(250).map(|name| registered(&name, "A1")).collect();
        assert_eq!(send(&server, NDJSON, ndjson(&events)).await.end["accepted"], 250);
        let is_projected = async || server.get("/readyz").await.json()["lag_events"] == 0;
        eventually("the events are projected", is_projected).await;
        lengths.push(fs::metadata(&log).unwrap().len());
    }
    // It is looked at after each transaction, and used anew from its beginning afterwards.
    let pages = lengths[lengths.len() - 1] / FRAME_BYTES;
    assert!((1_000..2_000).contains(&pages), "{pages} pages");
    assert!(server.stop().success());
    assert!(!log.exists(), "a stop in order leaves none");
}

#[tokio::test]
async fn what_ten_thousand_events_at_once_write_goes_into_the_file_at_8000_pages_or_after_fewer_events() {
    // Long names: a page has few rows.
    let event = |number| registered(&format!("{number:0>128}"), &"A".repeat(128));
    for (events, pages, goes_at_once) in
        [(9_998, 1_000..2_000, true), (50_000, 6_000..8_000, false), (70_000, 8_000..10_000, true)]
    {
        let folder = Folder::on_sqlite();
        let server = Server::start(&folder).await;
        server.accept(&[registered("first", "A1")]).await;
        assert!(server.stop().success());
        logs::write(&folder.log(), &[(0..events).map(event).collect()]);
        // A start takes in at once what its projection misses.
        let server = Server::start(&folder).await;
        assert_eq!(server.get("/lockers/first").await.status, 200);
        let in_file = || fs::metadata(folder.database()).unwrap().len() / PAGE_BYTES;
        let written = fs::metadata(folder.write_ahead_log()).unwrap().len() / FRAME_BYTES;
        assert!(pages.contains(&written), "{written} pages");
        assert_eq!(in_file() >= written / 2, goes_at_once, "{} of {written} pages", in_file());

        if !goes_at_once {
            server.accept(&[registered("lone", "A1")]).await;
            assert_eq!(server.get("/lockers/lone").await.status, 200);
            assert!(in_file() >= written / 2, "{} of {written} pages", in_file());
        }
    }
}

#[tokio::test]
async fn a_file_that_somebody_removes_or_replaces_under_the_server_is_made_anew() {
    let (folder, other) = (Folder::on_sqlite(), Folder::on_sqlite());
    let server = Server::start(&other).await;
    server.accept(&[registered("other", "A1"), registered("other", "A2")]).await;
    assert!(server.stop().success());
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    let is_seen = async |path: &str| server.get(path).await.status == 200;
    let is_ready = async || is_seen("/readyz").await;
    assert!(is_seen("/lockers/L").await);

    folder.delete_database();
    // Nobody had asked for a compartment yet: this one opens what is there now.
    eventually("it is made anew", async || is_seen("/lockers/L/compartments/A1").await).await;
    eventually("it is ready", is_ready).await;
    assert!(folder.database().exists());

    let beside = folder.path().join("beside.db");
    fs::copy(other.database(), &beside).unwrap();
    fs::rename(beside, folder.database()).unwrap();
    assert_eq!(server.get("/readyz").await.status, 503, "it has to be looked after");
    eventually("it is ready again", is_ready).await;

    server.accept(&[registered("L", "A2")]).await;
    eventually("queries see it", async || is_seen("/lockers/L/compartments/A2").await).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2);
    assert_eq!(server.get("/lockers/other").await.status, 404);
    assert_eq!(server.get("/reservations/none").await.status, 404);
    let mut rebuild = lockstream(&folder);
    rebuild.arg("rebuild");
    assert_eq!(run(rebuild).code, Some(0));
    server.kill();
    let mut verify = lockstream(&folder);
    verify.arg("verify");
    assert_eq!(run(verify).code, Some(0));
}

#[tokio::test]
async fn verify_leaves_a_stopped_folder_as_it_was_and_needs_no_right_to_write() {
    let (binaries, folder) = (Folder::new(), Folder::new());
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    assert!(server.stop().success());
    fs::set_permissions(folder.path(), Permissions::from_mode(0o555)).unwrap();
    let before = logs::files(folder.path());

    let mut verify = powerless(&binaries, &folder);
    verify.arg("verify");
    let ended = run(verify);

    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("projection: stands at sequence 1"), "{ended:?}");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let mut verify = lockstream(&folder);
    verify.arg("verify");
    assert_eq!(run(verify).code, Some(0));
    assert!(logs::files(folder.path()) == before, "nothing came, nothing went, nothing changed");
}

#[tokio::test]
async fn verify_beside_an_idle_server_sees_what_is_written_later() {
    let folder = Folder::new();
    let verified = || {
        let mut verify = lockstream(&folder);
        verify.arg("verify");
        let ended = run(verify);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    assert!(Server::start(&folder).await.stop().success());
    // After a clean stop the server has nothing to write when it starts.
    let server = Server::start(&folder).await;
    assert!(verified().contains("projection: stands at sequence 0"));
    for sequence in 1..=2 {
        server.accept(&[registered("L", &sequence.to_string())]).await;
        assert_eq!(server.get("/lockers/L").await.status, 200); // Waits for the projection.
        let stands = verified();
        assert!(stands.contains(&format!("projection: stands at sequence {sequence}")), "{stands}");
    }
    server.kill();
    assert!(verified().contains("projection: stands at sequence 2"), "what the killed one left is read too");
}

#[test]
fn a_database_whose_folder_is_missing_is_told_apart_from_a_damaged_one() {
    let folder = Folder::on_sqlite();
    for command in [&[][..], &["rebuild"]] {
        let missing = folder.path().join("elsewhere");
        let mut process = lockstream(&folder);
        process.args(command).env("DATABASE_URL", format!("sqlite:{}/projection.db", missing.display()));
        let ended = run(process);
        let line = one_error_line(&ended);
        assert!(line.contains(&format!("There is no folder {}:", missing.display())), "{line}");
        assert!(line.contains("DATABASE_URL") && !line.contains("lockstream rebuild"), "{line}");
    }
}
