//! The reliability card: what a run did and what it found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::torture::check::{Finding, Violation};
use crate::torture::journal::{Entry, Outcome};
use crate::torture::plan::Kind;

/// How many findings are told one by one.
const MAX_FINDINGS: usize = 100;

/// What a run ends with.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Whether every promise was kept.
    pub sound: bool,
    pub version: &'static str,
    pub seed: u64,
    /// When the run began.
    pub date: String,
    pub elapsed_ms: u64,
    /// Whether a signal ended it early.
    pub interrupted: bool,
    pub file_system: Option<String>,
    pub clients: usize,
    pub cycles: u64,
    /// How many cycles of each kind.
    pub kinds: BTreeMap<Kind, u64>,
    pub kills: u64,
    pub stops: u64,
    /// How often a server whose files might not grow turned events away, and went on afterwards.
    pub full_disks_survived: u64,
    /// How often it ended, and the next start recovered.
    pub full_disks_ended: u64,
    /// How many data folders were filled one after the other.
    pub folders: u64,
    /// The records in the logs.
    pub records: u64,
    /// All requests with an event.
    pub sent: u64,
    /// Those answered with 202.
    pub acknowledged: u64,
    /// Those answered with 200.
    pub duplicates: u64,
    /// Those answered with 409.
    pub refused: u64,
    /// Those answered with 422.
    pub invalid: u64,
    /// Those answered with 503 or 507.
    pub turned_away: u64,
    /// Events with a request that may or may not have recorded them.
    pub unanswered: u64,
    /// Those of them that a later answer settled.
    pub settled: u64,
    pub lost: u64,
    pub doubled: u64,
    pub refused_but_present: u64,
    pub out_of_order: u64,
    pub hash_mismatches: u64,
    pub other_violations: u64,
    /// The longest recovery, as the server itself says.
    pub longest_recovery_ms: u64,
    /// The longest time from the start of a process to its first answer.
    pub longest_start_ms: u64,
    pub findings: Vec<Finding>,
    /// Where the journal and the server's files are, when they were kept.
    pub kept: Option<String>,
}

impl Report {
    /// Counts requests.
    pub fn count(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.sent += 1;
            match entry.outcome {
                Outcome::Accepted { .. } => self.acknowledged += 1,
                Outcome::Duplicate { .. } => self.duplicates += 1,
                Outcome::Refused { .. } => self.refused += 1,
                Outcome::Invalid => self.invalid += 1,
                Outcome::TurnedAway { .. } | Outcome::LeftOpen { .. } => self.turned_away += 1,
                Outcome::NoAnswer { .. } | Outcome::CutOff | Outcome::Unknown { .. } => {}
            }
        }
    }

    /// Counts findings.
    pub fn find(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            *match finding.violation {
                Violation::Lost => &mut self.lost,
                Violation::Doubled => &mut self.doubled,
                Violation::RefusedButPresent => &mut self.refused_but_present,
                Violation::OutOfOrder => &mut self.out_of_order,
                Violation::HashMismatch => &mut self.hash_mismatches,
                _ => &mut self.other_violations,
            } += 1;
            if self.findings.len() < MAX_FINDINGS {
                self.findings.push(finding);
            }
        }
        self.sound = self.findings.is_empty();
    }

    /// The findings, one a line.
    #[must_use]
    pub fn findings_text(&self) -> String {
        let lines: Vec<_> =
            self.findings.iter().map(|found| format!("{:?}: {}", found.violation, found.detail)).collect();
        lines.join("\n") + "\n"
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<28}{value}");
        row("lockstream", &self.version)?;
        row("date", &self.date)?;
        row("seed", &self.seed)?;
        row("file system", &self.file_system.as_deref().unwrap_or("unknown"))?;
        row("clients", &self.clients)?;
        row("minutes", &format_args!("{:.1}", std::time::Duration::from_millis(self.elapsed_ms).as_secs_f64() / 60.0))?;
        row("cycles", &self.cycles)?;
        for (kind, count) in &self.kinds {
            row(&format!("  {}", words(*kind)), count)?;
        }
        row("SIGKILL", &self.kills)?;
        row("SIGTERM", &self.stops)?;
        let (survived, ended) = (self.full_disks_survived, self.full_disks_ended);
        row("full disk", &format_args!("{survived} survived, {ended} ended the server"))?;
        row("data folders filled", &self.folders)?;
        row("records", &self.records)?;
        row("requests sent", &self.sent)?;
        row("acknowledged (202)", &self.acknowledged)?;
        row("duplicates (200)", &self.duplicates)?;
        row("refused (409)", &self.refused)?;
        row("invalid (422)", &self.invalid)?;
        row("turned away (503, 507)", &self.turned_away)?;
        row("unanswered events", &format_args!("{}, {} of them settled", self.unanswered, self.settled))?;
        row("longest recovery", &format_args!("{} ms", self.longest_recovery_ms))?;
        row("longest start to answer", &format_args!("{} ms", self.longest_start_ms))?;
        row("LOST", &self.lost)?;
        row("DOUBLED", &self.doubled)?;
        row("REFUSED BUT PRESENT", &self.refused_but_present)?;
        row("OUT OF ORDER", &self.out_of_order)?;
        row("HASH MISMATCHES", &self.hash_mismatches)?;
        row("OTHER VIOLATIONS", &self.other_violations)?;
        for finding in &self.findings {
            writeln!(f, "FOUND {}", finding.detail)?;
        }
        if self.interrupted {
            writeln!(f, "ended early by a signal")?;
        }
        if let Some(kept) = &self.kept {
            writeln!(f, "journal.jsonl, server.log and the data are in {kept}")?;
        }
        let verdict = if self.sound { "every promise was kept" } else { "a promise was broken; see above" };
        writeln!(f, "{verdict}")
    }
}

const fn words(kind: Kind) -> &'static str {
    match kind {
        Kind::Kill => "SIGKILL under load",
        Kind::Stop => "SIGTERM under load",
        Kind::DuplicateStorm => "duplicate storm",
        Kind::Disconnects => "disconnecting clients",
        Kind::ClockSteps => "clock steps",
        Kind::DatabaseDeleted => "database deleted",
        Kind::FullDisk => "full disk",
    }
}
