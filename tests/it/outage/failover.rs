//! A failover for real: a standby that had not heard of the last transactions answers, read-only at
//! first, and is then promoted.

use rustix::process::Signal;

use crate::outage::Trial;
use crate::support::postgres::Cluster;
use crate::support::proxy::Proxy;
use crate::support::{Folder, eventually};

#[tokio::test]
async fn a_standby_that_missed_something_shows_nobody_an_old_state_and_is_written_anew() {
    let primary = Cluster::start();
    let database = primary.create_database();
    let proxy = Proxy::to(&database);
    let folder = Folder::on_sqlite();
    let trial = Trial::begin_with(&folder, &[("DATABASE_URL", &proxy.url(&database))]).await;
    let standby = Cluster::standby_of(&primary);
    let promoted = standby.copy_of(&database);
    standby.stop(Signal::INT);
    for _ in 0..5 {
        trial.grow().await;
    }
    trial.is_up_to_date().await;
    let now = trial.server.get("/lockers/L").await.body;

    primary.stop(Signal::QUIT);
    standby.start_again();
    proxy.lead_to(&promoted);

    // What it holds is old and it takes nothing: whoever asks is told to come again.
    trial.says(&["read-only transaction", "but it had"]).await;
    trial.answers_no_query(&["projection-behind", "database-unavailable"]).await;

    promoted.execute("SELECT pg_promote()").await;
    let right = async || trial.server.get("/lockers/L").await.body == now;
    eventually("the present state is there again", right).await;
    let anew = trial.server.lines_saying("the database is not where it was left: everything is written anew");
    assert_eq!(anew.len(), 1);
    trial.heals().await;
}
