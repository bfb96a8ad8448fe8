//! A start whose calls fail: it serves nobody, changes nothing of the log, and the next one has
//! everything. A log that cannot be read is never taken for one that ends early.

use rustix::io::Errno;

use crate::interposed::{Interposed, always};
use crate::support::Folder;
use crate::support::events::registered;
use crate::support::logs;
use crate::support::server::Server;

const CALLS: [&str; 4] = ["posix/io/sync/fdatasync", "posix/io/sync/fsync", "posix/io/rw/read", "posix/io/dir/opendir"];

/// The log of a server that was killed.
async fn left_behind() -> Folder {
    // The files are the log's alone: no database has any in the folder.
    let folder = Folder::on_postgres();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_SEGMENT_BYTES", "1024")]).await;
    for door in 0..7 {
        server.accept([&registered("L", &door.to_string())]).await;
    }
    server.kill();
    folder
}

async fn has_all(folder: &Folder) {
    let server = Server::start(folder).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 7);
    assert_eq!(server.post(&registered("L", "another")).await.sequence(), 8);
}

#[tokio::test]
async fn a_start_that_cannot_read_or_sync_the_log_serves_nobody_and_changes_nothing() {
    for call in CALLS {
        let folder = left_behind().await;
        let before = logs::files(&folder.log());
        let refused = Interposed::spawn(&folder, &[], &[always(call, Errno::IO)]).await.err();
        let lines = refused.unwrap_or_else(|| panic!("{call}: it serves"));
        assert!(lines.last().unwrap().contains("error"), "{call}: {lines:?}");
        assert_eq!(logs::files(&folder.log()), before, "{call}");
        has_all(&folder).await;
    }
}

#[tokio::test]
async fn a_first_start_that_cannot_sync_serves_nobody() {
    for call in &CALLS[..2] {
        let folder = Folder::new();
        let refused = Interposed::spawn(&folder, &[], &[always(call, Errno::IO)]).await.err();
        assert!(refused.is_some(), "{call}: it serves");
        assert_eq!(Server::start(&folder).await.post(&registered("L", "1")).await.sequence(), 1, "{call}");
    }
}

#[tokio::test]
async fn a_torn_end_that_cannot_be_moved_away_ends_the_start_and_stays() {
    let calls = ["posix/io/rw/ftruncate", "posix/io/sync/fsync", "posix/io/rw/write"];
    for call in calls {
        let folder = left_behind().await;
        let last = folder.segments().pop().unwrap();
        let torn = [&std::fs::read(&last).unwrap(), &b"{\"v\":1,\"seq\":8,\"batch\":8,\"recor"[..]].concat();
        std::fs::write(&last, &torn).unwrap();
        let refused = Interposed::spawn(&folder, &[], &[always(call, Errno::IO)]).await.err();
        let lines = refused.unwrap_or_else(|| panic!("{call}: it serves"));
        assert!(lines.last().unwrap().contains("Input/output error"), "{call}: {lines:?}");
        assert_eq!(std::fs::read(&last).unwrap(), torn, "{call}: nothing is cut without a copy on disk");
        has_all(&folder).await;
        assert!(logs::torn(&folder.log()).iter().all(|copy| torn.ends_with(copy)), "{call}");
        assert!(!logs::torn(&folder.log()).is_empty(), "{call}");
    }
}

#[tokio::test]
async fn reads_that_bring_less_than_was_asked_for_change_nothing() {
    let folder = left_behind().await;
    let short = "enable name=posix/io/rw/read/reduce".to_owned();
    let server = Interposed::spawn(&folder, &[], &[short]).await.unwrap();
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 7);
    assert!(logs::torn(&folder.log()).is_empty());
}
