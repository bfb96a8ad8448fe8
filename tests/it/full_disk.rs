//! A disk that runs full, for real: new events are turned away before the log could be torn, all
//! else goes on, and when there is room again so does the log, without a restart.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use futures_util::future::join_all;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::Value;

use crate::folder::one_error_line;
use crate::support::events::{event, registered, reserved};
use crate::support::server::{Answer, BINARY, Server, lockstream, lockstream_at, lockstream_limited, run};
use crate::support::{Folder, eventually, logs};

const DISK_BYTES: u64 = 24 << 20;
const MIN_FREE_BYTES: u64 = 4 << 20;

/// A small disk of its own under a server, in memory: only the server and its children see it.
struct SmallDisk {
    folder: Folder,
    server: Server,
}

impl SmallDisk {
    /// Where the test sees what the server has mounted.
    fn path(&self) -> PathBuf {
        let pid = self.server.pid().as_raw_nonzero();
        PathBuf::from(format!("/proc/{pid}/root{}", self.folder.path().display()))
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    fn free_bytes(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Somebody else takes the room, up to what is left over.
    fn fill_up_to(&self, left_bytes: u64) {
        let ballast = File::options().append(true).create(true).open(self.ballast()).unwrap();
        let length = ballast.metadata().unwrap().len();
        let take = self.free_bytes().saturating_sub(left_bytes);
        if take == 0 {
            return; // The server took it since `left_bytes` was told, and nothing is no length for a file.
        }
        match fallocate(&ballast, FallocateFlags::empty(), length, take) {
            // The server was faster; there is less to take then.
            Ok(()) | Err(Errno::NOSPC) => {}
            Err(error) => panic!("the ballast cannot grow: {error}"),
        }
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn log(&self) -> PathBuf {
        self.path().join("log")
    }
}

/// Runs a shell with the right to mount; as an ordinary user, in a name space of its own.
pub fn with_mounts(folder: &Folder, script: &str) -> Command {
    let mut command = lockstream_at("/usr/bin/unshare".as_ref(), folder);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "sh", "-ec", script, BINARY, folder.path().to_str().unwrap()]);
    command
}

/// `None` where this user may not mount anything, and the limit of a file's length has to do.
async fn on_small_disk(settings: &[(&str, &str)]) -> Option<SmallDisk> {
    let folder = Folder::on_sqlite();
    if run(with_mounts(&folder, "mount -t tmpfs tmpfs \"$1\"")).code != Some(0) {
        eprintln!("no disk can be mounted here; the limit of a file's length stands for it");
        return None;
    }
    let script = format!("mount -t tmpfs -o size={DISK_BYTES} tmpfs \"$1\"; cd \"$1\"; exec \"$0\"");
    let mut command = with_mounts(&folder, &script);
    command.envs(settings.iter().copied());
    Some(SmallDisk { server: Server::spawn(command).await.unwrap(), folder })
}

fn is_turned_away(answer: &Answer) {
    assert_eq!((answer.status, answer.code().as_str()), (507, "insufficient-storage"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
}

/// What a server without room answers: all but new facts.
async fn answers_all_but_new_facts(server: &Server, known: &Value) {
    let locker = known["locker_id"].as_str().unwrap();
    let compartment = known["payload"]["compartment_id"].as_str().unwrap();
    is_turned_away(&server.post(&registered("new", "A1")).await);
    assert_eq!(server.post(known).await.status, 200, "a duplicate");
    assert_eq!(server.post(&registered(locker, compartment)).await.status, 409, "what a rule refuses");
    assert_eq!(server.post(&event("CompartmentRegistered", locker, Value::Null)).await.status, 422);
    assert_eq!(server.get(&format!("/lockers/{locker}")).await.status, 200);
    assert_eq!(server.get("/lockers/new").await.status, 404, "what was turned away has left no trace");
    assert_eq!(server.get("/livez").await.status, 200);
    eventually("it is not ready", || async { server.get("/readyz").await.status == 503 }).await;
}

#[tokio::test]
async fn a_disk_that_runs_full_turns_new_events_away_and_room_brings_them_back() {
    let min_free = MIN_FREE_BYTES.to_string();
    let Some(disk) = on_small_disk(&[("LOCKSTREAM_MIN_FREE_BYTES", &min_free)]).await else {
        return a_limit_of_the_files_turns_new_events_away().await;
    };
    let first = registered("L", "A1");
    disk.server.accept([&first]).await;
    // Nearly full, and then to the last byte: somebody else does not care what we keep free.
    for left_bytes in [MIN_FREE_BYTES - 4096, 0] {
        disk.fill_up_to(left_bytes);
        answers_all_but_new_facts(&disk.server, &first).await;
        let checks = disk.server.get("/readyz").await.json()["checks"].clone();
        assert!(checks["log"].as_str().unwrap().contains("LOCKSTREAM_MIN_FREE_BYTES"), "{checks}");
        assert_eq!(checks["projection"], "ok");
    }
    let told = disk.server.lines_saying("new events are turned away until the log takes them");
    assert_eq!(told.len(), 1, "once, and not for each event: {told:?}");

    disk.free();

    disk.server.accept(&[registered("new", "A1"), reserved("L", "A1", "R1")]).await;
    assert_eq!(disk.server.get("/reservations/R1").await.status, 200);
    eventually("it is ready", || async { disk.server.get("/readyz").await.status == 200 }).await;
    disk.server.says("the log takes new events again", 1).await;
    let (records, damage) = logs::read(&disk.log());
    assert!((records, &damage.is_none()) == (3, &true), "{records} records, {damage:?}");
    assert!(disk.server.stop().success());
}

#[tokio::test]
async fn what_is_kept_free_is_not_reserved_for_the_log() {
    let min_free = MIN_FREE_BYTES.to_string();
    let Some(disk) = on_small_disk(&[("LOCKSTREAM_MIN_FREE_BYTES", &min_free)]).await else {
        return a_limit_of_the_files_turns_new_events_away().await;
    };
    disk.fill_up_to(MIN_FREE_BYTES + 400_000);
    disk.server.accept(&[registered("L", "A1"), registered("L", "A2")]).await;
    assert_eq!(disk.server.get("/lockers/L").await.json()["compartments"], 2);
    assert!(disk.free_bytes() >= MIN_FREE_BYTES, "{} bytes are left", disk.free_bytes());
}

#[tokio::test]
async fn a_disk_with_room_for_small_events_only_is_told_of_once_and_not_with_each() {
    let min_free = MIN_FREE_BYTES.to_string();
    let Some(disk) = on_small_disk(&[("LOCKSTREAM_MIN_FREE_BYTES", &min_free)]).await else {
        return a_limit_of_the_files_turns_new_events_away().await;
    };
    disk.server.accept([&registered("L", "A")]).await;
    let photo = "x".repeat(50_000);
    for number in 0..10 {
        // The database has written all that it will.
        assert_eq!(disk.server.get("/lockers/L").await.status, 200);
        disk.fill_up_to(MIN_FREE_BYTES + 24_000);
        let mut large = registered("M", &number.to_string());
        large["photo"] = photo.clone().into();
        is_turned_away(&disk.server.post(&large).await);
        disk.server.accept([&registered("L", &number.to_string())]).await;
        disk.free();
    }
    for message in ["new events are turned away until the log takes them", "the log takes new events again"] {
        let told = disk.server.lines_saying(message);
        // Once in ten seconds, and this takes less than two of these.
        assert!(matches!(told.len(), 1 | 2), "{told:?}");
    }
}

#[tokio::test]
async fn a_disk_that_somebody_fills_at_the_very_moment_never_tears_the_log() {
    // Nothing is kept free: what was promised to the log is all that stands between it and the end.
    let settings = [("LOCKSTREAM_MIN_FREE_BYTES", "0"), ("LOCKSTREAM_MAX_SEGMENT_BYTES", "300000")];
    let Some(disk) = on_small_disk(&settings).await else {
        return a_limit_of_the_files_turns_new_events_away().await;
    };
    let photo = "x".repeat(20_000);
    let mut accepted = 0;
    for round in 0..8 {
        let clients = (0..8).map(async |client| {
            let mut accepted = 0;
            loop {
                let mut event = registered("L", &format!("{round}-{client}-{accepted}"));
                event["photo"] = photo.clone().into();
                let answer = disk.server.post(&event).await;
                if answer.status != 202 {
                    is_turned_away(&answer);
                    return accepted;
                }
                accepted += 1;
            }
        });
        let filling = async {
            // Less and less is left, and none of it between two looks of the log.
            while disk.free_bytes() > 0 {
                disk.fill_up_to((disk.free_bytes() / 2) & !4095);
                tokio::task::yield_now().await;
            }
        };
        let (of_each, ()) = tokio::join!(join_all(clients), filling);
        accepted += of_each.iter().sum::<u64>();
        disk.free();
        disk.server.accept(&[registered("M", &round.to_string())]).await;
        accepted += 1;
        let (records, damage) = logs::read(&disk.log());
        assert!(damage.is_none() && records == accepted, "{accepted} accepted, {records} records, {damage:?}");
    }
    eventually("the projection is there", || async { disk.server.get("/lockers/M").await.status == 200 }).await;
    assert_eq!(disk.server.get("/lockers/M").await.json()["compartments"], 8);
    assert!(disk.server.stop().success());
}

/// The same with what every user may do: the system refuses to make any file longer.
async fn a_limit_of_the_files_turns_new_events_away() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let first = registered("L", "A1");
    server.accept([&first]).await;
    assert_eq!(server.get("/lockers/L").await.status, 200); // Waits for the projection.
    let limit = |bytes| prlimit(Some(server.pid()), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    limit(Some(folder.log_bytes().len() as u64 + 100));

    answers_all_but_new_facts(&server, &first).await;
    let checks = server.get("/readyz").await.json()["checks"].clone();
    assert!(checks["log"].as_str().unwrap().contains("ulimit -f"), "{checks}");

    limit(None);
    server.accept(&[registered("new", "A1")]).await;
    eventually("it is ready", || async { server.get("/readyz").await.status == 200 }).await;
    assert!(server.stop().success());
    assert_eq!(folder.records().len(), 2);
}

#[tokio::test]
async fn a_limit_of_a_file_s_length_counts_like_a_full_disk() {
    a_limit_of_the_files_turns_new_events_away().await;
}

#[tokio::test]
async fn a_start_on_a_full_disk_harms_nothing_and_room_lets_it_go_on() {
    let folder = Folder::on_sqlite();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1"), reserved("L", "A1", "R1")]).await;
    server.kill();
    let log = folder.log_bytes();
    // No file may get a single byte more.
    let refused = run(lockstream_limited(&folder, "-f 0"));
    one_error_line(&refused);
    assert_eq!(folder.log_bytes(), log);

    let server = Server::start(&folder).await;
    assert_eq!(server.get("/reservations/R1").await.status, 200);
    server.accept(&[registered("L", "A2")]).await;
    assert!(server.stop().success());
    let mut verify = lockstream(&folder);
    verify.arg("verify");
    assert_eq!(run(verify).code, Some(0));
}
