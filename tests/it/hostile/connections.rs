//! What stands around a body: methods, heads, several requests on one connection.

use crate::support::Folder;
use crate::support::events::registered;
use crate::support::server::Server;
use crate::support::wire::{Wire, post_request};

#[tokio::test]
async fn head_answers_like_get_without_the_body() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    for (path, status) in [("/lockers/L", 200), ("/lockers/X", 404), ("/livez", 200), ("/openapi.json", 200)] {
        let (get, head) = (server.get(path).await, server.send("HEAD", path, &[], "").await);
        assert_eq!((head.status, head.body.as_str()), (status, ""), "{path}");
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_their_order() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let mut wire = Wire::connect(&server).await;
    let mut all = String::new();
    for number in 0..20 {
        let event = registered("L", &format!("A{number}")).to_string();
        let head = "POST /events HTTP/1.1\r\nhost: test\r\ncontent-type: application/json";
        all += head;
        all += &["\r\ncontent-length: ", &event.len().to_string(), "\r\n\r\n", &event].concat();
        all += "GET /lockers/L HTTP/1.1\r\nhost: test\r\n\r\n";
    }
    wire.send(all).await;
    for number in 1..=20 {
        let receipt = wire.reply().await.unwrap();
        assert_eq!((receipt.status, receipt.json()["sequence"].as_u64()), (202, Some(number)));
        let view = wire.reply().await.unwrap();
        assert_eq!((view.status, view.json()["compartments"].as_u64()), (200, Some(number)));
    }
}

#[tokio::test]
async fn an_answer_does_not_wait_for_what_comes_after_the_request() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_HEAD_TIMEOUT_MS", "3600000")]).await;
    for (more, number) in ["\r\n", "GET /live", "\r\nPOST /events HTTP/1.1\r\nhost:"].into_iter().zip(1..) {
        let mut wire = Wire::connect(&server).await;
        wire.send(post_request(&registered("L", &number.to_string())) + more).await;
        let reply = wire.reply().await.unwrap();
        assert_eq!((reply.status, reply.json()["sequence"].as_u64()), (202, Some(number)), "{more:?}");
    }
}

#[tokio::test]
async fn a_head_may_have_16_kib_and_100_lines() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let head = |headers: &str| format!("GET /livez HTTP/1.1\r\nhost: test\r\n{headers}\r\n");
    let with_bytes = |bytes: usize| head(&format!("x: {}\r\n", "y".repeat(bytes - head("x: \r\n").len())));
    let with_lines = |lines: usize| head(&"x: y\r\n".repeat(lines - 1));
    for (head, status) in [
        (with_bytes(15 << 10), 200),
        (with_bytes(20 << 10), 431),
        (with_bytes(400 << 10), 431),
        (with_lines(100), 200),
        (with_lines(101), 431),
    ] {
        let mut wire = Wire::connect(&server).await;
        // Who is cut off while still sending may not hear why.
        if wire.try_send(&head).await.is_ok() {
            let reply = wire.reply().await;
            assert!(reply.as_ref().map_or(status != 200, |reply| reply.status == status), "{status}: {reply:?}");
            assert!(reply.is_none_or(|reply| status == 200 || reply.body.is_empty()));
        }
        assert_eq!(server.get("/livez").await.status, 200);
    }
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_told_to_go_on_or_why_not() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let event = registered("L", "A1").to_string();
    let length = format!("content-length: {}", event.len());

    let mut wire = Wire::connect(&server).await;
    wire.post_head(&["content-type: application/json", &length, "expect: 100-continue"]).await;
    assert_eq!(wire.reply().await.unwrap().status, 100);
    wire.send(event).await;
    assert_eq!(wire.reply().await.unwrap().status, 202);

    let mut wire = Wire::connect(&server).await;
    wire.post_head(&["content-type: text/plain", &length, "expect: 100-continue"]).await;
    assert_eq!(wire.reply().await.unwrap().status, 415, "nobody sends a body for nothing");
}

#[tokio::test]
async fn a_get_may_bring_a_body_that_nobody_wants() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    let answer = server.send("GET", "/lockers/L", &[], "x".repeat(10_000)).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_turned_away_and_the_service_lives_on() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let long_path = format!("GET /lockers/{} HTTP/1.1\r\nhost: test\r\n\r\n", "x".repeat(100_000));
    let many_headers = format!("GET /livez HTTP/1.1\r\nhost: test\r\n{}\r\n", "x: y\r\n".repeat(1_000));
    let long_header = format!("GET /livez HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n", "y".repeat(1_000_000));
    let two_lengths = "POST /events HTTP/1.1\r\nhost: test\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}";
    for bytes in [
        b"\r\n\r\nhello\r\n\r\n".as_slice(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /lockers/\xff\xfe\0 HTTP/1.1\r\nhost: test\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: test\r\nbad header\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: test\r\nx: \0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        two_lengths.as_bytes(),
        long_path.as_bytes(),
        many_headers.as_bytes(),
        long_header.as_bytes(),
    ] {
        let mut wire = Wire::connect(&server).await;
        let sent = wire.try_send(bytes).await;
        if sent.is_ok() {
            wire.end_sending().await;
            if let Some(reply) = wire.reply().await {
                let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
                assert!((400..500).contains(&reply.status), "{shown:?}: {reply:?}");
            }
        }
        assert!(wire.ends().await);
        assert_eq!(server.get("/livez").await.status, 200);
    }
    assert!(folder.log_bytes().is_empty());
}
