//! The data folder: one process's property, and errors that a person can act on.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::Folder;
use crate::support::events::registered;
use crate::support::server::{BINARY, Ended, Server, lockstream, lockstream_at, run};

/// A refusal to start: code 1 and one line that says why.
pub fn one_error_line(ended: &Ended) -> &str {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("error: "), "{ended:?}");
    lines[0]
}

#[tokio::test]
async fn a_second_process_on_the_folder_is_turned_away_and_harms_nothing() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    let log = folder.log_bytes();
    let ended = run(lockstream(&folder));
    let line = one_error_line(&ended);
    assert!(line.contains("in use by another lockstream process"), "{line}");
    assert!(line.contains(folder.path().to_str().unwrap()) && line.contains("LOCKSTREAM_DATA_DIR"), "{line}");
    assert_eq!(folder.log_bytes(), log);
    server.accept(&[registered("L", "A2")]).await;
    server.kill();
    // The lock is the process's, not a file's: a killed one leaves nothing to clear away.
    Server::start(&folder).await.accept(&[registered("L", "A3")]).await;
}

/// A process that may not write where it should: as root it becomes nobody, else the mode is enough.
pub fn powerless(binaries: &Folder, folder: &Folder) -> Command {
    let binary = binaries.path().join("lockstream");
    if !binary.exists() {
        // By another process: a file that this one has open for writing, if only for a moment, is
        // handed on to whatever another test starts just then, and cannot be run meanwhile.
        assert!(Command::new("cp").arg(BINARY).arg(&binary).status().unwrap().success());
        fs::set_permissions(binaries.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&binary, Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = lockstream_at(&binary, folder);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command
}

#[test]
fn a_folder_without_write_permission_is_named() {
    let (binaries, folder) = (Folder::new(), Folder::new());
    fs::create_dir(folder.log()).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o555)).unwrap();

    let ended = run(powerless(&binaries, &folder));
    let line = one_error_line(&ended);
    assert!(line.contains("cannot be written") && line.contains("Permission denied"), "{line}");
    assert!(line.contains(folder.path().to_str().unwrap()) && line.contains("this user may write"), "{line}");

    // Nor can a folder be made where nothing may be made.
    let missing = folder.path().join("data");
    let mut command = powerless(&binaries, &folder);
    command.env("LOCKSTREAM_DATA_DIR", &missing);
    let ended = run(command);
    let line = one_error_line(&ended);
    assert!(line.contains("cannot be created") && line.contains(missing.to_str().unwrap()), "{line}");
    assert!(!missing.exists());
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap(); // So that it can be removed.
}

#[test]
fn a_segment_without_write_permission_is_named() {
    let (binaries, folder) = (Folder::new(), Folder::new());
    crate::support::logs::write(&folder.log(), &[vec![registered("L", "A1")]]);
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let segment = folder.segments()[0].clone();
    fs::set_permissions(&segment, Permissions::from_mode(0o444)).unwrap();
    let ended = run(powerless(&binaries, &folder));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let line = ended.stderr.lines().last().unwrap();
    assert!(line.contains("cannot be opened for writing") && line.contains(segment.to_str().unwrap()), "{line}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new();
    let mut command = lockstream(&folder);
    command.env("LOCKSTREAM_ADDR", taken.local_addr().unwrap().to_string());
    let ended = run(command);
    let line = one_error_line(&ended);
    assert!(line.contains("LOCKSTREAM_ADDR") && line.contains(&taken.local_addr().unwrap().to_string()), "{line}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was begun");
}

#[tokio::test]
async fn a_folder_that_is_there_may_lie_where_this_user_cannot_read() {
    let (binaries, parent) = (Folder::new(), Folder::new());
    let folder = parent.path().join("data");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(parent.path(), Permissions::from_mode(0o311)).unwrap();

    let mut command = powerless(&binaries, &parent);
    command.env("LOCKSTREAM_DATA_DIR", &folder).current_dir(&folder);
    let started = Server::spawn(command).await;

    fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).unwrap(); // So that it can be removed.
    let server = started.unwrap_or_else(|lines| panic!("it did not start: {lines:?}"));
    server.accept(&[registered("L", "A1")]).await;
}

#[test]
fn a_folder_is_made_with_all_that_leads_to_it() {
    let folder = Folder::new();
    let mut command = lockstream(&folder);
    command.env("LOCKSTREAM_DATA_DIR", "one/two/../two/three").arg("rebuild");
    assert_eq!(run(command).code, Some(0));
    assert!(folder.path().join("one/two/three/log").is_dir());
}

#[tokio::test]
async fn a_mark_that_cannot_be_used_says_what_to_do_and_verify_goes_on() {
    for text in ["", r#"{"v":2,"seq":1}"#] {
        let folder = Folder::new();
        let server = Server::start(&folder).await;
        server.accept(&[registered("L", "A1")]).await;
        assert!(server.stop().success());
        let mark = folder.path().join("clean-stop.json");
        fs::write(&mark, text).unwrap();

        let ended = run(lockstream(&folder));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for part in [mark.to_str().unwrap(), "run `lockstream verify`", "move this file away"] {
            assert!(ended.stderr.contains(part), "{part:?} is missing in {ended:?}");
        }

        let mut verify = lockstream(&folder);
        verify.args(["verify", "--json"]);
        let ended = run(verify);
        let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((ended.code, &report["head_sequence"]), (Some(3), &1.into()), "{report}");
        let findings = report["findings"].as_array().unwrap();
        assert!(findings.len() == 1 && findings[0]["code"] == "unreadable-mark", "{report}");

        // It hides nothing: what the projection proves is found all the same.
        fs::write(&folder.segments()[0], "").unwrap();
        let mut verify = lockstream(&folder);
        verify.arg("verify");
        assert!(run(verify).stdout.contains("FOUND lost-history"));
    }
}

#[tokio::test]
async fn a_mark_of_another_log_is_not_blamed_on_the_projection() {
    let (folder, other) = (Folder::new(), Folder::new());
    for place in [&folder, &other] {
        let server = Server::start(place).await;
        server.accept(&[registered("L", "A1")]).await;
        assert!(server.stop().success());
    }
    let mark = folder.path().join("clean-stop.json");
    fs::copy(other.path().join("clean-stop.json"), &mark).unwrap();

    let ended = run(lockstream(&folder));

    assert_eq!(ended.code, Some(1), "{ended:?}");
    let line = ended.stderr.lines().last().unwrap();
    assert!(line.contains("the mark of the last clean stop names another history"), "{line}");
    assert!(line.contains("move clean-stop.json out of") && !line.contains("lockstream rebuild"), "{line}");
    fs::remove_file(&mark).unwrap();
    Server::start(&folder).await;
}
