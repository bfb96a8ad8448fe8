//! What a server's answer says about an event, and whether that is right.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::simulate::connection::Answer;
use crate::simulate::locker::Expected;

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Duplicate,
    /// With the code of the rule.
    Refused(String),
    /// Nothing was decided, or nobody knows: to be sent again, after a while.
    NotNow(NotNow),
    /// Nothing that a server that keeps the contract ever answers to these events.
    Impossible(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => write!(f, "accepted"),
            Self::Duplicate => write!(f, "duplicate"),
            Self::Refused(code) => write!(f, "refused ({code})"),
            Self::NotNow(not_now) => write!(f, "{}", not_now.reason),
            Self::Impossible(answer) => write!(f, "{answer}"),
        }
    }
}

/// Why an event is to be sent again, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotNow {
    /// The status and, where there is one, the problem's code.
    pub reason: String,
    pub retry_after: Option<Duration>,
}

/// What is read of the body on a single event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    status: serde_json::Value,
    code: String,
}

/// The answer to a single event.
#[must_use]
pub fn of_event(answer: &Answer) -> Verdict {
    // A 202 says it all, and is what most answers are; a 200 is what anybody may say.
    let body = || serde_json::from_slice::<Body>(&answer.body).unwrap_or_default();
    let code = || body().code;
    match answer.status {
        202 => Verdict::Accepted,
        200 if body().status == "duplicate" => Verdict::Duplicate,
        409 => Verdict::Refused(code()),
        status if is_for_later(status) => Verdict::NotNow(NotNow {
            reason: format!("{status} {}", code()).trim_end().to_owned(),
            retry_after: answer.retry_after,
        }),
        _ => impossible(answer),
    }
}

fn impossible(answer: &Answer) -> Verdict {
    Verdict::Impossible(format!("{} {}", answer.status, shortened(&answer.body)))
}

/// The answer to events that were sent together: a verdict for each, in their order, up to the first
/// that has to come again. The error is a verdict on all of them.
pub fn of_batch(answer: &Answer, events: usize) -> Result<Vec<Verdict>, Verdict> {
    match of_event(answer) {
        Verdict::NotNow(not_now) => return Err(Verdict::NotNow(not_now)),
        _ if answer.status == 200 => {}
        _ => return Err(impossible(answer)),
    }
    let mut verdicts = Vec::with_capacity(events);
    for line in answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(events) {
        verdicts.push(of_line(line));
        if let Some(Verdict::NotNow(_)) = verdicts.last() {
            return Ok(verdicts);
        }
    }
    if verdicts.len() < events {
        let reason = format!("{} verdicts on {events} events", verdicts.len());
        verdicts.push(Verdict::NotNow(NotNow { reason, retry_after: answer.retry_after }));
    }
    Ok(verdicts)
}

/// A line of the answer to a bulk.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Line<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    code: Cow<'a, str>,
    retry_after_s: Option<u64>,
}

fn of_line(line: &[u8]) -> Verdict {
    let Line { status, code, retry_after_s } = serde_json::from_slice(line).unwrap_or_default();
    match status.as_ref() {
        "accepted" => Verdict::Accepted,
        "duplicate" => Verdict::Duplicate,
        "refused" => Verdict::Refused(code.into_owned()),
        "unavailable" | "end" => Verdict::NotNow(NotNow {
            reason: format!("{status} {code}").trim_end().to_owned(),
            retry_after: retry_after_s.map(Duration::from_secs),
        }),
        _ => Verdict::Impossible(shortened(line)),
    }
}

/// Answers of a server, or of a proxy before it, after which sending again is right: nothing was
/// decided, or the same event is recognised.
const fn is_for_later(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 502 | 503 | 504 | 507)
}

fn shortened(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().filter(|character| !character.is_control()).take(200).collect()
}

/// What is known of an event besides the verdict on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// It was sent before, and nobody knows what came of that.
    pub sent_before: bool,
    /// So were others with it, which may have been recorded: the world that it finds is a later one.
    pub repeated_with_others: bool,
    /// The server knew an event of this locker before it was sent: the seed has been here already.
    pub known_locker: bool,
}

/// What a verdict means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    AsExpected,
    /// It was recorded when it was sent before, and that answer was lost.
    FoundRecorded,
    /// The seed, or this event with others, has been here already.
    KnownFromBefore,
    Wrong,
}

/// Holds a settled verdict against what a server that keeps the rules says.
#[must_use]
pub fn judge(expected: Expected, verdict: &Verdict, circumstances: Circumstances) -> Judged {
    let Circumstances { sent_before, repeated_with_others, known_locker } = circumstances;
    match (expected, verdict) {
        (Expected::Accepted, Verdict::Accepted) | (Expected::Duplicate, Verdict::Duplicate) => Judged::AsExpected,
        (Expected::Accepted, Verdict::Duplicate) if sent_before => Judged::FoundRecorded,
        (Expected::Accepted, Verdict::Duplicate) => Judged::KnownFromBefore,
        (Expected::Refused(rule), Verdict::Refused(code)) if rule.code() == code => Judged::AsExpected,
        // It was accepted when it came again, or its time has come in the meantime.
        (Expected::Refused(_), Verdict::Duplicate | Verdict::Accepted | Verdict::Refused(_))
            if known_locker || repeated_with_others =>
        {
            Judged::KnownFromBefore
        }
        _ => Judged::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::violation::Rule;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.into(), ..Answer::default() }
    }

    #[test]
    fn a_status_and_a_code_say_what_became_of_an_event() {
        let occupied = r#"{"title":"x","status":409,"code":"compartment-occupied"}"#;
        assert_eq!(of_event(&answer(202, "{}")), Verdict::Accepted);
        assert_eq!(of_event(&answer(200, r#"{"status":"duplicate","sequence":1}"#)), Verdict::Duplicate);
        assert_eq!(of_event(&answer(409, occupied)), Verdict::Refused("compartment-occupied".into()));
        for (status, body, reason) in [(503, r#"{"code":"overloaded"}"#, "503 overloaded"), (502, "<html>", "502")] {
            let retry_after = Some(Duration::from_secs(2));
            let answer = Answer { retry_after, ..answer(status, body) };
            assert_eq!(of_event(&answer), Verdict::NotNow(NotNow { reason: reason.into(), retry_after }));
        }
        for status in [200, 201, 301, 400, 404, 413, 415, 422, 500] {
            assert!(matches!(of_event(&answer(status, "{}")), Verdict::Impossible(_)), "{status}");
        }
    }

    #[test]
    fn a_bulk_answer_has_a_verdict_for_each_line() {
        let lines = "{\"status\":\"accepted\",\"sequence\":1}\n{\"status\":\"duplicate\",\"sequence\":1}\n\
                     {\"status\":\"refused\",\"code\":\"fault-not-found\"}\n{\"status\":\"invalid\",\"errors\":[]}\n\
                     {\"status\":\"unavailable\",\"code\":\"overloaded\"}\n";
        let verdicts = of_batch(&answer(200, lines), 5).unwrap();
        assert_eq!(verdicts[..3], [Verdict::Accepted, Verdict::Duplicate, Verdict::Refused("fault-not-found".into())]);
        assert!(matches!(&verdicts[3], Verdict::Impossible(line) if line.contains("invalid")), "{verdicts:?}");
        assert!(matches!(&verdicts[4], Verdict::NotNow(_)), "{verdicts:?}");
        // From there on nothing was recorded; what follows tells of that, and is no verdict.
        let end = "{\"status\":\"end\",\"complete\":false,\"code\":\"stopping\",\"retry_after_s\":3}\n";
        assert_eq!(of_batch(&answer(200, &(lines.to_owned() + end)), 9).unwrap(), verdicts);
        let stopping = NotNow { reason: "end stopping".into(), retry_after: Some(Duration::from_secs(3)) };
        assert_eq!(of_batch(&answer(200, end), 9).unwrap(), [Verdict::NotNow(stopping)]);
        let short = of_batch(&answer(200, &lines[..24]), 2).unwrap();
        assert!(matches!(&short[..], [Verdict::Impossible(_), Verdict::NotNow(_)]), "it broke off: {short:?}");
        assert!(matches!(of_batch(&answer(503, "{}"), 5), Err(Verdict::NotNow(_))));
        for status in [202, 404, 409, 422] {
            assert!(matches!(of_batch(&answer(status, lines), 5), Err(Verdict::Impossible(_))), "{status}");
        }
    }

    #[test]
    fn only_what_a_server_that_keeps_the_rules_says_is_right() {
        let refused = || Verdict::Refused("compartment-occupied".into());
        let (occupied, degraded) =
            (Expected::Refused(Rule::CompartmentOccupied), Expected::Refused(Rule::CompartmentDegraded));
        let fresh = Circumstances { sent_before: false, repeated_with_others: false, known_locker: false };
        for (expected, verdict, right) in [
            (Expected::Accepted, Verdict::Accepted, true),
            (Expected::Accepted, refused(), false),
            (Expected::Duplicate, Verdict::Duplicate, true),
            (Expected::Duplicate, Verdict::Accepted, false),
            (occupied, refused(), true),
            (degraded, refused(), false),
            (occupied, Verdict::Accepted, false),
            (occupied, Verdict::Duplicate, false),
        ] {
            let judged = judge(expected, &verdict, fresh);
            assert_eq!(judged == Judged::AsExpected, right, "{expected:?} {verdict:?}");
            assert_eq!(judged == Judged::Wrong, !right, "{expected:?} {verdict:?}");
        }
        let again = Circumstances { sent_before: true, ..fresh };
        assert_eq!(judge(Expected::Accepted, &Verdict::Duplicate, again), Judged::FoundRecorded);
        assert_eq!(judge(Expected::Accepted, &Verdict::Duplicate, fresh), Judged::KnownFromBefore);
        assert_eq!(judge(occupied, &Verdict::Accepted, again), Judged::Wrong);
        let with_others = Circumstances { repeated_with_others: true, ..again };
        for verdict in [Verdict::Accepted, Verdict::Duplicate, refused()] {
            assert_eq!(judge(degraded, &verdict, with_others), Judged::KnownFromBefore, "{verdict:?}");
        }
        assert_eq!(judge(Expected::Accepted, &Verdict::Duplicate, with_others), Judged::FoundRecorded);
        assert_eq!(judge(Expected::Accepted, &refused(), with_others), Judged::Wrong);
        let known = Circumstances { known_locker: true, ..fresh };
        assert_eq!(judge(occupied, &Verdict::Accepted, known), Judged::KnownFromBefore);
        assert_eq!(judge(Expected::Accepted, &refused(), known), Judged::Wrong);
    }
}
