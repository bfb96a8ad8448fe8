//! The reader of the log's lines.

use lockstream::domain::hash::ChainHash;
use lockstream::domain::ids::Sequence;
use lockstream::domain::record::Head;
use lockstream::infrastructure::event_log::line::{LineError, decode, encode, peek_header, sealed_prefix};
use sha2::{Digest, Sha256};

/// Any line: as it is, and with a seal that makes it a record that some writer has written.
pub fn line(bytes: &[u8]) {
    // The reader splits at the ends of lines.
    let line: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\n').collect();
    let due = peek_header(&line).map_or(42, |header| header.sequence.get());
    let head = Head { sequence: Sequence::new(due.saturating_sub(1)), chain_hash: ChainHash::new([7; 32]) };
    reads_back(&line, head);
    let sealed = seal(&line, head);
    reads_back(&sealed, head);
    assert!(
        !matches!(decode(&sealed, head), Err(LineError::WrongHash)),
        "sealed, and yet not recognised: {:?}",
        String::from_utf8_lossy(&sealed)
    );
}

/// The seal, made without the code under test.
fn seal(body: &[u8], head: Head) -> Vec<u8> {
    let hash = Sha256::digest([head.chain_hash.as_bytes(), body].concat());
    let digits = hash.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"));
    [body, b",\"hash\":\"", digits.as_bytes(), b"\"}"].concat()
}

fn reads_back(line: &[u8], head: Head) {
    let header = peek_header(line);
    match decode(line, head) {
        Ok((record, after)) => {
            let header = header.expect("a record has a header");
            assert_eq!((header.sequence, header.batch), (record.sequence, record.batch));
            assert!(record.batch <= record.sequence && record.sequence == after.sequence);
            let mut again = Vec::new();
            assert_eq!(encode(&record, head.chain_hash, &mut again), after);
            assert_eq!(again.strip_suffix(b"\n"), Some(line), "there is one spelling of a record");
            for junk in [&b""[..], b"\n", b"J{\"v\":1", &line[line.len() - 75..]] {
                assert_eq!(sealed_prefix(&[line, junk].concat(), head), Some(line.len()));
            }
            damage_is_seen(line, head);
        }
        Err(LineError::Foreign(_)) => {
            let body = &line[..line.len() - 75];
            assert_eq!(seal(body, head), line, "only what is sealed is called whole");
        }
        Err(LineError::WrongSequence { expected, found }) => {
            assert_eq!(header.map(|header| header.sequence), Some(found));
            assert_ne!(expected, found);
        }
        Err(LineError::NotARecord | LineError::WrongHash) => {}
    }
}

/// No flipped bit and no cut goes unnoticed; places are taken from the line itself.
fn damage_is_seen(line: &[u8], head: Head) {
    for place in Sha256::digest(line).chunks(4).take(4) {
        let at = u32::from_le_bytes(place.try_into().expect("four bytes")) as usize % (line.len() * 8);
        let mut flipped = line.to_vec();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(decode(&flipped, head).is_err(), "bit {at}");
        assert!(decode(&line[..at / 8], head).is_err(), "cut at {}", at / 8);
    }
}
