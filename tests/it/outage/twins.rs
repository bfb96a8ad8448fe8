//! Two servers that are pointed at one database: the first has it.

use crate::folder::one_error_line;
use crate::outage::{SETTINGS, Trial};
use crate::support::events::registered;
use crate::support::proxy::{Mode, Proxy};
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, eventually, logs};

/// A data folder whose log is longer than that of the first server: with a shorter one no server
/// takes a database that proves more.
fn longer_log() -> Folder {
    let folder = Folder::on_sqlite();
    let doors = (0..100).map(|n| registered("L", &n.to_string())).collect();
    logs::write(&folder.log(), &[doors]);
    folder
}

/// The second server: a data folder of its own, the first one's database.
fn second(own: &Folder, first: &Folder) -> std::process::Command {
    let mut command = lockstream(own);
    command.envs(SETTINGS).env("DATABASE_URL", first.postgres().tcp_url());
    command
}

#[tokio::test]
async fn a_second_server_on_the_database_is_turned_away_and_harms_nothing() {
    let (folder, other) = (Folder::on_postgres(), longer_log());
    let trial = Trial::begin(&folder).await;
    let ended = run(second(&other, &folder));
    let line = one_error_line(&ended);
    assert!(line.contains("another lockstream process writes its projection (session "), "{line}");
    assert!(line.contains("Stop that one first, or give this one another database"), "{line}");
    trial.heals().await;
    // The lock is the session's: with the first one gone, the other may have the database.
    Server::spawn(second(&other, &folder)).await.expect("it starts");
}

#[tokio::test]
async fn a_server_that_lost_its_database_to_another_shows_nobody_the_other_one_s_lockers() {
    let (folder, other) = (Folder::on_postgres(), longer_log());
    let proxy = Proxy::to(folder.postgres());
    let trial = Trial::begin_with(&folder, &[("DATABASE_URL", &proxy.url(folder.postgres()))]).await;

    // The first one's way to the database is cut for a moment, and its sessions end.
    proxy.set(Mode::Reset);
    let sessions = async || folder.has_open_database().await;
    eventually("nobody holds the database", async || !sessions().await).await;
    let winner = Server::spawn(second(&other, &folder)).await.expect("it starts");
    let compartments = async || winner.get("/lockers/L").await.json()["compartments"].as_u64();
    eventually("all is taken in", async || compartments().await == Some(100)).await;
    proxy.set(Mode::Pass);

    // What is in the database now is none of the first one's business, though there is more of it.
    trial.answers_no_query(&["projection-behind", "database-unavailable"]).await;
    trial.says(&["of another history: does another server write it?"]).await;
    trial.records_up_to_the_limit().await;
    trial.says(&["of another history: does another server write it?"]).await;
    assert_eq!(winner.get("/lockers/L").await.json()["compartments"], 100, "nor does the first one spoil it");

    assert!(winner.stop().success());
    trial.heals().await;
}
