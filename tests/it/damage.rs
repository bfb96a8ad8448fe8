//! A torn last batch: what a crash in the middle of a write leaves. The start cuts it off, keeps
//! the cut bytes, loses nothing that was acknowledged, and goes on without a gap.

use std::fs;

use lockstream::infrastructure::event_log::history::damage::{Extent, HistoryError};
use lockstream::infrastructure::event_log::recovery::{DurabilityProof, ProofSource, RecoveryError};
use serde_json::{Value, json};

use crate::support::events::{event, fault, registered, reserved};
use crate::support::server::Server;
use crate::support::{Folder, logs};

/// Six records in three batches: 1, then 2 and 3, then 4 to 6.
pub fn three_batches() -> Vec<Vec<Value>> {
    vec![
        vec![registered("L", "A1")],
        vec![registered("L", "A2"), reserved("L", "A1", "R1")],
        vec![fault("L", "A2", 4), registered("Straße 5 🦀", "Tür"), registered("L", "A3")],
    ]
}

/// Where the last batch of [`three_batches`] begins.
fn last_batch_start(segment: &[u8]) -> usize {
    logs::line_starts(segment)[3]
}

#[test]
fn a_last_batch_cut_at_any_byte_is_cut_off_and_nothing_before_it_is_lost() {
    let folder = Folder::new();
    logs::write(&folder.log(), &three_batches());
    let whole = folder.log_bytes();
    let segment = folder.segments()[0].clone();
    let lines = logs::line_starts(&whole);
    for end in last_batch_start(&whole)..whole.len() {
        let folder = Folder::new();
        fs::create_dir(folder.log()).unwrap();
        let segment = folder.log().join(segment.file_name().unwrap());
        fs::write(&segment, &whole[..end]).unwrap();

        let recovered = logs::recover(&folder.log(), &[]).unwrap_or_else(|error| panic!("cut at {end}: {error}"));

        let kept = lines.iter().rposition(|start| *start <= end).unwrap();
        assert_eq!(recovered.head.sequence.get(), kept as u64, "cut at {end}: every whole line stays");
        assert_eq!(folder.log_bytes(), whole[..lines[kept]], "cut at {end}");
        let cut = &whole[lines[kept]..end];
        assert_eq!(logs::torn(&folder.log()), if cut.is_empty() { vec![] } else { vec![cut.to_vec()] }, "cut at {end}");
        assert_eq!(recovered.torn.is_some(), !cut.is_empty(), "cut at {end}: it is said");
        drop(recovered);
        logs::write(&folder.log(), &[vec![registered("M", "1")]]);
        let (records, damage) = logs::read(&folder.log());
        assert!((records, damage.is_none()) == (kept as u64 + 1, true), "cut at {end}: the sequence goes on");
    }
}

#[tokio::test]
async fn a_server_starts_on_a_torn_batch_and_gives_the_cut_sequences_anew() {
    for cut_bytes in [1, 80, 400] {
        let folder = Folder::new();
        logs::write(&folder.log(), &three_batches());
        let whole = folder.log_bytes();
        let segment = folder.segments()[0].clone();
        fs::write(&segment, &whole[..whole.len() - cut_bytes]).unwrap();
        let kept = logs::line_starts(&folder.log_bytes()).len() as u64 - 1;

        let server = Server::start(&folder).await;

        let warned = server.lines().iter().any(|line| line.contains("WARN") && line.contains(".torn-"));
        assert!(warned, "the cut is said: {:?}", server.lines());
        assert_eq!(server.post(&registered("M", "1")).await.sequence(), kept + 1);
        assert!(whole[..whole.len() - cut_bytes].ends_with(&logs::torn(&folder.log()).concat()));
        assert!(server.stop().success());
        let sequences: Vec<_> = folder.records().iter().map(|record| record["seq"].as_u64().unwrap()).collect();
        assert_eq!(sequences, (1..=kept + 1).collect::<Vec<_>>());
    }
}

#[test]
fn a_damaged_last_batch_that_something_proves_durable_refuses_the_start() {
    for (source, proven) in [(ProofSource::CleanStop, 6), (ProofSource::Checkpoint, 4)] {
        let folder = Folder::new();
        logs::write(&folder.log(), &three_batches());
        let proof_of = |sequence: usize| {
            let part = Folder::new();
            let events: Vec<_> = three_batches().concat();
            let head = *logs::write(&part.log(), &[events[..sequence].to_vec()]).last().unwrap();
            DurabilityProof { source, head }
        };
        let whole = folder.log_bytes();
        fs::write(&folder.segments()[0], &whole[..last_batch_start(&whole) + 10]).unwrap();
        let before = logs::files(&folder.log());

        let refusal = logs::recover(&folder.log(), &[proof_of(proven)]).unwrap_err();

        assert!(matches!(refusal, RecoveryError::LostHistory { .. }), "{refusal}");
        let text = refusal.to_string();
        assert!(text.contains(&source.to_string()) && text.contains(&format!("sequence {proven}")), "{text}");
        assert_eq!(logs::files(&folder.log()), before, "nothing was changed");
        logs::recover(&folder.log(), &[]).expect("without the proof it would be a torn batch");
    }
}

#[tokio::test]
async fn after_a_clean_stop_a_shortened_log_is_lost_history_even_without_the_database() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1"), registered("L", "A2")]).await;
    assert!(server.stop().success());
    folder.delete_database();
    let whole = folder.log_bytes();
    for (keep, what) in [(whole.len() - 5, "a damaged line"), (logs::line_starts(&whole)[1], "a missing line")] {
        fs::write(&folder.segments()[0], &whole[..keep]).unwrap();
        let lines = Server::spawn(crate::support::server::lockstream(&folder)).await.err().expect(what);
        let error = lines.last().unwrap();
        assert!(error.contains("clean stop") && error.contains("sequence 2"), "{what}: {error}");
        assert_eq!(folder.log_bytes(), whole[..keep], "{what}: nothing was changed");
    }
    fs::write(&folder.segments()[0], &whole).unwrap();
    Server::start(&folder).await;
}

#[tokio::test]
async fn the_checkpoint_of_the_projection_proves_what_it_covers() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1"), registered("L", "A2")]).await;
    server.get("/lockers/L").await; // Waits for the projection.
    server.kill();
    let whole = folder.log_bytes();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&folder.segments()[0], &flipped).unwrap();
    for command in [&[][..], &["rebuild"]] {
        let mut process = crate::support::server::lockstream(&folder);
        process.args(command);
        let lines = Server::spawn(process).await.err().expect("it refuses");
        let error = lines.last().unwrap();
        assert!(error.contains("checkpoint") && error.contains("acknowledged events are lost"), "{command:?}: {error}");
        assert_eq!(folder.log_bytes(), flipped, "{command:?}: nothing was changed");
    }
}

#[test]
fn a_hole_in_the_last_batch_is_torn_though_whole_lines_stand_behind_it() {
    let folder = Folder::new();
    logs::write(&folder.log(), &three_batches());
    let whole = folder.log_bytes();
    let lines = logs::line_starts(&whole);
    for (from, to) in [(lines[3], lines[4]), (lines[3] + 9, lines[4] + 20), (lines[4], lines[5]), (lines[3], lines[5])]
    {
        let folder = Folder::new();
        fs::create_dir(folder.log()).unwrap();
        let mut holed = whole.clone();
        holed[from..to].fill(0);
        fs::write(folder.log().join("00000000000000000001.jsonl"), &holed).unwrap();

        let recovered = logs::recover(&folder.log(), &[]).unwrap_or_else(|error| panic!("{from}..{to}: {error}"));

        let kept = lines.iter().rposition(|start| *start <= from).unwrap();
        assert_eq!(recovered.head.sequence.get(), kept as u64, "{from}..{to}");
        assert_eq!(logs::torn(&folder.log()), [holed[lines[kept]..].to_vec()], "{from}..{to}: all of it is kept");
    }
}

#[test]
fn whatever_pieces_of_the_last_batch_reached_the_disk_it_is_torn_and_never_lost_history() {
    const PIECE_BYTES: usize = 97;
    let folder = Folder::new();
    logs::write(&folder.log(), &three_batches());
    let whole = folder.log_bytes();
    let start = last_batch_start(&whole);
    let pieces = (whole.len() - start).div_ceil(PIECE_BYTES);
    for missing in 1_u32..1 << pieces {
        let mut holed = whole.clone();
        for (number, piece) in holed[start..].chunks_mut(PIECE_BYTES).enumerate() {
            if missing >> number & 1 == 1 {
                piece.fill(0);
            }
        }
        fs::write(&folder.segments()[0], &holed).unwrap();
        let (records, error) = logs::read(&folder.log());
        assert!(records >= 3, "missing pieces {missing:b}: earlier batches are whole");
        let Some(HistoryError::Damaged(damage)) = error else { panic!("missing pieces {missing:b} are not found") };
        assert!(matches!(damage.extent, Extent::TornTail { .. }), "missing pieces {missing:b}: {:?}", damage.extent);
    }
}

#[test]
fn no_flipped_bit_makes_the_last_batch_look_like_an_older_one() {
    let folder = Folder::new();
    logs::write(&folder.log(), &three_batches());
    let whole = folder.log_bytes();
    let lines = logs::line_starts(&whole);
    for at in last_batch_start(&whole)..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            fs::write(&folder.segments()[0], &flipped).unwrap();
            let (records, error) = logs::read(&folder.log());
            let line = lines.iter().rposition(|start| *start <= at).unwrap();
            assert_eq!(records, line as u64, "byte {at}, bit {bit}");
            let Some(HistoryError::Damaged(damage)) = error else { panic!("byte {at}, bit {bit} is not found") };
            let bytes = (whole.len() - lines[line]) as u64;
            assert_eq!(damage.extent, Extent::TornTail { bytes }, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn text_that_looks_like_a_record_does_not_make_a_torn_batch_look_like_lost_history() {
    let forged = json!({"v": 1, "seq": 900, "batch": 900, "recorded_at": "2026-11-21T08:00:00.000000Z"});
    let line = r#"{"v":1,"seq":900,"batch":900,"recorded_at":"2026-11-21T08:00:00.000000Z","event":{},"hash":"00"}"#;
    let payload =
        json!({"compartment_id": "A9", "a": forged, "b": [forged, forged], "c": format!("\n{line}\n{line}\n")});
    let tricky = event("CompartmentRegistered", "L", payload);
    let folder = Folder::new();
    let batches = [vec![registered("L", "A1")], vec![tricky.clone(), tricky]];
    logs::write(&folder.log(), &batches);
    let whole = folder.log_bytes();
    let start = logs::line_starts(&whole)[1];
    for end in start + 1..whole.len() {
        fs::write(&folder.segments()[0], &whole[..end]).unwrap();
        if let (_, Some(HistoryError::Damaged(damage))) = logs::read(&folder.log()) {
            assert!(matches!(damage.extent, Extent::TornTail { .. }), "cut at {end}: {damage} {:?}", damage.extent);
        }
    }
    // Nor does it hide anything: a hole in the older batch is lost history all the same.
    let mut holed = whole.clone();
    holed[10..start - 1].fill(0);
    fs::write(&folder.segments()[0], &holed).unwrap();
    assert!(matches!(logs::recover(&folder.log(), &[]), Err(RecoveryError::LostHistory { .. })));
}

#[test]
fn a_crash_between_keeping_the_torn_end_and_cutting_it_changes_nothing() {
    let folder = Folder::new();
    logs::write(&folder.log(), &three_batches());
    let whole = folder.log_bytes();
    let torn = &whole[..whole.len() - 7];
    let segment = folder.segments()[0].clone();
    let mut after_first = None;
    for _ in 0..3 {
        fs::write(&segment, torn).unwrap(); // The cut never reached the disk; the copy did.
        logs::recover(&folder.log(), &[]).unwrap();
        let files = logs::files(&folder.log());
        assert_eq!(*after_first.get_or_insert_with(|| files.clone()), files, "the same copy, under the same name");
    }
    // Another torn end at the same place gets a name of its own, also beside a half-made copy.
    let start = logs::line_starts(torn).last().copied().unwrap();
    fs::write(&segment, &torn[..start + 30]).unwrap();
    logs::recover(&folder.log(), &[]).unwrap();
    let kept = logs::torn(&folder.log());
    assert_eq!(kept, [torn[start..].to_vec(), torn[start..start + 30].to_vec()]);
}
