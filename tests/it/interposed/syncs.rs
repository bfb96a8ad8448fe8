//! `fdatasync` and `fsync` that fail: nothing is acknowledged after that, ever, and the process ends.

use rustix::io::Errno;

use crate::interposed::clients::Clients;
use crate::interposed::{Interposed, always, once};
use crate::support::Folder;
use lockstream::random::Random;

const SYNC: &str = "posix/io/sync/fdatasync";
const FULL_SYNC: &str = "posix/io/sync/fsync";
const SMALL_SEGMENTS: [(&str, &str); 1] = [("LOCKSTREAM_MAX_SEGMENT_BYTES", "8192")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_after_a_sync_that_failed_at_any_moment() {
    let folder = Folder::new();
    let mut clients = Clients::new(6);
    let mut random = Random::new(0x5eed_0001);
    for round in 0..10 {
        let mut server = Interposed::start_with(&folder, &SMALL_SEGMENTS).await;
        let errno = [Errno::IO, Errno::NOSPC, Errno::DQUOT][round % 3];
        let enough = random.index(120);
        // One that fails once is as bad as one that fails for ever: what it was to sync may be gone,
        // and a second attempt that succeeds would hide that.
        let fault = if round % 2 == 0 { once(SYNC, errno) } else { always(SYNC, errno) };
        let told = clients.report(&server, enough, round % 2 == 1, || server.order(&fault)).await;
        assert!(told.heard(503, "log-failed") > 0, "round {round}: {:?}", told.last);
        let last = server.fails();
        assert!(last.contains("could not be synced"), "round {round}: {last}");
        clients.settle(&folder).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_whose_beginning_cannot_be_synced_holds_no_promise() {
    let folder = Folder::new();
    // It would sync files of its own, and the fault comes once.
    folder.keep_without_archive();
    let mut clients = Clients::new(3);
    for round in 0..4 {
        let mut server = Interposed::start_with(&folder, &SMALL_SEGMENTS).await;
        // The file itself is synced first, then the folder that has its name.
        let told = clients.report(&server, 5 + round, false, || server.order(&once(FULL_SYNC, Errno::IO))).await;
        assert!(told.heard(503, "log-failed") > 0, "round {round}: {:?}", told.last);
        server.fails();
        clients.settle(&folder).await;
    }
    assert!(folder.segments().len() > 4, "each round began some");
}
