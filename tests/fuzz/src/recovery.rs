//! Recovery: any bytes at the end of a good log.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstream::domain::record::Head;
use lockstream::infrastructure::event_log::recovery::{Recovered, RecoveryError, recover};
use lockstream::infrastructure::event_log::storage::{Disk, Storage};
use lockstream::infrastructure::event_log::{LogLimits, line, segments};

use super::good;

/// The first byte says where the others stand: behind the log, in place of its last batch, in the
/// midst of that, or in a segment of their own.
pub fn recovery(input: &[u8]) {
    let Some((how, tail)) = input.split_first() else { return };
    let good = good::log();
    let folder = super::folder();
    let first = segments::path(folder.path(), Head::default().sequence.next());
    let last_batch = &good.bytes[good.last_batch..];
    let (before, head, tail) = match how % 4 {
        0 => (&good.bytes[..], good.head, tail.to_vec()),
        1 => (&good.bytes[..good.last_batch], good.head_before, tail.to_vec()),
        2 => {
            let kept = usize::from(how / 4) * 16 % last_batch.len();
            (&good.bytes[..good.last_batch], good.head_before, [&last_batch[..kept], tail].concat())
        }
        _ => {
            fs::write(segments::path(folder.path(), good.head.sequence.next()), tail).expect("there is room");
            (&good.bytes[..], good.head, tail.to_vec())
        }
    };
    let in_one_segment = how % 4 != 3;
    let content = if in_one_segment { [before, &tail].concat() } else { before.to_vec() };
    fs::write(&first, content).expect("there is room");
    check(folder.path(), before, head, &tail);
}

/// Opens the log as a start does; shows the head of every record.
fn open(log: &Path, shown: &mut Vec<Head>) -> Result<Recovered, RecoveryError<String>> {
    let disk: Arc<dyn Storage> = Arc::new(Disk);
    let limits = LogLimits { max_segment_bytes: 1 << 30, min_free_bytes: 0 };
    recover(&disk, log, &[], limits, |_, head, _| {
        shown.push(head);
        Ok(())
    })
}

fn check(log: &Path, before: &[u8], head: Head, tail: &[u8]) {
    let (good_bytes, end) = readable(tail, head);
    let (kept, cut) = tail.split_at(good_bytes);
    let files = files_of(log);
    let mut shown = Vec::new();
    match open(log, &mut shown) {
        Ok(recovered) => {
            assert_eq!((recovered.head, shown.last()), (end, Some(&end)), "every record, and none but those");
            assert_eq!(shown.len() as u64, end.sequence.get());
            assert!(!has_later_batch(cut, end), "cut off, though a later batch proves that it was synced");
            drop(recovered);
            assert_eq!(log_bytes(log), [before, kept].concat(), "cut exactly where it cannot be read");
            assert_eq!(torn(log), cut, "what was cut is kept beside");
            let after = files_of(log);
            let again = open(log, &mut Vec::new()).expect("it was repaired");
            assert_eq!((again.head, again.torn.is_none()), (end, true), "nothing is left to repair");
            drop(again);
            assert_eq!(files_of(log), after);
        }
        Err(error) => {
            match &error {
                RecoveryError::LostHistory { .. } => {}
                RecoveryError::Foreign(_) => {
                    let due = cut.split(|byte| *byte == b'\n').next().unwrap_or_default();
                    assert!(matches!(line::decode(due, end), Err(line::LineError::Foreign(_))), "{error}");
                }
                other => panic!("not documented: {other}"),
            }
            assert_eq!(files_of(log), files, "a refusal changes nothing");
            assert_eq!(shown.last().copied().unwrap_or_default(), end, "all before it was readable");
            let again = open(log, &mut Vec::new()).expect_err("it was refused before");
            assert_eq!(again.to_string(), error.to_string());
        }
    }
}

/// How many bytes of a tail are whole records, and where they end.
fn readable(tail: &[u8], mut head: Head) -> (usize, Head) {
    let mut at = 0;
    while let Some(length) = tail[at..].iter().position(|byte| *byte == b'\n') {
        let Ok((_, after)) = line::decode(&tail[at..at + length], head) else { break };
        (at, head) = (at + length + 1, after);
    }
    (at, head)
}

/// Whether some line begins like a record of a batch that is later than the one that is due.
fn has_later_batch(cut: &[u8], head: Head) -> bool {
    let due = head.sequence.next().get();
    cut.split(|byte| *byte == b'\n').filter_map(numbers).any(|[_, sequence, batch]| batch > due && sequence >= batch)
}

/// The format, the sequence and the batch at the beginning of a line.
fn numbers(line: &[u8]) -> Option<[u64; 3]> {
    let text = String::from_utf8_lossy(line);
    let mut members = text.split(',');
    let mut number = |label: &str| members.next()?.strip_prefix(label)?.parse::<u64>().ok();
    let [format, sequence, batch] = [number("{\"v\":")?, number("\"seq\":")?, number("\"batch\":")?];
    let spelled = format!("{{\"v\":{format},\"seq\":{sequence},\"batch\":{batch},\"recorded_at\":\"");
    text.starts_with(&spelled).then_some([format, sequence, batch])
}

fn files_of(log: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(log).expect("it is there").map(|entry| entry.expect("it can be listed").path());
    paths.map(|path| (path.clone(), fs::read(path).expect("it can be read"))).collect()
}

/// The bytes of all segments in their order.
fn log_bytes(log: &Path) -> Vec<u8> {
    let files = files_of(log).into_iter();
    files.filter(|(path, _)| path.extension().is_some_and(|end| end == "jsonl")).flat_map(|(_, bytes)| bytes).collect()
}

/// What was cut off and is kept.
fn torn(log: &Path) -> Vec<u8> {
    let files = files_of(log).into_iter();
    files.filter(|(path, _)| path.to_string_lossy().contains(".torn-")).flat_map(|(_, bytes)| bytes).collect()
}
