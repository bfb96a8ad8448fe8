//! The tables and who may write them: migrations, versions, claims, and how much a transaction costs.

mod claims;
mod strangers;

use std::collections::BTreeSet;
use std::fs;

use futures_util::future::join_all;

use crate::support::documents::root;
use crate::support::events::registered;
use crate::support::postgres::Cluster;
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, eventually};

#[test]
fn both_databases_have_the_same_migrations_by_name() {
    let names = |database: &str| {
        let entries = fs::read_dir(root().join("migrations").join(database)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>()
    };
    let (sqlite, postgres) = (names("sqlite"), names("postgres"));
    assert!(!sqlite.is_empty() && sqlite == postgres, "{sqlite:?}, {postgres:?}");
}

#[tokio::test]
async fn two_servers_never_write_one_database() {
    let (first, second) = (Folder::new(), Folder::new());
    let url = first.database_url().unwrap_or_else(|| format!("sqlite:{}", first.path().join("shared.db").display()));
    let at = |folder: &Folder| {
        let mut command = lockstream(folder);
        command.env("DATABASE_URL", &url).env("LOCKSTREAM_DATABASE_TIMEOUT_MS", "1000");
        command
    };
    let server = Server::spawn(at(&first)).await.unwrap();
    server.accept(&[registered("L", "A1")]).await;
    let refused = run(at(&second));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let last = refused.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: the database is in use: another lockstream process writes"), "{last}");
    assert_eq!(server.get("/lockers/L").await.status, 200);
    server.kill();
    assert_eq!(
        Server::spawn(at(&first)).await.unwrap().get("/lockers/L").await.status,
        200,
        "a killed one leaves no lock"
    );
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_a_rebuild_makes_it_anew() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    assert!(server.stop().success());
    folder.execute("UPDATE _sqlx_migrations SET version = 9999").await;
    let refused = run(lockstream(&folder));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let last = refused.stderr.lines().last().unwrap();
    assert!(last.contains("is of a newer lockstream: its tables have version 9999"), "{last}");
    assert_eq!(rebuilt(&folder), Some(0));
    assert_eq!(Server::start(&folder).await.get("/lockers/L").await.status, 200);
}

fn rebuilt(folder: &Folder) -> Option<i32> {
    let mut command = lockstream(folder);
    command.arg("rebuild");
    run(command).code
}

#[tokio::test]
async fn what_can_never_work_ends_a_start_at_once_and_in_one_line() {
    let database = Cluster::shared().create_database();
    let nowhere = database.tcp_url().replace(database.name(), "nowhere").replace("postgres@", "postgres:s3cret@");
    let nobody = database.tcp_url().replace("postgres@", "nobody:s3cret@");
    for (url, words) in [(nowhere, "database \"nowhere\" does not exist"), (nobody, "role \"nobody\" does not exist")] {
        let folder = Folder::on_sqlite();
        let mut command = lockstream(&folder);
        command.env("DATABASE_URL", url);
        let refused = run(command);
        assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
        assert!(refused.stderr.contains(words) && !refused.stderr.contains("s3cret"), "{refused:?}");
    }
}

#[tokio::test]
async fn hundreds_of_events_reach_the_database_in_a_few_statements() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("RUST_LOG", "info,sqlx::query=debug")]).await;
    server.accept(&[registered("L", "first")]).await;
    assert_eq!(server.get("/lockers/L").await.status, 200);
    let written = || server.lines().iter().filter(|line| line.contains("INSERT INTO compartments")).count();
    assert_eq!(written(), 1, "statements are seen");
    let holder = folder.hold_up().await;
    let events: Vec<_> = (0..300).map(|door| registered("L", &door.to_string())).collect();
    assert!(join_all(events.iter().map(|event| server.post(event))).await.iter().all(|answer| answer.status == 202));
    holder.release().await;
    let all_there = async || {
        let answer = server.get("/lockers/L").await;
        answer.status == 200 && answer.json()["compartments"] == 301
    };
    eventually("all are projected", all_there).await;
    // In at most three transactions. SQLite takes rows by powers of two.
    let most = if folder.is_on_postgres() { 3 } else { 3 * 9 };
    assert!(written() <= 1 + most, "{} statements for 300 events", written() - 1);
}
