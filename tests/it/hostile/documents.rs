//! JSON at its edges: repeated keys, depth, numbers without bounds, text that is none.

use super::{pointers, with_member, with_payload};
use crate::support::Folder;
use crate::support::events::registered;
use crate::support::server::Server;

async fn post(server: &Server, body: impl Into<Vec<u8>>) -> crate::support::server::Answer {
    server.post_raw("application/json", body.into()).await
}

#[tokio::test]
async fn a_repeated_key_is_found_wherever_and_however_it_is_spelled() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    for (body, pointer) in [
        (with_member(r#""locker_id":"L""#), "/locker_id"),
        (with_member(r#""l\u006fcker_id":"L""#), "/locker_id"),
        (with_member(r#""x":1,"x":1"#), "/x"),
        (with_member(r#""x":{"y":[0,{"z":1,"z":2}]}"#), "/x/y/1/z"),
        (with_member(r#""":1,"":2"#), "/"),
        (
            with_payload("CompartmentRegistered", r#"{"compartment_id":"A1","compartment_id":"A1"}"#),
            "/payload/compartment_id",
        ),
        (with_payload("CompartmentRegistered", r#"{"compartment_id":"A1","\u0078":1,"x":1}"#), "/payload/x"),
    ] {
        assert_eq!(pointers(&post(&server, body.clone()).await), [pointer], "{body}");
    }
    assert!(folder.log_bytes().is_empty());
    // Keys that look alike and are not the same, and the same key in different objects.
    let fine = with_member(r#""X":1,"x":{"x":{"x":1}},"payload ":1,"Payload":2,"\u00e9":1,"e\u0301":2"#);
    assert_eq!(post(&server, fine).await.status, 202);
}

#[tokio::test]
async fn nesting_has_a_limit_that_counts_the_event_itself() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let nested = |depth: usize, open: &str, close: &str| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    for (open, close) in [("[", "]"), (r#"{"k":"#, "}")] {
        // One level is the event, another one its payload.
        let beside = |depth: usize| with_member(&format!("\"x\":{}", nested(depth, open, close)));
        let inside = |depth: usize| {
            let compartment = uuid::Uuid::now_v7();
            let payload = format!(r#"{{"compartment_id":"{compartment}","x":{}}}"#, nested(depth, open, close));
            with_payload("CompartmentRegistered", &payload)
        };
        assert_ne!(post(&server, beside(63)).await.status, 422);
        assert_eq!(pointers(&post(&server, beside(64)).await).len(), 1);
        assert_eq!(post(&server, inside(62)).await.status, 202);
        assert_eq!(pointers(&post(&server, inside(63)).await).len(), 1);
    }
    // As deep as a body can be, closed or not, beside the payload and in its place.
    for deep in [nested(30_000, "[", "]"), nested(9_000, r#"{"k":"#, "}")] {
        assert_eq!(pointers(&post(&server, with_member(&format!("\"x\":{deep}"))).await).len(), 1);
        assert!(!pointers(&post(&server, with_payload("FaultReported", &deep)).await).is_empty());
        assert!(!pointers(&post(&server, deep).await).is_empty());
    }
    assert_eq!(pointers(&post(&server, "[".repeat(65_536)).await), [""]);
    assert_eq!(pointers(&post(&server, "{\"k\":".repeat(10_000)).await), [""]);
}

#[tokio::test]
async fn severity_is_a_64_bit_json_integer_and_nothing_else() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    let fault =
        |severity: &str| with_payload("FaultReported", &format!(r#"{{"compartment_id":"A1","severity":{severity}}}"#));
    for right in ["3", "0", "-0", "-1", "9223372036854775807", "-9223372036854775808"] {
        assert_eq!(post(&server, fault(right)).await.status, 202, "{right}");
    }
    let ten_to_the_forty = format!("1{}", "0".repeat(40));
    for wrong in [
        "9223372036854775808",
        "-9223372036854775809",
        &ten_to_the_forty,
        "1e999",
        "3.0",
        "3e0",
        "3E0",
        "3.5",
        "0.0",
        "-0.0",
        "\"3\"",
        "true",
        "false",
        "null",
        "[3]",
        "{}",
    ] {
        assert_eq!(pointers(&post(&server, fault(wrong)).await), ["/payload/severity"], "{wrong}");
    }
    for no_json in ["03", "+3", "0x3", "3.", ".3", "NaN", "Infinity", "-", "1_000"] {
        assert_eq!(pointers(&post(&server, fault(no_json)).await), [""], "{no_json}");
    }
}

#[tokio::test]
async fn unknown_fields_are_kept_in_their_order_and_spelling_without_white_space() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let members = format!(
        r#""zulu":1e999,"alpha":{}7,"b":-0.0E+00,"c":" a \u0041 \/ \" ","d\u0065":[ ],"f":{{ }},"🦀":"\ud83e\udd80""#,
        "9".repeat(400),
    );
    let sent = r#" { "payload" : { "x" : 2.50e+1 , "compartment_id":"A1"},MEMBERS ,
        "type":"CompartmentRegistered","locker_id":"\u004c",	"occurred_at" : "2026-11-21t08:00:00.000+00:00",
        "event_id":"01890A5D-ac96-774b-bcce-b302099a8057" } "#;
    let sent = sent.replace("MEMBERS", &members).replace('\n', "\r\n");
    let members = members.replace("[ ]", "[]").replace("{ }", "{}");
    let kept = format!(
        r#","event":{{"payload":{{"x":2.50e+1,"compartment_id":"A1"}},{members},"type":"CompartmentRegistered","locker_id":"\u004c","occurred_at":"2026-11-21t08:00:00.000+00:00","event_id":"01890A5D-ac96-774b-bcce-b302099a8057"}},"hash":""#,
    );

    assert_eq!(post(&server, sent.clone()).await.status, 202);

    let log = String::from_utf8(folder.log_bytes()).unwrap();
    assert!(log.contains(&kept), "{log}\ndoes not hold\n{kept}");
    assert_eq!(log.lines().count(), 1);
    assert_eq!(server.get("/lockers/L/compartments/A1").await.status, 200, "escapes are understood");
    let again = post(&server, sent).await;
    assert_eq!((again.status, again.json().get("content_matches")), (200, None));
    // And all of it is read back at the next start.
    server.kill();
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/lockers/L").await.status, 200);
}

#[tokio::test]
async fn text_that_is_no_unicode_or_no_json_is_refused() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let event = registered("L", "A1").to_string();
    for (member, pointer) in [
        (r#""x":"\ud800""#, "/x"),
        (r#""x":"\udc00\ud800""#, "/x"),
        (r#""x":["ok","\ud83e"]"#, "/x/1"),
        (r#""\ud800":1"#, r"/\ud800"),
    ] {
        assert_eq!(pointers(&post(&server, with_member(member)).await), [pointer], "{member}");
    }
    let bytes = event.as_bytes();
    let spliced = |inserted: &[u8]| {
        let at = event.find("A1").unwrap();
        [&bytes[..at], inserted, &bytes[at..]].concat()
    };
    let utf16: Vec<u8> = event.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let wrong: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b" \r\n\t".to_vec(),
        b"\0".to_vec(),
        [b"\xef\xbb\xbf", bytes].concat(),
        [bytes, b"\0"].concat(),
        [bytes, bytes].concat(),
        [bytes, b","].concat(),
        [b"[", bytes, b"]"].concat(),
        format!("{event:?}").into_bytes(),
        event.replace('"', "'").into_bytes(),
        event.replace('{', "/* no */{").into_bytes(),
        event.replace("\"}", "\",}").into_bytes(),
        event.replace("\"}", "\"").into_bytes(),
        event.replace("\"payload\"", "payload").into_bytes(),
        utf16,
        spliced(b"\xff"),
        spliced(b"\xc0\xaf"),
        spliced(b"\xed\xa0\x80"),
        spliced(b"\xf5\x80\x80\x80"),
        spliced(b"\0"),
        spliced(b"\n"),
        spliced(b"\\x"),
        spliced(b"\\u12G"),
        spliced(b"\""),
        b"true".to_vec(),
        b"\"text\"".to_vec(),
        b"1e999".to_vec(),
    ];
    for body in wrong {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let answer = post(&server, body).await;
        assert_eq!(answer.status, 422, "{shown:?}");
        assert_eq!(pointers(&answer), [""], "{shown:?}");
    }
    assert!(folder.log_bytes().is_empty());
}
