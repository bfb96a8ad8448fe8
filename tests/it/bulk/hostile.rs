//! Bodies and clients that nobody wishes for.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::bulk::talk::Talk;
use crate::bulk::{Answered, NDJSON, accept, ids, ndjson, send, story};
use crate::support::events::{deposited, registered};
use crate::support::server::{Server, answer};
use crate::support::wire::Wire;
use crate::support::{Folder, PATIENCE, eventually};

#[tokio::test]
async fn only_ndjson_and_json_are_taken() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let event = registered("north", "A1");
    for content_type in [NDJSON, "Application/X-NDJSON; charset=utf-8", "application/ndjson", "application/jsonl"] {
        assert_eq!(send(&server, content_type, event.to_string()).await.lines.len(), 1, "{content_type}");
    }
    assert_eq!(
        send(&server, "application/vnd.lockers+json", json!([event]).to_string()).await.statuses(),
        ["duplicate"]
    );
    for headers in [&[][..], &[("content-type", "text/plain")], &[("content-type", "application/x-ndjsonp")]] {
        let refused = server.send("POST", "/events/batch", headers, event.to_string()).await;
        assert_eq!((refused.status, refused.code().as_str()), (415, "unsupported-media-type"), "{headers:?}");
    }
    assert_eq!(server.get("/events/batch").await.status, 405);
    let nothing = send(&server, NDJSON, "").await;
    assert_eq!((nothing.lines.len(), &nothing.end["complete"]), (0, &json!(true)));
}

#[tokio::test]
async fn a_line_that_is_too_long_has_its_own_verdict() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_BODY_BYTES", "1024")]).await;
    let [a, b] = ["A1", "A2"].map(|door| registered("north", door));
    let mut long = registered("north", "A3");
    long["photo"] = "x".repeat(1_024).into();
    for (content_type, body) in
        [(NDJSON, ndjson([&a, &long, &b])), ("application/json", json!([a, long, b]).to_string())]
    {
        let answered = send(&server, content_type, body).await;
        assert_eq!(answered.lines[1]["code"], "body-too-large", "{answered:?}");
        assert_eq!(answered.lines[1]["errors"][0]["detail"], "has more than 1024 bytes");
        assert_eq!((answered.statuses()[1], answered.end["invalid"].as_u64()), ("invalid", Some(1)));
    }
    assert_eq!(folder.event_ids(), ids(&[a, b]));
}

/// A body of so many pieces, each made when it is sent.
fn endless(count: usize, piece: impl Fn(usize) -> String + Send + Sync + 'static) -> reqwest::Body {
    let frames = (0..count).map(move |n| Ok::<_, Infallible>(Frame::data(Bytes::from(piece(n)))));
    reqwest::Body::wrap(StreamBody::new(stream::iter(frames)))
}

/// The memory of a server at its worst so far, in bytes.
fn peak(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// What a bulk may take: two chunks, the answers that wait, and what the allocator holds on to.
const BULK_BYTES: usize = 48 << 20;

#[tokio::test]
async fn a_body_of_many_events_needs_bounded_memory() {
    const EVENTS: usize = 200_000;
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    accept(&server, &story("north", 4)).await;
    let before = peak(&server);
    // Refused ones, because accepted ones stay in memory for ever: some 40 MB, and the answers as much.
    let template = deposited("north", "nobody").to_string();
    let of = move |n: usize| {
        let id = format!("\"event_id\":\"01890a5d-ac96-774b-bcce-{n:012}\"");
        let (head, tail) = template.split_once("\"event_id\":\"").unwrap();
        format!("{head}{id}{}\n", &tail[37..])
    };
    let body = endless(EVENTS / 100, move |n| (0..100).map(|k| of(100 * n + k)).collect());
    let client = reqwest::Client::builder().timeout(4 * PATIENCE).build().unwrap();
    let request = client.post(server.url("/events/batch")).header("content-type", NDJSON).body(body);
    let answered = Answered::of(&answer(request).await.unwrap());

    assert_eq!((answered.lines.len(), answered.end["refused"].as_u64()), (EVENTS, Some(EVENTS as u64)));
    let more = peak(&server) - before;
    eprintln!("memory: {} MiB more", more >> 20);
    assert!(more < BULK_BYTES, "{} MiB", more >> 20);
}

#[tokio::test]
async fn a_line_without_end_needs_bounded_memory_and_harms_no_other() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let [a, b] = ["A1", "A2"].map(|door| registered("north", door));
    let before = peak(&server);
    let (first, last) = (format!("{a}\n"), format!("\n{b}"));
    let answered = send(
        &server,
        NDJSON,
        endless(1_002, move |n| match n {
            0 => first.clone(),
            1_001 => last.clone(),
            _ => "x".repeat(64 << 10),
        }),
    )
    .await;

    assert_eq!(answered.statuses(), ["accepted", "invalid", "accepted"]);
    let more = peak(&server) - before;
    eprintln!("memory: {} MiB more", more >> 20);
    assert!(more < BULK_BYTES, "{} MiB", more >> 20);
}

#[tokio::test]
async fn who_sends_a_part_gets_its_verdicts_and_who_stalls_is_told() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_BODY_TIMEOUT_MS", "300")]).await;
    let events = story("north", 3);
    let mut talk = Talk::begin(&server, format!("{}\n{}\n{{\"event_", events[0], events[1])).await;
    let statuses: Vec<_> = talk.lines(2).await.iter().map(|line| line["status"].clone()).collect();
    assert_eq!(statuses, ["accepted", "accepted"], "before the body is at its end");

    let rest = talk.rest().await;

    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!((&rest[0]["complete"], &rest[0]["code"]), (&json!(false), &json!("body-timeout")));
    assert_eq!(folder.event_ids(), ids(&events[..2]));
    // Of a body of which nothing comes, the status says it.
    let mut wire = Wire::connect(&server).await;
    wire.send(format!(
        "POST /events/batch HTTP/1.1\r\nhost: test\r\ncontent-type: {NDJSON}\r\ncontent-length: 9\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.reply().await.unwrap().code(), "body-timeout");
}

#[tokio::test]
async fn a_body_that_is_cut_is_read_for_one_more_second_and_not_without_end() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_BODY_TIMEOUT_MS", "300")]).await;
    // Of what is announced, nothing more comes in time.
    let head = format!("POST /events/batch HTTP/1.1\r\nhost: test\r\ncontent-type: {NDJSON}\r\n");
    let cut = async || {
        let mut wire = Wire::connect(&server).await;
        wire.send(format!("{head}content-length: 999999999\r\n\r\n{{")).await;
        assert!(wire.hears("body-timeout").await);
        wire
    };
    let mut silent = cut().await;
    let told = Instant::now();
    assert!(silent.ends().await);
    let second = Duration::from_millis(900)..Duration::from_secs(8);
    assert!(second.contains(&told.elapsed()), "the last line was told {:?} before", told.elapsed());

    let mut loud = cut().await;
    let kibibyte = " ".repeat(1 << 10);
    let mut sent_kib = 0;
    while loud.try_send(&kibibyte).await.is_ok() {
        sent_kib += 1;
        assert!(sent_kib < 64 << 10, "it goes on and on");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_so_and_what_was_whole_is_recorded() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let head = format!("POST /events/batch HTTP/1.1\r\nhost: test\r\ncontent-type: {NDJSON}\r\n");
    let head = head + "transfer-encoding: chunked\r\n\r\n";
    let no_chunk = "no length\r\n";
    let mut at_once = Wire::connect(&server).await;
    at_once.send(format!("{head}{no_chunk}")).await;
    let reply = at_once.reply().await.unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (400, "body-interrupted"), "{reply:?}");

    let event = registered("north", "A1");
    let (whole, half) = (format!("{event}\n"), r#"{"event_id":"#);
    let mut later = Wire::connect(&server).await;
    later.send(format!("{head}{:x}\r\n{whole}{half}\r\n", whole.len() + half.len())).await;
    assert!(later.hears(r#""status":"accepted","line":1"#).await);
    later.send(no_chunk).await;
    assert!(later.hears(r#"{"status":"end","complete":false,"accepted":1,"#).await);
    assert!(later.hears(r#""code":"body-interrupted""#).await);
    assert_eq!(folder.event_ids(), ids(&[event]));
}

#[tokio::test]
async fn who_sends_slowly_but_steadily_is_served() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_BODY_TIMEOUT_MS", "2000")]).await;
    let events = story("north", 60);
    let mut talk = Talk::begin(&server, format!("{}\n", events[0])).await;
    // Answered one by one, for longer than one stall may take.
    for event in &events[1..] {
        talk.lines(1).await;
        assert!(talk.is_silent().await, "one line for each event");
        assert!(talk.say(format!("{event}\n")).await);
    }
    talk.end();
    assert_eq!(talk.rest().await.last().unwrap()["accepted"], 60);
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_is_served() {
    let folder = Folder::new();
    // However long it takes a busy machine to send.
    let _server = Server::start_with(&folder, &[("LOCKSTREAM_WRITE_TIMEOUT_MS", "60000")]).await;
    // As many as the documentation says. The system gives TCP megabytes of buffers of its own; those of
    // this socket hold a quarter of the answers.
    let body = ndjson(&story("north", 5_000));
    let length = body.len();
    let head = format!("POST /import HTTP/1.0\r\ncontent-type: {NDJSON}\r\ncontent-length: {length}\r\n\r\n");
    let mut socket = UnixStream::connect(folder.path().join("admin.sock")).await.unwrap();
    let mut answer = String::new();
    let exchange = async {
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(body.as_bytes()).await.unwrap();
        socket.read_to_string(&mut answer).await.unwrap()
    };
    timeout(PATIENCE, exchange).await.unwrap();

    let (_, lines) = answer.split_once("\r\n\r\n").unwrap();
    let answered = Answered::of_text(lines);
    assert_eq!((answered.end["complete"].as_bool(), answered.sequences().len()), (Some(true), 5_000));
}

#[tokio::test]
async fn who_never_reads_is_cut_off_and_holds_up_nobody() {
    let folder = Folder::new();
    let settings = [("LOCKSTREAM_WRITE_TIMEOUT_MS", "300"), ("LOCKSTREAM_MAX_BULK_REQUESTS", "1")];
    let server = Server::start_with(&folder, &settings).await;
    let mut wire = Wire::connect_reluctantly(&server).await;
    wire.send(format!("POST /events/batch HTTP/1.0\r\ncontent-type: {NDJSON}\r\ncontent-length: 999999999\r\n\r\n"))
        .await;
    // Longer answers than all buffers on the way hold.
    let line = format!("{}\n", deposited("north", "nobody")).repeat(1_000);
    let mut sent = 0;
    while wire.try_send(&line).await.is_ok() {
        sent += 1;
        assert!(sent < 500, "it goes on and on");
    }
    server.accept([&registered("north", "A1")]).await;
    eventually("the bulk's place is free", async || {
        server.send("POST", "/events/batch", &[("content-type", NDJSON)], "").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_events_in_order_and_its_place_to_others() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_BULK_REQUESTS", "1")]).await;
    let events = story("north", 3_000);
    let mut talk = Talk::begin(&server, ndjson(&events[..1_500])).await;
    talk.lines(1_000).await;
    // There is one place.
    let second = server.send("POST", "/events/batch", &[("content-type", NDJSON)], "").await;
    assert_eq!((second.status, second.code().as_str(), second.header("retry-after")), (503, "overloaded", "1"));
    server.accept([&registered("south", "A1")]).await;

    drop(talk);

    eventually("the place is free", async || {
        server.send("POST", "/events/batch", &[("content-type", NDJSON)], "").await.status == 200
    })
    .await;
    let recorded: Vec<_> = folder
        .records()
        .into_iter()
        .map(|record| record["event"].clone())
        .filter(|event| event["locker_id"] == "north")
        .collect();
    assert!((1_000..=1_500).contains(&recorded.len()), "{}", recorded.len());
    assert_eq!(recorded, events[..recorded.len()]);
    let again = send(&server, NDJSON, ndjson(&events)).await;
    assert_eq!(
        (&again.end["accepted"], &again.end["duplicate"]),
        (&json!(3_000 - recorded.len()), &json!(recorded.len()))
    );
}

#[tokio::test]
async fn who_asks_beforehand_is_told_to_go_on_or_why_not() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let body = ndjson(&story("north", 2));
    let ask = |content_type: &str| {
        let length = body.len();
        format!(
            "POST /events/batch HTTP/1.1\r\nhost: test\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-type: \
             {content_type}\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut wire = Wire::connect(&server).await;
    wire.send(ask(NDJSON)).await;
    assert_eq!(wire.reply().await.unwrap().status, 100);
    wire.send(&body).await;
    let answer = wire.everything().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"accepted\":2"), "{answer}");

    let mut wire = Wire::connect(&server).await;
    wire.send(ask("text/csv")).await;
    assert_eq!(wire.reply().await.unwrap().code(), "unsupported-media-type");
}
