//! The order to rebuild: who takes it, what is said to whoever gave it, and that nobody who gives
//! it can hold up the service.

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use lockstream::infrastructure::data_folder::DataFolder;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::{identity, leftovers, lines, order, rebuild, verified, write_long_log};
use crate::folder::one_error_line;
use crate::support::events::registered;
use crate::support::server::{Ended, Server, lockstream, run};
use crate::support::{Folder, eventually};

const REQUEST: &[u8] = b"POST /rebuild HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";

/// Gives the order over a connection that nobody reads.
async fn order_unheard(folder: &Folder) -> UnixStream {
    let mut stream = UnixStream::connect(folder.path().join("admin.sock")).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    stream
}

/// Gives orders until one is carried out: an order that finds another one about to end is refused.
async fn is_rebuilt(folder: &Folder, before: u64, order: impl AsyncFn()) {
    eventually("the projection is another one", async || {
        order().await;
        ![0, before].contains(&identity(folder).await)
    })
    .await;
}

/// Waits until no other rebuild is under way, and one is done.
async fn is_served(folder: &Folder) {
    eventually("somebody who listens is served", || async {
        lines(order(folder, "/rebuild").await).await.pop().unwrap()["done"].is_object()
    })
    .await;
}

#[tokio::test]
async fn the_answer_to_an_order_is_a_line_for_each_step_and_one_for_the_outcome() {
    let folder = Folder::new();
    write_long_log(&folder, 2_000);
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/lockers/L0").await.status, 200); // Waits for the projection.
    let answer = order(&folder, "/rebuild").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/jsonl".parse().unwrap())
    );
    let told = lines(answer).await;
    let (outcome, steps) = told.split_last().unwrap();
    assert!(!steps.is_empty());
    for step in steps {
        let [read, total] = ["read_events", "total_events"].map(|name| step["progress"][name].as_u64().unwrap());
        assert!(read <= total && [0, 2_000].contains(&total), "{step}");
    }
    assert_eq!((&outcome["done"]["records"], &outcome["done"]["compared_lockers"]), (&2_000.into(), &10.into()));
    for (target, status) in [("/rebuild?force=perhaps", 400), ("/", 404), ("/events", 404)] {
        assert_eq!(order(&folder, target).await.status().as_u16(), status, "{target}");
    }
}

#[tokio::test]
async fn both_ways_tell_a_program_the_outcome_in_one_json_object() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    assert_eq!(server.get("/lockers/L").await.status, 200); // Waits for the projection.
    let beside = rebuild(&folder, &["--json"]);
    assert!(server.stop().success());
    let without = rebuild(&folder, &["--json"]);
    let [beside, without] = [beside, without].map(|ended| {
        assert_eq!((ended.code, ended.stderr.as_str(), ended.stdout.lines().count()), (Some(0), "", 1), "{ended:?}");
        let mut report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let times = ["elapsed_ms", "held_ms"].map(|time| report.as_object_mut().unwrap().remove(time).unwrap());
        (report, times.map(|time| time.as_u64().unwrap()))
    });
    let ((beside, _), (without, [_, held_ms])) = (beside, without);
    assert_eq!(beside, without);
    assert_eq!(held_ms, 0, "nobody could wait");
    assert_eq!(
        (&beside["records"], &beside["lockers"], &beside["compared_lockers"]),
        (&1.into(), &1.into(), &1.into())
    );
}

#[tokio::test]
async fn of_two_orders_at_once_the_second_is_refused_and_the_first_carried_out() {
    let folder = Folder::new();
    write_long_log(&folder, 10_000);
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/lockers/L0").await.status, 200); // Waits for the projection.
    let is_refused = async || {
        let mut first = order(&folder, "/rebuild").await;
        first.chunk().await.unwrap().expect("it says that it has begun");

        let told = lines(order(&folder, "/rebuild").await).await;
        let refused = rebuild(&folder, &[]);

        let outcome = lines(first).await.pop().unwrap();
        assert_eq!(outcome["done"]["records"], 10_000, "{outcome}");
        assert_eq!(leftovers(&folder).await, [""; 0]);
        let why = "a rebuild is under way already";
        told.last().unwrap()["failed"]["detail"] == why && refused.stderr == format!("error: {why}\n")
    };
    // On a machine that has other work, the first may be done before the second is given.
    eventually("the second finds the first under way", is_refused).await;
}

#[tokio::test]
async fn whoever_gives_an_order_and_goes_away_or_does_not_listen_holds_nothing_up() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;

    let before = identity(&folder).await;
    is_rebuilt(&folder, before, async || drop(order_unheard(&folder).await)).await;

    let before = identity(&folder).await;
    let silent = RefCell::new(Vec::new());
    let order_silently = async || {
        let order = order_unheard(&folder).await;
        silent.borrow_mut().push(order);
    };
    for _ in 0..20 {
        order_silently().await;
    }
    is_rebuilt(&folder, before, order_silently).await;
    server.accept(&[registered("L", "A2")]).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2);
    is_served(&folder).await;
    assert!(server.stop().success(), "nor do they hold up the stop");
    drop(silent);
    assert!(!folder.path().join("admin.sock").exists());
    verified(&folder);
}

#[tokio::test]
async fn more_orders_than_places_wait_and_take_nothing_from_the_service() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_HEAD_TIMEOUT_MS", "2000")]).await;
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_nonzero())).unwrap().count();
    let before = descriptors();
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(UnixStream::connect(folder.path().join("admin.sock")).await.unwrap());
    }
    server.accept(&[registered("L", "A1")]).await;
    assert!(descriptors() < before + 40, "{} descriptors, and {before} before", descriptors());
    // Who says nothing loses the place.
    is_served(&folder).await;
    drop(idle);
    assert!(server.stop().success());
}

#[tokio::test]
async fn a_folder_in_use_whose_owner_takes_no_orders_is_told_apart() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    server.kill();
    let socket = folder.path().join("admin.sock");
    assert!(socket.exists(), "the killed one left it");
    // Another command has the folder, and the socket leads nowhere.
    let held = DataFolder::new(folder.path()).lock().unwrap();
    for reason in ["Connection refused", "No such file"] {
        let refused = rebuild(&folder, &[]);
        let line = one_error_line(&refused);
        for part in ["takes no orders", reason, socket.to_str().unwrap(), "another `lockstream rebuild`"] {
            assert!(line.contains(part), "{part:?} is missing in {line}");
        }
        let _ = fs::remove_file(&socket);
    }
    // Somebody is there, but hangs up.
    let listener = UnixListener::bind(&socket).unwrap();
    let hanging_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
    assert!(one_error_line(&rebuild(&folder, &[])).contains("takes no orders"));
    hanging_up.join().unwrap();

    drop(held);
    assert_eq!(rebuild(&folder, &[]).code, Some(0), "what is left of a socket is no hindrance");
    let server = Server::start(&folder).await;
    assert_eq!(rebuild(&folder, &[]).code, Some(0), "the next start takes its place");
    assert!(server.stop().success());
}

/// What the command makes of an answer with these lines, by whoever has the folder.
fn rebuilt_by(folder: &Folder, answer: &str) -> Ended {
    let socket = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The order has no body: its head ends it.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let ended = rebuild(folder, &[]);
    server.join().unwrap();
    fs::remove_file(socket).unwrap();
    ended
}

#[test]
fn a_server_of_another_version_is_understood_or_quoted() {
    let folder = Folder::new();
    let _held = DataFolder::new(folder.path()).lock().unwrap();
    let earlier = r#"{"done":{"records":5,"lockers":1,"compartments":2,"reservations":2,"compared_lockers":1,"differing_lockers":0,"elapsed_ms":7}}"#;
    let ended = rebuilt_by(&folder, &format!("{earlier}\n"));
    assert!(ended.code == Some(0) && ended.stdout.starts_with("rebuilt from 5 records in 7 ms: "), "{ended:?}");

    let later = r#"{"replaced":{"tables":3}}"#;
    let ended = rebuilt_by(&folder, &format!("{later}\n"));
    let line = one_error_line(&ended);
    assert!(line.contains("another version") && line.contains(later), "{line}");

    let progress = r#"{"progress":{"read_events":1,"total_events":2}}"#;
    for cut_off in ["", &*format!("{progress}\n")] {
        let ended = rebuilt_by(&folder, cut_off);
        let line = one_error_line(&ended);
        assert!(line.contains("the server ended before the rebuild did"), "{line}");
    }
}

#[tokio::test]
async fn a_data_folder_may_lie_deeper_than_the_address_of_a_socket_reaches() {
    let folder = Folder::new();
    let deep = folder.path().join("a".repeat(100)).join("b".repeat(100));
    let at_depth = |arguments: &[&str]| {
        let mut command = lockstream(&folder);
        command.args(arguments).env("LOCKSTREAM_DATA_DIR", &deep);
        command
    };
    let server = Server::spawn(at_depth(&[])).await.unwrap();
    assert!(deep.join("admin.sock").exists());
    server.accept(&[registered("L", "A1")]).await;
    let rebuilt = run(at_depth(&["rebuild"]));
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    // It was the server that did it.
    server.says("the projection is rebuilt", 1).await;
    assert_eq!(server.get("/lockers/L").await.status, 200);
}
