//! `lockstream backup` and `restore`: whatever was acknowledged before a backup is in it, it is
//! proven, and a server on what was restored is as the first one was.

mod asked;
mod broken;
mod continued;
mod interrupted;
mod meanwhile;
mod restored;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::future::join_all;
use serde_json::Value;

use crate::support::events::{deposited, fault, id, picked_up, registered, reserved};
use crate::support::server::{Ended, Server, lockstream, run};
use crate::support::views::views;
use crate::support::{Folder, logs};

/// Segments so small that every backup meets some.
const SMALL_SEGMENTS: (&str, &str) = ("LOCKSTREAM_MAX_SEGMENT_BYTES", "3000");

fn backup_command(folder: &Folder, backup: &Path, flags: &[&str]) -> Command {
    let mut command = lockstream(folder);
    command.arg("backup").arg(backup).args(flags);
    command
}

fn restore_command(folder: &Folder, backup: &Path, flags: &[&str]) -> Command {
    let mut command = lockstream(folder);
    command.arg("restore").arg(backup).args(flags);
    command
}

/// What a command reports that should work.
fn report(mut command: Command) -> Value {
    command.arg("--json");
    let ended = run(command);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

fn back_up(folder: &Folder, backup: &Path) -> Value {
    report(backup_command(folder, backup, &[]))
}

/// A folder with what a backup holds, and the report of the restore.
fn restored(backup: &Path) -> (Folder, Value) {
    let folder = Folder::new();
    let report = report(restore_command(&folder, backup, &[]));
    (folder, report)
}

/// The one line on standard error of a command that ended with this code.
fn refusal(command: Command, code: i32) -> String {
    let ended = run(command);
    let Ended { stdout, stderr, .. } = &ended;
    assert_eq!((ended.code, stdout.as_str(), stderr.lines().count()), (Some(code), "", 1), "{ended:?}");
    stderr.strip_prefix("error: ").unwrap_or_else(|| panic!("{ended:?}")).to_owned()
}

fn verified(folder: &Folder) -> Value {
    let mut verify = lockstream(folder);
    verify.arg("verify");
    report(verify)
}

/// The manifest of a backup.
fn manifest(backup: &Path) -> Value {
    serde_json::from_slice(&fs::read(backup.join("manifest.json")).unwrap()).unwrap()
}

/// The segments in a backup.
fn segments(backup: &Path) -> Vec<PathBuf> {
    logs::files(&backup.join("log")).into_keys().collect()
}

/// A log of so many events in small segments.
fn write_log(folder: &Folder, events: usize) {
    write_doors(folder, 0..events);
}

fn write_doors(folder: &Folder, doors: std::ops::Range<usize>) {
    let events: Vec<_> = doors.map(|n| registered(&format!("L{}", n % 3), &n.to_string())).collect();
    logs::write_with(&folder.log(), 3_000, &events.chunks(4).map(<[_]>::to_vec).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_backup_under_load_has_whatever_was_acknowledged_before_it_began() {
    const BACKUPS: usize = 6;
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    let server = Server::start_with(&folder, &[SMALL_SEGMENTS]).await;
    let (acknowledged, done) = (RefCell::new(Vec::new()), RefCell::new(false));
    let device = async |number: usize| {
        let mut doors = 0;
        while !*done.borrow() {
            let event = registered(&format!("L{number}"), &doors.to_string());
            server.accept([&event]).await;
            acknowledged.borrow_mut().push(id(&event).to_owned());
            doors += 1;
        }
    };
    let backing_up = async {
        let mut promises = Vec::new();
        for number in 0..BACKUPS {
            let before = acknowledged.borrow().clone();
            // Each second one brings a folder up to date that has a backup.
            let backup = place.path().join((number / 2).to_string());
            let command = backup_command(&folder, &backup, &[]);
            let report = tokio::task::spawn_blocking(move || report(command)).await.unwrap();
            promises.push((backup, before, report));
        }
        *done.borrow_mut() = true;
        promises
    };
    let (_, promises) = tokio::join!(join_all((0..4).map(&device)), backing_up);

    for (backup, before, report) in promises.iter().skip(1).step_by(2) {
        let (restored, again) = restored(backup);
        assert_eq!((&again["head_sequence"], &again["head_hash"]), (&report["head_sequence"], &report["head_hash"]));
        let verified = verified(&restored);
        assert_eq!((&verified["sound"], &verified["head_hash"]), (&true.into(), &report["head_hash"]));
        let there = restored.event_ids();
        assert_eq!(there.len() as u64, report["head_sequence"].as_u64().unwrap());
        let missing: Vec<_> = before.iter().filter(|id| !there.contains(id)).collect();
        assert!(missing.is_empty(), "acknowledged before the backup began: {missing:?}");
        assert!(folder.log_bytes().starts_with(&restored.log_bytes()), "it is what the log began with");
        let copies = segments(backup).iter().flat_map(|copy| fs::read(copy).unwrap()).collect::<Vec<_>>();
        assert!(copies == restored.log_bytes(), "the copies end with that head, however far the log had gone on");
    }
    assert!(!promises.last().unwrap().1.is_empty(), "there was something to lose");
}

#[tokio::test]
async fn a_server_on_a_restored_log_answers_as_the_first_one_did_at_that_head() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    let backup = place.path().join("deep/down/backup");
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_SEGMENT_BYTES", "1024")]).await;
    let events = [
        registered("L", "A1"),
        registered("L", "A2"),
        reserved("L", "A1", "R1"),
        deposited("L", "R1"),
        fault("L", "A2", 3),
    ];
    server.accept(&events).await;
    let as_it_was = views(&server, &folder, &Value::Null).await;

    let done = back_up(&folder, &backup);
    server.accept(&[picked_up("L", "R1"), reserved("L", "A1", "R2")]).await;
    let (twin, _) = restored(&backup);

    assert_eq!(done["head_sequence"], 5);
    let second = Server::start(&twin).await;
    assert_eq!(views(&second, &twin, &Value::Null).await, as_it_was, "answers and state hashes");
    // It goes on from there, with a history of its own.
    second.accept(&[picked_up("L", "R1")]).await;
    assert!(second.stop().success());
    assert_eq!(verified(&twin)["head_sequence"], 6);
}

#[tokio::test]
async fn a_backup_holds_the_log_and_a_manifest_that_says_what_is_in_it() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    let server = Server::start_with(&folder, &[SMALL_SEGMENTS]).await;
    for door in 0..30 {
        server.accept([&registered("L", &door.to_string())]).await;
    }
    let ended = run(backup_command(&folder, place.path(), &[]));

    assert_eq!(ended.code, Some(0), "{ended:?}");
    let records = folder.records();
    let hash = records[29]["hash"].as_str().unwrap();
    assert!(ended.stdout.contains(&format!("backed up to sequence 30, hash {hash}")), "{ended:?}");
    let manifest = manifest(place.path());
    assert_eq!((&manifest["v"], &manifest["sequence"], &manifest["chain_hash"]), (&1.into(), &30.into(), &hash.into()));
    let listed = manifest["segments"].as_array().unwrap();
    assert!(listed.len() > 2 && listed.len() == folder.segments().len(), "{listed:?}");
    for (entry, segment) in listed.iter().zip(folder.segments()) {
        let bytes = fs::read(&segment).unwrap();
        let last = usize::try_from(entry["last"].as_u64().unwrap()).unwrap();
        assert_eq!(entry["name"], segment.file_name().unwrap().to_str().unwrap());
        assert_eq!((&entry["bytes"], &entry["chain_hash"]), (&bytes.len().into(), &records[last - 1]["hash"]));
        assert_eq!(fs::read(place.path().join("log").join(segment.file_name().unwrap())).unwrap(), bytes);
    }
}

#[test]
fn a_backup_needs_no_server_and_says_where_it_looked_for_a_log() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    let error = refusal(backup_command(&folder, place.path(), &[]), 1);
    assert!(error.contains("there is no log in") && error.contains("LOCKSTREAM_DATA_DIR"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count() + fs::read_dir(place.path()).unwrap().count(), 0);

    write_log(&folder, 20);
    assert_eq!(back_up(&folder, place.path())["head_sequence"], 20);
    assert_eq!(restored(place.path()).0.log_bytes(), folder.log_bytes());
}

#[tokio::test]
async fn an_empty_log_can_be_backed_up_and_restored_too() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    let server = Server::start(&folder).await;
    assert_eq!(back_up(&folder, place.path())["head_sequence"], 0);
    let (twin, _) = restored(place.path());
    Server::start(&twin).await.accept(&[registered("L", "A1")]).await;
    server.accept(&[registered("L", "A2")]).await;
    assert_eq!(back_up(&folder, place.path())["copied_segments"], 1);
    assert_eq!(restored(place.path()).0.log_bytes(), folder.log_bytes());
}
