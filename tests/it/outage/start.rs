//! Starting and stopping while the database is away.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tokio::task::spawn_blocking;

use crate::outage::{SETTINGS, Trial};
use crate::support::events::registered;
use crate::support::postgres::Cluster;
use crate::support::proxy::{Mode, Proxy};
use crate::support::server::{Ended, Server, lockstream, run};
use crate::support::{Folder, PATIENCE, eventually};

const WAITING: &str = "waiting for the database";

/// The service, told to find its database by this way.
fn through(proxy: &Proxy, folder: &Folder, wait_ms: &str) -> Command {
    let mut command = lockstream(folder);
    command.envs(SETTINGS).env("DATABASE_URL", proxy.url(folder.postgres()));
    command.env("LOCKSTREAM_DATABASE_WAIT_MS", wait_ms);
    command
}

#[tokio::test]
async fn a_start_waits_for_a_database_that_is_away_and_says_so_once() {
    let cluster = Arc::new(Cluster::start());
    let folder = Folder::with(cluster.create_database());
    let proxy = Proxy::to(folder.postgres());
    cluster.stop(Signal::INT);
    let comes = async {
        eventually("it was tried more than once", async || proxy.connections() > 2).await;
        let cluster = Arc::clone(&cluster);
        spawn_blocking(move || cluster.start_again()).await.unwrap();
    };
    let (server, ()) = tokio::join!(Server::spawn(through(&proxy, &folder, "60000")), comes);
    let server = server.unwrap();
    assert_eq!(server.lines_saying(WAITING).len(), 1, "{:?}", server.lines());
    server.accept(&[registered("L", "A1")]).await;
    eventually("queries are answered", async || server.get("/lockers/L").await.status == 200).await;
}

#[tokio::test]
async fn a_start_waits_for_a_network_that_swallows_everything() {
    let folder = Folder::on_postgres();
    let proxy = Proxy::to(folder.postgres());
    proxy.set(Mode::Drop);
    let comes = async {
        eventually("it was tried more than once", async || proxy.connections() > 1).await;
        proxy.set(Mode::Pass);
    };
    let (server, ()) = tokio::join!(Server::spawn(through(&proxy, &folder, "60000")), comes);
    let server = server.unwrap();
    let waiting = server.lines_saying(WAITING);
    assert!(waiting[0]["error"].as_str().unwrap().contains("no answer within 500 ms"), "{waiting:?}");
}

#[tokio::test]
async fn a_start_waits_for_a_failover_that_is_read_only_meanwhile() {
    let cluster = Arc::new(Cluster::start());
    let folder = Folder::with(cluster.create_database());
    let proxy = Proxy::to(folder.postgres());
    cluster.stop(Signal::INT);
    cluster.start_again_with(&["default_transaction_read_only=on"]);
    let comes = async {
        eventually("it was tried more than once", async || proxy.connections() > 2).await;
        let cluster = Arc::clone(&cluster);
        let restart = move || {
            cluster.stop(Signal::INT);
            cluster.start_again();
        };
        spawn_blocking(restart).await.unwrap();
    };
    let (server, ()) = tokio::join!(Server::spawn(through(&proxy, &folder, "60000")), comes);
    let server = server.unwrap_or_else(|lines| panic!("it did not wait: {lines:?}"));
    assert!(server.lines_saying(WAITING)[0]["error"].as_str().unwrap().contains("read-only transaction"));
}

#[tokio::test]
async fn a_start_does_not_wait_for_ever() {
    let folder = Folder::on_sqlite();
    let mut command = lockstream(&folder);
    // Nobody listens on this port: it is reserved for a service of the seventies.
    command.env("DATABASE_URL", "postgres://lock:s3cret@127.0.0.1:1/lock").env("LOCKSTREAM_DATABASE_WAIT_MS", "700");
    let ended = run(command);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains(WAITING), "it says so once: {lines:?}");
    assert!(
        lines[1].starts_with("error: the database could not be reached") && lines[1].contains("Is the server running"),
        "{lines:?}"
    );
    assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
}

#[tokio::test]
async fn a_start_does_not_wait_for_what_will_not_come_by_itself() {
    let folder = Folder::on_postgres();
    let mut command = lockstream(&folder);
    let missing = folder.postgres().tcp_url() + "_missing";
    command.env("DATABASE_URL", missing).env("LOCKSTREAM_DATABASE_WAIT_MS", "3600000");
    let Ended { code, stderr, .. } = run(command);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains("_missing\" does not exist"), "{stderr}");
}

#[tokio::test]
async fn a_start_that_waits_can_be_stopped_at_once() {
    let folder = Folder::on_postgres();
    let proxy = Proxy::to(folder.postgres());
    for mode in [Mode::Reset, Mode::Drop] {
        proxy.set(mode);
        let tried = proxy.connections();
        let mut command = through(&proxy, &folder, "3600000");
        command.env("LOCKSTREAM_DATABASE_TIMEOUT_MS", "3600000").stderr(Stdio::piped());
        let starting = command.spawn().unwrap();
        eventually("it tries", async || proxy.connections() > tried).await;
        let begin = Instant::now();
        kill_process(Pid::from_child(&starting), Signal::TERM).unwrap();
        let ended = spawn_blocking(move || starting.wait_with_output().unwrap()).await.unwrap();
        assert!(ended.status.success(), "{mode:?}: {ended:?}");
        assert!(begin.elapsed() < PATIENCE / 2, "{mode:?}: {:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn a_stop_while_the_database_is_away_ends_in_time_and_the_next_start_catches_up() {
    for mode in [Mode::Reset, Mode::Drop] {
        let folder = Folder::on_postgres();
        let proxy = Proxy::to(folder.postgres());
        let url = proxy.url(folder.postgres());
        let settings = [("DATABASE_URL", url.as_str()), ("LOCKSTREAM_STOP_TIMEOUT_MS", "300")];
        let trial = Trial::begin_with(&folder, &settings).await;
        proxy.set(mode);
        trial.grow().await;
        let Trial { mut server, acknowledged, known, .. } = trial;
        let begin = Instant::now();
        server.signal(Signal::TERM);
        assert!(server.wait().success(), "{mode:?}");
        assert!(begin.elapsed() < PATIENCE / 2, "{mode:?}: {:?}", begin.elapsed());
        let told = "the projection could not be brought up to date; the next start will";
        assert_eq!(server.lines_saying(told).len(), 1, "{mode:?}: {:?}", server.lines());
        drop(server);
        assert_eq!(folder.checkpoint().await.0, 2, "{mode:?}");

        proxy.set(Mode::Pass);
        let server = Server::start_with(&folder, &settings).await;

        assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2, "{mode:?}");
        let trial = Trial { folder: &folder, database_url: None, server, known, acknowledged };
        trial.heals().await;
    }
}
