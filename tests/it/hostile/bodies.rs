//! Bodies by their size, their pace and their label.

use std::time::Duration;

use super::pointers;
use crate::support::events::registered;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Folder, PATIENCE, eventually};

const JSON: &str = "content-type: application/json";
const CHUNKED: &str = "transfer-encoding: chunked";
const LIMIT: usize = 1_024;

/// A valid event of exactly this many bytes.
fn event_of(bytes: usize) -> String {
    let event = registered("L", &uuid::Uuid::now_v7().to_string()).to_string();
    let pad = bytes - event.len() - r#","pad":"""#.len();
    format!("{},\"pad\":\"{}\"}}", event.strip_suffix('}').unwrap(), "x".repeat(pad))
}

fn chunk(content: &str) -> String {
    format!("{:x}\r\n{content}\r\n", content.len())
}

async fn small_server(folder: &Folder) -> Server {
    // What goes on sending too much is listened to for a while, which has to end before the test.
    let settings = [("LOCKSTREAM_MAX_BODY_BYTES", LIMIT.to_string()), ("LOCKSTREAM_BODY_TIMEOUT_MS", "5000".into())];
    Server::start_with(folder, &settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await
}

#[tokio::test]
async fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
    let folder = Folder::new();
    let server = small_server(&folder).await;
    for (bytes, status) in [(LIMIT, 202), (LIMIT + 1, 413)] {
        // Its length stated beforehand…
        let body = event_of(bytes);
        assert_eq!(body.len(), bytes);
        let answer = server.post_raw("application/json", body).await;
        assert_eq!(answer.status, status, "{answer:?}");
        // …and not stated.
        let body = event_of(bytes);
        let mut wire = Wire::connect(&server).await;
        wire.post_head(&[JSON, CHUNKED]).await;
        wire.send(chunk(&body[..10]) + &chunk(&body[10..]) + "0\r\n\r\n").await;
        let reply = wire.reply().await.unwrap();
        assert_eq!(reply.status, status, "{reply:?}");
    }
    assert_eq!(folder.records().len(), 2);
    // What is only announced is refused before any of it is sent, however large.
    for announced in [LIMIT + 1, usize::MAX - 2] {
        let mut wire = Wire::connect(&server).await;
        wire.post_head(&[JSON, &format!("content-length: {announced}")]).await;
        let reply = wire.reply().await.unwrap();
        assert_eq!((reply.status, reply.code().as_str()), (413, "body-too-large"), "{announced}");
        assert!(wire.ends().await);
    }
}

#[tokio::test]
async fn a_body_sent_one_byte_at_a_time_is_accepted() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    for chunked in [false, true] {
        let event = event_of(300);
        let mut wire = Wire::connect(&server).await;
        let length = format!("content-length: {}", event.len());
        wire.post_head(&[JSON, if chunked { CHUNKED } else { &length }]).await;
        for byte in event.bytes() {
            let byte = char::from(byte).to_string();
            wire.send(if chunked { chunk(&byte) } else { byte }).await;
            // Lets the byte go on its way alone.
            tokio::task::yield_now().await;
        }
        if chunked {
            wire.send("0\r\n\r\n").await;
        }
        assert_eq!(wire.reply().await.unwrap().status, 202);
    }
    assert_eq!(folder.records().len(), 2);
}

#[tokio::test]
async fn a_client_that_writes_all_before_it_reads_learns_why_it_is_refused() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_HEAD_TIMEOUT_MS", "3600000")]).await;
    let body = " ".repeat(512 << 10);
    let length = format!("content-length: {}", body.len());
    for (headers, content, code) in [
        ([JSON, &length], body.clone(), "body-too-large"),
        ([JSON, CHUNKED], chunk(&body) + "0\r\n\r\n", "body-too-large"),
        (["content-type: text/plain", &length], body.clone(), "unsupported-media-type"),
    ] {
        let mut wire = Wire::connect(&server).await;
        wire.post_head(&headers).await;
        for part in content.as_bytes().chunks(16 << 10) {
            wire.send(part).await;
        }
        let reply = wire.reply().await.expect("an answer");
        assert_eq!(reply.code(), code, "{reply:?}");
        // All was read, so the connection is as good as before.
        assert_eq!(wire.get("/livez").await.status, 200);
    }
    assert!(folder.log_bytes().is_empty());
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut_off_at_the_limit() {
    let folder = Folder::new();
    let server = small_server(&folder).await;
    let part = chunk(&" ".repeat(LIMIT / 2));

    // A client that stops to listen learns why.
    let mut wire = Wire::connect(&server).await;
    wire.post_head(&[JSON, CHUNKED]).await;
    wire.send(part.repeat(3)).await;
    let reply = wire.reply().await.unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (413, "body-too-large"));
    assert!(wire.ends().await, "the rest is not read");

    // A client that goes on gets rid of no more than what lies in buffers on the way.
    let mut wire = Wire::connect(&server).await;
    wire.post_head(&[JSON, CHUNKED]).await;
    let mut sent = 0;
    while wire.try_send(&part).await.is_ok() {
        sent += part.len();
        assert!(sent < 256 << 20, "the server takes in a body without end");
    }
    assert_eq!(server.get("/livez").await.status, 200);
    assert!(folder.log_bytes().is_empty());
}

#[tokio::test]
async fn a_body_that_takes_too_long_is_given_up() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_BODY_TIMEOUT_MS", "200")]).await;
    let event = event_of(300);

    // Half a body and then nothing.
    let hears_why = async || {
        let mut silent = Wire::connect(&server).await;
        silent.post_head(&[JSON, "content-length: 300"]).await;
        // Who was too slow to send it may have lost the answer with the connection.
        let sent = silent.try_send(&event[..150]).await;
        let reply = silent.reply().await;
        assert!(reply.as_ref().is_none_or(|reply| reply.code() == "body-timeout"), "{reply:?}");
        silent.ends().await && sent.is_ok() && reply.is_some_and(|reply| reply.status == 408)
    };
    eventually("half a body is answered", hears_why).await;

    // A drop now and then is no progress: the time is for the whole body.
    let mut dripping = Wire::connect(&server).await;
    dripping.post_head(&[JSON, CHUNKED]).await;
    let mut drops = tokio::time::interval(Duration::from_millis(40));
    let begin = std::time::Instant::now();
    while dripping.is_silent_for(Duration::ZERO).await {
        assert!(begin.elapsed() < PATIENCE, "the server waits for ever");
        drops.tick().await;
        if dripping.try_send(chunk(" ")).await.is_err() {
            break;
        }
    }
    let reply = dripping.reply().await;
    assert!(reply.is_none_or(|reply| reply.status == 408));

    assert!(folder.log_bytes().is_empty());
    // The id stayed free, for whoever is in time.
    let is_free = async || server.post_raw("application/json", event.clone()).await.status == 202;
    eventually("the event is taken", is_free).await;
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_leaves_no_trace() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("RUST_LOG", "lockstream=debug")]).await;
    let event = event_of(300);
    // The last one lacks a single byte that would make no difference to a careless reader.
    let cut = [0, 1, 150, 299];
    for sent in cut {
        let mut wire = Wire::connect(&server).await;
        wire.post_head(&[JSON, "content-length: 300"]).await;
        wire.send(&event[..sent]).await;
        drop(wire);
    }
    let mut wire = Wire::connect(&server).await;
    wire.post_head(&[JSON, CHUNKED]).await;
    wire.send(chunk(&event)).await;
    drop(wire);

    let broken_off = || server.lines_saying("answered").iter().filter(|line| line["status"] == 400).count();
    eventually("the server has noticed", async || broken_off() == cut.len() + 1).await;
    assert!(folder.log_bytes().is_empty());
    assert_eq!(server.post_raw("application/json", event).await.status, 202, "the id stayed free");
}

#[tokio::test]
async fn a_broken_transfer_coding_ends_the_connection_and_leaves_no_trace() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let event = event_of(300);
    for end in ["no length\r\n", "FFFFFFFFFFFFFFFFFFFF\r\n", "3\r\nabcdef\r\n", "-1\r\n"] {
        let mut wire = Wire::connect(&server).await;
        wire.post_head(&[JSON, CHUNKED]).await;
        wire.send(chunk(&event) + end).await;
        let reply = wire.reply().await.expect("an answer");
        assert_eq!((reply.status, reply.code().as_str()), (400, "body-interrupted"), "{end:?}");
        assert!(wire.ends().await);
    }
    assert!(folder.log_bytes().is_empty());
    assert_eq!(server.post_raw("application/json", event).await.status, 202, "the id stayed free");
}

#[tokio::test]
async fn json_is_known_by_its_content_type() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    for right in [
        "application/json",
        "APPLICATION/Json",
        "application/json; charset=utf-8",
        "application/json;",
        "application/vnd.cabinet+json",
        "application/cloudevents+json ;v=1",
    ] {
        assert_eq!(server.post_raw(right, event_of(300)).await.status, 202, "{right}");
    }
    for wrong in [
        "",
        "json",
        "text/json",
        "text/plain",
        "application/jsonl",
        "application/json5",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "*/*",
    ] {
        let answer = server.post_raw(wrong, event_of(300)).await;
        assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported-media-type"), "{wrong:?}");
    }
    // The label is all that counts: what is packed is read as it comes.
    let packed = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let answer = server.send("POST", "/events", &packed, &b"\x1f\x8b\x08\0\0\0\0\0"[..]).await;
    assert_eq!(pointers(&answer), [""]);
}
