//! `open`, `fsync`, `rename` and `unlink` that fail where files are begun, replaced and removed: a
//! new segment, the mark of a clean stop, the check of the log's folder.

use rustix::io::Errno;

use crate::interposed::clients::Clients;
use crate::interposed::{Interposed, always, once};
use crate::support::events::registered;
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, eventually};

const OPEN: &str = "posix/io/oc/open";
const RENAME: &str = "posix/io/dir/rename";
const UNLINK: &str = "posix/io/dir/unlink";
const FULL_SYNC: &str = "posix/io/sync/fsync";
const WRITE: &str = "posix/io/rw/write";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_cannot_be_begun_ends_the_service_without_a_promise() {
    let folder = Folder::new();
    let mut clients = Clients::new(3);
    for (round, errno) in [Errno::MFILE, Errno::NOSPC, Errno::ACCESS, Errno::IO].into_iter().enumerate() {
        let mut server = Interposed::start_with(&folder, &[("LOCKSTREAM_MAX_SEGMENT_BYTES", "8192")]).await;
        let told = clients.report(&server, 10 * round, false, || server.order(&always(OPEN, errno))).await;
        let refused = told.last.iter().flatten().filter(|(status, _)| matches!(status, 503 | 507)).count();
        assert!(refused > 0, "{errno}: {:?}", told.last);
        if told.heard(503, "log-failed") > 0 {
            server.fails();
        }
        drop(server);
        clients.settle(&folder).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_cannot_be_marked_says_so_and_costs_nothing() {
    let folder = Folder::new();
    let mark = folder.path().join("clean-stop.json");
    for (round, call) in [OPEN, WRITE, FULL_SYNC, RENAME].into_iter().enumerate() {
        Server::start(&folder).await.stop();
        let before = std::fs::read(&mark).unwrap();
        let mut server = Interposed::start(&folder).await;
        server.accept([&registered("L", &round.to_string())]).await;
        server.order(&always(call, Errno::IO));
        server.signal(rustix::process::Signal::TERM);
        let last = server.fails();
        assert!(last.contains("the mark of a clean stop cannot be written"), "{call}: {last}");
        assert_eq!(std::fs::read(&mark).unwrap(), before, "{call}: the old mark is whole");
    }
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 4);
    assert!(server.stop().success());
    let mut verify = lockstream(&folder);
    verify.arg("verify");
    assert_eq!(run(verify).code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_takes_no_files_is_not_ready_until_it_does() {
    for call in [OPEN, WRITE, UNLINK] {
        let folder = Folder::new();
        let server = Interposed::start(&folder).await;
        server.accept([&registered("L", "A1")]).await;
        server.order(&always(call, Errno::ROFS));
        let readiness = &server;
        let is = |status: u16| async move { readiness.get("/readyz").await.status == status };
        eventually("it is not ready", || is(503)).await;
        server.heal(call);
        eventually("it is ready again", || is(200)).await;
        server.accept([&registered("L", "A2")]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_cannot_remove_or_open_something_goes_on_or_says_why() {
    let folder = Folder::new();
    Server::start(&folder).await.accept([&registered("L", "A1")]).await;
    // The first thing that is opened.
    let lines = Interposed::spawn(&folder, &[], &[once(OPEN, Errno::MFILE)]).await.err().expect("it does not start");
    assert!(lines.last().unwrap().contains("Too many open files"), "{lines:?}");
    let server = Interposed::spawn(&folder, &[], &[always(UNLINK, Errno::ACCESS)]).await.unwrap();
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 1);
}
