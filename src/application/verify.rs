//! Verification: folds the log anew and holds against it whatever else claims to know history.
//!
//! Fed record by record by whoever can read the log; collects findings and never stops at one.

mod compare;
mod dealt;
mod fold;

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::application::verify::compare::compare;
use crate::application::verify::fold::Fold;
use crate::domain::ids::Sequence;
use crate::domain::record::{Head, PlacedEvent};
use crate::domain::rows::Rows;
use crate::domain::world::Counts;

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
    /// How long it took, reading the log and folding it included.
    pub elapsed_ms: u64,
    /// How much of that the fold which came to this report stood still, while rows of the projection
    /// were waited for or compared; not what was read of them before it began.
    pub comparing_ms: u64,
    pub findings: Vec<Finding>,
    /// What is worth knowing and no finding.
    pub notes: Vec<String>,
}

impl Report {
    /// The report of a verification that ends now.
    #[must_use]
    pub fn after(self, begin: Instant) -> Self {
        Self { elapsed_ms: millis(begin.elapsed()), ..self }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable word for a program.
    pub code: &'static str,
    pub detail: String,
}

/// A verification under way.
#[derive(Debug)]
pub struct Verification {
    way: Way,
    fold: Fold,
    head: Head,
    /// Where the projection stands.
    projection: Option<Head>,
    projection_compared: bool,
    expected_head: Option<Head>,
    comparing: Duration,
    findings: Vec<Finding>,
    notes: Vec<String>,
    /// After a record that the rules refuse the fold means nothing any more.
    fold_broken: bool,
}

/// How a verification goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Finds out with all processors and little memory that all of the log can be folded; where that
    /// is not so it does not say why.
    Quick,
    Exact,
}

impl Verification {
    #[must_use]
    pub fn new(way: Way) -> Self {
        let fold = match way {
            Way::Quick => Fold::quick(),
            Way::Exact => Fold::exact(),
        };
        Self {
            way,
            fold,
            head: Head::default(),
            projection: None,
            projection_compared: false,
            expected_head: None,
            comparing: Duration::ZERO,
            findings: Vec::new(),
            notes: Vec::new(),
            fold_broken: false,
        }
    }

    /// Whether going on is of no use: something in the log is impossible, and the exact way is to say what.
    #[must_use]
    pub fn is_in_vain(&self) -> bool {
        self.way == Way::Quick && self.fold_broken
    }

    /// There is a projection: its rows are to be compared where its checkpoint stands.
    pub fn expect_projection(&mut self, checkpoint: Head) {
        self.projection = Some(checkpoint);
        self.look_at_checkpoint();
    }

    /// Whether the rows are due now.
    #[must_use]
    pub fn wants_rows(&self) -> bool {
        self.is_at_checkpoint() && !self.projection_compared && !self.fold_broken
    }

    /// Compares the rows, for which the fold has been waiting since then.
    pub fn compare_with(&mut self, stored: &Rows, begin: Instant) {
        self.projection_compared = true;
        self.findings.extend(compare(&mut self.fold, stored));
        self.comparing += begin.elapsed();
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
    pub fn take(&mut self, placed: &PlacedEvent, head: Head) {
        self.head = head;
        if !self.fold_broken
            && let Err(error) = self.fold.take(placed)
        {
            self.fold_broken = true;
            let detail = format!("sequence {}: {error}. The rest of the log is not folded.", placed.sequence);
            self.find("impossible-record", detail);
        }
        if let Some(expected) = self.expected_head.filter(|expected| expected.sequence == head.sequence)
            && expected.chain_hash != head.chain_hash
        {
            let detail =
                format!("at sequence {} the log's hash differs from the mark of the last clean stop", head.sequence);
            self.find("other-history", detail);
        }
        self.look_at_checkpoint();
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

    /// What was found; `None` when only the exact way can tell.
    #[must_use]
    pub fn finish(mut self) -> Option<Report> {
        if self.is_in_vain() || self.fold.may_have_repeats() {
            return None;
        }
        let proven = self.proven_sequence();
        let said = self.findings.iter().any(|finding| finding.code == "lost-history");
        if self.head.sequence < proven && !said {
            let detail = format!(
                "the log ends with sequence {}, but it is known to have gone on to {proven}",
                self.head.sequence
            );
            self.find("lost-history", detail);
        }
        let Counts { lockers, compartments, reservations } = self.fold.counts();
        Some(Report {
            sound: self.findings.is_empty(),
            head_sequence: self.head.sequence.get(),
            head_hash: self.head.chain_hash.to_string(),
            projected_sequence: self.projection.map(|checkpoint| checkpoint.sequence.get()),
            lockers,
            compartments,
            reservations,
            elapsed_ms: 0,
            comparing_ms: millis(self.comparing),
            findings: self.findings,
            notes: self.notes,
        })
    }

    /// Up to where something outside the log proves that it went.
    fn proven_sequence(&self) -> Sequence {
        let checkpoint = self.projection.map(|checkpoint| checkpoint.sequence);
        let mark = self.expected_head.map(|head| head.sequence);
        checkpoint.max(mark).unwrap_or_default()
    }

    fn is_at_checkpoint(&self) -> bool {
        self.projection.is_some_and(|checkpoint| checkpoint.sequence == self.head.sequence)
    }

    /// Rows of another history need no comparing.
    fn look_at_checkpoint(&mut self) {
        if self.wants_rows() && self.projection != Some(self.head) {
            self.projection_compared = true;
            let detail =
                format!("at sequence {} the log's hash differs from the projection's checkpoint", self.head.sequence);
            self.find("other-history", detail);
        }
    }

    fn find(&mut self, code: &'static str, detail: String) {
        self.findings.push(Finding { code, detail });
    }
}
