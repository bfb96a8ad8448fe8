//! `lockstream import`: a file into a folder, with a server or without.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::bulk::{accept, ids, ndjson, story};
use crate::support::events::{deposited, registered, reserved};
use crate::support::server::{Ended, Server, lockstream, run};
use crate::support::{Folder, eventually};

fn file(folder: &Folder, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join("week.ndjson");
    fs::write(&path, text).unwrap();
    path
}

fn import(folder: &Folder, arguments: &[&str]) -> Ended {
    let mut command = lockstream(folder);
    command.arg("import").arg(folder.path().join("week.ndjson")).args(arguments);
    run(command)
}

/// What `--json` says, with the exit code.
fn report(folder: &Folder, arguments: &[&str]) -> (Option<i32>, Value) {
    let ended = import(folder, &[&["--json"], arguments].concat());
    let report = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    (ended.code, report)
}

/// The counts of a report: recorded, known, refused, not valid.
fn counts(report: &Value) -> [u64; 4] {
    ["accepted", "duplicate", "refused", "invalid"].map(|name| report[name].as_u64().unwrap())
}

#[tokio::test]
async fn a_file_is_recorded_in_an_empty_folder_and_twice_changes_nothing() {
    let folder = Folder::new();
    let events = story("north", 3_000);
    file(&folder, ndjson(&events));

    let (code, first) = report(&folder, &[]);
    let log = folder.log_bytes();
    let (code_again, again) = report(&folder, &[]);

    assert_eq!((code, counts(&first), &first["complete"]), (Some(0), [3_000, 0, 0, 0], &Value::from(true)));
    assert_eq!((code_again, counts(&again)), (Some(0), [0, 3_000, 0, 0]));
    assert_eq!(folder.event_ids(), ids(&events));
    assert!(folder.log_bytes() == log, "the second time wrote nothing");
    let verified = run({
        let mut command = lockstream(&folder);
        command.args(["verify", "--json"]);
        command
    });
    let verified: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!((&verified["sound"], &verified["projected_sequence"]), (&json!(true), &json!(3_000)), "{verified}");
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/lockers/north").await.json()["compartments"], 750);
}

#[tokio::test]
async fn a_running_server_takes_the_file() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let events = story("north", 2_000);
    accept(&server, &events[..100]).await;
    file(&folder, ndjson(&events));

    let (code, report) = report(&folder, &[]);

    assert_eq!((code, counts(&report)), (Some(0), [1_900, 100, 0, 0]));
    assert_eq!(folder.event_ids(), ids(&events));
    assert_eq!(server.get("/lockers/north").await.json()["compartments"], 500);
    assert!(server.stop().success());
}

#[tokio::test]
async fn what_is_not_recorded_is_told_and_written_to_a_file() {
    let folder = Folder::new();
    let door = registered("north", "A1");
    let refused: Vec<_> = (0..12).map(|n| deposited("north", &format!("nobody-{n}"))).collect();
    file(&folder, format!("{door}\nnonsense\n{}", ndjson(&refused)));
    let path = folder.path().join("errors.ndjson");

    let (code, report) = report(&folder, &["--errors", path.to_str().unwrap()]);

    assert_eq!((code, counts(&report)), (Some(3), [1, 0, 12, 1]));
    let shown = report["not_recorded"].as_array().unwrap();
    assert_eq!((shown.len(), &shown[0]["line"], &shown[1]["code"]), (10, &json!(2), &json!("reservation-not-found")));
    let errors: Vec<Value> =
        fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<_> = errors.iter().map(|error| error["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, (2..=14).collect::<Vec<_>>());

    let told = import(&folder, &[]);
    assert_eq!(told.code, Some(3));
    assert!(told.stdout.starts_with("0 events recorded, 1 known already, 12 refused, 1 not valid"), "{told:?}");
    assert!(told.stdout.contains("\nline 2: invalid (invalid-event): is not valid JSON"), "{told:?}");
    assert!(told.stdout.contains("\nline 3: refused (reservation-not-found): "), "{told:?}");
    assert!(told.stdout.ends_with("\nand 3 more; --errors FILE writes all of them\n"), "{told:?}");
    assert_eq!(folder.event_ids(), ids(&[door]));
}

#[tokio::test]
async fn the_log_of_a_predecessor_is_read() {
    let (old, new) = (Folder::new(), Folder::new());
    let events = [registered("north", "A1"), reserved("north", "A1", "p"), deposited("north", "p")];
    let flat = events.iter().map(|event| {
        let mut flat = event.as_object().unwrap().clone();
        let payload = flat.remove("payload").unwrap();
        flat.extend(payload.as_object().unwrap().clone());
        Value::from(flat)
    });
    file(&old, ndjson(&flat.collect::<Vec<_>>()));

    assert_eq!(report(&old, &[]).0, Some(0));

    let recorded: Vec<_> = old.records().iter().map(|record| record["event"].clone()).collect();
    assert_eq!(recorded, events);
    // And so is our own.
    file(&new, old.log_bytes());
    assert_eq!(report(&new, &[]).0, Some(0));
    let again: Vec<_> = new.records().iter().map(|record| record["event"].clone()).collect();
    assert_eq!(again, events);
}

#[tokio::test]
async fn a_line_of_our_log_may_be_longer_than_an_event() {
    let (old, new) = (Folder::new(), Folder::new());
    let [mut longest, mut longer] = ["A1", "A2"].map(|door| registered("north", door));
    for (event, bytes) in [(&mut longest, 65_536), (&mut longer, 65_537)] {
        let rest = bytes - event.to_string().len() - r#","photo":"""#.len();
        event["photo"] = "x".repeat(rest).into();
    }
    file(&old, ndjson([&longest, &longer]));

    let (code, first) = report(&old, &[]);
    file(&new, old.log_bytes());
    let (code_of_log, again) = report(&new, &[]);

    assert_eq!((code, counts(&first)), (Some(3), [1, 0, 0, 1]));
    assert_eq!(first["not_recorded"][0]["code"], "body-too-large");
    assert_eq!((code_of_log, counts(&again)), (Some(0), [1, 0, 0, 0]), "{again}");
    assert_eq!(new.event_ids(), ids(&[longest]));
}

#[tokio::test]
async fn a_byte_order_mark_spoils_nothing() {
    let folder = Folder::new();
    let events = story("north", 4);
    file(&folder, format!("\u{feff}{}", ndjson(&events)));
    assert_eq!(counts(&report(&folder, &[]).1), [4, 0, 0, 0]);
    file(&folder, format!("\u{feff}{:#}", Value::from(events)));
    assert_eq!(counts(&report(&folder, &[]).1), [0, 4, 0, 0]);
    file(&folder, "\u{feff}");
    assert_eq!(report(&folder, &[]).0, Some(0));
}

#[tokio::test]
async fn standard_input_and_an_array_are_read_too() {
    let folder = Folder::new();
    let events = story("north", 40);
    let mut command = lockstream(&folder);
    command.args(["import", "-", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let array = Value::from(events.clone()).to_string();
    let (head, tail) = array.as_bytes().split_at(array.len() / 2);
    for part in [head, tail] {
        stdin.write_all(part).unwrap();
        stdin.flush().unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(counts(&report), [40, 0, 0, 0]);
    assert_eq!(folder.event_ids(), ids(&events));
}

#[tokio::test]
async fn an_import_that_was_killed_is_finished_by_the_next_one() {
    let folder = Folder::new();
    let events = story("north", 20_000);
    file(&folder, ndjson(&events));
    let mut command = lockstream(&folder);
    command.arg("import").arg(folder.path().join("week.ndjson"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let lines = || String::from_utf8_lossy(&folder.log_bytes()).lines().count();
    eventually("a batch is recorded", async || lines() > 1_000).await;
    child.kill().unwrap();
    child.wait().unwrap();

    let (code, report) = report(&folder, &[]);

    let [accepted, known, ..] = counts(&report);
    assert_eq!((code, accepted + known), (Some(0), 20_000), "{report}");
    assert!(known > 0, "the first attempt had recorded some");
    assert_eq!(folder.event_ids(), ids(&events), "in order, none missing and none twice");
}

#[tokio::test]
async fn a_file_that_is_not_there_begins_nothing() {
    let folder = Folder::on_sqlite();
    let ended = import(&folder, &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("week.ndjson cannot be read"), "{ended:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_import_that_is_stopped_ends_in_order() {
    let folder = Folder::new();
    let events = story("north", 1_500);
    let mut command = lockstream(&folder);
    command.args(["import", "-", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // More is to come, and never does.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(ndjson(&events).as_bytes()).unwrap();
    eventually("all of it is recorded", async || {
        String::from_utf8_lossy(&folder.log_bytes()).matches("\"hash\":").count() == 1_500
    })
    .await;

    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();

    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(1), "not all was imported");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (counts(&report), &report["complete"], &report["code"]),
        ([1_500, 0, 0, 0], &json!(false), &json!("stopping"))
    );
    let server = Server::start(&folder).await;
    let started = &server.lines_saying("serving")[0];
    assert_eq!(
        (&started["head_sequence"], &started["projected_sequence"]),
        (&json!(1_500), &json!(1_500)),
        "{started}"
    );
}
