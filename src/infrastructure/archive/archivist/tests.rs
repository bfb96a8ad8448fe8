//! How much is archived at once, and what is not worth a stretch.

use super::*;
use crate::domain::event::parse::ReceivedEvent;
use crate::domain::record::{Record, RecordedAt};
use crate::infrastructure::event_log::line;

/// Segments of three records each, in which nothing comes to an end.
fn write_log(folder: &Path, segments: u64) {
    let (mut lines, mut head) = (Vec::new(), Head::default());
    for number in 1..=3 * segments {
        let event = format!(
            r#"{{"event_id":"01890a5d-ac96-774b-bcce-b302099a{number:04x}","occurred_at":"2026-11-21T08:00:00Z","locker_id":"L","type":"CompartmentRegistered","payload":{{"compartment_id":"{number:0100}"}}}}"#
        );
        let ReceivedEvent { json, digest, content, .. } = ReceivedEvent::parse(event.as_bytes()).unwrap();
        let recorded_at = RecordedAt::parse("2026-11-21T08:00:00.000000Z").unwrap();
        let sequence = head.sequence.next();
        let record = Record { sequence, batch: sequence, recorded_at, event: content.unwrap(), json, digest };
        head = line::encode(&record, head.chain_hash, &mut lines);
        if number.is_multiple_of(3) {
            let first = Sequence::new(number - 2);
            fs::write(segments::path(folder, first), std::mem::take(&mut lines)).unwrap();
        }
    }
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
fn what_the_disk_cannot_read_is_damage_and_what_the_system_refuses_is_none() {
    use rustix::io::Errno;
    let is_damage = |error: Errno| failure(&io::Error::from_raw_os_error(error.raw_os_error())).is_damage;
    assert!(is_damage(Errno::IO) && is_damage(Errno::NOENT));
    assert!(![Errno::MFILE, Errno::ACCESS, Errno::NOSPC, Errno::ROFS, Errno::FBIG].into_iter().any(is_damage));
}
