//! What a backup asks the server, and what it says when nobody answers.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

use lockstream::infrastructure::data_folder::DataFolder;
use serde_json::Value;

use super::{back_up, backup_command, refusal, write_log};
use crate::support::events::registered;
use crate::support::server::Server;
use crate::support::{Folder, PATIENCE};

#[tokio::test]
async fn the_server_says_up_to_where_the_log_is_durable_with_the_hash() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let client = reqwest::Client::builder().unix_socket(folder.path().join("admin.sock")).timeout(PATIENCE);
    let client = client.build().unwrap();
    let head = async || {
        let answer = client.get("http://localhost/head").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json::<Value>().await.unwrap()
    };
    assert_eq!(head().await, serde_json::json!({"sequence": 0, "chain_hash": "0".repeat(64)}));
    server.accept(&[registered("L", "A1"), registered("L", "A2")]).await;
    let hash = folder.records()[1]["hash"].clone();
    assert_eq!(head().await, serde_json::json!({"sequence": 2, "chain_hash": hash}));
    assert!(server.stop().success());
    // A start that found a log knows its head without a new event.
    let server = Server::start(&folder).await;
    assert_eq!(head().await["chain_hash"], hash);
    assert_eq!(server.get("/head").await.status, 404, "only whoever runs the service is told");
}

#[test]
fn a_folder_in_use_by_somebody_who_does_not_answer_is_not_backed_up() {
    let (folder, place) = (Folder::new(), tempfile::tempdir().unwrap());
    write_log(&folder, 5);
    // As of a server that starts: it has the folder, and takes no orders yet.
    let held = DataFolder::new(folder.path()).lock().unwrap();
    let error = refusal(backup_command(&folder, place.path(), &[]), 1);
    assert!(error.contains("does not say how far the log is") && error.contains("No such file"), "{error}");
    // Somebody who answers with something else.
    let listener = UnixListener::bind(folder.path().join("admin.sock")).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request: Vec<_> =
            BufReader::new(&stream).lines().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"sequence\":-1}").unwrap();
        assert_eq!(request[0], "GET /head HTTP/1.0");
    });
    let error = refusal(backup_command(&folder, place.path(), &[]), 1);
    answering.join().unwrap();
    assert!(error.contains("does not say how far the log is") && error.contains("invalid value"), "{error}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing was begun");
    drop(held);
    assert_eq!(back_up(&folder, place.path())["head_sequence"], 5);
}
