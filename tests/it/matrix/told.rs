//! One case of each outcome through the shipped binary: what it says, that `lockstream verify` says
//! the same place, that neither changes a byte of the log, and that doing what it says works.

mod stopped;

use std::fs;

use crate::matrix::layout::Layout;
use crate::matrix::told::stopped::{RECORDS, Stopped, says, shown};
use crate::support::events::registered;
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, logs};

const RESTORE: &str = "Restore the segment from a backup or another copy; `lockstream verify` shows";

#[tokio::test]
async fn a_flipped_bit_of_a_sealed_segment_is_told_and_the_segment_put_back_from_a_copy() {
    let service = Stopped::new().await;
    let sequence = *service.layout.sequences(1).start() + 2;
    let line = service.layout.line(sequence).clone();
    let mut bytes = fs::read(service.segment(1)).unwrap();
    bytes[line.start + 60] ^= 1;
    fs::write(service.segment(1), bytes).unwrap();

    let place = format!("{}, line {}, byte offset {}: ", shown(&service.segment(1)), line.number, line.start);
    let due = format!("(sequence {sequence} is due here)");
    let error = service.refused();
    says(
        &error,
        &["the log is damaged and acknowledged events are lost", &place, &due, "a later segment exists", RESTORE],
    );
    let (code, detail, sound) = service.found();
    assert_eq!((code.as_str(), sound), ("lost-history", sequence as u64 - 1));
    says(&detail, &[&place, &due]);

    service.restore();
    service.goes_on(RECORDS).await;
}

#[tokio::test]
async fn a_missing_segment_is_told_and_put_back() {
    let service = Stopped::new().await;
    fs::remove_file(service.segment(2)).unwrap();

    let place =
        format!("{}, line 1, byte offset 0: the segment that should begin here is missing", shown(&service.segment(2)));
    let before = format!("or {} was longer once", shown(&service.segment(1)));
    says(&service.refused(), &[&place, &before, "the next segment there is", shown(&service.segment(3)), RESTORE]);
    let (code, detail, sound) = service.found();
    assert_eq!((code.as_str(), sound), ("lost-history", *service.layout.sequences(1).end() as u64));
    says(&detail, &[&place]);

    service.restore();
    service.goes_on(RECORDS).await;
}

#[tokio::test]
async fn a_lost_end_is_told_by_what_proves_it_and_put_back() {
    let service = Stopped::new().await;
    let mut left = service.layout.segments.len();
    // The last name, then one more, then the whole folder.
    while left > 0 {
        left = if left + 2 > service.layout.segments.len() { left - 1 } else { 0 };
        if left == 0 {
            fs::remove_dir_all(service.folder.log()).unwrap();
            assert_eq!(service.verify_code_without_folder(), Some(1));
            fs::create_dir(service.folder.log()).unwrap(); // As the refused start would.
        } else {
            fs::remove_file(service.segment(left)).unwrap();
        }
        let end = service.layout.sequences(left).start() - 1;
        let error = service.refused();
        let ends = format!("the log ends with sequence {end}, but ");
        says(
            &error,
            &[&ends, &format!("proves that it went on to sequence {RECORDS}"), "Nothing was changed. Restore"],
        );
        let (code, detail, sound) = service.found();
        assert_eq!((code.as_str(), sound), ("lost-history", end as u64));
        says(&detail, &[&format!("ends with sequence {end}, but it is known to have gone on to {RECORDS}")]);
    }
    service.restore();
    service.goes_on(RECORDS).await;
}

#[tokio::test]
async fn a_lost_log_folder_is_never_begun_anew_while_either_proof_is_left() {
    for keep_mark in [true, false] {
        let service = Stopped::new().await;
        fs::remove_dir_all(service.folder.log()).unwrap();
        if keep_mark {
            service.folder.delete_database();
        } else {
            fs::remove_file(service.folder.path().join("clean-stop.json")).unwrap();
        }
        let ended = run(lockstream(&service.folder));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let proof = if keep_mark { "the mark of the last clean stop" } else { "the projection's checkpoint" };
        says(
            &ended.stderr,
            &[&format!("the log ends with sequence 0, but {proof} proves"), &format!("sequence {RECORDS}")],
        );
        assert!(service.folder.segments().is_empty(), "no segment was begun");
        service.restore();
        service.goes_on(RECORDS).await;
    }
}

#[tokio::test]
async fn a_log_of_another_service_is_told_and_the_right_one_put_back() {
    let service = Stopped::new().await;
    for (name, bytes) in &Layout::write(RECORDS).segments {
        fs::write(service.folder.log().join(name), bytes).unwrap();
    }
    let error = service.refused();
    let differs = format!("the hash of sequence {RECORDS} differs");
    says(&error, &["the mark of the last clean stop names another history", &differs, "move clean-stop.json out of"]);
    let verified = service.verify();
    assert_eq!(verified.code, Some(3), "{verified:?}");
    says(&verified.stdout, &["other-history", &format!("at sequence {RECORDS} the log's hash differs")]);

    service.restore();
    service.goes_on(RECORDS).await;
}

#[tokio::test]
async fn files_that_are_no_segments_are_named_and_moving_them_away_is_enough() {
    let service = Stopped::new().await;
    let log = service.folder.log();
    let last = *service.layout.sequences(1).end();
    let copy = log.join(Layout::name(last));
    let renamed = log.join("segment 2.jsonl");
    let cases = [
        (
            &copy,
            format!(
                "its name says that it begins with sequence {last}, but the segments before it go on to sequence {last}: if it is a copy, move it out"
            ),
        ),
        (
            &renamed,
            "is not named like a segment of the log; move it out of the folder, or give it back its name".to_owned(),
        ),
    ];
    for (path, told) in cases {
        fs::copy(service.segment(1), path).unwrap();
        says(&service.refused(), &[shown(path), &told]);
        let verified = service.verify();
        assert_eq!(verified.code, Some(1), "{verified:?}");
        says(&verified.stderr, &[shown(path), &told]);
        fs::remove_file(path).unwrap();
    }
    // Not waited for: a pipe that nobody writes to.
    let segment = service.segment(1);
    fs::remove_file(&segment).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&segment).status().unwrap().success());
    let told = format!("{} cannot be read: it is not a file", shown(&segment));
    says(&service.refused(), &[&told]);
    says(&service.verify().stderr, &[&told]);

    service.restore();
    service.goes_on(RECORDS).await;
}

#[tokio::test]
async fn a_torn_end_is_foretold_by_verify_then_cut_and_kept() {
    let service = Stopped::new().await;
    service.forget_proofs();
    let path = service.last();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    let start = service.layout.line(RECORDS).start;

    let verified = service.verify();
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let place = format!("{}, line {}, byte offset {start}", shown(&path), service.layout.line(RECORDS).number);
    says(&verified.stdout, &["the next start will cut them off", &place]);

    let server = Server::start(&service.folder).await;
    let kept_at = format!("{}.torn-{start}-1", shown(&path));
    let warned = server.lines().into_iter().find(|line| line.contains("is cut off")).expect("it says so");
    says(&warned, &[&place, &kept_at]);
    assert!(server.stop().success());
    assert_eq!(fs::read(&kept_at).unwrap(), bytes[start..bytes.len() - 9]);
    fs::remove_file(kept_at).unwrap();
    service.goes_on(RECORDS - 1).await;
}

#[tokio::test]
async fn a_database_file_that_a_crash_left_empty_is_none_and_no_damage() {
    let folder = Folder::on_sqlite();
    logs::write(&folder.log(), &[vec![registered("L", "A1")]]);
    fs::write(folder.database(), "").unwrap();
    let mut verify = lockstream(&folder);
    verify.arg("verify");
    let ended = run(verify);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    says(&ended.stdout, &["projection: there is none; the next start makes it"]);
    assert_eq!(Server::start(&folder).await.get("/lockers/L").await.status, 200);
}

#[tokio::test]
async fn what_the_documents_say_about_going_on_without_what_is_lost_works() {
    let service = Stopped::new().await;
    let line = service.layout.line(*service.layout.sequences(1).start() + 2).clone();
    let sequence = *service.layout.sequences(1).start() + 2;
    let mut bytes = fs::read(service.segment(1)).unwrap();
    bytes[line.start + 60] ^= 1;
    fs::write(service.segment(1), &bytes).unwrap();
    let error = service.refused();
    let told = error.split("byte offset ").nth(1).unwrap().split(':').next().unwrap();
    let offset_bytes: usize = told.parse().unwrap();

    fs::write(service.segment(1), &bytes[..offset_bytes]).unwrap();
    for later in 2..service.layout.segments.len() {
        fs::remove_file(service.segment(later)).unwrap();
    }
    service.forget_proofs();

    service.goes_on(sequence - 1).await;
}
