//! A start with an archive: what it reads, and that it knows the past.

use std::fs;

use serde_json::Value;

use crate::archive::{forget, live};
use crate::support::Folder;
use crate::support::server::{Server, lockstream, run};

/// Segments of about fifty records.
const SMALL: [(&str, &str); 2] =
    [("LOCKSTREAM_MAX_SEGMENT_BYTES", "16384"), ("RUST_LOG", "info,lockstream::application::writer=debug")];

/// How many bytes a process has read by calls to the system.
fn read_bytes(server: &Server) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", server.pid().as_raw_nonzero())).unwrap();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_start_reads_the_archive_and_what_came_after_it_and_knows_everything() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &SMALL).await;
    let events = live(&server).await;
    forget(&server, 600).await;
    let hash = server.state_hash("clock").await;
    server.kill();
    let log_bytes = folder.log_bytes().len() as u64;

    let with = Server::start_with(&folder, &SMALL).await;
    let with_bytes = read_bytes(&with);
    assert_eq!(with.state_hash("clock").await, hash);
    for (event, sequence) in events.iter().zip(1..) {
        let again = with.post(event).await;
        assert_eq!((again.status, again.sequence()), (200, sequence), "{again:?}");
    }
    with.kill();
    fs::remove_dir_all(folder.archive()).unwrap();
    let without = Server::start_with(&folder, &SMALL).await;
    let saved = read_bytes(&without).saturating_sub(with_bytes);
    assert!(saved > log_bytes / 2, "{saved} bytes were saved of a log of {log_bytes}");
}

#[tokio::test]
async fn a_verification_reads_all_of_the_log_whatever_the_archive_says() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &SMALL).await;
    live(&server).await;
    forget(&server, 200).await;
    assert!(server.stop().success());
    let verify = || {
        let mut command = lockstream(&folder);
        command.args(["verify", "--json"]);
        run(command)
    };
    let ended = verify();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["head_sequence"], folder.records().len());

    let first = &folder.segments()[0];
    let mut bytes = fs::read(first).unwrap();
    bytes[500] ^= 1;
    fs::write(first, bytes).unwrap();
    let ended = verify();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stdout.contains("lost-history"), "{ended:?}");
}
