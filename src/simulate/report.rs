//! What a simulation counts while it runs, and what it says in the end, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::simulate::histogram::Histogram;
use crate::simulate::verdict::{Judged, NotNow, Verdict};

/// How many wrong answers are told one by one.
const MAX_FINDINGS: usize = 10;

/// Counts that grow while events are sent.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub accepted: u64,
    pub duplicates: u64,
    /// By the code of the rule.
    pub refused: BTreeMap<String, u64>,
    pub impossible: u64,
    pub found_recorded: u64,
    pub known_from_before: u64,
    pub wrong: u64,
    pub findings: Vec<String>,
    pub requests: u64,
    /// Events that were sent again, each time.
    pub sent_again: u64,
    /// Answers that said "not now", by what they said.
    pub turned_away: BTreeMap<String, u64>,
    /// Requests that got no answer.
    pub unanswered_requests: u64,
    /// Events that were made and have no verdict yet.
    pub under_way: u64,
    /// From the moment an event was due, or was sent, to its answer, in nanoseconds.
    pub latency: Histogram,
    /// From the moment an event was due to its sending where nothing but the generator was late.
    pub own_lag: Histogram,
}

impl Tally {
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Events with a verdict.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.accepted + self.duplicates + self.refusals() + self.impossible
    }

    /// Counts a settled event; the text of a wrong answer is made only when there is one.
    pub fn settle(&mut self, verdict: Verdict, judged: Judged, finding: impl FnOnce() -> String) {
        self.under_way -= 1;
        match judged {
            Judged::AsExpected => {}
            Judged::FoundRecorded => self.found_recorded += 1,
            Judged::KnownFromBefore => self.known_from_before += 1,
            Judged::Wrong => {
                self.wrong += 1;
                if self.findings.len() < MAX_FINDINGS {
                    self.findings.push(finding());
                }
            }
        }
        match verdict {
            Verdict::Accepted => self.accepted += 1,
            Verdict::Duplicate => self.duplicates += 1,
            Verdict::Refused(code) => *self.refused.entry(code).or_default() += 1,
            Verdict::Impossible(_) | Verdict::NotNow(_) => self.impossible += 1,
        }
    }

    pub fn turn_away(&mut self, not_now: &NotNow) {
        *self.turned_away.entry(not_now.reason.clone()).or_default() += 1;
    }
}

/// What a simulation ends with.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Whether every answer was the one that the rules give.
    pub sound: bool,
    pub version: &'static str,
    pub seed: u64,
    pub server: Option<String>,
    pub file: Option<String>,
    pub lockers: u32,
    pub compartments: u16,
    pub connections: u16,
    pub batch_events: u32,
    pub orderly: bool,
    pub wanted_rate_events_per_s: Option<f64>,
    pub elapsed_ms: u64,
    /// Whether a signal ended it early.
    pub interrupted: bool,
    /// Why it was given up, if it was.
    pub failure: Option<String>,
    /// Events with a verdict; of a file, those in it.
    pub events: u64,
    pub rate_events_per_s: f64,
    pub requests: u64,
    pub accepted: u64,
    pub duplicates: u64,
    pub refused: BTreeMap<String, u64>,
    /// Events answered with something that no event of a simulation ever deserves.
    pub impossible: u64,
    /// Events answered otherwise than the rules say; `impossible` ones are among them.
    pub wrong: u64,
    pub findings: Vec<String>,
    pub sent_again: u64,
    pub turned_away: BTreeMap<String, u64>,
    pub unanswered_requests: u64,
    /// Duplicates that were accepted the time before, when the answer was lost.
    pub found_recorded: u64,
    /// Events that found a later world than theirs: the seed was here before, or they came once more
    /// together with others that were recorded.
    pub known_from_before: u64,
    /// Events that were under way when it ended.
    pub unsettled: u64,
    /// Of the requests; nothing is answered by a file.
    #[serde(flatten)]
    pub latency: Option<Latency>,
}

/// How long requests took, from the moment at which they were due or were sent.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p99_9_ms: f64,
    pub max_ms: f64,
    /// The part of it that is nobody's but the sender's: how late it woke up for what was due. Zero
    /// without a rate.
    pub own_lag_p99_ms: f64,
}

impl Latency {
    fn of(tally: &Tally) -> Self {
        let permille = |share| milliseconds(tally.latency.permille(share));
        Self {
            p50_ms: permille(500),
            p90_ms: permille(900),
            p99_ms: permille(990),
            p99_9_ms: permille(999),
            max_ms: milliseconds(tally.latency.max()),
            own_lag_p99_ms: milliseconds(tally.own_lag.permille(990)),
        }
    }
}

impl Report {
    /// Takes over what was counted.
    #[must_use]
    pub fn with(mut self, tally: Tally, elapsed: Duration) -> Self {
        self.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.events = tally.events();
        self.rate_events_per_s = per_second(self.events, elapsed);
        self.latency = self.server.is_some().then(|| Latency::of(&tally));
        self.version = env!("CARGO_PKG_VERSION");
        self.sound = tally.wrong == 0;
        self.requests = tally.requests;
        self.accepted = tally.accepted;
        self.duplicates = tally.duplicates;
        self.refused = tally.refused;
        self.impossible = tally.impossible;
        self.wrong = tally.wrong;
        self.findings = tally.findings;
        self.sent_again = tally.sent_again;
        self.turned_away = tally.turned_away;
        self.unanswered_requests = tally.unanswered_requests;
        self.found_recorded = tally.found_recorded;
        self.known_from_before = tally.known_from_before;
        self.unsettled = tally.under_way;
        self
    }
}

/// Nanoseconds as milliseconds, to the microsecond.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a latency has few digits")]
pub fn milliseconds(nanos: u64) -> f64 {
    (nanos / 1_000) as f64 / 1_000.0
}

/// A rate, to the tenth.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a rate is shown with few digits")]
pub fn per_second(events: u64, elapsed: Duration) -> f64 {
    (events as f64 / elapsed.as_secs_f64().max(1e-9) * 10.0).round() / 10.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<44}{value}");
        match (&self.server, &self.file) {
            (Some(server), _) => row("sent to", server)?,
            (None, file) => row("written to", &file.as_deref().unwrap_or_default())?,
        }
        let Self { seed, lockers, compartments, .. } = self;
        let kind = if self.orderly { ", orderly" } else { "" };
        row("network", &format_args!("seed {seed}: {lockers} lockers, {compartments} compartments each{kind}"))?;
        row("events", &self.events)?;
        row("  accepted", &self.accepted)?;
        row("  duplicates", &self.duplicates)?;
        for (code, count) in &self.refused {
            row(&format!("  refused: {code}"), count)?;
        }
        let elapsed = Duration::from_millis(self.elapsed_ms).as_secs_f64();
        row("rate", &format_args!("{:.0} events/s for {elapsed:.1} s", self.rate_events_per_s))?;
        if let Some(wanted) = self.wanted_rate_events_per_s {
            row("  wanted", &format_args!("{wanted} events/s"))?;
        }
        if let Some(latency) = &self.latency {
            self.rows_of_requests(latency, &mut row)?;
        }
        for finding in &self.findings {
            writeln!(f, "FOUND {finding}")?;
        }
        if self.unsettled > 0 {
            writeln!(f, "{} events have no verdict; a run with the same seed sends them again", self.unsettled)?;
        }
        if self.interrupted {
            writeln!(f, "ended early by a signal")?;
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "given up: {failure}")?;
        }
        Ok(())
    }
}

impl Report {
    fn rows_of_requests(
        &self,
        latency: &Latency,
        row: &mut impl FnMut(&str, &dyn fmt::Display) -> fmt::Result,
    ) -> fmt::Result {
        let Self { connections, batch_events, requests, .. } = self;
        row("requests", &format_args!("{requests}, on {connections} connections, {batch_events} events each"))?;
        let milliseconds = |value: f64| format!("{value:.3} ms");
        row("latency p50", &milliseconds(latency.p50_ms))?;
        row("latency p90", &milliseconds(latency.p90_ms))?;
        row("latency p99", &milliseconds(latency.p99_ms))?;
        row("latency p99.9", &milliseconds(latency.p99_9_ms))?;
        row("latency max", &milliseconds(latency.max_ms))?;
        if self.wanted_rate_events_per_s.is_some() {
            row("  the sender's own lag, p99", &milliseconds(latency.own_lag_p99_ms))?;
        }
        row("sent again", &self.sent_again)?;
        for (reason, count) in &self.turned_away {
            row(&format!("  turned away: {reason}"), count)?;
        }
        row("  requests without an answer", &self.unanswered_requests)?;
        row("  found recorded", &self.found_recorded)?;
        row("known already", &self.known_from_before)?;
        row("WRONG ANSWERS", &self.wrong)
    }
}
