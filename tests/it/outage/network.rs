//! The network between the service and PostgreSQL is cut, slow, or breaks every connection off.

use std::time::Duration;

use crate::outage::{NO_LAG_LIMIT, Trial};
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Folder, eventually};

/// Longer than any patience of the service.
const TOO_LONG: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_network_that_is_cut_slow_or_broken_is_waited_for() {
    for (mode, codes, words) in [
        // Nobody says anything: every wait ends by itself.
        (Mode::Drop, &["database-unavailable"][..], &["no answer within 500 ms", "did not answer within 1000 ms"][..]),
        (
            Mode::Delay(TOO_LONG),
            &["database-unavailable"],
            &["no answer within 500 ms", "did not answer within 1000 ms"],
        ),
        (Mode::Reset, &["database-unavailable"], &["reset by peer", "Broken pipe"]),
    ] {
        let folder = Folder::on_postgres();
        let proxy = Proxy::to(folder.postgres());
        let trial = Trial::begin_with(&folder, &[("DATABASE_URL", &proxy.url(folder.postgres()))]).await;

        proxy.set(mode);

        trial.answers_no_query(codes).await;
        trial.says(words).await;
        trial.records_up_to_the_limit().await;
        trial.says(words).await;
        assert!(!trial.server.lines_saying("the projection is held up").is_empty(), "{mode:?}");

        proxy.set(Mode::Pass);

        trial.heals().await;
    }
}

#[tokio::test]
async fn a_network_that_comes_and_goes_under_load_loses_and_repeats_nothing() {
    let folder = Folder::on_postgres();
    let proxy = Proxy::to(folder.postgres());
    let settings = [("DATABASE_URL", proxy.url(folder.postgres())), (NO_LAG_LIMIT.0, NO_LAG_LIMIT.1.to_owned())];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let trial = Trial::begin_with(&folder, &settings).await;
    let held_up = || trial.server.lines_saying("the projection is held up").len();
    trial
        .under_load(async {
            for mode in [Mode::Reset, Mode::Drop, Mode::Delay(TOO_LONG), Mode::Reset, Mode::Drop] {
                let before = held_up();
                proxy.set(mode);
                eventually("the projection is held up", async || held_up() > before).await;
                proxy.set(Mode::Pass);
                let path = format!("/lockers/L/compartments/{}", trial.grow().await);
                eventually("queries are answered", async || trial.server.get(&path).await.status == 200).await;
            }
        })
        .await;
    trial.heals().await;
}
