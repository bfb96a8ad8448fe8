//! Format 1 of a log line: how a record is written and read back.
//!
//! ```json
//! {"v":1,"seq":42,"batch":40,"recorded_at":"2026-11-21T08:00:00.123456Z","event":{…},"hash":"<64 hex>"}
//! ```
//!
//! The hash is SHA-256 over the 32 bytes of the previous record's hash, then the line without its
//! last 75 bytes (`,"hash":"<64 hex>"}`). There is one spelling of every record: fields in this
//! order, no white space, so a reader needs no JSON parser to find its parts.
//!
//! Every later format keeps the beginning up to `recorded_at` and the seal. So this reader can tell
//! a record that it does not understand, which is whole, from one that is damaged.

use std::io::Write;

use sha2::{Digest, Sha256};

use crate::domain::event::Event;
use crate::domain::event::json::CompactJson;
use crate::domain::hash::{ChainHash, hex};
use crate::domain::ids::Sequence;
use crate::domain::record::{Head, PlacedEvent, Record, RecordedAt};

/// The end of a line that the hash does not cover: `,"hash":"`, 64 digits, `"}`.
const SEAL_BYTES: usize = 75;
/// How long [`ending`] is.
pub const ENDING_BYTES: usize = SEAL_BYTES + 1;
/// The format that this version writes.
const FORMAT: u64 = 1;
/// How much longer than its event a line is at most, its end of line included: both numbers with 20
/// digits each.
pub const MAX_OVERHEAD_BYTES: usize = 191;
const SEAL_START: &[u8] = b",\"hash\":\"";
const SEAL_END: &[u8] = b"\"}";

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("the line is not a record")]
    NotARecord,
    #[error("the record has sequence {found} where {expected} is due")]
    WrongSequence { expected: Sequence, found: Sequence },
    #[error("the record's hash does not match its content and the records before it")]
    WrongHash,
    /// The hash is right: some writer sealed this very line, and no disk has damaged it.
    #[error(transparent)]
    Foreign(#[from] ForeignRecord),
}

/// Why a whole, sealed record cannot be taken in. A later version may have written it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignRecord {
    #[error("the record is of format {0}, which this version does not know")]
    OtherFormat(u64),
    #[error("the record says that its batch began with sequence {batch}, which cannot be")]
    WrongBatch { batch: Sequence },
    #[error("the record has not the fields of format 1")]
    WrongFields,
    #[error("this version cannot read the record's event: {0}")]
    WrongEvent(String),
}

/// The numbers at the start of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub format: u64,
    pub sequence: Sequence,
    pub batch: Sequence,
}

/// Appends the line of a record, with its end of line; returns the new head.
pub fn encode(record: &Record, previous: ChainHash, out: &mut Vec<u8>) -> Head {
    let start = out.len();
    write!(
        out,
        "{{\"v\":1,\"seq\":{},\"batch\":{},\"recorded_at\":\"{}\",\"event\":{}",
        record.sequence,
        record.batch,
        record.recorded_at,
        record.json.as_str(),
    )
    .expect("writing to memory cannot fail");
    let chain_hash = chain(previous, &out[start..]);
    out.extend_from_slice(SEAL_START);
    out.extend_from_slice(&hex(chain_hash.as_bytes()));
    out.extend_from_slice(SEAL_END);
    out.push(b'\n');
    debug_assert!(
        out.len() - start <= record.json.as_str().len() + MAX_OVERHEAD_BYTES,
        "no line is longer than stated"
    );
    Head { sequence: record.sequence, chain_hash }
}

/// How the line of a record with this hash ends, its end of line included.
pub fn ending(chain_hash: ChainHash) -> Vec<u8> {
    [SEAL_START, &hex(chain_hash.as_bytes()), SEAL_END, b"\n"].concat()
}

/// The hash that a line states, from its last [`ENDING_BYTES`]; the line itself is not looked at.
pub fn stated_hash(line: &[u8]) -> Option<ChainHash> {
    let seal = line.strip_suffix(b"\n")?.last_chunk::<SEAL_BYTES>()?;
    parse_seal(seal)
}

/// What a reader wants of a line.
pub trait FromLine: Sized + Send + 'static {
    /// Takes an event in its place, and its text as it was kept.
    fn new(placed: PlacedEvent, json: &str) -> Self;

    /// The first sequence of its batch.
    fn batch(&self) -> Sequence;
}

/// Everything.
impl FromLine for Record {
    fn new(PlacedEvent { sequence, batch, recorded_at, event }: PlacedEvent, json: &str) -> Self {
        let json = CompactJson::known(json);
        Self { sequence, batch, recorded_at, event, digest: json.digest(), json }
    }

    fn batch(&self) -> Sequence {
        self.batch
    }
}

/// What the rules need: the text is neither copied nor digested, which costs as much as proving it.
impl FromLine for PlacedEvent {
    fn new(placed: PlacedEvent, _json: &str) -> Self {
        placed
    }

    fn batch(&self) -> Sequence {
        self.batch
    }
}

/// Reads a line without its end of line, as the one that follows `head`.
pub fn decode(line: &[u8], head: Head) -> Result<(Record, Head), LineError> {
    decode_as(line, head)
}

/// The same for a reader that may want less.
pub fn decode_as<R: FromLine>(line: &[u8], head: Head) -> Result<(R, Head), LineError> {
    let (header, rest) = parse_header(line).ok_or(LineError::NotARecord)?;
    let expected = head.sequence.next();
    if header.sequence != expected {
        return Err(LineError::WrongSequence { expected, found: header.sequence });
    }
    let rest = rest.split_last_chunk::<SEAL_BYTES>().map(|(rest, _)| rest).ok_or(LineError::NotARecord)?;
    let (body, seal) = line.split_at(line.len() - SEAL_BYTES);
    let chain_hash = chain(head.chain_hash, body);
    // A hash has one spelling, so the digits need not be read to be compared.
    if seal_digits(seal) != Some(&hex(chain_hash.as_bytes())) {
        return Err(if parse_seal(seal).is_some() { LineError::WrongHash } else { LineError::NotARecord });
    }
    let record = decode_sealed(header, rest)?;
    Ok((record, Head { sequence: header.sequence, chain_hash }))
}

/// Reads the rest of a line whose hash is right, up to its seal.
fn decode_sealed<R: FromLine>(header: Header, rest: &[u8]) -> Result<R, ForeignRecord> {
    let Header { format, sequence, batch } = header;
    if format != FORMAT {
        return Err(ForeignRecord::OtherFormat(format));
    }
    if batch > sequence || batch == Sequence::ZERO {
        return Err(ForeignRecord::WrongBatch { batch });
    }
    let (recorded_at, json) = parse_rest(rest).ok_or(ForeignRecord::WrongFields)?;
    let event = Event::from_kept(json).map_err(|problems| {
        let words: Vec<_> = problems.iter().map(|problem| format!("{} {}", problem.pointer, problem.detail)).collect();
        ForeignRecord::WrongEvent(words.join("; "))
    })?;
    Ok(R::new(PlacedEvent { sequence, batch, recorded_at, event }, json))
}

/// Whether some beginning of `bytes` is the whole record that follows `head`; its length.
///
/// Finds a record whose end of line was damaged. Only a true record passes: the hash covers what
/// comes before it, which nobody outside can know.
pub fn sealed_prefix(bytes: &[u8], head: Head) -> Option<usize> {
    let (header, _) = parse_header(bytes)?;
    if header.sequence != head.sequence.next() {
        return None;
    }
    let mut hasher = Sha256::new_with_prefix(head.chain_hash.as_bytes());
    let mut hashed = 0;
    for at in 0..bytes.len().saturating_sub(SEAL_BYTES - 1) {
        let Some(stated) = parse_seal(&bytes[at..at + SEAL_BYTES]) else { continue };
        hasher.update(&bytes[hashed..at]);
        hashed = at;
        if ChainHash::new(hasher.clone().finalize().into()) == stated {
            return Some(at + SEAL_BYTES);
        }
    }
    None
}

/// Reads the numbers at the start of a line; the rest of it is not looked at.
pub fn peek_header(line: &[u8]) -> Option<Header> {
    parse_header(line).map(|(header, _)| header)
}

fn chain(previous: ChainHash, body: &[u8]) -> ChainHash {
    let mut hasher = Sha256::new_with_prefix(previous.as_bytes());
    hasher.update(body);
    ChainHash::new(hasher.finalize().into())
}

/// Reads the beginning that the lines of every format share.
fn parse_header(line: &[u8]) -> Option<(Header, &[u8])> {
    let (format, rest) = number(line, b"{\"v\":")?;
    let (sequence, rest) = number(rest, b",\"seq\":")?;
    let (batch, rest) = number(rest, b",\"batch\":")?;
    let header = Header { format, sequence: Sequence::new(sequence), batch: Sequence::new(batch) };
    rest.starts_with(b",\"recorded_at\":\"").then_some((header, rest))
}

/// Reads `label` and the decimal number after it.
fn number<'l>(line: &'l [u8], label: &[u8]) -> Option<(u64, &'l [u8])> {
    let rest = line.strip_prefix(label)?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    let (number, rest) = rest.split_at(digits);
    if number.is_empty() || (number.len() > 1 && number[0] == b'0') {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    Some((number.iter().try_fold(0, add)?, rest))
}

/// Reads `,"recorded_at":"…","event":…`.
fn parse_rest(rest: &[u8]) -> Option<(RecordedAt, &str)> {
    const TIME_BYTES: usize = 27;
    let rest = rest.strip_prefix(b",\"recorded_at\":\"")?;
    let (time, rest) = rest.split_at_checked(TIME_BYTES)?;
    let event = rest.strip_prefix(b"\",\"event\":")?;
    let recorded_at = RecordedAt::parse(std::str::from_utf8(time).ok()?)?;
    Some((recorded_at, std::str::from_utf8(event).ok()?))
}

fn parse_seal(seal: &[u8]) -> Option<ChainHash> {
    ChainHash::parse(std::str::from_utf8(seal_digits(seal)?).ok()?)
}

fn seal_digits(seal: &[u8]) -> Option<&[u8; 64]> {
    seal.strip_prefix(SEAL_START)?.strip_suffix(SEAL_END)?.try_into().ok()
}

/// The head that a line without its end of line says it makes. Nothing of that is proven.
pub fn stated_head(line: &[u8]) -> Option<Head> {
    let (Header { sequence, .. }, _) = parse_header(line)?;
    let (_, seal) = line.split_last_chunk::<SEAL_BYTES>()?;
    Some(Head { sequence, chain_hash: parse_seal(seal)? })
}

#[cfg(test)]
mod tests;
