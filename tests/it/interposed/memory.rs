//! No memory. The binary takes its memory from mimalloc, which takes a gibibyte of address space
//! from the system at the start (`mmap`) and more when that is used up; C code inside the binary,
//! SQLite above all, uses the C library's `malloc`.
//!
//! Either way a process that gets no memory ends at once, like one that is killed: there is no
//! going on without it, and nothing that is promised depends on that.

use std::os::unix::process::ExitStatusExt;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::interposed::clients::Clients;
use crate::interposed::{Interposed, always};
use crate::support::Folder;
use crate::support::events::registered;
use crate::support::logs;
use crate::support::server::Server;

const MMAP: &str = "posix/mm/mmap";
const C_MEMORY: &str = "libc/mm/malloc";

#[tokio::test]
async fn a_start_without_memory_serves_nobody_and_changes_nothing() {
    let folder = Folder::new();
    Server::start(&folder).await.accept([&registered("L", "A1")]).await;
    let before = logs::files(&folder.log());
    let started = Interposed::spawn(&folder, &[], &[always(MMAP, Errno::NOMEM)]).await;
    assert!(started.is_err(), "it serves");
    assert_eq!(logs::files(&folder.log()), before);
    assert_eq!(Server::start(&folder).await.post(&registered("L", "A2")).await.sequence(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_which_there_is_no_memory_costs_no_promise() {
    let folder = Folder::new();
    let mut clients = Clients::new(4);
    // In small steps from the system, so that a large body needs one.
    let settings = [("MIMALLOC_ARENA_RESERVE", "1024"), ("LOCKSTREAM_MAX_BODY_BYTES", "16000000")];
    let mut server = Interposed::start_with(&folder, &settings).await;
    clients.report(&server, 50, false, || server.order(&always(MMAP, Errno::NOMEM))).await;

    let mut large = registered("large", "A1");
    large["photo"] = "x".repeat(15_000_000).into();
    let answer = server.try_post("application/json", large.to_string()).await;

    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(server.server.wait().signal(), Some(Signal::ABORT.as_raw()), "{:?}", server.lines());
    clients.settle(&folder).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_memory_costs_no_promise() {
    let folder = Folder::on_sqlite();
    let mut clients = Clients::new(4);
    let mut server = Interposed::start(&folder).await;
    clients.report(&server, 50, false, || server.order(&always(C_MEMORY, Errno::NOMEM))).await;
    assert_eq!(server.server.wait().signal(), Some(Signal::ABORT.as_raw()), "{:?}", server.lines());
    clients.settle(&folder).await;
}
