//! The line, held against its description: what is written, what is read back, what is refused.

use sha2::{Digest, Sha256};

use super::*;
use crate::domain::event::parse::ReceivedEvent;

const EVENT: &str = r#"{"event_id":"01890a5d-ac96-774b-bcce-b302099a8001","occurred_at":"2026-11-21T09:00:00+01:00","locker_id":"Straße 5","type":"CompartmentRegistered","payload":{"compartment_id":"A1","\u0061":1.50e+1},"n":null}"#;

fn record(sequence: u64, batch: u64) -> Record {
    let ReceivedEvent { json, digest, content, .. } = ReceivedEvent::parse(EVENT.as_bytes()).unwrap();
    let recorded_at = RecordedAt::parse("2026-11-21T08:00:00.000100Z").unwrap();
    let (sequence, batch) = (Sequence::new(sequence), Sequence::new(batch));
    Record { sequence, batch, recorded_at, event: content.unwrap(), json, digest }
}

fn head(sequence: u64) -> Head {
    Head { sequence: Sequence::new(sequence), chain_hash: ChainHash::new([7; 32]) }
}

/// A line without its end, the head before it and the head it makes.
fn line(sequence: u64, batch: u64) -> (Vec<u8>, Head, Head) {
    let before = head(sequence - 1);
    let mut line = Vec::new();
    let after = encode(&record(sequence, batch), before.chain_hash, &mut line);
    assert_eq!(line.pop(), Some(b'\n'));
    (line, before, after)
}

/// Seals a body as the format says, without the code under test.
fn seal(before: Head, body: &str) -> Vec<u8> {
    let hash = Sha256::digest([before.chain_hash.as_bytes(), body.as_bytes()].concat());
    let digits = hash.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"));
    format!("{body},\"hash\":\"{digits}\"}}").into_bytes()
}

fn error(line: &[u8], before: Head) -> LineError {
    decode(line, before).unwrap_err()
}

#[test]
fn a_line_is_spelled_and_sealed_as_documented() {
    let (line, before, after) = line(42, 40);
    let body = format!(r#"{{"v":1,"seq":42,"batch":40,"recorded_at":"2026-11-21T08:00:00.000100Z","event":{EVENT}"#);
    assert_eq!(line, seal(before, &body));
    let hash = Sha256::digest([&[7; 32], body.as_bytes()].concat());
    assert_eq!(after, Head { sequence: Sequence::new(42), chain_hash: ChainHash::new(hash.into()) });
    assert_eq!(line.len() - body.len(), SEAL_BYTES);
}

#[test]
fn a_line_reads_back_as_the_record_it_was() {
    let (line, before, after) = line(42, 40);
    let (read, read_after) = decode(&line, before).unwrap();
    let written = record(42, 40);
    assert_eq!(read_after, after);
    assert_eq!((read.sequence, read.batch, read.recorded_at), (written.sequence, written.batch, written.recorded_at));
    let (placed, placed_after): (PlacedEvent, _) = decode_as(&line, before).unwrap();
    assert_eq!((placed_after, placed.sequence, placed.batch), (after, written.sequence, written.batch));
    assert_eq!((placed.recorded_at, &placed.event), (written.recorded_at, &written.event));
    assert_eq!((read.event, read.json, read.digest), (written.event, written.json, written.digest));
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let (line, before, _) = line(42, 40);
    for at in 0..line.len() {
        for bit in 0..8 {
            let mut flipped = line.clone();
            flipped[at] ^= 1 << bit;
            assert!(decode(&flipped, before).is_err(), "byte {at}, bit {bit}");
        }
        assert!(decode(&line[..at], before).is_err(), "cut at {at}");
    }
}

#[test]
fn every_error_says_what_it_is() {
    let (good, before, after) = line(42, 40);
    let text = std::str::from_utf8(&good).unwrap();
    assert_eq!(error(b"", before), LineError::NotARecord);
    assert_eq!(error(b"{\"v\":1,\"seq\":42}", before), LineError::NotARecord);
    assert_eq!(error(text.replace("\"seq\":42", "\"seq\":042").as_bytes(), before), LineError::NotARecord);
    assert_eq!(error(text.replace("\"v\":1", "\"v\":2").as_bytes(), before), LineError::WrongHash);
    let (expected, found) = (Sequence::new(43), Sequence::new(42));
    assert_eq!(error(&good, after), LineError::WrongSequence { expected, found });
    assert_eq!(error(&good, Head { chain_hash: ChainHash::default(), ..before }), LineError::WrongHash);
    assert_eq!(error(text.replace("A1", "A2").as_bytes(), before), LineError::WrongHash);
    for batch in [0, 43] {
        let (line, before, _) = line(42, batch);
        let foreign = ForeignRecord::WrongBatch { batch: Sequence::new(batch) };
        assert_eq!(error(&line, before), LineError::Foreign(foreign));
    }
}

#[test]
fn what_is_sealed_but_unknown_to_this_version_is_told_from_damage() {
    let before = head(41);
    let start = r#"{"v":1,"seq":42,"batch":42,"recorded_at":""#;
    let foreign = |body: &str| match error(&seal(before, body), before) {
        LineError::Foreign(foreign) => foreign,
        error => panic!("{error}"),
    };
    let event = format!(r#"2026-11-21T08:00:00.000100Z","event":{EVENT}"#);
    let format_2 = format!("{start}{event}").replace("\"v\":1", "\"v\":2");
    assert_eq!(foreign(&format_2), ForeignRecord::OtherFormat(2));
    for fields in [&event.replace("event\":", "evt\":"), &event.replace(".000100Z", ".0001+00:00"), "2026"] {
        assert_eq!(foreign(&format!("{start}{fields}")), ForeignRecord::WrongFields);
    }
    let unknown = foreign(&format!("{start}{}", event.replace("Registered", "Gone")));
    let ForeignRecord::WrongEvent(why) = unknown else { panic!("{unknown}") };
    assert!(why.contains("/type"), "{why}");
}

#[test]
fn a_sealed_record_is_recognised_without_its_end_of_line() {
    let (line, before, after) = line(42, 40);
    for rest in [&b""[..], b"\n", b"Jmore", b",\"hash\":\""] {
        let bytes = [&line, rest].concat();
        assert_eq!(sealed_prefix(&bytes, before), Some(line.len()));
    }
    assert_eq!(sealed_prefix(&line, after), None, "another record is due");
    assert_eq!(sealed_prefix(&line, Head { chain_hash: ChainHash::default(), ..before }), None);
    assert_eq!(sealed_prefix(&line[1..], before), None);
    assert_eq!(sealed_prefix(&line[..line.len() - 1], before), None);
    assert_eq!(sealed_prefix(b"", before), None);
}

#[test]
fn a_header_is_read_from_the_start_of_a_line_alone() {
    let (line, ..) = line(42, 40);
    let header = Header { format: 1, sequence: Sequence::new(42), batch: Sequence::new(40) };
    assert_eq!(peek_header(&line[..60]), Some(header));
    assert_eq!(peek_header(&line[1..]), None);
    assert_eq!(peek_header(b"{\"v\":1,\"seq\":42,\"batch\":40"), None);
    assert_eq!(peek_header(b"{\"v\":1,\"seq\":99999999999999999999,\"batch\":40,\"recorded_at\":\""), None);
}
