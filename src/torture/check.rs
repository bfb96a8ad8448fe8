//! The checker: holds what clients were told against what the log holds.
//!
//! A pure function of the journal and the records, so that tests can show that it finds what it is
//! there to find.

use std::collections::HashMap;

use serde::Serialize;

use crate::domain::event::json::ContentDigest;
use crate::domain::ids::EventId;
use crate::domain::record::{Record, RecordedAt};
use crate::torture::journal::{Entry, Expected, Outcome};

/// What the checker needs of a record of the log.
#[derive(Debug, Clone, Copy)]
pub struct Logged {
    pub sequence: u64,
    pub event_id: EventId,
    pub digest: ContentDigest,
    pub recorded_at: RecordedAt,
}

impl From<&Record> for Logged {
    fn from(record: &Record) -> Self {
        let Record { sequence, recorded_at, digest, ref event, .. } = *record;
        Self { sequence: sequence.get(), event_id: event.id, digest, recorded_at }
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub violation: Violation,
    /// A sentence.
    pub detail: String,
}

impl Finding {
    pub fn new(violation: Violation, detail: impl Into<String>) -> Self {
        Self { violation, detail: detail.into() }
    }
}

/// The promises, by how they are broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Violation {
    /// An acknowledged event is not in the log, as far as that can be read.
    Lost,
    /// An event is in the log twice, or was acknowledged as new twice.
    Doubled,
    /// An event is in the log that was refused, or of which only a part was sent.
    RefusedButPresent,
    /// The order of the log contradicts what clients saw.
    OutOfOrder,
    /// A locker's state hash is not the fold of the log.
    HashMismatch,
    /// The record is not where, when or what the answer said.
    OtherThanPromised,
    /// An answer that the contract does not allow.
    WrongAnswer,
    /// A repetition did not settle what had got no answer.
    Unsettled,
    /// `recorded_at` ran backwards.
    TimeWentBack,
    /// The log cannot be read to its end.
    DamagedLog,
    /// The database is not the fold of the log.
    DatabaseDiffers,
    /// The server did not start, end or go on as it should.
    Process,
}

/// What a check saw.
#[derive(Debug, Default)]
pub struct Checked {
    pub findings: Vec<Finding>,
    /// Events with a request that may or may not have recorded them.
    pub unanswered: u64,
    /// Those of them that a later answer settled.
    pub settled: u64,
}

/// All requests with one event id.
#[derive(Debug, Default)]
struct Story<'a> {
    entries: Vec<&'a Entry>,
    record: Option<&'a Logged>,
}

/// Holds the journal against the log.
#[must_use]
pub fn check(journal: &[Entry], log: &[Logged]) -> Checked {
    let mut checked = Checked::default();
    let mut stories: HashMap<EventId, Story<'_>> = HashMap::new();
    for entry in journal {
        stories.entry(entry.event_id).or_default().entries.push(entry);
    }
    let mut latest = None;
    for record in log {
        let Logged { sequence, event_id, recorded_at, .. } = *record;
        if let Some(first) = stories.entry(event_id).or_default().record.replace(record) {
            let detail = format!("{event_id} is in the log twice, as sequence {} and {sequence}", first.sequence);
            checked.find(Violation::Doubled, detail);
        }
        if latest.is_some_and(|latest| recorded_at < latest) {
            let detail = format!("sequence {sequence} was recorded at {recorded_at}, before the one before it");
            checked.find(Violation::TimeWentBack, detail);
        }
        latest = Some(recorded_at);
    }
    for (event_id, story) in &stories {
        checked.hold_against_record(*event_id, story);
        checked.judge_answers(*event_id, story);
    }
    checked.compare_orders(&stories);
    checked
}

impl Checked {
    fn find(&mut self, violation: Violation, detail: String) {
        self.findings.push(Finding { violation, detail });
    }

    fn hold_against_record(&mut self, event_id: EventId, story: &Story<'_>) {
        let outcomes = || story.entries.iter().map(|entry| &entry.outcome);
        let open = outcomes().any(Outcome::is_open);
        let places = outcomes().filter_map(Outcome::place);
        if open {
            self.unanswered += 1;
            let answered = |outcome: &Outcome| !outcome.is_open() && !outcome.is_unsettled();
            self.settled += u64::from(outcomes().any(answered));
        }
        let Some(record) = story.record else {
            if let Some((sequence, _)) = places.min() {
                let detail = format!("{event_id} was acknowledged as sequence {sequence} and is not in the log");
                self.find(Violation::Lost, detail);
            }
            return;
        };
        let sequence = record.sequence;
        for (promised, recorded_at) in places {
            if promised != sequence || recorded_at != record.recorded_at {
                let detail = format!(
                    "{event_id} was acknowledged as sequence {promised} of {recorded_at}, and is sequence {sequence} \
                     of {}",
                    record.recorded_at
                );
                self.find(Violation::OtherThanPromised, detail);
            }
        }
        let accepted = |entry: &&&Entry| matches!(entry.outcome, Outcome::Accepted { .. });
        let mut makers: Vec<_> = story.entries.iter().filter(accepted).collect();
        if makers.is_empty() {
            makers = story.entries.iter().filter(|entry| entry.outcome.is_open()).collect();
        }
        if makers.is_empty() {
            let sent = story.entries.len();
            let detail = format!(
                "{event_id} is in the log as sequence {sequence}, and none of the {sent} requests with it can have \
                 recorded it"
            );
            self.find(Violation::RefusedButPresent, detail);
        } else if makers.iter().all(|entry| entry.digest != record.digest) {
            let detail = format!("sequence {sequence} holds another content than was sent as {event_id}");
            self.find(Violation::OtherThanPromised, detail);
        }
    }

    /// Holds the answers to one event against each other and against what its sender expected.
    fn judge_answers(&mut self, event_id: EventId, story: &Story<'_>) {
        let accepted = story.entries.iter().filter(|entry| matches!(entry.outcome, Outcome::Accepted { .. })).count();
        if accepted > 1 {
            self.find(Violation::Doubled, format!("{event_id} was answered {accepted} times with 202"));
        }
        // Without another request that may have recorded it, nothing new can be a duplicate.
        let repeated = story.entries.len() > 1;
        for entry in &story.entries {
            if !allows(entry.expected, &entry.outcome, repeated) {
                let Entry { cycle, client, expected, outcome, .. } = entry;
                let detail = format!(
                    "cycle {cycle}, client {client}: {event_id} was answered with {outcome:?} where {expected:?} was due"
                );
                self.find(Violation::WrongAnswer, detail);
            }
        }
    }

    /// An event that was answered before another was sent stands before it in the log.
    fn compare_orders(&mut self, stories: &HashMap<EventId, Story<'_>>) {
        let mut events: Vec<_> =
            stories.iter().filter_map(|(id, story)| Some((story.record?.sequence, id, story))).collect();
        events.sort_by_key(|(sequence, ..)| std::cmp::Reverse(*sequence));
        // Of all events that stand later: when the first of them was answered.
        let mut first_answer: Option<(u64, EventId, u64)> = None;
        for (sequence, event_id, story) in events {
            let sent = sent_ns(story);
            if let Some((answered, later_id, later)) = first_answer
                && sent.is_some_and(|sent| answered < sent)
            {
                let detail = format!(
                    "{later_id} was answered before {event_id} was sent, and stands behind it: sequence {later} and \
                     {sequence}"
                );
                self.find(Violation::OutOfOrder, detail);
            }
            let answers = story.entries.iter().filter(|entry| entry.outcome.place().is_some());
            let answered = answers.map(|entry| entry.ended_ns).min();
            first_answer =
                answered.map(|answered| (answered, *event_id, sequence)).into_iter().chain(first_answer).min();
        }
    }
}

/// The earliest moment at which the request may have been sent that made the record.
fn sent_ns(story: &Story<'_>) -> Option<u64> {
    let sent = |made: fn(&Outcome) -> bool| {
        story.entries.iter().filter(|entry| made(&entry.outcome)).map(|entry| entry.sent_ns).min()
    };
    sent(|outcome| matches!(outcome, Outcome::Accepted { .. })).or_else(|| sent(Outcome::is_open))
}

fn allows(expected: Expected, outcome: &Outcome, repeated: bool) -> bool {
    match outcome {
        Outcome::TurnedAway { .. } | Outcome::LeftOpen { .. } | Outcome::NoAnswer { .. } | Outcome::CutOff => true,
        Outcome::Unknown { .. } => false,
        Outcome::Invalid => expected == Expected::Invalid,
        Outcome::Accepted { .. } => matches!(expected, Expected::Accepted | Expected::AcceptedOrRefused),
        Outcome::Refused { code } => match expected {
            Expected::AcceptedOrRefused => true,
            Expected::Refused(rule) => **code == *rule,
            _ => false,
        },
        Outcome::Duplicate { content_matches, .. } => match expected {
            Expected::Accepted | Expected::AcceptedOrRefused => repeated && *content_matches,
            Expected::Known { same_content } => *content_matches == same_content,
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests;
