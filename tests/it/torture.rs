//! `lockstream torture`: finds nothing wrong with the shipped binary, and finds what is wrong.

mod audit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::full_disk::with_mounts;
use crate::interposed::library;
use crate::support::server::{Ended, lockstream, run};
use crate::support::{Folder, eventually};

/// What every report tells, in its order.
const KEYS: &str = "sound version seed date elapsed_ms interrupted file_system clients cycles kinds kills stops \
                    full_disks_survived full_disks_ended folders records sent acknowledged duplicates refused invalid \
                    turned_away unanswered settled lost doubled refused_but_present out_of_order hash_mismatches \
                    other_violations longest_recovery_ms longest_start_ms findings kept";

/// The first cycle of this seed fills the disk, after some 30 KiB.
const FULL_DISK_SEED: &str = "159";

fn place(folder: &Folder) -> PathBuf {
    folder.path().join("torture")
}

fn torture(folder: &Folder, arguments: &[&str]) -> Ended {
    let mut command = lockstream(folder);
    command.arg("torture").arg(place(folder)).args(arguments);
    run(command)
}

fn report(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {ended:?}"))
}

/// A torture that runs beside the test; killed when dropped.
struct Torturer(Child);

impl Torturer {
    fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let mut command = lockstream(folder);
        command.arg("torture").arg(place(folder)).args(["--minutes", "5", "--clients", "4", "--json"]).args(arguments);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    async fn ended(mut self) -> Ended {
        let child = std::sync::Mutex::new(&mut self.0);
        eventually("the torture ends", || async { child.lock().unwrap().try_wait().unwrap().is_some() }).await;
        let read = |pipe: &mut dyn std::io::Read| std::io::read_to_string(pipe).unwrap();
        Ended {
            code: self.0.wait().unwrap().code(),
            stdout: read(self.0.stdout.as_mut().unwrap()),
            stderr: read(self.0.stderr.as_mut().unwrap()),
        }
    }
}

impl Drop for Torturer {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

#[test]
fn fourteen_cycles_with_every_fault_break_no_promise() {
    let folder = Folder::on_sqlite();
    let ended =
        torture(&folder, &["--cycles", "14", "--seed", "7", "--clients", "8", "--fresh-after", "1500", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report = report(&ended);
    let keys: Vec<_> = report.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected: Vec<_> = KEYS.split_whitespace().collect();
    expected.sort_unstable();
    assert_eq!(keys, expected);

    assert_eq!((&report["sound"], &report["seed"], &report["cycles"]), (&true.into(), &7.into(), &14.into()));
    let kinds = report["kinds"].as_object().unwrap();
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    assert!(kinds.values().all(|count| *count == 2), "{kinds:?}");
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(count("full_disks_survived") + count("full_disks_ended"), 2);
    assert_eq!(count("kills") + count("stops") + count("full_disks_ended"), 14);
    for seen in ["kills", "stops", "acknowledged", "duplicates", "refused", "invalid", "unanswered"] {
        assert!(count(seen) > 0, "{seen}: {report}");
    }
    assert_eq!(count("unanswered"), count("settled"));
    assert!(count("records") >= count("acknowledged"), "what was acknowledged, and what got no answer: {report}");
    assert!(!place(&folder).exists(), "nothing is left of a run that found nothing");
}

#[test]
fn a_full_folder_gives_way_to_an_empty_one() {
    let folder = Folder::on_sqlite();
    // However slow the machine is, something is recorded in the first cycle, and found in the second.
    let ended = torture(&folder, &["--cycles", "2", "--clients", "2", "--fresh-after", "1", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(report(&ended)["folders"].as_u64() > Some(1), "{ended:?}");
}

#[tokio::test]
async fn a_signal_ends_it_early_with_a_report_and_leaves_no_server() {
    let folder = Folder::on_sqlite();
    let torturer = Torturer::start(&folder, &["--keep"]);
    let first = place(&folder).join("data/log/00000000000000000001.jsonl");
    eventually("records are written", || async { fs::metadata(&first).is_ok_and(|file| file.len() > 0) }).await;
    kill_process(Pid::from_child(&torturer.0), Signal::TERM).unwrap();
    let ended = torturer.ended().await;
    let report = report(&ended);
    assert_eq!((ended.code, &report["interrupted"], &report["sound"]), (Some(0), &true.into(), &true.into()));
    assert_eq!(report["kept"], place(&folder).canonicalize().unwrap().to_str().unwrap());
    assert_eq!(processes_naming(&place(&folder)), Vec::<String>::new());
    let journal = fs::read_to_string(place(&folder).join("journal.jsonl")).unwrap();
    let first: Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
    for key in ["cycle", "client", "event_id", "digest", "expected", "sent_ns", "ended_ns", "outcome"] {
        assert!(!first[key].is_null(), "{key}: {first}");
    }

    // What a run left is no hindrance to the next one.
    let again = torture(&folder, &["--cycles", "1", "--clients", "2"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stdout.ends_with("every promise was kept\n"), "{again:?}");
    assert!(!place(&folder).exists());
}

#[tokio::test]
async fn a_torture_that_is_killed_leaves_no_server() {
    let folder = Folder::on_sqlite();
    let torturer = Torturer::start(&folder, &[]);
    let first = place(&folder).join("data/log/00000000000000000001.jsonl");
    eventually("records are written", || async { fs::metadata(&first).is_ok_and(|file| file.len() > 0) }).await;
    assert_eq!(processes_naming(&place(&folder)).len(), 2);
    kill_process(Pid::from_child(&torturer.0), Signal::KILL).unwrap();
    assert_eq!(torturer.ended().await.code, None);
    eventually("its server is gone", || async { processes_naming(&place(&folder)).is_empty() }).await;
}

#[test]
fn a_slow_disk_and_a_single_client_break_no_promise() {
    let folder = Folder::on_sqlite();
    let mut command = lockstream(&folder);
    command.env("LD_PRELOAD", library("slow")).arg("torture").arg(place(&folder));
    // The first cycle of this seed fills the disk.
    command.args(["--cycles", "1", "--seed", FULL_DISK_SEED, "--clients", "1", "--json"]);
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(report(&ended)["full_disks_survived"], 1);
}

#[test]
fn the_root_of_a_disk_stays_and_the_report_is_given() {
    let folder = Folder::on_sqlite();
    let script = r#"mount -t tmpfs tmpfs "$1"; exec "$0" torture "$1" --cycles 1 --clients 2"#;
    let ended = run(with_mounts(&folder, script));
    if ended.stderr.contains("unshare") || ended.stderr.contains("mount:") {
        return eprintln!("no disk can be mounted here");
    }
    assert!(ended.code == Some(0) && ended.stdout.ends_with("every promise was kept\n"), "{ended:?}");
}

/// The command lines of all processes that name a path.
fn processes_naming(path: &Path) -> Vec<String> {
    let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = fs::read(entry.unwrap().path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).into_owned())
    });
    lines.filter(|line| line.contains(path.to_str().unwrap())).collect()
}

#[tokio::test]
async fn a_log_that_somebody_alters_is_found_and_everything_is_kept() {
    let folder = Folder::on_sqlite();
    let torturer = Torturer::start(&folder, &[]);
    let log = place(&folder).join("data/log");
    let segments = || fs::read_dir(&log).map_or(0, Iterator::count);
    eventually("the first segment is full", || async { segments() > 1 }).await;
    let first = log.join("00000000000000000001.jsonl");
    let mut bytes = fs::read(&first).unwrap();
    bytes[100] ^= 1;
    fs::write(&first, bytes).unwrap();
    let ended = torturer.ended().await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let report = report(&ended);
    assert_eq!(report["sound"], false);
    assert!(report["lost"].as_u64() > Some(0), "nothing behind the first record can be trusted: {report}");
    let sentence = report["findings"][0]["detail"].as_str().unwrap();
    let kept = fs::read_to_string(place(&folder).join("findings.txt")).unwrap();
    assert!(kept.contains(sentence), "{kept}");
    assert!(place(&folder).join("server.log").exists() && first.exists());

    // And the next run does not sweep it away.
    let again = torture(&folder, &["--cycles", "1"]);
    assert_eq!((again.code, again.stdout.as_str()), (Some(1), ""));
    assert!(again.stderr.contains("findings.txt"), "{again:?}");
    assert!(first.exists());
}

#[test]
fn a_folder_with_anything_else_in_it_is_left_alone() {
    let folder = Folder::on_sqlite();
    fs::create_dir(place(&folder)).unwrap();
    let mine = place(&folder).join("holiday.jpg");
    fs::write(&mine, "blue").unwrap();
    let ended = torture(&folder, &["--cycles", "1"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("choose another folder"), "{ended:?}");
    let names: Vec<_> = fs::read_dir(place(&folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names, [mine]);
}

#[test]
fn minutes_and_cycles_exclude_each_other() {
    let folder = Folder::on_sqlite();
    let ended = torture(&folder, &["--minutes", "1", "--cycles", "1"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(!place(&folder).exists(), "nothing was begun");
}
