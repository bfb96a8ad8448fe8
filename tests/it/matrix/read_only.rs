//! A disk that takes nothing more, for real: by permissions under a running server and at its start,
//! and, where this user may mount one, a file system that turns read-only as after an error of its
//! disk. What was acknowledged is never lost, reads go on, and it says what is wrong.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::folder::powerless;
use crate::support::events::registered;
use crate::support::server::{BINARY, Server, lockstream_at, run};
use crate::support::{Folder, eventually};

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A folder whose owner may be another user, and a server of that user.
async fn powerless_server(binaries: &Folder, folder: &Folder) -> Server {
    allow(folder.path(), 0o777);
    let mut command = powerless(binaries, folder);
    // Three records or so.
    command.env("LOCKSTREAM_MAX_SEGMENT_BYTES", "1024");
    Server::spawn(command).await.unwrap_or_else(|lines| panic!("it did not start: {lines:?}"))
}

/// What `verify --json` comes to.
fn verified(command: Command) -> (Option<i32>, Value) {
    let ended = run(command);
    (ended.code, serde_json::from_str(&ended.stdout).unwrap_or_else(|_| ended.stderr.into()))
}

/// What readiness says about the log.
async fn log_check(server: &Server) -> String {
    let ready = server.get("/readyz").await.json();
    let checks = if ready["checks"].is_object() { &ready["checks"] } else { &ready };
    checks["log"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_log_folder_made_read_only_turns_events_away_and_takes_them_again_without_a_restart() {
    let (binaries, folder) = (Folder::new(), Folder::new());
    let server = powerless_server(&binaries, &folder).await;
    let first = registered("L", "A0");
    server.accept([&first]).await;

    allow(&folder.log(), 0o555);
    eventually("it is not ready", || async { server.get("/readyz").await.status == 503 }).await;
    let told = log_check(&server).await;
    assert!(told.contains("takes no files: Permission denied") && told.contains("log"), "{told}");
    // The open segment takes what it has room for, and then no new one can be begun.
    let mut accepted = 1;
    let refused = loop {
        let event = registered("L", &format!("A{accepted}"));
        let answer = server.post(&event).await;
        if answer.status != 202 {
            assert_eq!((answer.status, answer.code().as_str()), (503, "log-unwritable"), "{answer:?}");
            assert_eq!(answer.header("retry-after"), "1");
            break event;
        }
        accepted += 1;
        assert!(accepted < 10, "a segment has no room for so many");
    };
    assert_eq!(server.post(&first).await.status, 200, "a duplicate");
    assert_eq!(server.post(&registered("L", "A0")).await.status, 409, "what a rule refuses");
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], accepted);

    allow(&folder.log(), 0o755);
    server.accept([&refused]).await;
    eventually("it is ready", || async { server.get("/readyz").await.status == 200 }).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], accepted + 1);
    assert!(server.stop().success());
    let mut verify = powerless(&binaries, &folder);
    verify.args(["verify", "--json"]);
    let (code, report) = verified(verify);
    assert_eq!((code, &report["head_sequence"]), (Some(0), &(accepted + 1).into()), "{report}");
}

#[tokio::test]
async fn a_data_folder_made_read_only_costs_the_mark_of_the_stop_and_nothing_else() {
    let (binaries, folder) = (Folder::new(), Folder::new());
    let mut server = powerless_server(&binaries, &folder).await;
    server.accept(&[registered("L", "A0")]).await;

    allow(folder.path(), 0o555);
    for number in 1..10 {
        server.accept(&[registered("L", &format!("A{number}"))]).await;
    }
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 10);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(1));
    let lines = server.lines();
    let error = lines.last().unwrap();
    assert!(error.contains("the mark of a clean stop cannot be written: Permission denied"), "{error}");
    assert!(error.contains("clean-stop") && error.contains("this user may write in it"), "{error}");

    allow(folder.path(), 0o777);
    let server = powerless_server(&binaries, &folder).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 10);
    assert!(server.stop().success());
}

#[tokio::test]
async fn a_segment_that_this_user_may_not_write_or_read_stops_the_next_start_and_no_running_server() {
    let (binaries, folder) = (Folder::new(), Folder::new());
    let server = powerless_server(&binaries, &folder).await;
    server.accept(&[registered("L", "A0")]).await;
    let segment = folder.segments()[0].clone();
    allow(&segment, 0o444);
    server.accept(&[registered("L", "A1")]).await;
    server.kill();
    let log = folder.log_bytes();

    let (path, log_folder) = (segment.display().to_string(), folder.log().display().to_string());
    for (denied, mode, parts) in [
        (&segment, 0o444, ["the log cannot be opened for writing: Permission denied", path.as_str()]),
        (&segment, 0o000, ["cannot be read: Permission denied", path.as_str()]),
        (&folder.log(), 0o000, ["cannot be read: Permission denied", log_folder.as_str()]),
    ] {
        allow(denied, mode);
        let ended = run(powerless(&binaries, &folder));
        allow(denied, 0o755);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let error = ended.stderr.lines().last().unwrap();
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?} are not in {error}");
        assert_eq!(folder.log_bytes(), log, "nothing was changed");
    }

    let server = powerless_server(&binaries, &folder).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2);
    server.accept(&[registered("L", "A2")]).await;
}

/// A small file system of its own in a file, mounted where only a server and its children see it.
struct Disk {
    image: Folder,
    folder: Folder,
}

impl Disk {
    /// `None` where this user may mount no such thing; permissions have to do there.
    fn new() -> Option<Self> {
        let disk = Self { image: Folder::on_sqlite(), folder: Folder::on_sqlite() };
        let made = "truncate -s 32M \"$0\" && PATH=\"$PATH:/sbin:/usr/sbin\" mkfs.ext4 -q \"$0\"";
        let made = run({
            let mut command = Command::new("sh");
            command.args(["-c", made]).arg(disk.image());
            command
        });
        if made.code == Some(0) && run(disk.mounted("true")).code == Some(0) {
            return Some(disk);
        }
        eprintln!("no file system can be mounted here; that it turns read-only is tried by permissions alone");
        None
    }

    fn image(&self) -> std::path::PathBuf {
        self.image.path().join("image")
    }

    /// Runs a script (`$0` the binary, `$1` the data folder) where the file system is mounted.
    fn mounted(&self, script: &str) -> Command {
        let mut command = lockstream_at("/usr/bin/unshare".as_ref(), &self.folder);
        let script = format!("mount -o loop \"$2\" \"$1\"; cd \"$1\"; {script}");
        command.env("LOCKSTREAM_MIN_FREE_BYTES", "1000000");
        command.args(["--mount", "sh", "-ec", &script, BINARY]).arg(self.folder.path()).arg(self.image());
        command
    }
}

/// What an error of its disk does to a file system, under a server that has files open there.
fn turn_read_only(server: &Server, folder: &Folder) {
    let pid = server.pid().as_raw_nonzero().to_string();
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid, "-m", "mount", "-o", "remount,abort"]).arg(folder.path());
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn a_file_system_that_turns_read_only_loses_nothing_and_lets_it_go_on_when_it_is_mended() {
    let Some(disk) = Disk::new() else { return };
    let mut server = Server::spawn(disk.mounted("exec \"$0\"")).await.unwrap();
    let known = registered("L", "A0");
    server.accept([&known, &registered("L", "A1")]).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2);

    turn_read_only(&server, &disk.folder);

    eventually("it is not ready", || async { server.get("/readyz").await.status == 503 }).await;
    let told = log_check(&server).await;
    assert!(told.contains("takes no files: Read-only file system"), "{told}");
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2, "reads go on");
    assert_eq!(server.post(&known).await.status, 200, "a duplicate needs no disk");
    assert_eq!(server.post(&registered("L", "A0")).await.status, 409, "nor does a refusal");
    let unlucky = registered("L", "A2");
    let answer = server.post(&unlucky).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "log-failed"), "{answer:?}");
    assert_eq!(server.wait().code(), Some(1));
    let lines = server.lines();
    let error = lines.last().unwrap();
    assert!(error.contains("the log could not be written after sequence 2: Read-only file system"), "{error}");
    assert!(error.contains("Look after the disk, then start again"), "{error}");
    drop(server);

    // As long as it is read-only, nothing starts, and what is there can be looked at.
    let read_only = |command: &str| disk.mounted(&format!("mount -o remount,ro \"$1\"; exec \"$0\" {command}"));
    let ended = run(read_only(""));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("cannot be written: Read-only file system"), "{ended:?}");
    let (code, report) = verified(read_only("verify --json"));
    assert_eq!((code, &report["head_sequence"]), (Some(0), &2.into()), "{report}");

    let server = Server::spawn(disk.mounted("exec \"$0\"")).await.unwrap();
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2);
    assert_eq!(server.post(&known).await.sequence(), 1);
    let answer = server.post(&unlucky).await;
    assert_eq!((answer.status, answer.sequence()), (202, 3), "what was answered 503 may be sent again");
    assert!(server.stop().success());
}
