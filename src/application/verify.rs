//! Verification: folds the log anew and holds against it whatever else claims to know history.
//!
//! Fed record by record by whoever can read the log; collects findings and never stops at one.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Serialize;

use crate::domain::ids::Sequence;
use crate::domain::record::{Head, Record};
use crate::domain::rows::Rows;
use crate::domain::world::{Counts, Touched, World};

/// How many differing rows are named one by one; the rest are counted.
const MAX_NAMED_ROWS: usize = 20;

/// After how many records it is forgotten what they touched.
const FORGET_EVERY: u64 = 1_024;

/// What a verification saw.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether there is no finding.
    pub sound: bool,
    /// The last good record of the log.
    pub head_sequence: u64,
    pub head_hash: String,
    /// Where the projection stood, if there is one.
    pub projected_sequence: Option<u64>,
    pub lockers: u64,
    pub compartments: u64,
    pub reservations: u64,
    pub findings: Vec<Finding>,
    /// What is worth knowing and no finding.
    pub notes: Vec<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable word for a program.
    pub code: &'static str,
    pub detail: String,
}

/// A verification under way.
#[derive(Debug, Default)]
pub struct Verification {
    world: World,
    head: Head,
    projection: Option<(Head, Rows)>,
    projection_compared: bool,
    expected_head: Option<Head>,
    findings: Vec<Finding>,
    notes: Vec<String>,
    /// Nobody asks for it; kept so that not every record makes it anew.
    touched: Touched,
    /// After a record that the rules refuse the fold means nothing any more.
    fold_broken: bool,
}

impl Verification {
    /// Gives what the projection holds, to be compared where its checkpoint stands.
    pub fn expect_projection(&mut self, (checkpoint, rows): (Head, Rows)) {
        self.projection = Some((checkpoint, rows));
        self.compare_when_due();
    }

    /// Gives a head that the log is known to have had, from the mark of a clean stop.
    pub fn expect_head(&mut self, head: Head) {
        self.expected_head = Some(head);
    }

    /// There is a mark of a clean stop, but what it says is unknown.
    pub fn unreadable_mark(&mut self, detail: String) {
        self.find("unreadable-mark", detail);
    }

    /// Takes the next record, whose chain the reader has proven.
    pub fn take(&mut self, record: &Record, head: Head) {
        self.head = head;
        if head.sequence.get().is_multiple_of(FORGET_EVERY) {
            self.touched = Touched::default();
        }
        if !self.fold_broken
            && let Err(error) = self.world.replay(record, &mut self.touched)
        {
            self.fold_broken = true;
            let detail = format!("sequence {}: {error}. The rest of the log is not folded.", record.sequence);
            self.find("impossible-record", detail);
        }
        if let Some(expected) = self.expected_head.filter(|expected| expected.sequence == head.sequence)
            && expected.chain_hash != head.chain_hash
        {
            let detail =
                format!("at sequence {} the log's hash differs from the mark of the last clean stop", head.sequence);
            self.find("other-history", detail);
        }
        self.compare_when_due();
    }

    /// The log ends with something that is no record, and nothing proves that it ever was one.
    pub fn torn_tail(&mut self, due: Sequence, detail: &str, bytes: u64) {
        let proven = self.proven_sequence();
        if due <= proven {
            self.find("lost-history", format!("{detail}; the log is known to have gone on to sequence {proven}"));
        } else {
            self.notes.push(format!(
                "the log's last {bytes} bytes are no whole record: either a server is writing just now, or the next \
                 start will cut them off; they were never acknowledged ({detail})"
            ));
        }
    }

    /// The log goes on with a whole record that this version cannot take in.
    pub fn foreign_record(&mut self, detail: String) {
        self.find("foreign-record", detail);
    }

    /// Acknowledged records are damaged.
    pub fn lost_history(&mut self, due: Sequence, detail: &str) {
        self.find("lost-history", format!("from sequence {due} on: {detail}"));
    }

    pub fn finish(mut self) -> Report {
        let proven = self.proven_sequence();
        let said = self.findings.iter().any(|finding| finding.code == "lost-history");
        if self.head.sequence < proven && !said {
            let detail = format!(
                "the log ends with sequence {}, but it is known to have gone on to {proven}",
                self.head.sequence
            );
            self.find("lost-history", detail);
        }
        let Counts { lockers, compartments, reservations } = self.world.counts();
        Report {
            sound: self.findings.is_empty(),
            head_sequence: self.head.sequence.get(),
            head_hash: self.head.chain_hash.to_string(),
            projected_sequence: self.projection.as_ref().map(|(checkpoint, _)| checkpoint.sequence.get()),
            lockers,
            compartments,
            reservations,
            findings: self.findings,
            notes: self.notes,
        }
    }

    /// Up to where something outside the log proves that it went.
    fn proven_sequence(&self) -> Sequence {
        let checkpoint = self.projection.as_ref().map(|(checkpoint, _)| checkpoint.sequence);
        let mark = self.expected_head.map(|head| head.sequence);
        checkpoint.max(mark).unwrap_or_default()
    }

    fn compare_when_due(&mut self) {
        let Some((checkpoint, stored)) = &self.projection else { return };
        if checkpoint.sequence != self.head.sequence || self.projection_compared || self.fold_broken {
            return;
        }
        self.projection_compared = true;
        let mut found = Vec::new();
        if checkpoint.chain_hash == self.head.chain_hash {
            compare(&self.world.all_rows(), stored, &mut found);
        } else {
            let detail =
                format!("at sequence {} the log's hash differs from the projection's checkpoint", checkpoint.sequence);
            found.push(Finding { code: "other-history", detail });
        }
        self.findings.extend(found);
    }

    fn find(&mut self, code: &'static str, detail: String) {
        self.findings.push(Finding { code, detail });
    }
}

/// Compares the rows that the log gives with the rows that are stored.
fn compare(folded: &Rows, stored: &Rows, findings: &mut Vec<Finding>) {
    compare_table("locker", &folded.lockers, &stored.lockers, |row| row.locker_id.clone(), findings);
    let compartment = |row: &_| {
        let crate::domain::rows::CompartmentRow { locker_id, status } = row;
        (locker_id.clone(), status.compartment_id.clone())
    };
    compare_table("compartment", &folded.compartments, &stored.compartments, compartment, findings);
    compare_table(
        "reservation",
        &folded.reservations,
        &stored.reservations,
        |row| row.reservation_id.clone(),
        findings,
    );
}

fn compare_table<R: PartialEq + Debug, K: Ord + Debug>(
    what: &str,
    folded: &[R],
    stored: &[R],
    key: impl Fn(&R) -> K,
    findings: &mut Vec<Finding>,
) {
    let mut pairs: BTreeMap<K, (Option<&R>, Option<&R>)> = BTreeMap::new();
    for row in folded {
        pairs.entry(key(row)).or_default().0 = Some(row);
    }
    for row in stored {
        pairs.entry(key(row)).or_default().1 = Some(row);
    }
    let differing: Vec<_> = pairs.into_iter().filter(|(_, (folded, stored))| folded != stored).collect();
    for (id, (folded, stored)) in differing.iter().take(MAX_NAMED_ROWS) {
        let words = |row: Option<&R>| row.map_or_else(|| "nothing".to_owned(), |row| format!("{row:?}"));
        let detail =
            format!("{what} {id:?}: the log gives {}, the projection holds {}", words(*folded), words(*stored));
        findings.push(Finding { code: "projection-differs", detail });
    }
    if differing.len() > MAX_NAMED_ROWS {
        let detail = format!("{} more {what} rows differ", differing.len() - MAX_NAMED_ROWS);
        findings.push(Finding { code: "projection-differs", detail });
    }
}
