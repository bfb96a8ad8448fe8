//! Records that are as they should be.

use lockstream::domain::event::parse::ReceivedEvent;
use lockstream::domain::ids::Sequence;
use lockstream::domain::record::{Head, Record, RecordedAt};
use lockstream::infrastructure::event_log::line;

/// How many records the batches of the log have.
const BATCHES: [u64; 3] = [2, 1, 3];

/// A log of three batches.
pub struct GoodLog {
    pub bytes: Vec<u8>,
    /// Where the last batch begins, and the head before it.
    pub last_batch: usize,
    pub head_before: Head,
    pub head: Head,
}

pub fn log() -> GoodLog {
    let (mut bytes, mut head, mut before) = (Vec::new(), Head::default(), None);
    for records in BATCHES {
        let batch = head.sequence.next();
        before = Some((bytes.len(), head));
        for _ in 0..records {
            head = line::encode(&record(head.sequence.next(), batch), head.chain_hash, &mut bytes);
        }
    }
    let (last_batch, head_before) = before.expect("there are batches");
    GoodLog { bytes, last_batch, head_before, head }
}

fn record(sequence: Sequence, batch: Sequence) -> Record {
    let event = format!(
        "{{\"event_id\":\"01890a5d-ac96-774b-bcce-b3020000{:04}\",\"occurred_at\":\"2026-11-21T08:00:00Z\",\
         \"locker_id\":\"L\",\"type\":\"CompartmentRegistered\",\"payload\":{{\"compartment_id\":\"{sequence}\"}}}}",
        sequence.get()
    );
    let ReceivedEvent { json, digest, content, .. } = ReceivedEvent::parse(event.as_bytes()).expect("it is valid");
    let recorded_at = RecordedAt::parse("2026-11-21T08:00:00.000100Z").expect("it is the one spelling");
    Record { sequence, batch, recorded_at, event: content.expect("it is valid"), json, digest }
}
