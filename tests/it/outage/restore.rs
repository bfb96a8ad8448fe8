//! The database is suddenly another one: a backup was restored beneath the running service, or its
//! tables are gone. A replica that missed something and took over looks the same from here.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::outage::{NO_LAG_LIMIT, Trial, is_turned_away};
use crate::support::postgres::Cluster;
use crate::support::proxy::{Mode, Proxy};
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
    trial.server.says(WRITTEN_ANEW, 1).await;
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
async fn a_backup_that_stays_is_shown_to_nobody_and_called_by_its_name() {
    let folder = Folder::on_postgres();
    let trial = Trial::begin(&folder).await;
    folder.execute(SAVE).await;
    for _ in 0..5 {
        trial.grow().await;
    }
    trial.is_up_to_date().await;

    let blocker = forbid_schema(&folder, "lockstream_next").await;
    folder.execute(RESTORE).await;

    let old = ["the database stands at sequence 2, but it had 7 already"];
    trial.answers_no_query(&["projection-behind"]).await;
    trial.says(&old).await;
    trial.records_up_to_the_limit().await;
    trial.says(&old).await;

    blocker.close().await.unwrap();

    trial.heals().await;
}

/// As long as the answer is open, no schema of this name can be made.
async fn forbid_schema(folder: &Folder, name: &str) -> PgConnection {
    let mut connection = folder.postgres().connect().await;
    connection.execute("BEGIN").await.unwrap();
    connection.execute(AssertSqlSafe(format!("CREATE SCHEMA {name}"))).await.unwrap();
    connection
}

#[tokio::test]
async fn a_network_that_is_cut_while_all_is_written_anew_is_waited_for() {
    let folder = Folder::on_postgres();
    let proxy = Proxy::to(folder.postgres());
    let trial = Trial::begin_with(&folder, &[("DATABASE_URL", &proxy.url(folder.postgres()))]).await;
    folder.execute(SAVE).await;
    trial.grow().await;
    trial.is_up_to_date().await;
    let blocker = forbid_schema(&folder, "lockstream_next").await;
    folder.execute(RESTORE).await;
    trial.answers_no_query(&["projection-behind"]).await;
    let held_up = || trial.server.lines_saying("the projection is held up").len();
    eventually("nothing can be written", async || held_up() >= 2).await;

    // Every attempt begins with a connection, and nobody will ever answer the next one.
    proxy.set(Mode::Drop);
    let swallowed = proxy.connections();
    eventually("it is tried again", async || proxy.connections() > swallowed).await;
    trial.says(&["no answer within 500 ms", "did not answer within 1000 ms"]).await;
    blocker.close().await.unwrap();
    proxy.set(Mode::Pass);

    trial.heals().await;
}

#[tokio::test]
async fn a_schema_that_somebody_dropped_is_made_anew() {
    let folder = Folder::on_postgres();
    let trial = Trial::begin(&folder).await;

    folder.delete_database();
    let blocker = forbid_schema(&folder, "lockstream").await;

    trial.answers_no_query(&["database-unavailable"]).await;
    trial.says(&["\"checkpoint\" does not exist"]).await;
    trial.records_up_to_the_limit().await;
    trial.says(&["\"checkpoint\" does not exist"]).await;

    blocker.close().await.unwrap();

    trial.heals().await;
}

#[tokio::test]
async fn a_database_that_was_dropped_is_filled_again_when_it_is_back() {
    let folder = Folder::on_postgres();
    let trial = Trial::begin(&folder).await;
    let (other, name) = (Cluster::shared().create_database(), folder.postgres().name());

    other.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await;

    trial.answers_no_query(&["database-unavailable"]).await;
    trial.says(&["does not exist"]).await;
    trial.records_up_to_the_limit().await;

    other.execute(&format!("CREATE DATABASE {name}")).await;

    trial.heals().await;
}

#[tokio::test]
async fn backups_put_back_and_schemas_dropped_under_load_show_nobody_an_old_state() {
    let folder = Folder::on_postgres();
    let trial = Trial::begin_with(&folder, &[NO_LAG_LIMIT]).await;
    let works = async || {
        let path = format!("/lockers/L/compartments/{}", trial.grow().await);
        eventually("queries are answered", async || trial.server.get(&path).await.status == 200).await;
    };
    trial
        .under_load(async {
            for _ in 0..3 {
                // What is made anew holds nothing else: copies go with the old tables.
                folder.execute(SAVE).await;
                works().await;
                folder.execute(RESTORE).await;
                works().await;
                folder.delete_database();
                works().await;
            }
        })
        .await;
    trial.server.says(WRITTEN_ANEW, 6).await;
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
