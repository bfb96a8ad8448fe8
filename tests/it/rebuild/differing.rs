//! A projection that is not what the log says: what a rebuild does about it, beside the server and
//! without one.

use serde_json::Value;

use super::{identity, leftovers, lines, order, rebuild, verified};
use crate::support::Folder;
use crate::support::events::{fault, registered, reserved};
use crate::support::server::{Server, lockstream, run};

/// A server on a folder with three lockers.
async fn three_lockers(folder: &Folder) -> Server {
    let server = Server::start(folder).await;
    for locker in ["L1", "L2", "L\"3"] {
        server.accept(&[registered(locker, "A1"), registered(locker, "A2"), fault(locker, "A2", 3)]).await;
    }
    server.accept(&[reserved("L1", "A1", "R1")]).await;
    assert_eq!(server.get("/lockers/L1").await.status, 200); // Waits for the projection.
    server
}

#[tokio::test]
async fn a_locker_that_only_one_side_knows_differs_too() {
    const TAMPERING: &str = "
        INSERT INTO lockers SELECT 'ghost', compartments, active_reservations, degraded_compartments, state_hash
            FROM lockers WHERE locker_id = 'L1';
        DELETE FROM lockers WHERE locker_id = 'L\"3'";
    for beside in [true, false] {
        let folder = Folder::new();
        let mut server = Some(three_lockers(&folder).await);
        folder.execute(TAMPERING).await;
        if !beside {
            assert!(server.take().unwrap().stop().success());
        }
        let before = identity(&folder).await;

        let refused = rebuild(&folder, &["--json"]);

        assert_eq!((refused.code, refused.stdout.as_str()), (Some(3), ""), "{refused:?}");
        assert!(refused.stderr.contains(r#"for 2 lockers: "L\"3", "ghost". Nothing was replaced"#), "{refused:?}");
        assert_eq!(identity(&folder).await, before, "nothing was replaced");
        assert_eq!(leftovers(&folder).await, [""; 0]);

        let forced = rebuild(&folder, &["--force", "--json"]);
        let report: Value = serde_json::from_str(&forced.stdout).unwrap();
        assert_eq!((forced.code, &report["differing_lockers"]), (Some(0), &2.into()), "{forced:?}");
        assert_eq!((&report["compared_lockers"], &report["lockers"]), (&3.into(), &3.into()), "{report}");
        assert_ne!(identity(&folder).await, before);
        assert_eq!(leftovers(&folder).await, [""; 0]);
        let server = match server {
            Some(server) => server,
            None => Server::start(&folder).await,
        };
        assert_eq!(server.get("/lockers/ghost").await.status, 404);
        assert_eq!(server.get("/lockers/L%223").await.json()["compartments"], 2);
        assert!(server.stop().success());
        verified(&folder);
    }
}

#[tokio::test]
async fn the_order_over_http_says_that_it_is_the_state_that_differs() {
    let folder = Folder::new();
    let _server = three_lockers(&folder).await;
    folder.execute("UPDATE lockers SET state_hash = (SELECT state_hash FROM lockers WHERE locker_id = 'L2')").await;
    let told = lines(order(&folder, "/rebuild?force=false").await).await;
    let failed = &told.last().unwrap()["failed"];
    assert_eq!(failed["differs"], true, "{told:?}");
    assert!(failed["detail"].as_str().unwrap().contains(r#"for 2 lockers: "L\"3", "L1"."#), "{failed}");
    let told = lines(order(&folder, "/rebuild?force=true").await).await;
    assert_eq!(told.last().unwrap()["done"]["differing_lockers"], 2, "{told:?}");
}

#[tokio::test]
async fn a_projection_that_cannot_be_read_is_left_alone_beside_the_server_and_replaced_without_one() {
    let folder = Folder::new();
    let server = three_lockers(&folder).await;
    let hash = server.state_hash("L1").await;
    folder.execute("UPDATE lockers SET state_hash = 'nonsense' WHERE locker_id = 'L2'").await;
    let before = identity(&folder).await;

    let refused = rebuild(&folder, &[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("column state_hash holds \"nonsense\""), "{refused:?}");
    assert_eq!(identity(&folder).await, before);
    assert_eq!(leftovers(&folder).await, [""; 0]);
    assert_eq!(server.state_hash("L1").await, hash, "the service goes on");

    assert!(server.stop().success());
    let rebuilt = rebuild(&folder, &[]);
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert!(rebuilt.stdout.contains("not compared with the old one"), "{rebuilt:?}");
    verified(&folder);
    assert_eq!(Server::start(&folder).await.state_hash("L1").await, hash);
}

#[tokio::test]
async fn tables_that_are_of_another_shape_are_replaced_without_a_comparison() {
    let folder = Folder::new();
    let server = three_lockers(&folder).await;
    let hash = server.state_hash("L1").await;
    assert!(server.stop().success());
    // As a later version might have it.
    folder.execute("ALTER TABLE lockers RENAME COLUMN state_hash TO digest").await;
    folder.execute("UPDATE _sqlx_migrations SET version = 9999").await;
    let rebuilt = rebuild(&folder, &["--json"]);
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    let report: Value = serde_json::from_str(&rebuilt.stdout).unwrap();
    assert_eq!((&report["compared_lockers"], &report["records"]), (&Value::Null, &10.into()), "{report}");
    verified(&folder);
    assert_eq!(Server::start(&folder).await.state_hash("L1").await, hash);
}

#[tokio::test]
async fn a_projection_that_cannot_be_read_only_now_is_not_replaced_unseen() {
    let folder = Folder::new();
    assert!(three_lockers(&folder).await.stop().success());
    folder.execute("UPDATE lockers SET state_hash = (SELECT state_hash FROM lockers WHERE locker_id = 'L2')").await;
    let before = identity(&folder).await;
    let holder = folder.hold_up_readers().await;

    let mut command = lockstream(&folder);
    command.arg("rebuild").env("LOCKSTREAM_DATABASE_TIMEOUT_MS", "300");
    let refused = run(command);

    assert_eq!(refused.code, Some(1), "{refused:?}");
    let reason = if folder.is_on_postgres() { "the database could not be read" } else { "database is locked" };
    assert!(refused.stderr.contains(reason), "{refused:?}");
    holder.release().await;
    assert_eq!(identity(&folder).await, before);
    assert_eq!(leftovers(&folder).await, [""; 0]);
    assert_eq!(rebuild(&folder, &[]).code, Some(3), "it differs");
}

#[tokio::test]
async fn a_second_projection_that_somebody_else_writes_replaces_nothing() {
    const MEDDLING: &str = "
        CREATE FUNCTION meddle() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            IF to_regclass('lockstream_next.checkpoint') IS NOT NULL THEN
                INSERT INTO lockstream_next.checkpoint VALUES (1, 5, repeat('0', 64)) ON CONFLICT DO NOTHING;
            END IF;
        END $$;
        CREATE EVENT TRIGGER meddling ON ddl_command_end EXECUTE FUNCTION meddle()";
    let folder = Folder::on_postgres();
    assert!(three_lockers(&folder).await.stop().success());
    folder.execute(MEDDLING).await;
    let before = identity(&folder).await;
    assert_eq!(rebuild(&folder, &[]).code, Some(1));
    assert_eq!(identity(&folder).await, before);
    folder.execute("DROP EVENT TRIGGER meddling").await;
    assert_eq!(rebuild(&folder, &[]).code, Some(0));
}
