//! Networks that report to the shipped server: what they count is what the log holds.

use serde_json::Value;

use crate::simulate::{count, file_of, ids_by_locker, simulated, sum};
use crate::support::Folder;
use crate::support::server::{Server, lockstream, run};

/// What every report tells of a server.
const KEYS: &str = "sound version seed server file lockers compartments connections batch_events orderly \
                    wanted_rate_events_per_s elapsed_ms interrupted failure events rate_events_per_s requests accepted \
                    duplicates refused impossible wrong findings sent_again turned_away unanswered_requests \
                    found_recorded known_from_before unsettled p50_ms p90_ms p99_ms p99_9_ms max_ms own_lag_p99_ms";

const NETWORK: [&str; 8] = ["--seed", "7", "--lockers", "20", "--compartments", "6", "--connections", "4"];

/// Stops the server and has its log verified; the last sequence.
fn verified_head(server: Server, folder: &Folder) -> u64 {
    assert!(server.stop().success());
    let mut verify = lockstream(folder);
    verify.args(["verify", "--json"]);
    let ended = run(verify);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let verified: Value = serde_json::from_str(&ended.stdout).unwrap();
    count(&verified, "head_sequence")
}

#[tokio::test]
async fn what_four_connections_send_is_in_the_log_in_the_order_of_each_locker() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let url = server.url("");
    let report = simulated(&folder, &[&NETWORK[..], &["--to", &url, "--events", "3000"]].concat()).await;

    let keys: Vec<_> = report.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected: Vec<_> = KEYS.split_whitespace().collect();
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!((&report["sound"], &report["server"], &report["failure"]), (&true.into(), &url.into(), &Value::Null));
    assert_eq!((count(&report, "events"), count(&report, "requests")), (3_000, 3_000));
    let (accepted, duplicates) = (count(&report, "accepted"), count(&report, "duplicates"));
    assert_eq!(accepted + duplicates + sum(&report["refused"]), 3_000, "{report}");
    assert!(duplicates > 0 && sum(&report["refused"]) > 0, "{report}");
    for nothing in ["wrong", "unsettled", "sent_again", "found_recorded", "known_from_before"] {
        assert_eq!(count(&report, nothing), 0, "{nothing}: {report}");
    }
    let milliseconds = ["p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms"].map(|name| report[name].as_f64().unwrap());
    assert!(milliseconds[0] > 0.0 && milliseconds.is_sorted(), "{report}");

    assert_eq!(verified_head(server, &folder), accepted);
    let records = folder.records();
    let file = file_of(&folder, &[&NETWORK[..6], &["--events", "3000"]].concat());
    let mut sent = ids_by_locker(&file);
    let logged = ids_by_locker(records.iter().map(|record| &record["event"]));
    // What was refused at first, because it overtook another one, came again after that; what was
    // refused for good is not in the log.
    for (locker, ids) in &mut sent {
        let in_log = &logged[locker];
        ids.retain(|id| in_log.contains(id));
        let mut places: Vec<_> = ids.iter().map(|id| in_log.iter().position(|logged| logged == id).unwrap()).collect();
        let overtaken = places.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!(overtaken * 20 <= ids.len(), "{locker}: in the order of the file, but for a few: {places:?}");
        places.sort_unstable();
        assert!(places.into_iter().eq(0..in_log.len()), "{locker}: nothing is in the log that was not sent");
    }
    assert_eq!(sent.len(), 20);
}

#[tokio::test]
async fn a_second_run_with_the_seed_goes_on_where_the_first_one_ended() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let url = server.url("");
    let with = |events: &'static str, connections: &'static str| {
        [&NETWORK[..6], &["--connections", connections, "--to", &url, "--events", events]].concat()
    };
    let first = simulated(&folder, &with("700", "4")).await;
    let second = simulated(&folder, &with("1500", "3")).await;
    assert!(count(&second, "known_from_before") > 600, "{second}");
    assert_eq!(count(&second, "wrong"), 0, "{second}");

    // Another server is told everything at once.
    let other_folder = Folder::new();
    let other = Server::start(&other_folder).await;
    let url = other.url("");
    let at_once = [&NETWORK[..], &["--to", &url, "--events", "1500"]].concat();
    let at_once = simulated(&other_folder, &at_once).await;
    assert_eq!(count(&at_once, "accepted"), count(&first, "accepted") + count(&second, "accepted"));
    for number in 0..20 {
        let locker = format!("sim-7-6-{number:04}");
        assert_eq!(server.state_hash(&locker).await, other.state_hash(&locker).await, "{locker}");
    }
}

#[tokio::test]
async fn without_a_url_the_settings_say_where_the_server_is() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let mut command = lockstream(&folder);
    command.env("LOCKSTREAM_ADDR", server.addr.to_string()).args(["simulate", "--events", "50", "--orderly"]);
    let ended = tokio::task::spawn_blocking(move || run(command)).await.unwrap();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    let rows: Vec<_> = ended.stdout.lines().map(|line| line.split_once("  ").unwrap()).collect();
    let row = |name: &str| rows.iter().find(|(known, _)| *known == name).map(|(_, value)| value.trim());
    assert_eq!(row("sent to"), Some(server.url("").as_str()), "{ended:?}");
    assert_eq!((row("events"), row("WRONG ANSWERS")), (Some("50"), Some("0")), "{ended:?}");
    assert_eq!(verified_head(server, &folder), 50);
}
