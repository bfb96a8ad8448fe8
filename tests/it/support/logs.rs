//! Logs made and opened through the library, without a process: fast enough to damage every bit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use lockstream::application::ports::{Durable, EventLog};
use lockstream::domain::event::parse::ReceivedEvent;
use lockstream::domain::ids::Sequence;
use lockstream::domain::record::{Head, Record, RecordedAt};
use lockstream::infrastructure::event_log::LogLimits;
use lockstream::infrastructure::event_log::history::History;
use lockstream::infrastructure::event_log::history::damage::HistoryError;
use lockstream::infrastructure::event_log::recovery::{self, DurabilityProof, Recovered, RecoveryError};
use lockstream::infrastructure::event_log::storage::{Disk, Storage};
use serde_json::Value;

pub type Refusal = RecoveryError<String>;

const ONE_SEGMENT: u64 = 1 << 30;

/// Segments of this size, on any disk.
pub fn limits(max_segment_bytes: u64) -> LogLimits {
    LogLimits { max_segment_bytes, min_free_bytes: 0 }
}

/// Opens a log as a start does; the error is why it would not start.
pub fn recover(log: &Path, proofs: &[DurabilityProof]) -> Result<Recovered, Refusal> {
    recover_with(log, proofs, ONE_SEGMENT)
}

/// Recovers a log that is known up to a head which ends a segment.
pub fn recover_after(begin: Head, log: &Path, proofs: &[DurabilityProof]) -> Result<Recovered, Refusal> {
    let disk: Arc<dyn Storage> = Arc::new(Disk);
    recovery::recover_after(begin, &disk, log, proofs, limits(ONE_SEGMENT), |_, _, _| Ok(()))
}

fn recover_with(log: &Path, proofs: &[DurabilityProof], max_segment_bytes: u64) -> Result<Recovered, Refusal> {
    let disk: Arc<dyn Storage> = Arc::new(Disk);
    recovery::recover(&disk, log, proofs, limits(max_segment_bytes), |_, _, _| Ok(()))
}

/// Appends batches to the log in a folder, each synced; returns the head after each.
pub fn write_with(log: &Path, max_segment_bytes: u64, batches: &[Vec<Value>]) -> Vec<Head> {
    fs::create_dir_all(log).unwrap();
    let Recovered { log: mut open, mut head, .. } = recover_with(log, &[], max_segment_bytes).unwrap();
    batches
        .iter()
        .map(|batch| {
            let records = records(head, batch);
            let event_bytes = records.iter().map(|record| record.json.as_str().len()).sum();
            open.make_room(records.len(), event_bytes).unwrap().unwrap();
            head = Durable::append(&mut open, &records).unwrap().head();
            head
        })
        .collect()
}

/// The same, in one segment.
pub fn write(log: &Path, batches: &[Vec<Value>]) -> Vec<Head> {
    write_with(log, ONE_SEGMENT, batches)
}

/// The records of one batch that follows `head`, whatever the rules would say about them.
pub fn records(head: Head, batch: &[Value]) -> Vec<Record> {
    let first = head.sequence.next();
    let noon: DateTime<Utc> = "2026-11-21T12:00:00.000001Z".parse().unwrap();
    let numbered = batch.iter().zip(first.get()..);
    numbered
        .map(|(event, sequence)| {
            let received = ReceivedEvent::parse(event.to_string().as_bytes()).unwrap();
            let recorded_at = RecordedAt::new(noon + TimeDelta::seconds(i64::try_from(sequence).unwrap()));
            let ReceivedEvent { json, digest, content, .. } = received;
            let sequence = Sequence::new(sequence);
            Record { sequence, batch: first, recorded_at, event: content.unwrap(), json, digest }
        })
        .collect()
}

/// How many records can be read, and what ends the reading.
pub fn read(log: &Path) -> (u64, Option<HistoryError>) {
    let mut history = History::open(log).unwrap();
    let error = history.by_ref().find_map(Result::err);
    (history.head().sequence.get(), error)
}

/// Every file of a folder with its bytes.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// The torn ends that are kept beside the log, in the order of their names.
pub fn torn(log: &Path) -> Vec<Vec<u8>> {
    let kept = files(log).into_iter().filter(|(path, _)| path.to_string_lossy().contains(".torn-"));
    kept.map(|(_, bytes)| bytes).collect()
}

/// Where each line of a segment begins, and where the last one ends.
pub fn line_starts(bytes: &[u8]) -> Vec<usize> {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(ends).collect()
}
