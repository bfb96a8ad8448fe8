//! Where a restore is refused, and what it says about what knows of more than the backup has.

use std::fs;

use serde_json::Value;

use super::{SMALL_SEGMENTS, back_up, refusal, restore_command, restored, verified, write_log};
use crate::support::events::registered;
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, eventually, logs};

#[tokio::test]
async fn a_folder_that_has_a_log_or_a_server_is_left_alone() {
    let (source, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&source, 20);
    back_up(&source, place.path());
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let in_use = refusal(restore_command(&folder, place.path(), &[]), 1);
    assert!(in_use.contains("in use by another lockstream process"), "{in_use}");
    server.accept(&[registered("L", "A1")]).await;
    let under_it = refusal(restore_command(&folder, place.path(), &[]), 1);
    assert!(server.stop().success());
    let before = logs::files(&folder.log());
    let error = refusal(restore_command(&folder, place.path(), &[]), 1);
    assert!(error.contains("there is a log already") && error.contains(folder.log().to_str().unwrap()), "{error}");
    assert!(under_it.contains("there is a log already"), "{under_it}");
    assert_eq!(logs::files(&folder.log()), before);

    // What recovery cut off is evidence, even without a segment.
    let folder = Folder::new();
    fs::create_dir(folder.log()).unwrap();
    fs::write(folder.log().join("00000000000000000001.jsonl.torn-0-1"), "x").unwrap();
    assert!(refusal(restore_command(&folder, place.path(), &[]), 1).contains("there is a log already"));
}

#[tokio::test]
async fn a_folder_whose_server_never_recorded_anything_takes_a_restore() {
    let (source, place, folder) = (Folder::new(), tempfile::tempdir().unwrap(), Folder::new());
    write_log(&source, 20);
    back_up(&source, place.path());
    assert!(Server::start(&folder).await.stop().success());
    let ended = run(restore_command(&folder, place.path(), &[]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("restored up to sequence 20"), "{ended:?}");
    assert_eq!(folder.log_bytes(), source.log_bytes());
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/lockers/L0").await.json()["compartments"], 7);
}

#[test]
fn a_backup_that_stands_where_a_log_is_put_together_is_not_removed() {
    let (source, folder) = (Folder::new(), Folder::new());
    write_log(&source, 20);
    let place = folder.path().join("log.restoring");
    back_up(&source, &place);
    let before = logs::files(&place.join("log"));
    let error = refusal(restore_command(&folder, &place, &[]), 1);
    assert!(error.contains("holds a backup") && error.contains(place.to_str().unwrap()), "{error}");
    assert_eq!(logs::files(&place.join("log")), before);
    assert!(!folder.path().join("clean-stop.json").exists());
}

#[tokio::test]
async fn a_restored_log_that_is_shortened_later_is_not_started_on() {
    let (source, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&source, 20);
    back_up(&source, place.path());
    let (folder, _) = restored(place.path());
    fs::remove_file(folder.segments().pop().unwrap()).unwrap();
    let said = Server::spawn(lockstream(&folder)).await.err().expect("it refuses to start");
    let said = said.last().unwrap();
    assert!(said.contains("clean stop proves that it went on to sequence 20"), "{said}");
}

/// A folder whose log is lost, and a backup from before its last events.
async fn bereft() -> (Folder, tempfile::TempDir) {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    let server = Server::start_with(&folder, &[SMALL_SEGMENTS]).await;
    server.accept(&[registered("L", "A1"), registered("L", "A2")]).await;
    back_up(&folder, place.path());
    server.accept(&[registered("L", "A3")]).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 3); // Waits for the projection.
    server.kill();
    fs::remove_dir_all(folder.log()).unwrap();
    (folder, place)
}

#[tokio::test]
async fn a_database_that_knows_of_more_is_told_at_the_restore_and_refused_at_the_start() {
    let (folder, place) = bereft().await;

    let ended = run(restore_command(&folder, place.path(), &["--json"]));

    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, &report["restored"], &report["head_sequence"]), (Some(3), &true.into(), &2.into()));
    let finding = &report["findings"][0];
    assert_eq!(finding["code"], "events-missing");
    let detail = finding["detail"].as_str().unwrap();
    assert!(detail.contains("checkpoint proves that the log went on to sequence 3"), "{detail}");
    assert_eq!(folder.event_ids().len(), 2, "it is restored all the same");
    let said = Server::spawn(lockstream(&folder)).await.err().expect("it refuses to start");
    assert!(said.last().unwrap().contains("checkpoint proves that it went on to sequence 3"), "{said:?}");
    // Somebody decides to go on without them.
    folder.delete_database();
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2);
    server.accept(&[registered("L", "B1")]).await;
    assert!(server.stop().success());
    assert_eq!(verified(&folder)["sound"], true);
}

#[tokio::test]
async fn a_mark_that_knows_of_more_stays_and_one_of_another_log_stops_the_restore() {
    let (folder, place) = bereft().await;
    folder.delete_database();
    let mark = folder.path().join("clean-stop.json");
    let later = format!("{{\"v\":1,\"seq\":3,\"hash\":\"{}\"}}", "0".repeat(64));
    fs::write(&mark, &later).unwrap();
    let ended = run(restore_command(&folder, place.path(), &[]));
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stdout.contains("FOUND events-missing: the mark of a clean stop proves"), "{ended:?}");
    assert_eq!(fs::read_to_string(&mark).unwrap(), later);
    assert!(Server::spawn(lockstream(&folder)).await.is_err(), "the start is refused, as was said");

    fs::remove_dir_all(folder.log()).unwrap();
    let other = later.replace("\"seq\":3", "\"seq\":2");
    fs::write(&mark, &other).unwrap();
    let error = refusal(restore_command(&folder, place.path(), &[]), 3);
    assert!(error.contains("another log than this backup: the hash of sequence 2"), "{error}");
    assert!(folder.segments().is_empty() && !folder.path().join("log.restoring").exists());
    assert_eq!(fs::read_to_string(&mark).unwrap(), other);
}

#[tokio::test]
async fn a_database_that_is_behind_the_backup_is_brought_up_to_date_by_the_start() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1"), registered("L", "A2")]).await;
    back_up(&folder, place.path());
    server.stop();
    fs::remove_dir_all(folder.log()).unwrap();
    fs::remove_file(folder.path().join("clean-stop.json")).unwrap();
    let ended = run(restore_command(&folder, place.path(), &[]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2);
    assert!(server.lines_saying("the projection belongs to another log and is made anew").is_empty());
}

#[tokio::test]
async fn an_archive_that_knows_of_more_is_told_at_the_restore_and_refused_at_the_start() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    let server = Server::start_with(&folder, &[SMALL_SEGMENTS]).await;
    let doors = |numbers: std::ops::Range<u64>| numbers.map(|number| registered("L", &number.to_string()));
    server.accept(&doors(0..20).collect::<Vec<_>>()).await;
    back_up(&folder, place.path());
    server.accept(&doors(20..60).collect::<Vec<_>>()).await;
    let archived = || {
        let text = fs::read_to_string(folder.path().join("archive/manifest.json")).ok()?;
        serde_json::from_str::<Value>(text.lines().next()?).ok()?["sequence"].as_u64()
    };
    eventually("what came after the backup is archived", async || archived().is_some_and(|head| head > 20)).await;
    server.kill();
    let proven = archived().unwrap();
    fs::remove_dir_all(folder.log()).unwrap();
    folder.delete_database();

    let ended = run(restore_command(&folder, place.path(), &[]));

    assert_eq!(ended.code, Some(3), "{ended:?}");
    let told = format!("FOUND events-missing: the archive proves that the log went on to sequence {proven}");
    assert!(ended.stdout.contains(&told), "{ended:?}");
    let said = Server::spawn(lockstream(&folder)).await.err().expect("it refuses to start, as was said");
    assert!(
        said.last().unwrap().contains(&format!("the archive proves that it went on to sequence {proven}")),
        "{said:?}"
    );
    fs::remove_dir_all(folder.path().join("archive")).unwrap();
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 20);
}
