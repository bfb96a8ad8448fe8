//! PostgreSQL is stopped and started again, or only just restarted.

use std::sync::Arc;
use std::time::Instant;

use rustix::process::Signal;
use tokio::task::spawn_blocking;

use crate::outage::{NO_LAG_LIMIT, Trial};
use crate::support::postgres::Cluster;
use crate::support::server::Server;
use crate::support::{Folder, PATIENCE, eventually};

#[tokio::test]
async fn a_server_that_was_stopped_and_started_is_found_again() {
    let cluster = Cluster::start();
    for signal in [Signal::INT, Signal::QUIT] {
        let folder = Folder::with(cluster.create_database());
        let trial = Trial::begin(&folder).await;

        cluster.stop(signal);

        trial.answers_no_query(&["database-unavailable"]).await;
        trial.says(&["could not be reached", "could not be written"]).await;
        trial.records_up_to_the_limit().await;
        trial.says(&["could not be reached"]).await;
        assert!(!trial.server.lines_saying("the projection is held up").is_empty());

        cluster.start_again();

        trial.heals().await;
    }
}

#[tokio::test]
async fn a_server_that_is_restarted_under_load_costs_nothing_but_patience() {
    let cluster = Arc::new(Cluster::start());
    let folder = Folder::with(cluster.create_database());
    let trial = Trial::begin_with(&folder, &[NO_LAG_LIMIT]).await;
    trial
        .under_load(async {
            for signal in [Signal::INT, Signal::QUIT, Signal::KILL, Signal::INT] {
                // Only one that works can be disturbed.
                let name = trial.grow().await;
                let path = format!("/lockers/L/compartments/{name}");
                eventually("queries are answered", async || trial.server.get(&path).await.status == 200).await;
                let cluster = Arc::clone(&cluster);
                let restart = move || {
                    cluster.stop(signal);
                    cluster.start_again();
                };
                spawn_blocking(restart).await.unwrap();
            }
        })
        .await;
    trial.heals().await;
}

#[tokio::test]
async fn a_stop_while_the_server_is_away_is_bounded_and_the_next_start_catches_up() {
    let cluster = Cluster::start();
    let database = cluster.create_database();
    let folder = Folder::with(database);
    let settings = [("LOCKSTREAM_STOP_TIMEOUT_MS", "500")];
    let trial = Trial::begin_with(&folder, &settings).await;
    cluster.stop(Signal::QUIT);
    for _ in 0..3 {
        trial.grow().await;
    }
    let Trial { server, .. } = trial;
    let begin = Instant::now();
    assert!(server.stop().success(), "it ends in order");
    assert!(begin.elapsed() < PATIENCE / 2, "it took {:?}", begin.elapsed());

    cluster.start_again();
    let server = Server::start_with(&folder, &settings).await;
    let all_there = async || {
        let answer = server.get("/lockers/L").await;
        answer.status == 200 && answer.json()["compartments"] == 4
    };
    eventually("the next start has caught up", all_there).await;
}
