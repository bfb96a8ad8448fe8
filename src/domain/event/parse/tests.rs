//! What is a valid event, and which problems an invalid one is told.

use serde_json::{Value, json};

use super::*;
use crate::domain::event::Severity;

fn event(event_type: &str, payload: &Value) -> Value {
    json!({
        "event_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "occurred_at": "2026-11-21T08:00:00Z",
        "locker_id": "L",
        "type": event_type,
        "payload": payload,
    })
}

fn registered() -> Value {
    event("CompartmentRegistered", &json!({"compartment_id": "A"}))
}

fn with(member: &str, value: Value) -> String {
    let mut event = registered();
    event[member] = value;
    event.to_string()
}

fn parse(body: &str) -> Result<ReceivedEvent, Vec<Problem>> {
    ReceivedEvent::parse(body.as_bytes())
}

/// The pointers of the envelope's problems.
fn problems(body: &str) -> Vec<String> {
    parse(body).expect_err("an invalid envelope").into_iter().map(|problem| problem.pointer).collect()
}

/// The problems of the payload, of an event whose envelope is valid.
fn payload_problems(event: &Value) -> Vec<(String, String)> {
    let received = parse(&event.to_string()).expect("a valid envelope");
    let problems = received.content.expect_err("an invalid payload");
    problems.into_iter().map(|problem| (problem.pointer, problem.detail)).collect()
}

#[test]
fn each_type_reads_its_own_payload() {
    let fault = "01890a5d-ac96-774b-bcce-b302099a8001";
    let payloads = [
        json!({"compartment_id": "A"}),
        json!({"reservation_id": "R", "compartment_id": "A"}),
        json!({"reservation_id": "R"}),
        json!({"reservation_id": "R", "compartment_id": "A"}),
        json!({"reservation_id": "R", "compartment_id": null}),
        json!({"compartment_id": "A", "severity": -3}),
        json!({"compartment_id": "A", "fault_event_id": fault}),
    ];
    for (event_type, payload) in EventType::ALL.iter().zip(&payloads) {
        let received = parse(&event(event_type.as_str(), payload).to_string()).expect("a valid envelope");
        let fact = received.content.expect("a valid payload").fact;
        assert!(format!("{fact:?}").starts_with(event_type.as_str()), "{fact:?}");
    }
}

#[test]
fn an_empty_object_misses_everything() {
    assert_eq!(problems("{}"), ["/event_id", "/occurred_at", "/locker_id", "/type", "/payload"]);
}

#[test]
fn a_document_that_is_no_object_is_told_so() {
    for (body, kind) in
        [("[]", "an array"), ("\"x\"", "a string"), ("1", "a number"), ("true", "a boolean"), ("null", "null")]
    {
        let found = parse(body).expect_err("not an event");
        assert_eq!((found.len(), found[0].pointer.as_str()), (1, ""));
        assert!(found[0].detail.contains(kind), "{body}: {}", found[0].detail);
    }
}

#[test]
fn all_problems_are_listed_at_once_payload_included() {
    let body =
        r#"{"event_id":7,"occurred_at":"yesterday","locker_id":"","type":"FaultReported","payload":{"severity":"3"}}"#;
    let expected = ["/event_id", "/occurred_at", "/locker_id", "/payload/compartment_id", "/payload/severity"];
    assert_eq!(problems(body), expected);
    let repeated = r#"{"event_id":7,"x":{"k":1,"k":2},"type":"Nonsense","payload":[]}"#;
    assert_eq!(problems(repeated), ["/x/k", "/event_id", "/occurred_at", "/locker_id", "/type", "/payload"]);
}

#[test]
fn a_broken_payload_leaves_the_envelope_readable() {
    for payload in [r#"{"compartment_id":"A","compartment_id":"B"}"#, r#"{"x":{"k":1,"k":2}}"#, r#"{"x":"\ud800"}"#] {
        let body = with("payload", Value::Null).replace("null", payload);
        let received = parse(&body).expect("a valid envelope");
        let problems = received.content.expect_err("a broken payload");
        assert!(problems[0].pointer.starts_with("/payload/"), "{problems:?}");
    }
    // The same outside the payload is the envelope's problem.
    assert_eq!(problems(&with("x", Value::Null).replace("null", r#"{"k":1,"k":2}"#)), ["/x/k"]);
    assert_eq!(problems(&registered().to_string().replacen('{', r#"{"type":"CompartmentRegistered","#, 1)), ["/type"]);
}

#[test]
fn a_broken_payload_in_a_broken_envelope_lists_both() {
    let body = r#"{"payload":{"k":1,"k":2}}"#;
    assert_eq!(problems(body), ["/event_id", "/occurred_at", "/locker_id", "/type", "/payload/k"]);
}

#[test]
fn ids_follow_their_rules() {
    for (wrong, words) in [
        (json!(""), "1 to 128"),
        (json!("x".repeat(129)), "1 to 128"),
        (json!("a\u{0}b"), "control"),
        (json!(5), "must be a string, not a number"),
        (json!(null), "must be a string, not null"),
    ] {
        let found = parse(&with("locker_id", wrong)).expect_err("an invalid envelope");
        assert_eq!(found[0].pointer, "/locker_id");
        assert!(found[0].detail.contains(words), "{}", found[0].detail);
    }
    for fine in ["x", "a/b", "..", "100 %", "🦀", " "] {
        let received = parse(&with("locker_id", json!(fine))).expect("a valid envelope");
        assert_eq!(received.content.expect("valid").locker_id.as_str(), fine);
    }
}

#[test]
fn a_date_time_is_rfc_3339_with_an_offset() {
    for fine in
        ["2026-11-21T08:00:00Z", "2026-11-21t08:00:00.123456789z", "1970-01-01T00:00:00-23:59", "2016-12-31T23:59:60Z"]
    {
        assert!(parse(&with("occurred_at", json!(fine))).is_ok(), "{fine}");
    }
    for wrong in [
        "2026-11-21 08:00:00Z",
        "2026-11-21T08:00:00",
        "2026-11-21",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T08:00Z",
        "2026-11-21T08:00:00+0100",
        "2026-11-21T08:00:00\u{2212}01:00",
        "20261121T080000Z",
        "1763712000",
        "",
    ] {
        assert_eq!(problems(&with("occurred_at", json!(wrong))), ["/occurred_at"], "{wrong}");
    }
    assert_eq!(problems(&with("occurred_at", json!(1_763_712_000))), ["/occurred_at"]);
}

#[test]
fn a_severity_is_an_integer_of_64_bits_by_its_spelling() {
    let severity = |spelling: &str| {
        let event = event("FaultReported", &json!({"compartment_id": "A", "severity": "S"}));
        parse(&event.to_string().replace("\"S\"", spelling)).expect("a valid envelope").content
    };
    for (spelling, value) in [("3", 3), ("0", 0), ("-0", 0), ("-9223372036854775808", i64::MIN)] {
        let Fact::FaultReported(fact) = severity(spelling).expect("valid").fact else { panic!("a fault") };
        assert_eq!(fact.severity, Severity::new(value), "{spelling}");
    }
    for (spelling, words) in [
        ("3.0", "a fractional number"),
        ("3e0", "a fractional number"),
        ("\"3\"", "a string"),
        ("true", "a boolean"),
        ("null", "null"),
        ("[3]", "an array"),
        ("{}", "an object"),
        ("9223372036854775808", "must lie between"),
        ("1000000000000000000000000000000000000000", "must lie between"),
    ] {
        let problems = severity(spelling).expect_err("invalid");
        assert_eq!(problems[0].pointer, "/payload/severity");
        assert!(problems[0].detail.contains(words), "{spelling}: {}", problems[0].detail);
    }
}

#[test]
fn every_missing_field_of_a_payload_is_named() {
    for (event_type, missing) in [
        ("CompartmentRegistered", &["/payload/compartment_id"][..]),
        ("ReservationCreated", &["/payload/reservation_id", "/payload/compartment_id"]),
        ("ParcelDeposited", &["/payload/reservation_id"]),
        ("ParcelPickedUp", &["/payload/reservation_id"]),
        ("ReservationExpired", &["/payload/reservation_id"]),
        ("FaultReported", &["/payload/compartment_id", "/payload/severity"]),
        ("FaultCleared", &["/payload/compartment_id", "/payload/fault_event_id"]),
    ] {
        let found = payload_problems(&event(event_type, &json!({})));
        let pointers: Vec<_> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, missing, "{event_type}");
    }
    let wrong = payload_problems(&event("FaultCleared", &json!({"compartment_id": "A", "fault_event_id": "5"})));
    assert!(wrong[0].1.contains("UUID"), "{wrong:?}");
}

#[test]
fn the_event_is_kept_as_sent_without_its_white_space() {
    let body = r#" { "payload" : {"z":1e999, "compartment_id":"A"} , "type":"CompartmentRegistered",
        "locker_id":"L","event_id":"01890A5D-AC96-774B-BCCE-B302099A8057", "x": [ 1.0 ],
        "occurred_at":"2026-11-21T08:00:00Z" } "#;
    let received = parse(body).expect("valid");
    assert_eq!(
        received.json.as_str(),
        concat!(
            r#"{"payload":{"z":1e999,"compartment_id":"A"},"type":"CompartmentRegistered","#,
            r#""locker_id":"L","event_id":"01890A5D-AC96-774B-BCCE-B302099A8057","x":[1.0],"#,
            r#""occurred_at":"2026-11-21T08:00:00Z"}"#,
        ),
    );
    let again = Event::from_kept(received.json.as_str()).expect("a log line reads the same");
    assert_eq!(Ok(again), received.content);
}

#[test]
fn contents_are_told_apart_by_more_than_white_space() {
    let compact = registered().to_string();
    let digest = |body: &str| parse(body).expect("valid").digest;
    assert_eq!(digest(&compact), digest(&format!(" {compact}\n")));
    assert_ne!(digest(&compact), digest(&with("x", json!(1))));
}

/// Events as devices send them, of every type, with something beside what is known.
fn usual_events() -> Vec<String> {
    let fault = "01890a5d-ac96-774b-bcce-b302099a8001";
    let payloads = [
        r#"{"compartment_id":"A"}"#.to_owned(),
        r#"{"reservation_id":"R-é","compartment_id":"A"}"#.to_owned(),
        r#"{"reservation_id":"R","weight_grams":1200,"fragile":false}"#.to_owned(),
        r#"{"reservation_id":"R","compartment_id":"A"}"#.to_owned(),
        r#"{"compartment_id":"A 1","reservation_id":"R","by":null}"#.to_owned(),
        r#"{"compartment_id":"A","severity":30}"#.to_owned(),
        format!(r#"{{"compartment_id":"A","fault_event_id":"{fault}"}}"#),
    ];
    let event = |(event_type, payload): (&EventType, &String)| {
        format!(
            r#"{{"event_id":"01890a5d-ac96-774b-bcce-b302099a8057","occurred_at":"2026-11-21T08:00:00Z","locker_id":"L","type":"{}","payload":{payload},"firmware":"1.2"}}"#,
            event_type.as_str()
        )
    };
    EventType::ALL.iter().zip(&payloads).map(event).collect()
}

/// The short way may say no, and what it says yes to is what the long way reads.
fn read_alike(text: &str) {
    if let Some(event) = plain::read(text) {
        let (envelope, content) = interpret(text);
        assert_eq!((envelope, content), (Ok(event.id), Ok(event)), "{text}");
        let compacted = compact(text.as_bytes()).map(|json| json.as_str() == text);
        assert_eq!(compacted, Ok(true), "{text}");
    }
}

#[test]
fn the_short_way_reads_what_is_usual() {
    for event in usual_events() {
        assert!(plain::read(&event).is_some(), "{event}");
        read_alike(&event);
    }
}

#[test]
fn the_short_way_reads_nothing_that_the_long_way_does_not() {
    let pieces = [
        "\"",
        "\\",
        "{",
        "}",
        ":",
        ",",
        "[",
        "0",
        "01",
        "-1",
        "1.5",
        "1e3",
        " ",
        "\n",
        "\u{1}",
        "\u{7f}",
        "é",
        "null",
        "true",
        "nul",
        "\\u0041",
        "\"severity\":3,",
        "\"type\":\"FaultReported\",",
        "99999999999999999999",
        "\"firmware\":1,",
        "\"weight_grams\":2,",
        "\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"j\":10,\"k\":11,\"a\":12,",
        "{}",
        "\"\"",
    ];
    for event in usual_events() {
        for at in (0..event.len()).filter(|at| event.is_char_boundary(*at)) {
            let (head, tail) = event.split_at(at);
            read_alike(head);
            read_alike(tail);
            let mut rest = tail.chars();
            rest.next();
            read_alike(&[head, rest.as_str()].concat());
            for piece in pieces {
                read_alike(&[head, piece, tail].concat());
                read_alike(&[head, piece, rest.as_str()].concat());
            }
        }
    }
}
