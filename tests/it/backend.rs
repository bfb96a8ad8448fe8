//! A folder's database, on whichever backend: that what tests do to it is what they believe.

use std::ffi::OsStr;

use sqlx::{Connection, Executor};

use crate::support::Folder;
use crate::support::backend::{Backend, VARIABLE};
use crate::support::server::lockstream;

const TABLE: &str = "CREATE SCHEMA lockstream; CREATE TABLE lockstream.checkpoint (sequence BIGINT, chain_hash TEXT); \
                     INSERT INTO lockstream.checkpoint VALUES (7, 'abc')";

/// What the service would be told of its database.
fn told(folder: &Folder) -> Option<String> {
    let command = lockstream(folder);
    let variable = command.get_envs().find(|(name, _)| *name == "DATABASE_URL")?;
    variable.1.map(|url| url.to_str().unwrap().to_owned())
}

#[test]
fn the_tests_run_on_no_database_that_nobody_knows() {
    let named = |name: &str| Backend::named(Some(OsStr::new(name)));
    assert!(matches!(Backend::named(None), Ok(Backend::Sqlite)));
    assert!(matches!(named("sqlite"), Ok(Backend::Sqlite)));
    assert!(matches!(named("postgres"), Ok(Backend::Postgres(_))));
    for unknown in ["", "postgresql", "Postgres", "mysql"] {
        let error = named(unknown).err().expect("it is refused");
        assert_eq!(error, format!("{VARIABLE} must be sqlite or postgres, and not {unknown:?}"));
    }
}

#[tokio::test]
async fn what_is_started_for_a_folder_finds_that_folder_s_database() {
    assert_eq!(told(&Folder::on_sqlite()), None, "the file in the data folder is where it looks by itself");
    let (one, other) = (Folder::on_postgres(), Folder::on_postgres());
    let url = told(&one).expect("it is told");
    assert_ne!(told(&other).as_ref(), Some(&url), "each has its own");
    one.postgres().execute(TABLE).await;
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    connection.execute("UPDATE lockstream.checkpoint SET sequence = 8").await.unwrap();
    assert_eq!(one.checkpoint().await, (8, "abc".to_owned()));
}

#[tokio::test]
async fn a_database_on_postgres_can_be_changed_held_up_copied_and_deleted() {
    let (mut copy, folder) = (Folder::on_postgres(), Folder::on_postgres());
    folder.postgres().execute(TABLE).await;
    folder.execute("UPDATE checkpoint SET sequence = 9").await;

    let holder = folder.hold_up().await;
    assert!(folder.has_open_database().await);
    let mut other = folder.postgres().connect().await;
    other.execute("SET lock_timeout = '50ms'").await.unwrap();
    let write = "UPDATE lockstream.checkpoint SET sequence = 10";
    assert!(other.execute(write).await.unwrap_err().to_string().contains("lock timeout"));
    holder.release().await;
    other.execute(write).await.unwrap();
    other.close().await.unwrap();

    copy.take_database_of(&folder);
    assert!(!folder.has_open_database().await, "whoever copies waits until it is closed");
    folder.delete_database();
    assert_eq!(copy.checkpoint().await.0, 10);
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'lockstream'";
    assert_eq!(folder.postgres().value::<i64>(schemas).await, 0);
    folder.delete_database(); // Where there is none, nothing is wrong.
}
