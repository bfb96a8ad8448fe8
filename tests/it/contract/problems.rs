//! Errors: one shape for all of them, a stable code, and a page for every code.

use lockstream::web::catalogue::Code;
use serde_json::json;

use crate::support::Folder;
use crate::support::events::{registered, reserved};
use crate::support::server::{Answer, Server};
use crate::support::wire::Wire;

const JSON: (&str, &str) = ("content-type", "application/json");

/// Checks that an answer is a problem as documented.
fn is_problem(answer: &Answer, status: u16, code: &str, context: &str) {
    assert_eq!(answer.status, status, "{context}: {answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{context}: {answer:?}");
    let body = answer.json();
    assert_eq!((&body["status"], &body["code"]), (&json!(status), &json!(code)), "{context}");
    assert_eq!(body["type"], json!(format!("/problems/{code}")), "{context}");
    for sentence in ["title", "detail"] {
        assert!(!body[sentence].as_str().unwrap().is_empty(), "{context}: {body}");
    }
    assert!(!answer.header("x-request-id").is_empty(), "{context}");
}

#[tokio::test]
async fn whatever_is_not_found_is_a_problem() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    for (method, path, code) in [
        ("GET", "/lockers/X", "unknown-locker"),
        ("GET", "/lockers/l", "unknown-locker"),
        ("GET", "/lockers/X/compartments/A1", "unknown-compartment"),
        ("GET", "/lockers/L/compartments/A2", "unknown-compartment"),
        ("GET", "/reservations/R1", "unknown-reservation"),
        ("GET", "/lockers", "no-such-page"),
        ("GET", "/lockers/", "no-such-page"),
        ("GET", "/lockers/L/", "no-such-page"),
        ("GET", "/lockers/L/compartments", "no-such-page"),
        ("GET", "/lockers/L/compartments/A1/x", "no-such-page"),
        ("GET", "/reservations/", "no-such-page"),
        ("POST", "/event", "no-such-page"),
        ("POST", "/events/", "no-such-page"),
        ("GET", "/problems/no-such-code", "no-such-page"),
        ("GET", "/problems/%FF", "no-such-page"),
        ("GET", "/docs/no-such-file.js", "no-such-page"),
        ("GET", "/openapi.yaml", "no-such-page"),
    ] {
        let answer = server.send(method, path, &[], "").await;
        is_problem(&answer, 404, code, path);
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_a_problem_that_names_the_others() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    for (path, allowed) in [
        ("/events", "POST"),
        ("/lockers/L", "GET,HEAD"),
        ("/lockers/L/compartments/A1", "GET,HEAD"),
        ("/reservations/R1", "GET,HEAD"),
        ("/livez", "GET,HEAD"),
        ("/readyz", "GET,HEAD"),
        ("/problems/invalid-event", "GET,HEAD"),
        ("/openapi.json", "GET,HEAD"),
        ("/docs/", "GET,HEAD"),
        ("/", "GET,HEAD"),
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            if !allowed.contains(method) {
                let answer = server.send(method, path, &[], "").await;
                is_problem(&answer, 405, "method-not-allowed", &format!("{method} {path}"));
                assert_eq!(answer.header("allow"), allowed, "{method} {path}");
            }
        }
    }
    assert_eq!(server.send("HEAD", "/events", &[], "").await.status, 405);
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_a_problem() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_BODY_BYTES", "1024")]).await;
    let event = registered("L", "A1").to_string();
    let post = async |headers: &[(&str, &str)], body: String| server.send("POST", "/events", headers, body).await;

    is_problem(&post(&[JSON], "x".repeat(1_025)).await, 413, "body-too-large", "too large");
    is_problem(&post(&[], event.clone()).await, 415, "unsupported-media-type", "no content type");
    let text = ("content-type", "text/plain");
    is_problem(&post(&[text], event.clone()).await, 415, "unsupported-media-type", "text");
    for (body, what) in [("", "empty"), ("hello", "no JSON"), ("[]", "no object"), ("{", "half"), ("null", "null")] {
        let answer = post(&[JSON], body.to_owned()).await;
        is_problem(&answer, 422, "invalid-event", what);
        assert_eq!(answer.json()["errors"][0]["pointer"], "", "{what}: the event as a whole");
    }
    is_problem(&post(&[JSON], reserved("L", "A1", "R").to_string()).await, 409, "compartment-not-registered", "rule");
    assert!(folder.log_bytes().is_empty());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_problem_for_whoever_still_listens() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let mut wire = Wire::connect(&server).await;
    wire.post_head(&["content-type: application/json", "content-length: 100"]).await;
    wire.send("{\"event_id\":").await;
    wire.end_sending().await;
    let reply = wire.reply().await.expect("an answer");
    assert_eq!((reply.status, reply.code().as_str()), (400, "body-interrupted"), "{reply:?}");
    assert!(reply.head.contains("content-type: application/problem+json"), "{reply:?}");
    assert!(wire.ends().await);
}

#[tokio::test]
async fn every_code_has_a_page_that_its_type_leads_to() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let mut codes: Vec<_> = Code::all().map(|code| code.entry().code).collect();
    assert!(codes.len() > 25);
    for code in &codes {
        let page = server.get(&format!("/problems/{code}")).await;
        assert_eq!(page.status, 200, "{code}");
        assert!(page.header("content-type").starts_with("text/html"), "{code}: {page:?}");
        assert!(page.body.contains(&format!("<code>{code}</code>")), "{code}");
        assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{code} needs no encoding");
    }
    codes.sort_unstable();
    let count = codes.len();
    codes.dedup();
    assert_eq!(codes.len(), count, "no two codes are the same word");
}
