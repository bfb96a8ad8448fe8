//! A failover for real: a standby that had not heard of the last transactions answers, read-only at
//! first, and is then promoted.

use std::sync::Arc;

use rustix::process::Signal;
use tokio::task::spawn_blocking;

use crate::outage::{NO_LAG_LIMIT, Trial};
use crate::support::postgres::Cluster;
use crate::support::postgres::database::Database;
use crate::support::proxy::Proxy;
use crate::support::{Folder, eventually};

const WRITTEN_ANEW: &str = "the database is not where it was left: everything is written anew";

/// A server, a standby of it, and the way that leads to the one in charge.
struct Pair {
    folder: Folder,
    proxy: Proxy,
    /// The database as the standby has it.
    copy: Database,
    primary: Arc<Cluster>,
    standby: Arc<Cluster>,
}

impl Pair {
    fn start() -> Self {
        let primary = Arc::new(Cluster::start());
        let folder = Folder::with(primary.create_database());
        let proxy = Proxy::to(folder.postgres());
        let standby = Arc::new(Cluster::standby_of(&primary));
        let copy = standby.copy_of(folder.postgres());
        Self { folder, proxy, copy, primary, standby }
    }

    fn url(&self) -> String {
        self.proxy.url(self.folder.postgres())
    }

    /// From now on the standby hears nothing of what is written; it knows all that is there.
    async fn stop_the_standby(&self) {
        let made = "SELECT to_regclass('lockstream.checkpoint') IS NOT NULL";
        eventually("the standby has the tables", async || self.copy.value(made).await).await;
        let known = "SELECT COALESCE(max(sequence), 0) FROM lockstream.checkpoint";
        let at = i64::try_from(self.folder.checkpoint().await.0).unwrap();
        eventually("the standby knows all", async || self.copy.value::<i64>(known).await == at).await;
        self.standby.stop(Signal::INT);
    }

    /// The primary is lost; whoever connects reaches the standby.
    async fn fail_over(&self) {
        let (primary, standby) = (Arc::clone(&self.primary), Arc::clone(&self.standby));
        let failing = spawn_blocking(move || {
            primary.stop(Signal::KILL);
            standby.start_again();
        });
        failing.await.unwrap();
        self.proxy.lead_to(&self.copy);
    }

    async fn promote(&self) {
        assert!(self.copy.value::<bool>("SELECT pg_promote()").await);
    }
}

#[tokio::test]
async fn a_standby_that_missed_something_shows_nobody_an_old_state_and_is_written_anew() {
    let pair = Pair::start();
    let trial = Trial::begin_with(&pair.folder, &[("DATABASE_URL", &pair.url())]).await;
    pair.stop_the_standby().await;
    for _ in 0..5 {
        trial.grow().await;
    }
    trial.is_up_to_date().await;
    let now = trial.server.get("/lockers/L").await.body;

    pair.fail_over().await;

    // What it holds is old and it takes nothing: whoever asks is told to come again.
    let old = ["the database stands at sequence 2, but it had 7 already"];
    trial.answers_no_query(&["projection-behind", "database-unavailable"]).await;
    trial.says(&old).await;
    trial.records_up_to_the_limit().await;
    trial.says(&old).await;
    assert!(trial.server.lines().iter().any(|line| line.contains("read-only transaction")));

    pair.promote().await;

    trial.is_up_to_date().await;
    assert_ne!(trial.server.get("/lockers/L").await.body, now, "what was recorded meanwhile is there too");
    let anew = trial.server.lines_saying(WRITTEN_ANEW);
    assert_eq!((anew.len(), &anew[0]["found_sequence"], &anew[0]["left_sequence"]), (1, &"2".into(), &"7".into()));
    trial.heals().await;
}

#[tokio::test]
async fn a_failover_under_load_shows_nobody_an_old_state() {
    let pair = Pair::start();
    let trial = Trial::begin_with(&pair.folder, &[("DATABASE_URL", &pair.url()), NO_LAG_LIMIT]).await;
    pair.stop_the_standby().await;
    trial
        .under_load(async {
            for promotes in [false, true] {
                if promotes {
                    pair.fail_over().await;
                    pair.promote().await;
                }
                let path = format!("/lockers/L/compartments/{}", trial.grow().await);
                eventually("queries are answered", async || trial.server.get(&path).await.status == 200).await;
            }
        })
        .await;
    trial.server.says(WRITTEN_ANEW, 1).await;
    trial.heals().await;
}
