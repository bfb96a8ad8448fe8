//! Backups and restores that are killed at a moment that nobody chose: what was there before
//! counts, and the next attempt finishes.

use std::cell::Cell;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;
use tokio::time::sleep;

use super::{
    SMALL_SEGMENTS, back_up, backup_command, manifest, report, restore_command, restored, segments, verified,
    write_doors, write_log,
};
use crate::full_disk::with_mounts;
use crate::support::events::registered;
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, eventually, logs};

const ROUNDS: usize = 8;

#[tokio::test]
async fn no_server_starts_on_half_a_restore_though_one_was_stopped_there_before() {
    let (source, place, folder) = (Folder::new(), tempfile::tempdir().unwrap(), Folder::new());
    write_log(&source, 40);
    back_up(&source, place.path());
    // It stopped in order, and marked that it had recorded nothing.
    assert!(Server::start(&folder).await.stop().success());
    // The second segment keeps whoever reads it waiting.
    let second = segments(place.path())[1].clone();
    let bytes = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    mknodat(CWD, &second, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let mut restoring = restore_command(&folder, place.path(), &[]).spawn().unwrap();
    let first = folder.path().join("log.restoring/00000000000000000001.jsonl");
    eventually("half of it is there", async || first.exists()).await;
    restoring.kill().unwrap();
    restoring.wait().unwrap();

    let said = Server::spawn(lockstream(&folder)).await.err().expect("it refuses to start");

    assert!(said.last().unwrap().contains("went on to sequence 40"), "{said:?}");
    fs::remove_file(&second).unwrap();
    fs::write(&second, bytes).unwrap();
    assert_eq!(report(restore_command(&folder, place.path(), &[]))["head_sequence"], 40);
    assert_eq!(Server::start(&folder).await.get("/lockers/L0").await.json()["compartments"], 14);
}

#[test]
fn a_full_disk_in_the_middle_leaves_backup_and_data_folder_as_they_were() {
    let (folder, before, small) = (Folder::on_sqlite(), Folder::on_sqlite(), Folder::on_sqlite());
    write_log(&before, 20);
    fs::create_dir(folder.log()).unwrap();
    for segment in before.segments() {
        fs::copy(&segment, folder.log().join(segment.file_name().unwrap())).unwrap();
    }
    write_doors(&folder, 20..1_000);
    let whole = before.path().join("whole");
    back_up(&folder, &whole);
    if run(with_mounts(&small, "mount -t tmpfs tmpfs \"$1\"")).code != Some(0) {
        eprintln!("no disk can be mounted here");
        return;
    }
    let half = folder.log_bytes().len() / 2;
    let [longer, shorter, whole] = [folder.path(), before.path(), &whole].map(|path| path.display());
    let script = format!(
        r#"mount -t tmpfs -o size={half} tmpfs "$1"
        "$0" --data-dir {shorter} backup "$1/backup" >&2
        "$0" --data-dir {longer} backup "$1/backup" || echo backup $?
        "$0" restore --check --json "$1/backup"
        rm -r "$1/backup"
        "$0" --data-dir "$1/data" restore {whole} || echo restore $?
        ls -A "$1/data"
        mount -o remount,size=64m "$1"
        "$0" --data-dir "$1/data" restore --json {whole}"#
    );

    let ended = run(with_mounts(&small, &script));

    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr.matches("No space left on device").count(), 2, "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    let head = |line: &str| serde_json::from_str::<Value>(line).unwrap()["head_sequence"].as_u64();
    assert_eq!((lines[0], head(lines[1])), ("backup 1", Some(20)), "the backup before counts");
    assert_eq!(lines[2..5], ["restore 1", "lockstream.lock", "log"], "as if nobody had tried");
    assert_eq!(head(lines[5]), Some(1_000));
}

/// A part of a time that nobody chose.
fn some_part_of(time: Duration) -> Duration {
    let [byte, ..] = RandomState::new().hash_one(()).to_le_bytes();
    time * u32::from(byte) / 255
}

/// Kills a command at some moment; says whether it had ended by then.
async fn kill_at(mut command: Command, moment: Duration) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sleep(moment).await;
    let ended = child.try_wait().unwrap().is_some();
    let _ = child.kill();
    child.wait().unwrap();
    ended
}

#[tokio::test]
async fn a_backup_killed_at_any_moment_leaves_the_one_before_and_the_next_one_finishes() {
    let (folder, place) = (Folder::new(), Folder::new());
    let backup = place.path().join("backup");
    write_log(&folder, 100);
    back_up(&folder, &backup);
    let (mut doors, mut cut_off) = (100, 0);
    // On a machine with other work the first ones may all end in time.
    for round in 0..10 * ROUNDS {
        if round >= ROUNDS && cut_off > 0 {
            break;
        }
        let flags = if round % 3 == 0 { &["--hard-link"][..] } else { &[] };
        let before = manifest(&backup);
        let old = before["sequence"].as_u64().unwrap();
        write_doors(&folder, doors..doors + 60);
        doors += 60;
        // How long one takes now, in a folder of its own.
        let begin = Instant::now();
        report(backup_command(&folder, &place.path().join(format!("whole-{round}")), &[]));
        let moment = some_part_of(begin.elapsed());

        let ended = kill_at(backup_command(&folder, &backup, flags), moment).await;

        let case = format!("round {round}, killed after {moment:?}, ended: {ended}");
        let after = manifest(&backup);
        let head = after["sequence"].as_u64().unwrap();
        assert!(after == before || head == doors as u64, "{case}: the one or the other");
        cut_off += usize::from(head == old);
        let (twin, restored) = restored(&backup);
        assert_eq!(restored["head_sequence"], head, "{case}");
        assert_eq!(verified(&twin)["sound"], true, "{case}");
        assert!(folder.log_bytes().starts_with(&twin.log_bytes()), "{case}");
    }
    assert!(cut_off > 0, "some were killed before their end");
    assert_eq!(back_up(&folder, &backup)["head_sequence"], doors);
    assert_eq!(restored(&backup).0.log_bytes(), folder.log_bytes());
    assert!(!backup.join("incoming").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_killed_beside_a_server_under_load_leaves_the_one_before() {
    let (folder, place) = (Folder::new(), Folder::new());
    let backup = place.path().join("backup");
    let server = Server::start_with(&folder, &[SMALL_SEGMENTS]).await;
    let done = Cell::new(false);
    let device = async |number: usize| {
        for door in 0.. {
            if done.get() {
                break;
            }
            server.accept([&registered(&format!("L{number}"), &door.to_string())]).await;
        }
    };
    let killing = async {
        let mut heads = Vec::new();
        for round in 0..ROUNDS {
            let begin = Instant::now();
            let command = backup_command(&folder, &backup, &[]);
            let whole = tokio::task::spawn_blocking(move || report(command)).await.unwrap();
            kill_at(backup_command(&folder, &backup, &[]), some_part_of(begin.elapsed())).await;

            let check = restore_command(&folder, &backup, &["--check"]);
            let checked = tokio::task::spawn_blocking(move || report(check)).await.unwrap();
            let [before, after] = [&whole, &checked].map(|report| report["head_sequence"].as_u64().unwrap());
            assert!(before <= after, "round {round}: {before} before, {after} after");
            heads.push(after);
        }
        done.set(true);
        heads
    };
    let (_, heads) = tokio::join!(join_all((0..4).map(&device)), killing);
    assert!(heads.is_sorted() && heads[0] < *heads.last().unwrap(), "{heads:?}");
    let last = back_up(&folder, &backup);
    let (twin, _) = restored(&backup);
    assert_eq!(twin.log_bytes(), folder.log_bytes());
    assert_eq!(verified(&twin)["head_hash"], last["head_hash"]);
}

#[test]
fn what_a_cut_off_backup_left_does_not_count() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&folder, 25);
    back_up(&folder, place.path());
    let (before, old) = (fs::read(place.path().join("manifest.json")).unwrap(), folder.log_bytes());
    write_doors(&folder, 25..60);
    back_up(&folder, place.path());
    let listed = manifest(place.path());

    // All segments are in place, one of them longer than before, and the manifest is the old one.
    fs::write(place.path().join("manifest.json"), &before).unwrap();

    report(restore_command(&folder, place.path(), &["--check"]));
    assert_eq!(restored(place.path()).0.log_bytes(), old);
    back_up(&folder, place.path());
    assert_eq!(manifest(place.path())["segments"], listed["segments"]);
}

#[tokio::test]
async fn a_first_backup_killed_at_any_moment_is_none_and_the_next_one_finishes() {
    let (folder, place) = (Folder::new(), Folder::new());
    write_log(&folder, 600);
    let begin = Instant::now();
    back_up(&folder, &place.path().join("whole"));
    let whole = begin.elapsed();
    for round in 0..8 {
        let backup = place.path().join(round.to_string());
        kill_at(backup_command(&folder, &backup, &[]), some_part_of(whole)).await;
        let ended = run(restore_command(&folder, &backup, &["--check"]));
        let is_there = backup.join("manifest.json").exists();
        assert_eq!(ended.code, Some(i32::from(!is_there)), "round {round}: {ended:?}");
        assert_eq!(back_up(&folder, &backup)["head_sequence"], 600, "round {round}");
        assert_eq!(restored(&backup).0.log_bytes(), folder.log_bytes(), "round {round}");
    }
}

#[tokio::test]
async fn a_restore_killed_at_any_moment_leaves_no_log_without_its_end() {
    let (source, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&source, 600);
    back_up(&source, place.path());
    let begin = Instant::now();
    restored(place.path());
    let whole = begin.elapsed();
    let mut refused = 0;
    // On a machine with other work the first ones may all end in time.
    for round in 0..10 * ROUNDS {
        if round >= ROUNDS && refused > 0 {
            break;
        }
        let folder = Folder::new();
        let moment = some_part_of(whole);
        kill_at(restore_command(&folder, place.path(), &[]), moment).await;

        let case = format!("round {round}, killed after {moment:?} of {whole:?}");
        let log = folder.log_bytes();
        assert!(log.is_empty() || log == source.log_bytes(), "{case}: all of it or nothing");
        if log.is_empty() && folder.path().join("clean-stop.json").exists() {
            // Somebody starts the server all the same.
            let said = Server::spawn(lockstream(&folder)).await.err().expect("it refuses to start");
            assert!(said.last().unwrap().contains("went on to sequence 600"), "{case}: {said:?}");
            refused += 1;
        } else if log.is_empty() {
            assert!(!folder.path().join("log.restoring").exists(), "{case}: the mark comes before all else");
        }
        if log.is_empty() {
            assert_eq!(report(restore_command(&folder, place.path(), &[]))["head_sequence"], 600, "{case}");
        }
        assert_eq!(logs::read(&folder.log()).0, 600, "{case}");
        assert!(!folder.path().join("log.restoring").exists(), "{case}");
    }
    assert!(refused > 0, "some were killed in between");
    let (folder, _) = restored(place.path());
    Server::start(&folder).await.accept(&[registered("later", "1")]).await;
}
