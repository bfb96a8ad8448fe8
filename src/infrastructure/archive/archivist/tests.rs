//! How much is archived at once, what is not worth a stretch, and what the runs have in common.

use std::fs::File;

use tempfile::TempDir;

use super::*;
use crate::domain::event::parse::ReceivedEvent;
use crate::domain::ids::EventId;
use crate::domain::record::{Record, RecordedAt};
use crate::infrastructure::event_log::line;

/// Segments of three records each, in which nothing comes to an end. Those that are there stay.
fn write_log(folder: &Path, segments: u64) {
    write_events(folder, 1..=3 * segments);
}

/// The same with these ids.
fn write_events(folder: &Path, ids: impl Iterator<Item = u64>) {
    let (mut lines, mut head) = (Vec::new(), Head::default());
    for (number, id) in (1_u64..).zip(ids) {
        let event = format!(
            r#"{{"event_id":"01890a5d-ac96-774b-bcce-b302099a{id:04x}","occurred_at":"2026-11-21T08:00:00Z","locker_id":"L","type":"CompartmentRegistered","payload":{{"compartment_id":"{number:0100}"}}}}"#
        );
        let ReceivedEvent { json, digest, content, .. } = ReceivedEvent::parse(event.as_bytes()).unwrap();
        let recorded_at = RecordedAt::parse("2026-11-21T08:00:00.000000Z").unwrap();
        let sequence = head.sequence.next();
        let record = Record { sequence, batch: sequence, recorded_at, event: content.unwrap(), json, digest };
        head = line::encode(&record, head.chain_hash, &mut lines);
        if number.is_multiple_of(3) {
            let first = Sequence::new(number - 2);
            let (path, lines) = (segments::path(folder, first), std::mem::take(&mut lines));
            if !path.exists() {
                fs::write(path, lines).unwrap();
            }
        }
    }
}

/// An archivist of such a log, segment by segment, and the folder of both.
fn step_by_step(segments: u64) -> (TempDir, FileArchivist) {
    let place = tempfile::tempdir().unwrap();
    let (folder, log) = (place.path().join("archive"), place.path().join("log"));
    fs::create_dir(&log).unwrap();
    write_log(&log, segments);
    let mut archivist = FileArchivist::new(folder, log, 0, None);
    archivist.stretch_bytes = 1;
    (place, archivist)
}

/// Archives all that is worth it; the end.
fn archive_all(archivist: &mut FileArchivist) -> u64 {
    let mut up_to = Sequence::ZERO;
    while let Some(archived) = archivist.archive_more(&|| false).unwrap() {
        up_to = archived.up_to;
    }
    up_to.get()
}

#[test]
fn an_archive_that_is_made_anew_goes_as_far_as_the_one_before_whatever_the_stretches_are() {
    let place = tempfile::tempdir().unwrap();
    let (folder, log) = (place.path().join("archive"), place.path().join("log"));
    fs::create_dir(&log).unwrap();
    write_log(&log, 11);
    let mut archivist = FileArchivist::new(folder, log, 0, None);
    assert_eq!(archive_all(&mut archivist), 30, "the last segment is not sealed");

    // Stretches of three segments, whose snapshots are soon longer than the segment that is left.
    archivist.stretch_bytes = 3_000;
    archivist.begin_anew().unwrap();
    assert_eq!(archive_all(&mut archivist), 30);

    let mut other = FileArchivist::new(archivist.folder.clone(), archivist.log.clone(), 0, None);
    other.stretch_bytes = 3_000;
    assert_eq!(archive_all(&mut other), 27, "one segment is not worth a snapshot");
}

#[test]
fn a_log_in_which_an_event_comes_twice_is_not_archived() {
    let (_place, mut archivist) = step_by_step(0);
    archivist.stretch_bytes = u64::MAX;
    write_events(&archivist.log, [1, 2, 3, 4, 5, 2, 7, 8, 9].into_iter());
    let error = archivist.archive_more(&|| false).expect_err("2 came before");
    assert!(error.reason.contains("sequence 6") && error.reason.contains("event_id of sequence 2"), "{error:?}");
    assert!(!error.is_damage, "another archive would not help");
}

#[test]
fn a_key_is_hashed_once_for_all_runs_because_they_have_one_seed() {
    let (_place, mut archivist) = step_by_step(8);
    assert_eq!(archive_all(&mut archivist), 21);
    let seeds = |archivist: &FileArchivist| {
        let archive = archivist.archive.as_ref().unwrap();
        archive.runs.iter().map(|run| run.stamp().seed).collect::<Vec<_>>()
    };
    let first = seeds(&archivist)[0];
    assert_eq!(seeds(&archivist), [first; 4], "four of seven were merged");
    assert_ne!(first, 0);

    // Another process goes on with it.
    write_log(&archivist.log, 10);
    let (archive, _) = FileArchive::open(&archivist.folder, &archivist.log).unwrap().unwrap();
    let (folder, log) = (archivist.folder.clone(), archivist.log.clone());
    let mut other = FileArchivist::new(folder, log, 0, Some(Arc::new(archive)));
    other.stretch_bytes = 1;
    assert_eq!(archive_all(&mut other), 27);
    assert_eq!(seeds(&other), [first; 3], "four and one more of nine");
}

#[test]
fn an_id_that_was_never_used_is_known_to_be_new_without_reading_from_the_disk() {
    let (_place, mut archivist) = step_by_step(8);
    assert_eq!(archive_all(&mut archivist), 21);
    let archive = archivist.archive.as_ref().unwrap();
    assert_eq!(archive.runs.len(), 4, "all are asked");

    // Whatever is read from now on is an error.
    archive.runs.iter().for_each(|run| File::create(run.path()).unwrap().set_len(0).unwrap());

    let id = |number: u32| EventId::parse(&format!("01890a5d-ac96-774b-bcce-b302{number:08x}")).unwrap();
    let known = id(0x099a_0001);
    assert!(archive.find_original(known).is_err(), "this one has to be read");
    // Behind the keys that are there: of those before the first one no block could be read.
    let strangers = 0x099a_1000..0x099a_1000 + 1_000;
    let read = strangers.filter(|number| archive.find_original(id(*number)).is_err()).count();
    assert_eq!(read, 0);
}

#[test]
fn an_archive_with_a_run_of_another_seed_is_not_believed() {
    let (_place, mut archivist) = step_by_step(4);
    let (folder, log) = (archivist.folder.clone(), archivist.log.clone());
    assert_eq!(archive_all(&mut archivist), 9);
    assert!(FileArchive::open(&folder, &log).unwrap().is_some());

    let last = Arc::clone(&archivist.archive.as_ref().unwrap().runs[2]);
    let stamp = Stamp { seed: last.stamp().seed ^ 1, ..last.stamp() };
    let mut writer = RunWriter::create(last.path(), stamp, 3).unwrap();
    last.iter().for_each(|entry| writer.push(entry.unwrap()).unwrap());
    let (run, hash) = writer.finish(&|| false).unwrap().unwrap();
    let mut manifest = Manifest::read(&folder).unwrap().unwrap();
    manifest.runs[2] = line_of(&run, 0, hash);
    manifest.replace(&folder).unwrap();

    let error = FileArchive::open(&folder, &log).expect_err("its keys would not be found");
    assert!(error.to_string().contains("seed"), "{error}");
}

#[test]
fn what_the_disk_cannot_read_is_damage_and_what_the_system_refuses_is_none() {
    use rustix::io::Errno;
    let is_damage = |error: Errno| failure(&io::Error::from_raw_os_error(error.raw_os_error())).is_damage;
    assert!(is_damage(Errno::IO) && is_damage(Errno::NOENT));
    assert!(![Errno::MFILE, Errno::ACCESS, Errno::NOSPC, Errno::ROFS, Errno::FBIG].into_iter().any(is_damage));
}
