//! The disk under PostgreSQL is full: no file of the server may grow beyond a megabyte, which is
//! what one piece of its own log has from the beginning.

use std::fs;
use std::time::Instant;

use crate::outage::Trial;
use crate::support::postgres::Cluster;
use crate::support::{Folder, PATIENCE};

/// A table that is nearly as large as a file may be, though nothing is left in it.
const FILL: &str = "ALTER TABLE lockstream.compartments SET (autovacuum_enabled = off);
    INSERT INTO lockstream.compartments SELECT 'L', repeat('x', 900) || n, false, NULL FROM generate_series(1, 1000) n;
    DELETE FROM lockstream.compartments WHERE length(compartment_id) > 900";

/// Limits how large a file may become for the server and all processes it has.
fn limit_files(cluster: &Cluster, bytes: &str) {
    let postmaster = cluster.postmaster_pid().as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap();
    let limit = |process: &str| {
        // Only the same user may do that.
        let mut command = cluster.run_as_its_user("prlimit".as_ref());
        command.args(["--pid", process, &format!("--fsize={bytes}:")]).output().unwrap().status.success()
    };
    assert!(limit(&postmaster.to_string()));
    // One that has ended meanwhile needs no limit.
    let limited = children.split_whitespace().filter(|child| limit(child)).count();
    assert!(limited > 0);
}

#[tokio::test]
async fn a_full_disk_under_the_server_is_waited_for() {
    let cluster = Cluster::start_with(&["--wal-segsize=1"]);
    let folder = Folder::with(cluster.create_database());
    let trial = Trial::begin(&folder).await;
    folder.postgres().execute(FILL).await;

    limit_files(&cluster, "1048576");

    let is_full = async || trial.readiness().await["projection"].as_str().unwrap().contains("could not extend file");
    let (mut events, begin) = (0, Instant::now());
    while !is_full().await {
        assert!(events < 5_000 && begin.elapsed() < 5 * PATIENCE, "the table never came to its limit");
        // A query may take too long for a busy machine; that is not the end yet.
        if trial.server.get("/lockers/L").await.status == 200 {
            events += 1;
            trial.grow().await;
        }
    }
    trial.says(&["could not extend file", "File too large"]).await;
    trial.records_up_to_the_limit().await;
    trial.says(&["could not extend file", "File too large"]).await;

    limit_files(&cluster, "unlimited");

    trial.heals().await;
}
