//! Damage: in the log it is never backed up quietly, in a backup it is never restored. Either way
//! the place is named, and what was there before stays.

use std::fs;
use std::path::Path;

use lockstream::domain::hash::ChainHash;
use lockstream::infrastructure::event_log::line;

use super::{back_up, backup_command, manifest, refusal, restore_command, restored, segments};
use super::{write_doors, write_log};
use crate::support::events::registered;
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, logs};

/// Changes one bit in the second line of a segment; says how a message names that line.
fn damage(segment: &Path) -> String {
    let mut bytes = fs::read(segment).unwrap();
    let line = logs::line_starts(&bytes)[1];
    bytes[line + 120] ^= 4;
    fs::write(segment, bytes).unwrap();
    format!("{}, line 2, byte offset {line}", segment.display())
}

#[test]
fn a_damaged_segment_of_the_log_is_named_and_not_backed_up() {
    for flags in [&[][..], &["--hard-link"]] {
        let (folder, place) = (Folder::new(), Folder::new());
        let backup = place.path().join("backup");
        write_log(&folder, 20);
        back_up(&folder, &backup);
        write_doors(&folder, 20..60);
        let before = manifest(&backup);
        let sound = folder.log_bytes();
        let segment = folder.segments()[4].clone();
        let named = damage(&segment);
        let damaged = fs::read(&segment).unwrap();

        let error = refusal(backup_command(&folder, &backup, flags), 3);

        assert!(error.contains("the log is damaged") && error.contains(&named), "{error}");
        assert!(error.contains("a later segment exists"), "the proof is told: {error}");
        assert_eq!((manifest(&backup), fs::read(&segment).unwrap()), (before, damaged), "{flags:?}");
        let old = restored(&backup).0;
        assert_eq!(old.event_ids().len(), 20, "the backup is as it was");
        assert!(sound.starts_with(&old.log_bytes()));
    }
}

#[tokio::test]
async fn damage_beside_a_running_server_is_found_before_it_is_backed_up() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    let server = Server::start(&folder).await;
    let doors: Vec<_> = (0..5).map(|n| registered("L", &n.to_string())).collect();
    server.accept(&doors).await;
    // In the segment that is written just now, and in its last batch too.
    let segment = folder.segments()[0].clone();
    let sound = fs::read(&segment).unwrap();
    let lines = logs::line_starts(&sound);
    for line in [1, 4] {
        let mut damaged = sound.clone();
        damaged[lines[line] + 120] ^= 4;
        fs::write(&segment, &damaged).unwrap();
        let error = refusal(backup_command(&folder, place.path(), &[]), 3);
        let named = format!("line {}, byte offset {}", line + 1, lines[line]);
        assert!(error.contains(segment.to_str().unwrap()) && error.contains(&named), "{error}");
        assert!(!place.path().join("manifest.json").exists());
    }
    fs::write(&segment, &sound[..lines[4]]).unwrap();
    let error = refusal(backup_command(&folder, place.path(), &[]), 3);
    assert!(error.contains("ends with sequence 4, but the server says that it went on to sequence 5"), "{error}");
}

#[test]
fn a_missing_segment_of_the_log_is_named() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&folder, 40);
    let missing = folder.segments()[1].clone();
    fs::remove_file(&missing).unwrap();
    let error = refusal(backup_command(&folder, place.path(), &[]), 3);
    assert!(error.contains(missing.to_str().unwrap()) && error.contains("should begin here is missing"), "{error}");
}

#[tokio::test]
async fn a_torn_end_is_left_out_and_said_unless_something_proves_that_it_was_whole() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&folder, 20);
    let last = folder.segments().pop().unwrap();
    let whole = fs::read(&last).unwrap();
    let torn = &whole[..whole.len() - 10];
    fs::write(&last, torn).unwrap();

    let done = back_up(&folder, place.path());

    let lines = logs::line_starts(torn);
    let start = lines.last().unwrap();
    let note = done["notes"][0].as_str().unwrap();
    assert_eq!((&done["head_sequence"], done["notes"].as_array().unwrap().len()), (&19.into(), 1));
    assert!(note.contains(&format!("last {} bytes are no whole record", torn.len() - start)), "{note}");
    assert!(note.contains(&format!("byte offset {start}")), "{note}");
    assert_eq!(fs::read(&last).unwrap(), torn, "the log is not touched");
    let twin = restored(place.path()).0;
    assert_eq!(twin.log_bytes().len(), folder.log_bytes().len() - (torn.len() - start));

    // The mark of a clean stop proves it, and so does the last backup.
    fs::write(&last, &whole).unwrap();
    back_up(&folder, place.path());
    let torn_later = &whole[..whole.len() - 10];
    fs::write(&last, torn_later).unwrap();
    let error = refusal(backup_command(&folder, place.path(), &[]), 3);
    assert!(error.contains("has lost the end of the segment"), "{error}");
    fs::write(&last, &whole).unwrap();
    assert!(Server::start(&folder).await.stop().success());
    fs::write(&last, torn).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let error = refusal(backup_command(&folder, elsewhere.path(), &[]), 3);
    assert!(error.contains("the log is damaged") && error.contains("clean stop proves"), "{error}");
    assert!(error.contains(&format!("{}, line {}", last.display(), lines.len())), "{error}");
}

#[tokio::test]
async fn what_the_database_has_seen_never_passes_for_a_torn_end() {
    let (folder, place) = (Folder::new(), Folder::new());
    let backup = place.path().join("backup");
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1"), registered("L", "A2")]).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2); // Waits for the projection.
    server.kill();
    let segment = folder.segments().pop().unwrap();
    let whole = fs::read(&segment).unwrap();
    let second = logs::line_starts(&whole)[1];
    let proof = "the projection's checkpoint proves that it went on to sequence 2";

    // A damaged last record, and one that is gone as if it had never been.
    let named = damage(&segment);
    let damaged = refusal(backup_command(&folder, &backup, &[]), 3);
    fs::write(&segment, &whole[..second]).unwrap();
    let shortened = refusal(backup_command(&folder, &backup, &[]), 3);

    assert!(damaged.contains("the log is damaged") && damaged.contains(&named), "{damaged}");
    assert!(damaged.contains(proof) && shortened.contains(proof), "{damaged}{shortened}");
    assert!(!backup.join("manifest.json").exists());
    fs::write(&segment, &whole).unwrap();
    assert_eq!(back_up(&folder, &backup)["head_sequence"], 2);
}

#[test]
fn a_database_that_cannot_be_asked_is_told_of_and_stops_no_backup() {
    let (folder, place) = (Folder::on_sqlite(), tempfile::tempdir().unwrap());
    write_log(&folder, 5);
    fs::write(folder.path().join("projection.db"), "no database at all, and longer than a header would be").unwrap();
    let done = back_up(&folder, place.path());
    let note = done["notes"][0].as_str().unwrap();
    assert!(note.contains("whether the projection is ahead of this backup is not known"), "{note}");
    assert_eq!(done["head_sequence"], 5);
}

#[test]
fn what_was_backed_up_before_never_passes_for_a_torn_end() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&folder, 4);
    back_up(&folder, place.path());
    let before = segments(place.path()).iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    // Inside the only batch: by itself the log proves nothing about it.
    let named = damage(&folder.segments()[0]);

    let error = refusal(backup_command(&folder, place.path(), &[]), 3);

    assert!(
        error.contains(&named) && error.contains("the last backup proves that it went on to sequence 4"),
        "{error}"
    );
    let after = segments(place.path()).iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    assert_eq!(after, before);
}

#[test]
fn a_damaged_backup_is_named_and_not_restored() {
    let (source, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&source, 40);
    back_up(&source, place.path());
    let copies = segments(place.path());
    let (segment, last) = (copies[2].clone(), copies.last().unwrap().clone());
    let [sound, sound_last] = [&segment, &last].map(|path| fs::read(path).unwrap());
    let damaged = |case: &str, named: &str| {
        let folder = Folder::new();
        for flags in [&["--check"][..], &[]] {
            let error = refusal(restore_command(&folder, place.path(), flags), 3);
            assert!(error.contains("the backup is damaged") && error.contains(named), "{case}: {error}");
        }
        assert!(folder.segments().is_empty(), "{case}: nothing was restored");
        for left in ["clean-stop.json", "log.restoring"] {
            assert!(!folder.path().join(left).exists(), "{case}: {left}");
        }
    };
    let named = damage(&segment);
    damaged("a bit", &named);
    fs::write(&segment, &sound[..sound.len() - 1]).unwrap();
    damaged("cut", segment.to_str().unwrap());
    fs::remove_file(&segment).unwrap();
    damaged("gone", segment.to_str().unwrap());
    fs::write(&segment, &sound).unwrap();
    // What ends earlier, at the end of a record.
    let lines = logs::line_starts(&sound_last);
    fs::write(&last, &sound_last[..lines[lines.len() - 2]]).unwrap();
    damaged("shorter", last.to_str().unwrap());
    fs::write(&last, &sound_last).unwrap();
    assert_eq!(restored(place.path()).0.log_bytes(), source.log_bytes());
}

#[test]
fn a_sound_log_that_is_not_the_manifests_is_not_restored() {
    let (source, other) = (Folder::new(), Folder::new());
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write_log(&source, 10);
    write_log(&other, 10);
    back_up(&source, first.path());
    back_up(&other, second.path());
    let target = Folder::new();
    fs::copy(second.path().join("manifest.json"), first.path().join("manifest.json")).unwrap();
    let error = refusal(restore_command(&target, first.path(), &[]), 3);
    assert!(error.contains("the backup is damaged") && error.contains("is not what the manifest says"), "{error}");

    fs::write(first.path().join("manifest.json"), "{").unwrap();
    for command in [restore_command(&target, first.path(), &[]), backup_command(&source, first.path(), &[])] {
        let error = refusal(command, 3);
        assert!(error.contains("the manifest of the backup cannot be understood"), "{error}");
    }
    fs::remove_file(first.path().join("manifest.json")).unwrap();
    let target = Folder::new();
    let error = refusal(restore_command(&target, first.path(), &[]), 1);
    assert!(error.contains("holds no backup"), "{error}");
    let check = restore_command(&target, &first.path().join("nowhere"), &["--check"]);
    assert!(refusal(check, 1).contains("holds no backup"));
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_record_of_a_later_version_is_left_to_that_version() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&folder, 2);
    let segment = folder.segments()[0].clone();
    let whole = fs::read(&segment).unwrap();
    let second = logs::line_starts(&whole)[1];
    // The same line as format 9, sealed.
    let body = [br#"{"v":9"#, &whole[second + 6..whole.len() - 76]].concat();
    let previous: Vec<u8> = {
        let hash = folder.records()[0]["hash"].as_str().unwrap().to_owned();
        (0..32).map(|n| u8::from_str_radix(&hash[2 * n..2 * n + 2], 16).unwrap()).collect()
    };
    let hash = <sha2::Sha256 as sha2::Digest>::digest([&previous[..], &body].concat());
    let ending = line::ending(ChainHash::new(hash.into()));
    fs::write(&segment, [&whole[..second], &body, &ending].concat()).unwrap();

    let error = refusal(backup_command(&folder, place.path(), &[]), 3);

    assert!(error.contains("make the backup with that one") && error.contains("line 2"), "{error}");
    let mut verify = lockstream(&folder);
    verify.arg("verify");
    assert!(run(verify).stdout.contains("foreign-record"), "the line is sealed");
}
