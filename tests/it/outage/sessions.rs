//! The service's sessions on PostgreSQL: killed in the middle of whatever they do, forgotten by the
//! network while they hold the claim.

use sqlx::{AssertSqlSafe, Row};
use tokio::time::timeout;

use crate::outage::{NO_LAG_LIMIT, Trial};
use crate::support::postgres::database::Database;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Folder, PATIENCE, eventually};

/// The session that holds the claim.
const HOLDER: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND \
                      database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Ends sessions of others, over and over, until so many were ended.
async fn kill_sessions(database: &Database, which: &str, count: i64) {
    let kill = format!(
        "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = \
         current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND {which}) AS killed"
    );
    let (mut connection, mut killed) = (database.connect().await, 0);
    while killed < count {
        let killing = sqlx::query_scalar::<_, i64>(AssertSqlSafe(kill.as_str())).fetch_one(&mut connection);
        killed += timeout(PATIENCE, killing).await.expect("PostgreSQL answers").unwrap();
    }
}

#[tokio::test]
async fn sessions_that_are_killed_again_and_again_lose_and_repeat_nothing() {
    let folder = Folder::on_postgres();
    let trial = Trial::begin_with(&folder, &[NO_LAG_LIMIT]).await;
    trial
        .under_load(async {
            for _ in 0..3 {
                // In the middle of a transaction, and wherever they are.
                kill_sessions(folder.postgres(), "backend_xid IS NOT NULL", 2).await;
                kill_sessions(folder.postgres(), "true", 5).await;
                // Only what works can be disturbed.
                let path = format!("/lockers/L/compartments/{}", trial.grow().await);
                eventually("queries are answered", async || trial.server.get(&path).await.status == 200).await;
            }
        })
        .await;
    assert!(!trial.server.lines_saying("the projection is held up").is_empty());
    trial.heals().await;
}

#[tokio::test]
async fn a_session_that_the_network_forgot_does_not_keep_the_service_out() {
    let folder = Folder::on_postgres();
    let proxy = Proxy::to(folder.postgres());
    let trial = Trial::begin_with(&folder, &[("DATABASE_URL", &proxy.url(folder.postgres()))]).await;
    let ghost: i32 = folder.postgres().value(HOLDER).await;

    // Its client hears nothing of it again, and it nothing of its client: it keeps its lock for as
    // long as nobody ends it.
    proxy.forget_connections();

    trial.grow().await;
    let ended = || trial.server.lines_saying("ending a session of this process whose connection was lost");
    eventually("the service ends its own ghost", async || !ended().is_empty()).await;
    assert_eq!(ended()[0]["pid"], ghost);
    eventually("another session has the claim", async || {
        // Asked once: between two questions the ghost goes.
        let holders = folder.postgres().query(HOLDER).await;
        holders.len() == 1 && holders[0].get::<i32, _>(0) != ghost
    })
    .await;
    trial.heals().await;
}

#[tokio::test]
async fn a_ghost_in_the_middle_of_a_transaction_is_ended_too() {
    let folder = Folder::on_postgres();
    let proxy = Proxy::to(folder.postgres());
    let trial = Trial::begin_with(&folder, &[("DATABASE_URL", &proxy.url(folder.postgres()))]).await;
    // The writer waits for a lock when its connection is lost, and gets it afterwards.
    let holder = folder.hold_up().await;
    trial.grow().await;
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'";
    eventually("the writer waits", async || folder.postgres().value::<i64>(waiting).await > 0).await;
    proxy.set(Mode::Drop);
    proxy.forget_connections();
    holder.release().await;
    trial.says(&["could not be reached", "could not be written", "could not be read"]).await;
    proxy.set(Mode::Pass);
    trial.heals().await;
}
