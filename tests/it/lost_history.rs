//! Damage before the last batch: acknowledged events are lost, so the start is refused, the place
//! is named, and not one byte is changed.

use std::fs::{self, File};
use std::io::Write;

use lockstream::domain::hash::ChainHash;
use lockstream::infrastructure::event_log::history::damage::{Damage, HistoryError};
use lockstream::infrastructure::event_log::recovery::RecoveryError;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::damage::three_batches;
use crate::support::events::registered;
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, logs};

/// The damage for which a start is refused; the log has to be as it was before.
fn lost(folder: &Folder, case: &str) -> Damage {
    let before = logs::files(&folder.log());
    let outcome = logs::recover(&folder.log(), &[]);
    assert_eq!(logs::files(&folder.log()), before, "{case}: nothing was changed");
    match outcome {
        Err(RecoveryError::LostHistory { damage, .. }) => damage,
        other => panic!("{case}: not refused as lost history: {other:?}"),
    }
}

#[test]
fn every_flipped_bit_of_an_older_batch_is_found_at_its_line() {
    let folder = Folder::new();
    logs::write(&folder.log(), &three_batches());
    // One record alone at the end: then least stands behind the damage.
    logs::write(&folder.log(), &[vec![registered("L", "A7")]]);
    let whole = folder.log_bytes();
    let segment = folder.segments()[0].clone();
    let lines = logs::line_starts(&whole);
    let last_batch = lines[6];
    for at in 0..last_batch {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            fs::write(&segment, &flipped).unwrap();
            let case = format!("byte {at}, bit {bit}");
            let damage = lost(&folder, &case);
            let line = lines.iter().rposition(|start| *start <= at).unwrap();
            let place = (damage.place.segment.as_path(), damage.place.line, damage.place.offset_bytes);
            assert_eq!(place, (segment.as_path(), line as u64 + 1, lines[line] as u64), "{case}");
            assert_eq!(damage.sequence.get(), line as u64 + 1, "{case}");
        }
    }
}

#[test]
fn a_flip_in_an_older_segment_is_lost_history_whatever_stands_in_the_next() {
    let folder = Folder::new();
    let one_each: Vec<_> = three_batches().concat().into_iter().map(|event| vec![event]).collect();
    logs::write_with(&folder.log(), 800, &one_each);
    let segments = folder.segments();
    assert!(segments.len() >= 3, "{segments:?}");
    let last = segments.last().unwrap().clone();
    let content = fs::read(&last).unwrap();
    // Even an empty segment proves that everything before it was synced.
    for rest in [&content[..], b"", b"\0\0\0\0"] {
        fs::write(&last, rest).unwrap();
        let before_last = &segments[segments.len() - 2];
        let whole = fs::read(before_last).unwrap();
        let mut flipped = whole.clone();
        let end = flipped.len() - 1;
        for at in [0, 9, end - 20, end] {
            flipped.clone_from(&whole);
            flipped[at] ^= 4;
            fs::write(before_last, &flipped).unwrap();
            assert_eq!(lost(&folder, "a flip").place.segment, *before_last);
        }
        fs::write(before_last, &whole[..end]).unwrap();
        assert_eq!(lost(&folder, "a lost line feed").place.segment, *before_last);
        fs::write(before_last, &whole).unwrap();
    }
}

#[test]
fn holes_and_missing_lines_in_older_batches_are_lost_history() {
    let folder = Folder::new();
    logs::write(&folder.log(), &three_batches());
    let whole = folder.log_bytes();
    let segment = folder.segments()[0].clone();
    let lines = logs::line_starts(&whole);
    for (from, to) in [(0, lines[1]), (lines[1] + 5, lines[2] + 5), (lines[2], lines[3]), (lines[2] + 30, lines[3] - 1)]
    {
        let mut holed = whole.clone();
        holed[from..to].fill(0);
        fs::write(&segment, &holed).unwrap();
        let line = lines.iter().rposition(|start| *start <= from).unwrap();
        assert_eq!(lost(&folder, &format!("zeroed {from}..{to}")).place.line, line as u64 + 1);
        let removed = [&whole[..from], &whole[to..]].concat();
        fs::write(&segment, removed).unwrap();
        lost(&folder, &format!("removed {from}..{to}"));
    }
    let swapped = [&whole[..lines[1]], &whole[lines[2]..lines[3]], &whole[lines[1]..lines[2]], &whole[lines[3]..]];
    fs::write(&segment, swapped.concat()).unwrap();
    assert_eq!(lost(&folder, "swapped lines").place.line, 2);
    let repeated = [&whole[..lines[2]], &whole[lines[1]..]].concat();
    fs::write(&segment, repeated).unwrap();
    assert_eq!(lost(&folder, "a repeated line").place.line, 3);
}

#[test]
fn segments_that_are_missing_swapped_renamed_or_copied_are_found() {
    let folder = Folder::new();
    let one_each: Vec<_> = three_batches().concat().into_iter().map(|event| vec![event]).collect();
    logs::write_with(&folder.log(), 800, &one_each);
    let segments = folder.segments();
    assert!(segments.len() >= 3, "{segments:?}");
    let (first, second) = (&segments[0], &segments[1]);
    let aside = folder.path().join("aside");

    fs::rename(first, &aside).unwrap();
    assert_eq!(lost(&folder, "the first segment is missing").place.segment, *first);
    fs::rename(&aside, first).unwrap();

    fs::rename(second, &aside).unwrap();
    assert_eq!(lost(&folder, "a middle segment is missing").place.segment, *second);
    fs::rename(&aside, second).unwrap();

    fs::rename(first, &aside).unwrap();
    fs::rename(second, first).unwrap();
    fs::rename(&aside, second).unwrap();
    assert_eq!(lost(&folder, "two segments are swapped").place.segment, *first);
    fs::rename(second, &aside).unwrap();
    fs::rename(first, second).unwrap();
    fs::rename(&aside, first).unwrap();

    let copy = folder.log().join("00000000000000000099.jsonl");
    fs::copy(second, &copy).unwrap();
    let damage = lost(&folder, "a segment is there twice");
    assert!(damage.place.segment.ends_with("00000000000000000007.jsonl"), "{damage}");
    fs::rename(&copy, folder.log().join("copy of 2.jsonl")).unwrap();
    let refusal = logs::recover(&folder.log(), &[]).unwrap_err();
    assert!(matches!(refusal, RecoveryError::Unreadable(HistoryError::Unreadable { .. })), "{refusal:?}");
    assert!(refusal.to_string().contains("copy of 2.jsonl"), "{refusal}");
    fs::remove_file(folder.log().join("copy of 2.jsonl")).unwrap();

    logs::recover(&folder.log(), &[]).expect("put right again, it starts");
}

#[test]
fn a_crash_right_after_a_new_segment_was_begun_leaves_nothing_to_repair() {
    let folder = Folder::new();
    logs::write(&folder.log(), &three_batches());
    fs::write(folder.log().join("00000000000000000007.jsonl"), b"").unwrap();
    let heads = logs::write(&folder.log(), &[vec![registered("L", "A7")]]);
    assert_eq!(heads[0].sequence.get(), 7);
    assert_eq!(folder.segments().len(), 2);
    assert!(!fs::read(&folder.segments()[1]).unwrap().is_empty(), "the empty segment is used");
    assert!(logs::torn(&folder.log()).is_empty());
    assert_eq!(logs::read(&folder.log()).0, 7);
}

#[tokio::test]
async fn a_server_refuses_damaged_history_and_says_where() {
    let folder = Folder::new();
    logs::write(&folder.log(), &three_batches());
    let whole = folder.log_bytes();
    let segment = folder.segments()[0].clone();
    let lines = logs::line_starts(&whole);
    let digit_of_seq = lines[1] + "{\"v\":1,\"seq\":".len();
    let digit_of_batch = digit_of_seq + "2,\"batch\":".len();
    let hash = lines[2] - 10;
    let line_feed = lines[3] - 1;
    for (at, line) in [(digit_of_seq, 1), (digit_of_batch, 1), (hash, 1), (line_feed, 2)] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&segment, &flipped).unwrap();
        let written = Server::spawn(lockstream(&folder)).await.err().expect("it refuses to start");
        let error = written.last().unwrap();
        for part in [
            "error: the log is damaged and acknowledged events are lost",
            segment.to_str().unwrap(),
            &format!("line {}, byte offset {}", line + 1, lines[line]),
            "Nothing was changed. Restore",
        ] {
            assert!(error.contains(part), "byte {at}: {part:?} is missing in {error}");
        }
        assert_eq!(fs::read(&segment).unwrap(), flipped, "byte {at}: nothing was changed");
    }
}

#[tokio::test]
async fn a_sound_chain_that_breaks_a_rule_is_no_history_of_this_service() {
    let again = registered("L", "A1");
    let cases = [
        (vec![registered("L", "A1"), registered("L", "A1")], "the rules refuse"),
        (vec![again.clone(), again], "was recorded before, as sequence 1"),
    ];
    for (events, reason) in cases {
        let folder = Folder::new();
        logs::write(&folder.log(), &[events]);
        let written = Server::spawn(lockstream(&folder)).await.err().expect("it refuses to start");
        let error = written.last().unwrap();
        assert!(error.contains("sequence 2 cannot be taken in") && error.contains(reason), "{error}");
        assert_eq!(logs::read(&folder.log()).0, 2, "nothing was changed");
    }
}

#[tokio::test]
async fn a_whole_record_of_a_later_version_is_never_taken_for_a_torn_one() {
    let later_format = |event: &Value| format!(r#"{{"v":2,"seq":7,"batch":7,"recorded_at":"now","facts":[{event}]"#);
    let later_type = |event: &Value| {
        let event = event.to_string().replace("CompartmentRegistered", "DoorOpened");
        format!(r#"{{"v":1,"seq":7,"batch":7,"recorded_at":"2026-11-21T12:00:00.000001Z","event":{event}"#)
    };
    for body in [later_format(&registered("L", "A7")), later_type(&registered("L", "A7"))] {
        let folder = Folder::new();
        let head = *logs::write(&folder.log(), &three_batches()).last().unwrap();
        let hash = Sha256::digest([head.chain_hash.as_bytes(), body.as_bytes()].concat());
        let hash = ChainHash::new(hash.into());
        let line = format!("{body},\"hash\":\"{hash}\"}}\n");
        File::options().append(true).open(&folder.segments()[0]).unwrap().write_all(line.as_bytes()).unwrap();
        let before = logs::files(&folder.log());
        let written = Server::spawn(lockstream(&folder)).await.err().expect("it refuses to start");
        assert!(written.last().unwrap().contains("A later version may have written it"), "{written:?}");
        let mut verify = lockstream(&folder);
        verify.args(["verify", "--json"]);
        let verified = run(verify);
        assert_eq!(verified.code, Some(3), "{verified:?}");
        assert!(verified.stdout.contains("foreign-record"), "{verified:?}");
        assert_eq!(logs::files(&folder.log()), before, "nothing was changed");
    }
}
