use super::{Checked, Logged, Violation, check};
use crate::domain::event::json::{CompactJson, ContentDigest};
use crate::domain::ids::EventId;
use crate::domain::record::RecordedAt;
use crate::torture::journal::{Entry, Expected, Outcome};

fn id(number: u8) -> EventId {
    EventId::parse(&format!("01890a5d-ac96-774b-bcce-b302099a80{number:02}")).expect("it is a UUID")
}

fn digest(text: &str) -> ContentDigest {
    CompactJson::known(text).digest()
}

fn at(second: u64) -> RecordedAt {
    RecordedAt::parse(&format!("2026-11-21T08:00:{second:02}.000000Z")).expect("it is a time")
}

fn logged(sequence: u64, event: u8) -> Logged {
    Logged { sequence, event_id: id(event), digest: digest("as sent"), recorded_at: at(sequence) }
}

/// A request in the second `sent`, ended in the second `ended`.
fn request(event: u8, sent: u64, ended: u64, outcome: Outcome) -> Entry {
    Entry {
        cycle: 0,
        client: 0,
        event_id: id(event),
        digest: digest("as sent"),
        expected: Expected::AcceptedOrRefused,
        sent_ns: sent,
        ended_ns: ended,
        outcome,
    }
}

fn accepted(sequence: u64) -> Outcome {
    Outcome::Accepted { sequence, recorded_at: at(sequence) }
}

fn duplicate(sequence: u64) -> Outcome {
    Outcome::Duplicate { sequence, recorded_at: at(sequence), content_matches: true }
}

fn refused() -> Outcome {
    Outcome::Refused { code: "compartment-occupied".into() }
}

fn no_answer() -> Outcome {
    Outcome::NoAnswer { reason: "killed".into() }
}

fn violations(checked: &Checked) -> Vec<Violation> {
    checked.findings.iter().map(|finding| finding.violation).collect()
}

#[track_caller]
fn finds(journal: &[Entry], log: &[Logged], expected: &[Violation]) {
    let checked = check(journal, log);
    assert_eq!(violations(&checked), expected, "{:#?}", checked.findings);
}

#[test]
fn kept_promises_are_no_finding() {
    let journal = [
        request(1, 0, 1, accepted(1)),
        request(2, 2, 3, refused()),
        // Nobody was told, and it is there; a repetition said so.
        request(3, 4, 5, no_answer()),
        request(3, 6, 7, duplicate(2)),
        // Nobody was told, and it is not there; a repetition made it.
        request(4, 8, 9, no_answer()),
        request(4, 10, 11, accepted(3)),
        // Refused at first, and accepted later.
        request(5, 12, 13, refused()),
        request(5, 14, 15, accepted(4)),
        request(1, 16, 17, duplicate(1)),
        request(6, 18, 19, Outcome::CutOff),
        request(7, 20, 21, Outcome::TurnedAway { status: 507, code: "insufficient-storage".into() }),
    ];
    let log = [logged(1, 1), logged(2, 3), logged(3, 4), logged(4, 5)];
    finds(&journal, &log, &[]);
    let checked = check(&journal, &log);
    assert_eq!((checked.unanswered, checked.settled), (2, 2));
}

#[test]
fn an_unanswered_event_may_be_there_or_not() {
    let journal = [request(1, 0, 1, no_answer())];
    finds(&journal, &[], &[]);
    finds(&journal, &[logged(1, 1)], &[]);
    let checked = check(&journal, &[]);
    assert_eq!((checked.unanswered, checked.settled), (1, 0), "and waits for a repetition");
}

#[test]
fn an_acknowledged_event_that_is_gone_is_lost() {
    finds(&[request(1, 0, 1, accepted(1))], &[], &[Violation::Lost]);
    finds(&[request(1, 0, 1, no_answer()), request(1, 2, 3, duplicate(1))], &[], &[Violation::Lost]);
}

#[test]
fn an_event_that_stands_there_twice_is_doubled() {
    let journal = [request(1, 0, 1, no_answer())];
    finds(&journal, &[logged(1, 1), logged(2, 1)], &[Violation::Doubled]);
}

#[test]
fn an_event_that_was_answered_twice_as_new_is_doubled() {
    let journal = [request(1, 0, 1, accepted(1)), request(1, 0, 1, accepted(1))];
    finds(&journal, &[logged(1, 1)], &[Violation::Doubled]);
}

#[test]
fn a_refused_event_that_is_there_is_found() {
    let invalid = || Entry { expected: Expected::Invalid, ..request(1, 0, 1, Outcome::Invalid) };
    let cut_off = Outcome::CutOff;
    let full = Outcome::TurnedAway { status: 507, code: "insufficient-storage".into() };
    for entry in [request(1, 0, 1, refused()), invalid(), request(1, 0, 1, cut_off), request(1, 0, 1, full)] {
        finds(&[entry], &[logged(1, 1)], &[Violation::RefusedButPresent]);
    }
    finds(&[], &[logged(1, 1)], &[Violation::RefusedButPresent]);
}

#[test]
fn an_event_that_stands_elsewhere_than_promised_is_found() {
    let journal = [request(1, 0, 9, accepted(1)), request(2, 0, 9, accepted(2))];
    let other = Violation::OtherThanPromised;
    finds(&journal, &[logged(1, 2), logged(2, 1)], &[other, other]);
    finds(&[request(1, 0, 1, no_answer()), request(1, 2, 3, duplicate(2))], &[logged(1, 1)], &[other]);
}

#[test]
fn an_event_with_another_content_or_time_than_promised_is_found() {
    let journal = [request(1, 0, 1, accepted(1))];
    let other = [Violation::OtherThanPromised];
    finds(&journal, &[Logged { digest: digest("something else"), ..logged(1, 1) }], &other);
    finds(&journal, &[Logged { recorded_at: at(30), ..logged(1, 1) }], &other);
}

#[test]
fn an_order_that_contradicts_the_answers_is_found() {
    let log = [logged(1, 2), logged(2, 1)];
    let answered_before = [request(1, 0, 1, accepted(2)), request(2, 2, 3, accepted(1))];
    finds(&answered_before, &log, &[Violation::OutOfOrder]);
    let at_the_same_time = [request(1, 0, 3, accepted(2)), request(2, 2, 4, accepted(1))];
    finds(&at_the_same_time, &log, &[]);
    // Three apart, and the one between says nothing.
    let apart = [request(1, 0, 1, accepted(3)), request(3, 0, 9, accepted(2)), request(2, 2, 3, accepted(1))];
    finds(&apart, &[logged(1, 2), logged(2, 3), logged(3, 1)], &[Violation::OutOfOrder]);
}

#[test]
fn an_unanswered_event_was_sent_with_its_first_request() {
    let log = [logged(1, 2), logged(2, 1)];
    let other = request(1, 0, 1, accepted(2));
    let early = [other.clone(), request(2, 0, 1, no_answer()), request(2, 5, 6, duplicate(1))];
    finds(&early, &log, &[]);
    let late = [other, request(2, 2, 3, no_answer()), request(2, 5, 6, duplicate(1))];
    finds(&late, &log, &[Violation::OutOfOrder]);
}

#[test]
fn a_time_that_runs_backwards_is_found() {
    let journal = [request(1, 0, 9, no_answer()), request(2, 0, 9, no_answer())];
    let log = [Logged { recorded_at: at(30), ..logged(1, 1) }, logged(2, 2)];
    finds(&journal, &log, &[Violation::TimeWentBack]);
}

#[test]
fn an_answer_that_was_not_due_is_found() {
    let wrong = [Violation::WrongAnswer];
    let answered = |expected, outcome| [Entry { expected, ..request(1, 0, 1, outcome) }];
    finds(&answered(Expected::Accepted, refused()), &[], &wrong);
    finds(&answered(Expected::Accepted, Outcome::Invalid), &[], &wrong);
    finds(&answered(Expected::Refused("fault-not-found"), refused()), &[], &wrong);
    finds(&answered(Expected::Refused("compartment-occupied"), refused()), &[], &[]);
    finds(&answered(Expected::Invalid, refused()), &[], &wrong);
    finds(&answered(Expected::Known { same_content: true }, refused()), &[], &wrong);
    finds(&answered(Expected::Accepted, Outcome::Unknown { status: 500, body: "oops".into() }), &[], &wrong);
    finds(&answered(Expected::Accepted, accepted(1)), &[logged(1, 1)], &[]);
}

#[test]
fn a_duplicate_of_nothing_is_found() {
    let journal = [request(1, 0, 1, duplicate(1))];
    finds(&journal, &[logged(1, 1)], &[Violation::RefusedButPresent, Violation::WrongAnswer]);
}

#[test]
fn a_repetition_has_to_hear_whether_its_content_is_the_same() {
    let heard = |same_content| {
        let repeated = request(1, 2, 3, duplicate(1));
        [request(1, 0, 1, accepted(1)), Entry { expected: Expected::Known { same_content }, ..repeated }]
    };
    finds(&heard(true), &[logged(1, 1)], &[]);
    finds(&heard(false), &[logged(1, 1)], &[Violation::WrongAnswer]);
}
