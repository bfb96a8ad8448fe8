//! What is read while a server writes, and what many read together.

use std::fs;

use super::*;
use crate::domain::event::parse::ReceivedEvent;
use crate::domain::record::RecordedAt;

/// Batches of one record each.
fn log_lines(count: u64) -> Vec<u8> {
    let (mut lines, mut head) = (Vec::new(), Head::default());
    for number in 1..=count {
        let event = format!(
            r#"{{"event_id":"01890a5d-ac96-774b-bcce-b302099a{number:04x}","occurred_at":"2026-11-21T08:00:00Z","locker_id":"L","type":"CompartmentRegistered","payload":{{"compartment_id":"{number}"}}}}"#
        );
        let ReceivedEvent { json, digest, content, .. } = ReceivedEvent::parse(event.as_bytes()).unwrap();
        let recorded_at = RecordedAt::parse("2026-11-21T08:00:00.000000Z").unwrap();
        let sequence = head.sequence.next();
        let record = Record { sequence, batch: sequence, recorded_at, event: content.unwrap(), json, digest };
        head = line::encode(&record, head.chain_hash, &mut lines);
    }
    lines
}

#[test]
fn a_line_that_a_server_finishes_while_it_is_read_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(segments::path(folder.path(), Sequence::new(1)), log_lines(3)).unwrap();
    let mut history = History::open(folder.path()).unwrap();
    history.next().unwrap().unwrap();
    // As if the second line had been half there a moment ago, and all three are now.
    history.damaged(&LineError::NotARecord).expect("it is whole by now");
    let sequences: Vec<_> = history.by_ref().map(|item| item.unwrap().0.sequence.get()).collect();
    assert_eq!(sequences, [2, 3], "reading goes on at that line");
    assert_eq!(history.bytes_read(), history.bytes_total());
}

/// Everything that can be seen of a reading, to its end.
fn reading(folder: &Path, help: Help, team: Option<Arc<Team<Record>>>) -> String {
    let mut history = History { help, team, ..History::open(folder).unwrap() };
    let read: Vec<_> = history.by_ref().collect();
    let History { head, bytes_read, ended, .. } = history;
    format!("{read:?} {head:?} {bytes_read} {ended} {:?} {:?}", history.last_segment(), history.last_batch())
}

#[test]
fn what_many_read_ahead_is_what_one_reads_whatever_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = segments::path(folder.path(), Sequence::new(1));
    let sound = log_lines(40);
    let starts: Vec<_> = std::iter::once(0).chain((1..sound.len()).filter(|at| sound[at - 1] == b'\n')).collect();
    // The pieces are so small that there are many, and lines that are longer than one.
    let helps = [(1, 100), (3, 1_000)].map(|(threads, piece_bytes)| Help { threads, piece_bytes });
    let teams = helps.map(|help| (help, Arc::new(Team::start(help))));
    let alike = |bytes: &[u8], case: &str| {
        fs::write(&path, bytes).unwrap();
        let alone = reading(folder.path(), Help::NONE, None);
        for (help, team) in &teams {
            let together = reading(folder.path(), *help, Some(Arc::clone(team)));
            assert!(alone == together, "{case}, {help:?}: {together}, not {alone}");
        }
    };
    alike(&sound, "sound");
    for at in (0..sound.len()).step_by(17) {
        let mut flipped = sound.clone();
        flipped[at] ^= 1 << (at % 8);
        alike(&flipped, &format!("byte {at} flipped"));
        alike(&sound[..at], &format!("{at} bytes left"));
    }
    for pair in starts.windows(3) {
        let [first, second, third] = [pair[0], pair[1], pair[2]];
        let [head, lines, tail] = [&sound[..first], &sound[first..third], &sound[third..]];
        let (one, other) = lines.split_at(second - first);
        alike(&[head, other, one, tail].concat(), "two lines in the wrong order");
        alike(&[head, other, tail].concat(), "a line is missing");
        alike(&[head, one, one, other, tail].concat(), "a line is there twice");
        alike(&[head, one, b"\n", other, tail].concat(), "an empty line");
    }
    // The same on a second segment, and with one behind it.
    let (first, second) = sound.split_at(starts[10]);
    let next = |sequence| segments::path(folder.path(), Sequence::new(sequence));
    fs::write(next(11), second).unwrap();
    alike(first, "two segments");
    alike(&first[..first.len() - 1], "a segment without its end");
    for at in (0..second.len()).step_by(31) {
        fs::write(next(11), &second[..at]).unwrap();
        alike(first, &format!("{at} bytes left of the second segment"));
    }
    fs::write(next(12), second).unwrap();
    alike(first, "a segment of another name");
}
