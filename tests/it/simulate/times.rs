//! Rates and ends: what is due when, and what a server is charged with that stands still.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::simulate::stand_in::StandIn;
use crate::simulate::{Simulation, count, report, simulated};
use crate::support::server::Server;
use crate::support::{Folder, eventually};

const ONE: [&str; 4] = ["--lockers", "1", "--connections", "1"];

fn accepted() -> (u16, &'static str, String) {
    (202, "", r#"{"status":"accepted"}"#.into())
}

#[tokio::test]
async fn no_more_events_are_sent_than_the_rate_allows() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let arguments = ["--to", &server.url(""), "--rate", "100", "--events", "101", "--connections", "8"];
    let report = simulated(&folder, &arguments).await;
    assert_eq!(report["wanted_rate_events_per_s"], 100.0);
    // The last one is due after a second, and not before.
    assert!(count(&report, "elapsed_ms") >= 1_000, "{report}");
    assert!(report["rate_events_per_s"].as_f64().unwrap() <= 101.0, "{report}");
}

#[tokio::test]
async fn a_server_that_stands_still_is_charged_with_all_that_had_to_wait() {
    const STANDSTILL: Duration = Duration::from_millis(600);
    let folder = Folder::on_sqlite();
    // The first answer takes that long; the standstill is what is tried.
    let stand_still = |number, _: &_| {
        if number == 0 {
            std::thread::sleep(STANDSTILL);
        }
        accepted()
    };
    let with = |url: &str, rate: &[&str]| -> Vec<String> {
        let arguments = [&ONE[..], &["--orderly", "--events", "101", "--to", url], rate].concat();
        arguments.into_iter().map(str::to_owned).collect()
    };
    let run = async |arguments: Vec<String>| {
        simulated(&folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    // All are due within a tenth of a second: the last one too waits for most of the standstill.
    let server = StandIn::start(stand_still);
    let open = run(with(&server.url(), &["--rate", "1000"])).await;
    assert!(open["p50_ms"].as_f64().unwrap() >= 500.0, "{open}");
    // As fast as it is answered, only one of a hundred seems to be slow.
    let server = StandIn::start(stand_still);
    let closed = run(with(&server.url(), &[])).await;
    assert!(closed["max_ms"].as_f64().unwrap() >= 600.0, "{closed}");
    assert!(closed["p50_ms"].as_f64().unwrap() < 500.0, "{closed}");
    assert_eq!((count(&open, "events"), count(&closed, "events")), (101, 101));
}

#[tokio::test]
async fn a_network_lives_for_its_seconds_and_not_longer() {
    let folder = Folder::on_sqlite();
    let server = StandIn::start(|_, _| accepted());
    let report =
        simulated(&folder, &[&ONE[..], &["--orderly", "--to", &server.url(), "--seconds", "1"]].concat()).await;
    assert!((1..60_000).contains(&count(&report, "elapsed_ms")), "{report}");
    assert_eq!(report["interrupted"], false);
    assert_eq!(count(&report, "events") + count(&report, "unsettled"), server.asked().len() as u64);
}

#[tokio::test]
async fn a_signal_ends_it_in_order_with_a_report() {
    for signal in [Signal::INT, Signal::TERM] {
        let folder = Folder::on_sqlite();
        let server = StandIn::start(|_, _| accepted());
        let simulation = Simulation::start(&folder, &["--orderly", "--to", &server.url()]);
        eventually("events are sent", || async { server.asked().len() > 100 }).await;
        simulation.signal(signal);
        let ended = simulation.ended().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        let report = report(&ended);
        assert_eq!((&report["interrupted"], &report["sound"]), (&true.into(), &true.into()));
        assert_eq!(count(&report, "events"), server.asked().len() as u64, "what was sent was answered: {report}");
    }
}

#[tokio::test]
async fn the_time_ends_it_also_while_all_wait_for_their_events_to_be_due() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    // The second event is due after a minute and two thirds.
    let arguments = ["--to", &server.url(""), "--rate", "0.01", "--seconds", "1", "--connections", "4"];
    let begin = Instant::now();
    let report = simulated(&folder, &arguments).await;
    // What does not stop by itself is ended ten seconds later.
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!((count(&report, "events"), &report["interrupted"]), (1, &false.into()), "{report}");
}
