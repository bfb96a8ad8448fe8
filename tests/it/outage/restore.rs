//! The database is suddenly another one: a backup was restored beneath the running service, or its
//! tables are gone. A replica that missed something and took over looks the same from here.

use crate::outage::{Trial, is_turned_away};
use crate::support::server::{lockstream, run};
use crate::support::{Folder, eventually};

const SAVE: &str = "
    CREATE TABLE saved_lockers AS SELECT * FROM lockers;
    CREATE TABLE saved_compartments AS SELECT * FROM compartments;
    CREATE TABLE saved_reservations AS SELECT * FROM reservations;
    CREATE TABLE saved_checkpoint AS SELECT * FROM checkpoint";

const RESTORE: &str = "
    BEGIN;
    DELETE FROM lockers; INSERT INTO lockers SELECT * FROM saved_lockers;
    DELETE FROM compartments; INSERT INTO compartments SELECT * FROM saved_compartments;
    DELETE FROM reservations; INSERT INTO reservations SELECT * FROM saved_reservations;
    DELETE FROM checkpoint; INSERT INTO checkpoint SELECT * FROM saved_checkpoint;
    COMMIT";

const WRITTEN_ANEW: &str = "the database is not where it was left: everything is written anew";

#[tokio::test]
async fn a_backup_that_is_restored_beneath_the_service_shows_nobody_an_old_state() {
    let folder = Folder::new();
    let trial = Trial::begin(&folder).await;
    folder.execute(SAVE).await;
    for _ in 0..5 {
        trial.grow().await;
    }
    trial.is_up_to_date().await;
    let now = trial.server.get("/lockers/L").await.body;

    folder.execute(RESTORE).await;

    // Nothing is recorded, so it is a query that finds it out.
    let found_out = async || {
        let answer = trial.server.get("/lockers/L").await;
        if answer.status == 200 {
            assert_eq!(answer.body, now, "no answer is of an earlier time");
        } else {
            is_turned_away(&answer, &["projection-behind", "database-unavailable"]);
        }
        answer.status == 200
    };
    eventually("queries are answered again", found_out).await;
    assert_eq!(trial.server.lines_saying(WRITTEN_ANEW).len(), 1);
    trial.heals().await;
}

#[tokio::test]
async fn a_backup_that_is_restored_between_two_events_is_not_built_upon() {
    let folder = Folder::new();
    let trial = Trial::begin(&folder).await;
    folder.execute(SAVE).await;
    for _ in 0..5 {
        trial.grow().await;
    }
    trial.is_up_to_date().await;
    folder.execute(RESTORE).await;
    trial.grow().await;
    eventually("it is noticed", async || trial.server.lines_saying(WRITTEN_ANEW).len() == 1).await;
    trial.heals().await;
}

#[tokio::test]
async fn tables_that_somebody_dropped_come_back() {
    let folder = Folder::on_postgres();
    let trial = Trial::begin(&folder).await;
    folder.delete_database();
    trial.says(&["could not be read", "could not be written", "does not exist"]).await;
    trial.heals().await;
}

#[tokio::test]
async fn a_database_that_is_read_only_for_a_while_is_waited_for() {
    let folder = Folder::on_postgres();
    let trial = Trial::begin(&folder).await;
    let (database, name) = (folder.postgres(), folder.postgres().name());
    let end_sessions = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE \
                        datname = current_database() AND pid <> pg_backend_pid()";
    database.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    database.value::<i64>(end_sessions).await;
    trial.records_up_to_the_limit().await;
    trial.says(&["read-only transaction"]).await;
    let reset = format!("BEGIN READ WRITE; ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT");
    database.execute(&reset).await;
    trial.heals().await;
}

#[tokio::test]
async fn a_start_waits_for_a_database_that_is_away_and_not_for_ever() {
    let folder = Folder::on_sqlite();
    let mut command = lockstream(&folder);
    // Nobody listens on this port: it is reserved for a service of the seventies.
    command.env("DATABASE_URL", "postgres://lock:s3cret@127.0.0.1:1/lock").env("LOCKSTREAM_DATABASE_WAIT_MS", "700");
    let ended = run(command);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("waiting for the database"), "it says so once: {lines:?}");
    assert!(
        lines[1].starts_with("error: the database could not be reached") && lines[1].contains("Is the server running"),
        "{lines:?}"
    );
    assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
}
