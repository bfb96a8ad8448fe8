//! Archives that are not to be believed: damaged, incomplete, of another log, beside a log that
//! changed. Each is thrown away, or every answer from it is right; deleting one changes no answer.

use std::fs;
use std::path::Path;

use lockstream::application::ports::Archive;
use lockstream::domain::hash::hex;
use lockstream::domain::ids::{EventId, ReservationId};
use lockstream::domain::reservation::ReservationState;
use lockstream::infrastructure::archive::FileArchive;
use serde_json::Value;

use crate::archive::{TINY, forget, live};
use crate::support::server::{Server, lockstream, run};
use crate::support::views::views;
use crate::support::{Folder, logs};

const THROWN_AWAY: &str = "the archive is thrown away and made anew; this start reads the whole log";

/// A folder whose writer had forgotten all of [`live`] when it stopped.
async fn archived() -> (Folder, Vec<Value>) {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &TINY).await;
    let events = live(&server).await;
    forget(&server, events.len() as u64 + 20).await;
    assert!(server.stop().success());
    (folder, events)
}

/// Asks an archive for everything in the log up to its head. False when it says of something that it
/// cannot be read; anything untrue fails the test.
fn answers_truly(archive: &FileArchive, records: &[Value]) -> bool {
    let mut readable = true;
    for record in records.iter().take(usize::try_from(archive.head().sequence.get()).unwrap()) {
        let id = EventId::parse(record["event"]["event_id"].as_str().unwrap()).unwrap();
        match archive.original(id) {
            Ok(original) => {
                let original = original.expect("an archived event is known");
                assert_eq!(original.sequence.get(), record["seq"]);
                assert_eq!(original.recorded_at.to_string(), record["recorded_at"].as_str().unwrap());
            }
            Err(_) => readable = false,
        }
    }
    for (id, state) in
        [("picked up", Some(ReservationState::PickedUp)), ("expired", Some(ReservationState::Expired)), ("never", None)]
    {
        match archive.reservation(&ReservationId::parse(id).unwrap()) {
            Ok(found) => assert_eq!(found.map(|found| found.state), state, "{id}"),
            Err(_) => readable = false,
        }
    }
    readable
}

#[tokio::test]
async fn a_flipped_bit_is_found_before_or_when_it_is_read() {
    let (folder, _) = archived().await;
    let (records, log) = (folder.records(), folder.log());
    let open = || FileArchive::open(&folder.archive(), &log);
    let (whole, _) = open().unwrap().expect("there is an archive");
    assert!(answers_truly(&whole, &records));
    assert!(whole.head().sequence.get() > 14);
    for (path, bytes) in logs::files(&folder.archive()) {
        let mut found = 0;
        let step = (bytes.len() / 97).max(1);
        for at in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, flipped).unwrap();
            found += match open() {
                Err(_) => 1,
                Ok(None) => panic!("{} byte {at}: there is an archive", path.display()),
                Ok(Some((archive, _))) => u32::from(!answers_truly(&archive, &records)),
            };
        }
        assert!(found > 0, "{}", path.display());
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(open().is_err(), "{} cut to {length} bytes", path.display());
        }
        fs::remove_file(&path).unwrap();
        let is_manifest = path.ends_with("manifest.json");
        assert!(if is_manifest { open().unwrap().is_none() } else { open().is_err() }, "{} removed", path.display());
        fs::write(&path, bytes).unwrap();
    }
    assert!(answers_truly(&open().unwrap().unwrap().0, &records), "put right again");
}

#[tokio::test]
async fn a_log_that_is_not_the_one_that_was_archived_is_found_out() {
    let (folder, _) = archived().await;
    let open = || FileArchive::open(&folder.archive(), &folder.log());
    assert!(open().unwrap().is_some());
    let segments = folder.segments();
    let contents = logs::files(&folder.log());
    let put_back = || {
        for (path, bytes) in &contents {
            let modified = fs::metadata(path).ok().and_then(|metadata| metadata.modified().ok());
            if fs::read(path).ok().as_ref() != Some(bytes) || modified.is_none() {
                fs::write(path, bytes).unwrap();
            }
        }
    };
    // A strange segment among them, one missing at the end, one that was written again.
    let strange = folder.log().join("00000000000000000002.jsonl");
    fs::write(&strange, "").unwrap();
    assert!(open().is_err(), "a segment too many");
    fs::remove_file(strange).unwrap();
    assert!(open().unwrap().is_some());
    for path in &segments[1..] {
        fs::rename(path, path.with_extension("away")).unwrap();
    }
    assert!(open().is_err(), "nothing proves that the first segment is sealed");
    for path in &segments[1..] {
        fs::rename(path.with_extension("away"), path).unwrap();
    }
    assert!(open().unwrap().is_some());
    fs::write(&segments[0], b"x").unwrap();
    put_back();
    assert!(open().is_err(), "a file that was written again may be another");
}

/// Starts on a folder; whatever its archive is, every answer has to be the one of before.
async fn starts_the_same(folder: &Folder, events: &[Value], due: &crate::support::views::Views, thrown_away: usize) {
    let server = Server::start_with(folder, &TINY).await;
    assert_eq!(server.lines_saying(THROWN_AWAY).len(), thrown_away, "{:?}", server.lines());
    assert_eq!(views(&server, folder, &Value::Null).await, *due);
    for (event, sequence) in events.iter().zip(1..) {
        let again = server.post(event).await;
        assert_eq!((again.status, again.sequence()), (200, sequence));
    }
    assert!(server.stop().success());
}

#[tokio::test]
async fn a_start_believes_no_archive_of_another_log_and_misses_none() {
    let (folder, events) = archived().await;
    let (other, _) = archived().await;
    let server = Server::start_with(&folder, &TINY).await;
    let due = views(&server, &folder, &Value::Null).await;
    assert!(server.stop().success());
    starts_the_same(&folder, &events, &due, 0).await;

    fs::remove_dir_all(folder.archive()).unwrap();
    starts_the_same(&folder, &events, &due, 0).await;

    copy(&other.archive(), &folder.archive());
    starts_the_same(&folder, &events, &due, 1).await;

    fs::write(folder.archive().join("manifest.json"), "{}").unwrap();
    starts_the_same(&folder, &events, &due, 1).await;
}

#[tokio::test]
async fn a_later_version_of_the_archive_is_thrown_away_and_strange_files_are_left_alone() {
    let (folder, events) = archived().await;
    let server = Server::start_with(&folder, &TINY).await;
    let due = views(&server, &folder, &Value::Null).await;
    assert!(server.stop().success());
    let path = folder.archive().join("manifest.json");
    let json = fs::read_to_string(&path).unwrap().lines().next().unwrap().replace(r#""v":1"#, r#""v":2"#);
    let sum = sha256(&json);
    fs::write(&path, format!("{json}\n{sum}\n")).unwrap();
    fs::write(folder.archive().join("notes.txt"), "mine").unwrap();

    let error = FileArchive::open(&folder.archive(), &folder.log()).unwrap_err().to_string();
    assert!(error.contains("its version is 2"), "{error}");
    starts_the_same(&folder, &events, &due, 1).await;
    assert_eq!(fs::read_to_string(folder.archive().join("notes.txt")).unwrap(), "mine");
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    let digest: [u8; 32] = sha2::Sha256::digest(text.as_bytes()).into();
    String::from_utf8(hex(&digest).to_vec()).unwrap()
}

/// Replaces a folder by a copy of another.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for (path, bytes) in logs::files(from) {
        fs::write(to.join(path.file_name().unwrap()), bytes).unwrap();
    }
}

#[tokio::test]
async fn an_archive_proves_how_far_the_log_went_when_nothing_else_does() {
    let (folder, _) = archived().await;
    let (segments, contents) = (folder.segments(), logs::files(&folder.log()));
    fs::remove_file(folder.path().join("clean-stop.json")).unwrap();
    folder.delete_database();
    for path in &segments[2..] {
        fs::remove_file(path).unwrap();
    }
    let whole = &contents[&segments[1]];
    for cut_bytes in [0, 1, 100] {
        fs::write(&segments[1], &whole[..whole.len() - cut_bytes]).unwrap();
        let before = logs::files(&folder.log());
        let mut rebuild = lockstream(&folder);
        rebuild.arg("rebuild");
        // Twice: a refusal leaves the proof where it is.
        for command in [lockstream(&folder), rebuild, lockstream(&folder)] {
            let ended = run(command);
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.stderr.contains("the archive"), "{cut_bytes} bytes: {ended:?}");
            assert_eq!(logs::files(&folder.log()), before, "nothing was changed");
        }
    }

    fs::remove_dir_all(folder.archive()).unwrap();
    let server = Server::start_with(&folder, &TINY).await;
    assert_eq!(logs::torn(&folder.log()).len(), 1, "without the proof it is a torn batch");
    assert!(server.stop().success());
}
