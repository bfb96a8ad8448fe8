//! Networks in files, and options that are wrong.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::Value;

use crate::simulate::{count, file_of, simulate, simulated, sum};
use crate::support::Folder;
use crate::support::server::{Server, lockstream};

#[test]
fn the_same_seed_writes_the_same_bytes_and_another_one_others() {
    let folder = Folder::on_sqlite();
    let write = |name: &str, seed: &str| {
        let path = folder.path().join(name);
        let ended = simulate(&folder, &["--file", path.to_str().unwrap(), "--events", "5000", "--seed", seed]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.stdout.contains(&format!("network {:36}seed {seed}: 100 lockers", "")), "{ended:?}");
        fs::read(path).unwrap()
    };
    let first = write("first", "7");
    assert_eq!(first.split(|byte| *byte == b'\n').count(), 5_001);
    assert!(first == write("second", "7"), "the same network");
    assert!(first != write("third", "8"), "another network");
}

#[tokio::test]
async fn a_real_server_judges_the_events_of_a_file_as_its_report_says() {
    let folder = Folder::new();
    let path = folder.path().join("events.jsonl");
    let network = ["--events", "600", "--seed", "3", "--lockers", "2", "--compartments", "6"];
    let report = simulated(&folder, &[&["--file", path.to_str().unwrap()], &network[..]].concat()).await;
    for absent in ["p50_ms", "max_ms"] {
        assert!(report[absent].is_null(), "a file answers nothing: {report}");
    }
    assert_eq!((&report["file"], &report["server"]), (&path.to_str().unwrap().into(), &Value::Null));

    let server = Server::start(&folder).await;
    let (mut accepted, mut duplicates, mut refused) = (0, 0, BTreeMap::<String, u64>::new());
    for line in fs::read_to_string(&path).unwrap().lines() {
        let answer = server.post_raw("application/json", line.to_owned()).await;
        match answer.status {
            202 => accepted += 1,
            200 => duplicates += 1,
            409 => *refused.entry(answer.code()).or_default() += 1,
            _ => panic!("{line}: {answer:?}"),
        }
    }
    assert_eq!((accepted, duplicates), (count(&report, "accepted"), count(&report, "duplicates")));
    assert_eq!(Value::from_iter(refused), report["refused"]);
    assert!(duplicates > 0 && sum(&report["refused"]) > 0, "a network that has everything: {report}");
}

#[test]
fn an_orderly_network_has_nothing_that_is_not_accepted() {
    let folder = Folder::on_sqlite();
    let path = folder.path().join("events.jsonl");
    let arguments = ["--file", path.to_str().unwrap(), "--events", "20000", "--seed", "3", "--orderly", "--json"];
    let ended = simulate(&folder, &arguments);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((count(&report, "events"), count(&report, "accepted")), (20_000, 20_000), "{report}");
}

#[test]
fn a_reader_that_has_enough_ends_it_in_order() {
    let folder = Folder::on_sqlite();
    let mut command = lockstream(&folder);
    command.args(["simulate", "--file", "-", "--events", "1000000000", "--seed", "7"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    drop(lines);
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
    assert!(told.starts_with("written to  "), "standard output belongs to the events: {told}");
    assert_eq!(first, file_of(&folder, &["--events", "1", "--seed", "7"])[0]);
}

#[test]
fn what_cannot_be_done_is_one_line() {
    let folder = Folder::on_sqlite();
    for (arguments, code, told) in [
        (&["--rate", "fast"][..], 2, "error: (--rate <EVENTS_PER_S>) is \"fast\": must be a number"),
        (&["--rate", "NaN"], 2, "error: (--rate <EVENTS_PER_S>) is \"NaN\": must lie between"),
        (&["--rate", "0"], 2, "error: (--rate <EVENTS_PER_S>) is \"0\": must lie between"),
        (&["--to", "https://h"], 2, "error: (--to <URL>) is \"https://h\": HTTPS is not spoken here"),
        (&["--to", "localhost:8000"], 2, "error: (--to <URL>) is \"localhost:8000\": must look like http://HOST:PORT"),
        (&["--connections", "0"], 2, "error: (--connections <CONNECTIONS>) is \"0\""),
        (&["--batch", "0"], 2, "error: (--batch <EVENTS>) is \"0\""),
        (&["--lockers", "100001"], 2, "error: (--lockers <LOCKERS>) is \"100001\""),
        (&["--file", "events.jsonl"], 2, "error: --file <PATH> needs --events"),
        (
            &["--connections", "9", "--lockers", "8"],
            2,
            "error: --connections <CONNECTIONS> is \"9\": each needs a lock",
        ),
        (
            &["--file", "no/such/folder", "--events", "1"],
            1,
            "error: no/such/folder cannot be written (--file): No such",
        ),
    ] {
        let ended = simulate(&folder, arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.starts_with(told), "{told}: {ended:?}");
    }
    for contradiction in [["--to", "http://h"], ["--rate", "1"], ["--batch", "1"], ["--seconds", "1"]] {
        let ended = simulate(&folder, &[&["--file", "f", "--events", "1"], &contradiction[..]].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was begun");
}
