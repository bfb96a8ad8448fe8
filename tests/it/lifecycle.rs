//! The life of a serving process: the line it starts with, and a stop that is in order and in time.

use std::collections::BTreeSet;
use std::process::Stdio;

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::events::{fault, id, registered, reserved};
use crate::support::inside::{Inside, LogControl};
use crate::support::server::{Server, lockstream};
use crate::support::{Folder, PATIENCE, eventually, logs};

/// For limits that must not be what ends something: nothing here is waited for as long as that.
const AN_HOUR: &str = "3600000";

/// What the log ends with.
fn log_head(folder: &Folder) -> (u64, String) {
    let last = folder.records().pop().unwrap();
    (last["seq"].as_u64().unwrap(), last["hash"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_keeps_every_promise_and_leaves_everything_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = Folder::new();
        let mut server = Server::start(&folder).await;
        let posting = join_all((0..8).map(|client| {
            let server = &server;
            async move {
                let mut promised = Vec::new();
                for n in 0.. {
                    let event = registered(&format!("L{client}"), &n.to_string());
                    match server.try_post("application/json", event.to_string()).await {
                        Ok(answer) if answer.status == 202 => promised.push(id(&event).to_owned()),
                        Ok(answer) => assert_eq!(answer.code(), "stopping", "{answer:?}"),
                        Err(_) => return promised,
                    }
                }
                unreachable!("the server went away")
            }
        }));
        let stopping = async {
            eventually("there is load", || async { folder.log_bytes().len() > 20_000 }).await;
            server.signal(signal);
        };
        let (promised, ()) = tokio::join!(posting, stopping);
        assert!(server.wait().success(), "{signal:?}: {:?}", server.lines());

        let logged: BTreeSet<_> = folder.event_ids().into_iter().collect();
        let promised = promised.concat();
        assert!(promised.len() > 20 && promised.iter().all(|id| logged.contains(id)), "{signal:?}");
        let mark: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("clean-stop.json")).unwrap()).unwrap();
        let head = log_head(&folder);
        assert_eq!((mark["seq"].as_u64().unwrap(), mark["hash"].as_str().unwrap()), (head.0, head.1.as_str()));
        assert_eq!(folder.checkpoint().await, head, "{signal:?}: the projection is at the head");
        eventually("the database is closed", || async { !folder.has_open_database().await }).await;
    }
}

/// Opens a connection and sends the first part of a request.
async fn begin_request(server: &Server, event: &Value) -> (TcpStream, String) {
    let body = event.to_string();
    let (sent, rest) = body.split_at(body.len() / 2);
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let length = body.len();
    let head =
        format!("POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
    // The 100 says that the request has arrived and is being read.
    stream.write_all(format!("{head}expect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut interim)).await.unwrap().unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(sent.as_bytes()).await.unwrap();
    (stream, rest.to_owned())
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let folder = Folder::new();
    let mut server = Server::start(&folder).await;
    let event = registered("L", "A1");
    let (mut stream, rest) = begin_request(&server, &event).await;
    server.signal(Signal::TERM);
    eventually("no new connection is taken", || async { TcpStream::connect(server.addr).await.is_err() }).await;
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert!(server.wait().success());
    assert_eq!(folder.event_ids(), [id(&event)]);
}

#[tokio::test]
async fn neither_an_idle_connection_nor_half_a_body_holds_up_the_stop() {
    let folder = Folder::new();
    let mut server = Server::start_with(&folder, &[("LOCKSTREAM_STOP_TIMEOUT_MS", AN_HOUR)]).await;
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    idle.read_u8().await.unwrap();
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "idle connections end at once, not after the limit");

    let settings = [("LOCKSTREAM_STOP_TIMEOUT_MS", "300"), ("LOCKSTREAM_BODY_TIMEOUT_MS", AN_HOUR)];
    let mut server = Server::start_with(&folder, &settings).await;
    server.accept(&[registered("L", "A1")]).await;
    let (stream, _) = begin_request(&server, &registered("L", "A2")).await;
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "a body that never ends is cut off before its own limit: {:?}", server.lines());
    assert!(server.lines().iter().any(|line| line.contains("cut off")), "and it is said: {:?}", server.lines());
    drop(stream);
    assert_eq!(folder.checkpoint().await, log_head(&folder));
}

#[tokio::test]
async fn the_first_line_says_where_and_how_far_and_how_long() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1"), registered("L", "A2")]).await;
    assert!(server.stop().success());
    let server = Server::start(&folder).await;
    let line = server.lines().into_iter().find(|line| line.contains("\"serving\"")).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["addr"], server.addr.to_string());
    assert_eq!(line["data_dir"], folder.path().to_str().unwrap());
    assert_eq!((&line["head_sequence"], &line["projected_sequence"]), (&2.into(), &2.into()), "{line}");
    assert!(line["recovery_ms"].as_u64().is_some_and(|ms| ms < 60_000), "{line}");
    assert!(server.stop().success());
}

#[tokio::test]
async fn a_start_gives_the_same_answers_with_its_database_and_without() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let events = [registered("L", "A1"), registered("L", "A2"), reserved("L", "A1", "R1"), fault("L", "A2", 3)];
    server.accept(&events).await;
    let paths = ["/lockers/L", "/lockers/L/compartments/A1", "/lockers/L/compartments/A2", "/reservations/R1"];
    let ask = async |server: &Server| join_all(paths.map(|path| server.get(path))).await;
    let before: Vec<_> = ask(&server).await.into_iter().map(|answer| (answer.status, answer.body)).collect();
    assert!(before.iter().all(|(status, _)| *status == 200), "{before:?}");
    assert!(server.stop().success());
    for delete in [false, true] {
        if delete {
            folder.delete_database();
        }
        let server = Server::start(&folder).await;
        let after: Vec<_> = ask(&server).await.into_iter().map(|answer| (answer.status, answer.body)).collect();
        assert_eq!(after, before, "database deleted: {delete}");
        assert_eq!(server.post(&events[0]).await.status, 200, "known ids stay known");
        assert!(server.stop().success());
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_start_that_takes_long_can_be_stopped_and_changes_nothing() {
    let folder = Folder::new();
    let doors: Vec<_> = (0..20_000).map(|n| registered("L", &n.to_string())).collect();
    logs::write(&folder.log(), &[doors]);
    let before = folder.log_bytes();
    let stopped = async || {
        let addr = format!("127.0.0.1:{}", free_port());
        let mut command = lockstream(&folder);
        let starting = command.env("LOCKSTREAM_ADDR", &addr).stderr(Stdio::piped()).spawn().unwrap();
        // The port is open from before the log is read.
        eventually("the port is open", || async { TcpStream::connect(&addr).await.is_ok() }).await;
        kill_process(Pid::from_child(&starting), Signal::TERM).unwrap();
        let ended = starting.wait_with_output().unwrap();
        let lines = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success(), "{lines}");
        assert_eq!(folder.log_bytes(), before);
        lines.contains("stopped before the log was read to its end")
    };
    // Where the signal comes late, the log may have been read by then.
    eventually("a start is stopped while it reads", stopped).await;
}

#[tokio::test]
async fn a_stop_ends_in_time_even_when_the_disk_hangs_and_the_queue_is_full() {
    let folder = Folder::new();
    let control = LogControl::new();
    let flags = ["--stop-timeout-ms", "200", "--max-queue-events", "1", "--answer-timeout-ms", "100"];
    let server = Inside::start_with(&folder, control.adapters(), &flags);
    assert_eq!(server.post(&registered("L", "0")).await.status, 202, "it has started");
    // The projection shares the queue; now it has nothing left to ask for.
    assert_eq!(server.get("/lockers/L").await.status, 200);
    control.hold();
    let (first, second) = (registered("L", "A"), registered("L", "B"));
    assert_eq!(server.post(&first).await.code(), "outcome-unknown", "the sync hangs");
    assert_eq!(server.post(&second).await.code(), "outcome-unknown", "it waits in the queue");
    let error = server.stopped().await.expect_err("no stop in order");
    assert!(error.to_string().contains("the writer did not end in time"), "{error}");
    control.release();
}

#[tokio::test]
async fn readiness_sees_a_log_folder_that_takes_nothing_and_sees_it_come_back() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/readyz").await.status, 200);
    let elsewhere = folder.path().join("elsewhere");
    std::fs::rename(folder.log(), &elsewhere).unwrap();
    eventually("it is not ready", || async { server.get("/readyz").await.status == 503 }).await;
    let checks = server.get("/readyz").await.json()["checks"].clone();
    assert!(checks["log"].as_str().unwrap().contains("the log's folder takes no files"), "{checks}");
    assert_eq!(checks["projection"], "ok");
    std::fs::rename(&elsewhere, folder.log()).unwrap();
    eventually("it is ready again", || async { server.get("/readyz").await.status == 200 }).await;
    server.accept([&registered("L", "A")]).await;
}
