//! Answers as servers and proxies spell them, from a socket of this test.

use tokio::net::TcpListener;

use super::*;

/// What the client makes of these bytes, sent in pieces of this length and then closed.
async fn read_from(server_says: &[u8], piece: usize) -> Result<Answer> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::from(listener.local_addr().unwrap());
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = [0; 4];
        stream.read_exact(&mut request).await.unwrap();
        for piece in server_says.chunks(piece) {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let asking = async { Connection::open(&target).await.unwrap().exchange(b"POST").await };
    tokio::join!(serving, asking).1
}

#[tokio::test]
async fn every_spelling_of_an_answer_is_read_to_its_end_however_it_is_cut() {
    let answer = |status, body: &str, is_last| Answer { status, body: body.into(), is_last, retry_after: None };
    for (bytes, expected) in [
        ("HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\nfine", answer(202, "fine", false)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: Close\r\n\r\nok", answer(200, "ok", true)),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", answer(200, "ok", true)),
        ("HTTP/1.1 204 No Content\r\n\r\n", answer(204, "", false)),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", answer(200, "to the end", true)),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
             3\r\none\r\nA;note=x\r\n, two, thr\r\n2\r\nee\r\n0\r\nserver-timing: 1\r\n\r\n",
            answer(200, "one, two, three", false),
        ),
    ] {
        for piece in [1, 7, 4_096] {
            let read = read_from(bytes.as_bytes(), piece).await.unwrap();
            assert_eq!(read, expected, "in pieces of {piece}: {bytes:?}");
        }
    }
    let wait = read_from(b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", 9).await.unwrap();
    assert_eq!((wait.status, wait.retry_after), (503, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn what_breaks_off_or_is_no_http_is_an_error() {
    for bytes in [
        "",
        "HTTP/1.1 202 Acc",
        "HTTP/1.1 202 Accepted\r\ncontent-length: 4\r\n\r\nfin",
        "HTTP/1.1 202 Accepted\r\ncontent-length: many\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n3\r\nfour\r\n0\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 202 Accepted\r\ncontent-length: 99999999999\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        assert!(read_from(bytes.as_bytes(), 4_096).await.is_err(), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_head_has_its_limits() {
    let with_lines = |lines: usize, bytes: usize| {
        let lines = format!("x: {}\r\n", "y".repeat(bytes)).repeat(lines);
        format!("HTTP/1.1 202 Accepted\r\n{lines}content-length: 0\r\n\r\n")
    };
    // One line of each is the content-length.
    for (head, expected) in [
        (with_lines(MAX_HEADERS - 1, 1), Ok(202)),
        (with_lines(MAX_HEADERS, 1), Err("no HTTP: too many headers")),
        (with_lines(1, MAX_HEAD_BYTES - 100), Ok(202)),
        (with_lines(1, 4 * MAX_HEAD_BYTES), Err("the head of the answer has no end")),
    ] {
        // At once: a client that has read enough reads no more.
        let read = read_from(head.as_bytes(), head.len()).await;
        assert_eq!(
            read.map(|answer| answer.status).map_err(|error| error.to_string()),
            expected.map_err(str::to_owned)
        );
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_is_out_is_read_and_the_last() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::from(listener.local_addr().unwrap());
    // More than the buffers of any socket hold, to a server that reads none of it.
    let request = vec![b'x'; 64 << 20];
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream
    };
    let asking = async { Connection::open(&target).await.unwrap().exchange(&request).await.unwrap() };
    let (_stream, answer) = tokio::join!(serving, asking);
    assert_eq!((answer.status, answer.is_last), (413, true));
}
