//! PostgreSQL as others have set it up: roles with few rights and strange settings, schemas of
//! somebody else, other encodings. It works, or one line says what to do.

use std::process::Command;

use rustix::process::Signal;

use crate::folder::one_error_line;
use crate::support::events::{registered, reserved};
use crate::support::postgres::Cluster;
use crate::support::postgres::database::Database;
use crate::support::server::{Server, lockstream, run};
use crate::support::views::{locker_path, reservation_path};
use crate::support::{Folder, eventually};

/// A command that comes as another role.
fn by(role: &str, folder: &Folder, database: &Database) -> Command {
    let mut command = lockstream(folder);
    command.env("DATABASE_URL", database.url().replace("postgres@", &format!("{role}@")));
    command
}

/// A role with the name of the database, of which there is one only.
async fn role(database: &Database, settings: &[&str]) -> String {
    let role = format!("role_of_{}", database.name());
    database.execute(&format!("CREATE ROLE {role} LOGIN")).await;
    for setting in settings {
        database.execute(&format!("ALTER ROLE {role} IN DATABASE {} SET {setting}", database.name())).await;
    }
    role
}

/// What a role leaves when its database goes.
async fn forget(database: &Database, role: &str) {
    database.execute(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_role_that_may_make_no_schema_is_told_what_it_needs() {
    let (folder, database) = (Folder::on_sqlite(), Cluster::shared().create_database());
    let role = role(&database, &[]).await;
    // One that was made for it does not help: a rebuild makes another.
    database.execute(&format!("CREATE SCHEMA lockstream AUTHORIZATION {role}")).await;

    let refused = run(by(&role, &folder, &database));
    let line = one_error_line(&refused);
    assert!(line.contains("cannot be used: permission denied for database"), "{line}");
    assert!(line.contains("GRANT CREATE ON DATABASE") && !line.contains("Is the server running"), "{line}");

    database.execute(&format!("GRANT CREATE ON DATABASE {} TO {role}", database.name())).await;
    let server = Server::spawn(by(&role, &folder, &database)).await.unwrap();
    server.accept(&[registered("L", "A1")]).await;
    assert_eq!(server.get("/lockers/L").await.status, 200);
    let mut rebuild = by(&role, &folder, &database);
    rebuild.arg("rebuild");
    assert_eq!(run(rebuild).code, Some(0));
    assert!(server.stop().success());
    forget(&database, &role).await;
}

#[tokio::test]
async fn the_settings_of_a_role_change_nothing() {
    const SETTINGS: [&str; 14] = [
        "search_path = pg_temp, public",
        "DateStyle = 'SQL, DMY'",
        "TimeZone = 'Asia/Kolkata'",
        "standard_conforming_strings = off",
        "client_encoding = 'LATIN1'",
        "statement_timeout = 1",
        "lock_timeout = 1",
        "idle_in_transaction_session_timeout = 1",
        "idle_session_timeout = 100",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "transform_null_equals = on",
        "quote_all_identifiers = on",
        "plan_cache_mode = 'force_custom_plan'",
    ];
    let (folder, database) = (Folder::on_sqlite(), Cluster::shared().create_database());
    let role = role(&database, &SETTINGS).await;
    database.execute(&format!("GRANT CREATE ON DATABASE {} TO {role}", database.name())).await;
    let server = Server::spawn(by(&role, &folder, &database)).await.unwrap();
    let locker = "Łódź \\' %_ \u{1F4E6}";
    server.accept(&[registered(locker, "A1"), reserved(locker, "A1", "R\\")]).await;
    assert_eq!(server.get(&locker_path(locker)).await.json()["active_reservations"], 1);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ROLE' AND state = 'idle' AND \
                    state_change < now() - interval '200 ms'";
    let sessions = sessions.replace("ROLE", &role);
    eventually("sessions are idle that would have been ended", async || database.value::<i64>(&sessions).await >= 2)
        .await;
    assert_eq!(server.get("/readyz").await.status, 200);
    assert_eq!(server.get(&reservation_path("R\\")).await.status, 200);
    for name in ["rebuild", "verify"] {
        let mut command = by(&role, &folder, &database);
        command.arg(name);
        let ended = run(command);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    assert!(server.lines_saying("the projection is held up").is_empty());
    assert!(server.stop().success());
    forget(&database, &role).await;
}

#[tokio::test]
async fn schemas_of_somebody_else_are_left_alone() {
    for schema in ["lockstream", "lockstream_next", "lockstream_old"] {
        let (folder, database) = (Folder::on_sqlite(), Cluster::shared().create_database());
        database.execute(&format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.lockers AS SELECT 7 AS mine")).await;
        let arguments =
            if schema == "lockstream" { &[&[][..], &["rebuild", "--force"]][..] } else { &[&["rebuild"][..]] };
        for arguments in arguments {
            let mut command = lockstream(&folder);
            let refused = run({
                command.args(*arguments).env("DATABASE_URL", database.url());
                command
            });
            let line = one_error_line(&refused);
            assert!(line.contains(&format!("its schema {schema} holds tables of somebody else")), "{line}");
            assert_eq!(database.value::<i32>(&format!("SELECT mine FROM {schema}.lockers")).await, 7);
        }
    }
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_identifier_is_refused() {
    for options in ["ENCODING 'SQL_ASCII' LOCALE 'C'", "ENCODING 'LATIN1' LOCALE 'C'"] {
        let folder = Folder::on_sqlite();
        let database = Cluster::shared().create_database_with(&format!("TEMPLATE template0 {options}"));
        for arguments in [&[][..], &["rebuild"]] {
            let mut command = lockstream(&folder);
            command.args(arguments).env("DATABASE_URL", database.url());
            let refused = run(command);
            let line = one_error_line(&refused);
            assert!(
                line.contains("cannot be used: its encoding is ") && line.contains("make one with ENCODING"),
                "{line}"
            );
            assert!(!line.contains("Is the server running"), "{line}");
        }
    }
}

#[tokio::test]
async fn a_server_that_was_restarted_while_nobody_asked_costs_no_query() {
    let cluster = Cluster::start();
    let folder = Folder::with(cluster.create_database());
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1"), reserved("L", "A1", "R")]).await;
    let paths = ["/lockers/L", "/lockers/L/compartments/A1", "/reservations/R", "/readyz"];
    for _ in 0..2 {
        for path in paths {
            assert_eq!(server.get(path).await.status, 200, "{path}");
        }
        cluster.stop(Signal::INT);
        cluster.start_again();
    }
    for path in paths {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
}
