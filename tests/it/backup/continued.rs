//! The second backup to a folder: it copies what is new, knows its own log, and takes no other.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{SMALL_SEGMENTS, write_doors, write_log};
use super::{back_up, backup_command, manifest, refusal, report, restore_command, restored, segments};
use crate::support::events::registered;
use crate::support::server::Server;
use crate::support::{Folder, logs};

/// Which file a name stands for.
fn number(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[tokio::test]
async fn the_second_backup_copies_only_what_is_new() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    let server = Server::start_with(&folder, &[SMALL_SEGMENTS]).await;
    for door in 0..30 {
        server.accept([&registered("L", &door.to_string())]).await;
    }
    let first = back_up(&folder, place.path());
    let before: Vec<_> = segments(place.path()).iter().map(|path| (path.clone(), number(path))).collect();
    assert!(before.len() > 2 && first["copied_segments"] == before.len(), "{first}");
    for door in 30..60 {
        server.accept([&registered("L", &door.to_string())]).await;
    }

    let second = back_up(&folder, place.path());

    // The segment that was open then has grown, and comes again.
    let complete = before.len() - 1;
    assert_eq!(second["kept_segments"], complete, "{second}");
    assert_eq!(second["copied_segments"], folder.segments().len() - complete, "{second}");
    for (path, number_before) in &before[..complete] {
        assert_eq!(number(path), *number_before, "{} was not written again", path.display());
    }
    assert_eq!(second["total_bytes"], folder.log_bytes().len());
    assert_eq!(restored(place.path()).0.log_bytes(), folder.log_bytes());
}

#[test]
fn a_kept_segment_is_not_read_again_and_a_check_reads_all() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&folder, 40);
    back_up(&folder, place.path());
    let old = segments(place.path())[0].clone();
    let mut bytes = fs::read(&old).unwrap();
    bytes[100] ^= 1;
    fs::write(&old, bytes).unwrap();

    write_doors(&folder, 40..50);
    assert_eq!(back_up(&folder, place.path())["head_sequence"], 50);

    let error = refusal(restore_command(&folder, place.path(), &["--check"]), 3);
    let place_named = format!("{}, line 1, byte offset 0", old.display());
    assert!(error.contains("the backup is damaged") && error.contains(&place_named), "{error}");
    // As the message says: without the damaged segment it is made whole again.
    fs::remove_file(&old).unwrap();
    let healed = back_up(&folder, place.path());
    assert!(healed["kept_segments"] == 0 && healed["notes"][0].as_str().unwrap().contains("is gone"), "{healed}");
    report(restore_command(&folder, place.path(), &["--check"]));
}

#[test]
fn complete_segments_can_be_linked_and_the_open_one_never_is() {
    // Both on one file system.
    let place = Folder::new();
    let (folder, backup) = (Folder::new(), place.path().join("backup"));
    write_log(&folder, 27);
    let linked = report(backup_command(&folder, &backup, &["--hard-link"]));
    let pairs: Vec<_> = folder.segments().into_iter().zip(segments(&backup)).collect();
    let (open, complete) = pairs.split_last().unwrap();
    assert_eq!((&linked["linked_segments"], &linked["copied_segments"]), (&complete.len().into(), &1.into()));
    assert!(complete.iter().all(|(source, copy)| number(source) == number(copy)));
    assert_ne!(number(&open.0), number(&open.1), "it goes on growing");

    write_doors(&folder, 27..60);
    let again = report(backup_command(&folder, &backup, &["--hard-link"]));
    assert_eq!(again["kept_segments"], complete.len(), "{again}");
    let before = folder.log_bytes();
    // A copy in the place of links spoils no link.
    fs::remove_file(&segments(&backup)[0]).unwrap();
    assert_eq!(report(backup_command(&folder, &backup, &[]))["linked_segments"], 0);
    assert_eq!(folder.log_bytes(), before);
    assert_eq!(restored(&backup).0.log_bytes(), before);
}

#[test]
fn what_was_linked_is_copied_once_links_are_not_wanted_any_more() {
    let place = Folder::new();
    let (folder, backup) = (Folder::new(), place.path().join("backup"));
    write_log(&folder, 27);
    report(backup_command(&folder, &backup, &["--hard-link"]));
    let pairs: Vec<_> = folder.segments().into_iter().zip(segments(&backup)).collect();
    assert_eq!(number(&pairs[0].0), number(&pairs[0].1));

    let copied = report(backup_command(&folder, &backup, &[]));

    assert_eq!(copied["copied_segments"], pairs.len(), "{copied}");
    assert!(pairs.iter().all(|(source, copy)| number(source) != number(copy)), "there are two of each");
    assert_eq!(report(backup_command(&folder, &backup, &[]))["kept_segments"], pairs.len() - 1);
    assert_eq!(restored(&backup).0.log_bytes(), folder.log_bytes());
}

#[test]
fn a_segment_that_is_a_symbolic_link_comes_as_a_file() {
    let place = Folder::new();
    let (folder, backup) = (Folder::new(), place.path().join("backup"));
    write_log(&folder, 27);
    // Somebody has moved an old segment to another disk.
    let (first, moved) = (folder.segments()[0].clone(), folder.path().join("moved.jsonl"));
    fs::rename(&first, &moved).unwrap();
    std::os::unix::fs::symlink("../moved.jsonl", &first).unwrap();

    report(backup_command(&folder, &backup, &["--hard-link"]));

    let copy = segments(&backup)[0].clone();
    assert!(fs::symlink_metadata(&copy).unwrap().is_file(), "{copy:?} does not lead out of the backup");
    assert_eq!(number(&copy), number(&moved));
    assert_eq!(restored(&backup).0.log_bytes(), folder.log_bytes());
}

#[test]
fn a_link_that_an_interrupted_backup_left_is_not_written_through() {
    let place = Folder::new();
    let (folder, backup) = (Folder::new(), place.path().join("backup"));
    write_log(&folder, 30);
    let (before, first) = (folder.log_bytes(), folder.segments()[0].clone());
    report(backup_command(&folder, &backup, &["--hard-link"]));
    for flags in [&["--hard-link"][..], &[]] {
        // Cut off before the manifest: all is brought again.
        fs::remove_file(backup.join("manifest.json")).unwrap();
        let incoming = backup.join("incoming");
        fs::create_dir(&incoming).unwrap();
        fs::hard_link(&first, incoming.join(first.file_name().unwrap())).unwrap();

        assert_eq!(report(backup_command(&folder, &backup, flags))["kept_segments"], 0);

        assert_eq!(folder.log_bytes(), before, "{flags:?}");
        assert!(!incoming.exists());
        assert_eq!(restored(&backup).0.log_bytes(), before);
    }
    assert_ne!(number(&first), number(&segments(&backup)[0]), "the last time it was copied");
}

#[test]
fn the_backup_of_another_log_is_left_alone() {
    let (folder, other, place) = (Folder::new(), Folder::new(), tempfile::tempdir().unwrap());
    write_log(&folder, 30);
    write_log(&other, 60);
    back_up(&folder, place.path());
    let before = logs::files(&place.path().join("log"));
    let listed = manifest(place.path());

    let error = refusal(backup_command(&other, place.path(), &[]), 3);

    let last = &listed["segments"][0]["last"];
    assert!(error.contains(&format!("backup of another log: at sequence {last} the hashes differ")), "{error}");
    assert!(error.contains("Give this log another folder"), "{error}");
    assert_eq!((logs::files(&place.path().join("log")), manifest(place.path())), (before, listed));
    assert_eq!(back_up(&folder, place.path())["head_sequence"], 30, "its own log goes on");
}

#[tokio::test]
async fn a_log_that_has_lost_what_the_backup_has_is_not_backed_up_over_it() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&folder, 30);
    back_up(&folder, place.path());
    let (last, before) = (folder.segments().pop().unwrap(), manifest(place.path()));
    let whole = fs::read(&last).unwrap();
    let lines = logs::line_starts(&whole);

    // At a record's end it looks like a log that ends there.
    fs::write(&last, &whole[..lines[lines.len() - 2]]).unwrap();
    let cut = refusal(backup_command(&folder, place.path(), &[]), 3);
    let server = Server::start(&folder).await;
    server.accept(&[registered("other", "1")]).await;
    let rewritten = refusal(backup_command(&folder, place.path(), &[]), 3);
    assert!(server.stop().success());
    fs::remove_file(&last).unwrap();
    let removed = refusal(backup_command(&folder, place.path(), &[]), 3);

    let name = last.file_name().unwrap().to_str().unwrap();
    assert!(cut.contains(&format!("lost the end of the segment {name}")) && cut.contains("sequence 30"), "{cut}");
    assert!(removed.contains(&format!("lost the segment {name}")), "{removed}");
    assert!(rewritten.contains("lost the end") || rewritten.contains("another log"), "{rewritten}");
    assert_eq!(manifest(place.path()), before);
    assert_eq!(restored(place.path()).1["head_sequence"], 30);
}

#[test]
fn a_folder_with_anything_else_in_it_is_never_taken_for_a_backup() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&folder, 5);
    fs::write(place.path().join("letter.txt"), "dear").unwrap();
    // The lock of the data folder is the command's own.
    fs::write(folder.path().join("lockstream.lock"), "").unwrap();
    for elsewhere in [place.path(), folder.path(), &folder.log()] {
        let before = logs::files(elsewhere);
        let error = refusal(backup_command(&folder, elsewhere, &[]), 1);
        assert!(error.contains("is not empty and holds no backup"), "{error}");
        assert_eq!(logs::files(elsewhere), before);
    }
}

#[test]
fn two_backups_to_one_folder_do_not_meet() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&folder, 5);
    back_up(&folder, place.path());
    let held = fs::File::open(place.path().join("backup.lock")).unwrap();
    held.lock().unwrap();
    let error = refusal(backup_command(&folder, place.path(), &[]), 1);
    assert!(error.contains("another backup into") && error.contains("is under way"), "{error}");
    drop(held);
    back_up(&folder, place.path());
}
