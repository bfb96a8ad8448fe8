//! Somebody else reads the tables with SQL, and takes a long time over it: a report, a dump. A
//! rebuild goes on beside that, and so does everybody else.

use std::cell::Cell;

use futures_util::future::join;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use super::{leftovers, rebuild, rebuild_meanwhile, verified};
use crate::support::events::registered;
use crate::support::postgres::Cluster;
use crate::support::server::Server;
use crate::support::{Folder, eventually};

/// Somebody in the middle of reading.
async fn reader(folder: &Folder) -> PgConnection {
    let mut connection = folder.postgres().connect().await;
    connection.execute("BEGIN; SELECT count(*) FROM lockstream.checkpoint").await.unwrap();
    connection
}

#[tokio::test]
async fn who_still_reads_the_replaced_tables_holds_up_nothing_but_their_removal() {
    let folder = Folder::on_postgres();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "0")]).await;
    assert_eq!(server.get("/lockers/L").await.status, 200); // Waits for the projection.
    let reading = reader(&folder).await;

    let done = Cell::new(false);
    let work = async {
        let mut doors = 1;
        while !done.get() {
            server.accept(&[registered("L", &doors.to_string())]).await;
            doors += 1;
            let seen = server.get("/lockers/L").await;
            assert_eq!((seen.status, seen.json()["compartments"].as_u64()), (200, Some(doors)), "{seen:?}");
        }
    };
    let rebuilding = async {
        let ended = rebuild_meanwhile(&folder).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        done.set(true);
    };
    join(work, rebuilding).await;
    assert_eq!(leftovers(&folder).await, ["lockstream_old"]);

    let refused = rebuild(&folder, &[]);
    assert!(refused.stderr.contains("still has tables of an earlier rebuild"), "{refused:?}");
    reading.close().await.unwrap();
    assert_eq!(rebuild(&folder, &[]).code, Some(0));
    assert_eq!(leftovers(&folder).await, [""; 0]);
    assert!(server.stop().success());
    verified(&folder);
}

#[tokio::test]
async fn who_reads_tables_that_are_of_no_use_any_more_does_not_keep_new_ones_from_being_written() {
    let folder = Folder::on_postgres();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "0")]).await;
    assert_eq!(server.get("/lockers/L").await.status, 200); // Waits for the projection.
    folder.execute("UPDATE checkpoint SET sequence = 0").await;
    let reading = reader(&folder).await;

    server.accept(&[registered("L", "1")]).await;

    let healed = async || {
        let seen = server.get("/lockers/L").await;
        seen.status == 200 && seen.json()["compartments"] == 2
    };
    eventually("all is written anew", healed).await;
    reading.close().await.unwrap();
    assert!(server.stop().success());
    verified(&folder);
}

#[tokio::test]
async fn who_may_read_all_tables_to_come_may_read_those_of_a_rebuild() {
    const READING: &str = "SET ROLE analyst; SELECT compartments FROM lockstream.lockers";
    let cluster = Cluster::start();
    let folder = Folder::with(cluster.create_database());
    // As the operations page says.
    folder
        .postgres()
        .execute(
            "CREATE ROLE analyst;
             ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT USAGE ON SCHEMAS TO analyst;
             ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT SELECT ON TABLES TO analyst",
        )
        .await;
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "0")]).await;
    assert_eq!(server.get("/lockers/L").await.status, 200); // Waits for the projection.
    folder.postgres().execute(READING).await;
    assert_eq!(rebuild(&folder, &[]).code, Some(0));
    folder.postgres().execute(READING).await;
}
