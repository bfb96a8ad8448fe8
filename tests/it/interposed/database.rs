//! The calls of SQLite fail, while the log's go through: events are taken in, and the database is
//! waited for.

use rustix::io::Errno;

use crate::interposed::{Interposed, always};
use crate::support::events::registered;
use crate::support::{Folder, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_written_costs_no_event_and_is_waited_for() {
    for errno in [Errno::IO, Errno::NOSPC] {
        const PWRITE: &str = "posix/io/rw/pwrite";
        let folder = Folder::on_sqlite();
        let server = Interposed::start_with(&folder, &[("LOCKSTREAM_QUERY_TIMEOUT_MS", "200")]).await;
        server.accept([&registered("L", "A1")]).await;
        assert_eq!(server.get("/lockers/L").await.status, 200);

        server.order(&always(PWRITE, errno));
        server.accept([&registered("L", "A2")]).await;
        let answer = server.get("/lockers/L").await;
        assert_eq!(answer.status, 503, "{errno}: a client sees its own events or nothing: {answer:?}");

        server.heal(PWRITE);
        eventually("it answers again", || async { server.get("/lockers/L").await.status == 200 }).await;
        assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2, "{errno}");
        assert!(server.server.stop().success());
    }
}
