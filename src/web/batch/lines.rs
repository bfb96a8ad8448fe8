//! The lines of the answer to a bulk: one verdict for each event, and one that ends it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::application::ingest::bulk::Outcome;
use crate::application::ingest::{Unavailable, Verdict};
use crate::domain::event::json;
use crate::domain::ids::EventId;
use crate::domain::record::RecordedAt;
use crate::domain::violation::Violation;
use crate::web::catalogue::Code;
use crate::web::outbox::{Gone, Outbox};
use crate::web::problem::{Conflict, FieldProblem, Problem, RETRY_AFTER_SECONDS};

/// What was read of a line, as far as its answer needs it.
#[derive(Debug)]
pub enum Slot {
    /// Its event is with the writer.
    Event(EventId),
    Invalid(Vec<json::Problem>),
    TooLong,
}

/// One line of the answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "lowercase")]
#[schema(as = BatchLine)]
pub enum AnswerLine<'a> {
    /// The event is new and recorded.
    Accepted {
        /// The line of the body, from 1 on; in an array the place of the element.
        line: u64,
        #[schema(value_type = uuid::Uuid)]
        event_id: EventId,
        sequence: u64,
        #[schema(value_type = String, format = DateTime)]
        recorded_at: &'a str,
    },
    /// The `event_id` was accepted before; nothing changed.
    Duplicate {
        line: u64,
        #[schema(value_type = uuid::Uuid)]
        event_id: EventId,
        /// Of the original, as is `recorded_at`.
        sequence: u64,
        #[schema(value_type = String, format = DateTime)]
        recorded_at: &'a str,
        /// Only where the content differs from the original's, and then always false.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(required = false, nullable = false)]
        content_matches: Option<bool>,
    },
    /// A rule refuses the event; as the 409 of `POST /events`.
    Refused {
        line: u64,
        #[schema(value_type = uuid::Uuid)]
        event_id: EventId,
        #[schema(value_type = String)]
        code: &'static str,
        detail: String,
        #[serde(flatten)]
        conflict: Conflict,
    },
    /// Not a valid event; as the 422 of `POST /events`, or the 413 where the line is too long.
    Invalid {
        line: u64,
        /// Where it could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = uuid::Uuid, required = false, nullable = false)]
        event_id: Option<EventId>,
        #[schema(value_type = String)]
        code: &'static str,
        errors: Vec<FieldProblem>,
    },
    /// No verdict, as the 503 or 507 of `POST /events`. From the first such line on nothing of the
    /// body is recorded; only with the code `outcome-unknown` it may be.
    Unavailable {
        line: u64,
        #[schema(value_type = uuid::Uuid)]
        event_id: EventId,
        #[schema(value_type = String)]
        code: &'static str,
        retry_after_s: u64,
    },
    /// The last line. An answer without one broke off.
    End {
        /// Whether all of the body was read and each event has its verdict.
        complete: bool,
        #[serde(flatten)]
        tally: Tally,
        /// Why it is not complete.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = String, required = false, nullable = false)]
        code: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(required = false, nullable = false)]
        detail: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(required = false, nullable = false)]
        retry_after_s: Option<u64>,
    },
}

/// How many lines of each kind there were.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
#[schema(as = BatchTally)]
pub struct Tally {
    accepted: u64,
    duplicate: u64,
    refused: u64,
    invalid: u64,
    unavailable: u64,
}

/// Why the body was not read to its end.
#[derive(Debug)]
pub enum Cut {
    Unavailable(Unavailable),
    Because(Code, String),
}

/// Writes the lines of an answer.
#[derive(Debug, Default)]
pub struct LineWriter {
    lines: Vec<u8>,
    tally: Tally,
    /// The events of a batch have one time.
    recorded_at: Option<(RecordedAt, String)>,
}

impl LineWriter {
    /// Hands what was written since the last time to a reader.
    pub fn send(&mut self, outbox: &Outbox) -> Result<(), Gone> {
        let sent = outbox.push(&self.lines);
        self.lines.clear();
        sent
    }

    /// Writes the answers to the lines of a chunk, and says how many known ids came with another
    /// content.
    pub fn chunk(&mut self, slots: Vec<(u64, Slot)>, outcome: Outcome, max_line_bytes: usize) -> u64 {
        let mut verdicts = outcome.verdicts.into_iter();
        let mut differing = 0;
        for (line, slot) in slots {
            match slot {
                Slot::Event(event_id) => {
                    if let Some(verdict) = verdicts.next() {
                        differing += u64::from(!self.verdict(line, event_id, verdict));
                    } else {
                        let why = outcome.stopped_by.expect("events without a verdict have a reason");
                        self.unavailable(line, event_id, why);
                    }
                }
                Slot::Invalid(problems) => self.invalid(line, None, Code::InvalidEvent, problems),
                Slot::TooLong => {
                    let problem = json::Problem::new("", format!("has more than {max_line_bytes} bytes"));
                    self.invalid(line, None, Code::BodyTooLarge, vec![problem]);
                }
            }
        }
        differing
    }

    /// Writes a verdict; false when a known id came with another content.
    fn verdict(&mut self, line: u64, event_id: EventId, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Accepted { sequence, recorded_at } => {
                self.tally.accepted += 1;
                let recorded_at = text_of(&mut self.recorded_at, recorded_at);
                write(&mut self.lines, &AnswerLine::Accepted { line, event_id, sequence: sequence.get(), recorded_at });
            }
            Verdict::Duplicate { sequence, recorded_at, content_matches } => {
                self.tally.duplicate += 1;
                let recorded_at = text_of(&mut self.recorded_at, recorded_at);
                let (sequence, differs) = (sequence.get(), (!content_matches).then_some(false));
                let answer = AnswerLine::Duplicate { line, event_id, sequence, recorded_at, content_matches: differs };
                write(&mut self.lines, &answer);
                return content_matches;
            }
            Verdict::Refused(violation) => {
                self.tally.refused += 1;
                let Violation { rule, detail, involved, conflicting_sequence } = violation;
                let conflict = Conflict::new(*involved, conflicting_sequence);
                write(&mut self.lines, &AnswerLine::Refused { line, event_id, code: rule.code(), detail, conflict });
            }
            Verdict::Invalid(problems) => self.invalid(line, Some(event_id), Code::InvalidEvent, problems),
        }
        true
    }

    fn invalid(&mut self, line: u64, event_id: Option<EventId>, code: Code, problems: Vec<json::Problem>) {
        self.tally.invalid += 1;
        let errors = problems.into_iter().map(FieldProblem::from).collect();
        write(&mut self.lines, &AnswerLine::Invalid { line, event_id, code: code.entry().code, errors });
    }

    fn unavailable(&mut self, line: u64, event_id: EventId, why: Unavailable) {
        self.tally.unavailable += 1;
        let code = Code::from(why).entry().code;
        let answer = AnswerLine::Unavailable { line, event_id, code, retry_after_s: RETRY_AFTER_SECONDS };
        write(&mut self.lines, &answer);
    }

    /// Writes the last line.
    pub fn end(&mut self, cut: Option<Cut>) {
        let (complete, tally) = (cut.is_none(), self.tally);
        let (code, detail, retry_after_s) = match cut {
            None => (None, None, None),
            Some(Cut::Because(code, detail)) => (Some(code.entry().code), Some(detail), None),
            Some(Cut::Unavailable(why)) => {
                let detail = Problem::from(why).detail().to_owned();
                (Some(Code::from(why).entry().code), Some(detail), Some(RETRY_AFTER_SECONDS))
            }
        };
        write(&mut self.lines, &AnswerLine::End { complete, tally, code, detail, retry_after_s });
    }
}

fn write(lines: &mut Vec<u8>, line: &AnswerLine<'_>) {
    serde_json::to_writer(&mut *lines, line).expect("a line has a JSON form, and memory takes it");
    lines.push(b'\n');
}

/// A time as text, made anew only where it is another one.
fn text_of(known: &mut Option<(RecordedAt, String)>, time: RecordedAt) -> &str {
    if known.as_ref().is_none_or(|(at, _)| *at != time) {
        *known = Some((time, time.to_string()));
    }
    known.as_ref().map_or("", |(_, text)| text)
}
