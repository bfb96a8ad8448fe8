//! The projection made anew beside the running server: nobody notices, nothing is lost, and what
//! differs is not painted over.

mod beside;
mod differing;
mod interrupted;
mod orders;
mod readers;

use std::cell::Cell;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::future::join_all;
use serde_json::Value;

use crate::support::events::{deposited, fault, registered, reserved};
use crate::support::server::{Ended, Server, lockstream, run};
use crate::support::{Folder, PATIENCE, eventually, logs};

fn rebuild(folder: &Folder, flags: &[&str]) -> Ended {
    let mut command = lockstream(folder);
    command.arg("rebuild").args(flags);
    run(command)
}

/// Beside the tasks of a test, so that those go on meanwhile.
async fn rebuild_meanwhile(folder: &Folder) -> Ended {
    let mut command = lockstream(folder);
    command.args(["rebuild", "--json"]);
    tokio::task::spawn_blocking(move || run(command)).await.unwrap()
}

/// What was left beside the projection by rebuilds.
async fn leftovers(folder: &Folder) -> Vec<String> {
    if folder.is_on_postgres() {
        let schemas =
            "SELECT coalesce(string_agg(nspname, ' '), '') FROM pg_namespace WHERE nspname LIKE 'lockstream\\_%'";
        let names: String = folder.postgres().value(schemas).await;
        return names.split_whitespace().map(str::to_owned).collect();
    }
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".db.new")).collect()
}

/// Which tables hold the projection: when the file was made, or the number of the schema; zero for
/// the moment in which there is no file. A file's number would not do: the next but one gets it again.
async fn identity(folder: &Folder) -> u64 {
    if folder.is_on_postgres() {
        let oid = "SELECT oid::bigint FROM pg_namespace WHERE nspname = 'lockstream'";
        return folder.postgres().value::<i64>(oid).await.unsigned_abs();
    }
    let made_at = |file: fs::Metadata| file.created().unwrap().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    fs::metadata(folder.database()).map_or(0, |file| u64::try_from(made_at(file)).unwrap())
}

/// Gives a folder a log of ten lockers that takes a while to read.
fn write_long_log(folder: &Folder, records: usize) {
    let events: Vec<_> = (0..records).map(|n| registered(&format!("L{}", n % 10), &n.to_string())).collect();
    logs::write(&folder.log(), &events.chunks(1_000).map(<[_]>::to_vec).collect::<Vec<_>>());
}

/// Sends the order itself, as `curl --unix-socket` does.
async fn order(folder: &Folder, target: &str) -> reqwest::Response {
    let client = reqwest::Client::builder().unix_socket(folder.path().join("admin.sock")).timeout(PATIENCE);
    client.build().unwrap().post(format!("http://localhost{target}")).send().await.unwrap()
}

/// The lines of the answer, to its end.
async fn lines(answer: reqwest::Response) -> Vec<Value> {
    answer.text().await.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A part of a time that nobody chose.
fn some_part_of(time: Duration) -> Duration {
    let [byte, ..] = RandomState::new().hash_one(()).to_le_bytes();
    time * u32::from(byte) / 255
}

fn verified(folder: &Folder) {
    let mut verify = lockstream(folder);
    verify.arg("verify");
    let ended = run(verify);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_under_load_fails_no_request_and_takes_nobody_back_in_time() {
    const REBUILDS: usize = 4;
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_SEGMENT_BYTES", "4000")]).await;
    server.accept(&[registered("L0", "0"), registered("L1", "0"), registered("L2", "0")]).await;
    let done = Cell::new(false);
    let reads = [const { Cell::new(0_usize) }; 3];
    let writes = [const { Cell::new(0_usize) }; 3];

    // Each writer reads its own writes: the count that it sees is exactly what it wrote.
    let writer = async |number: usize| {
        let locker = format!("L{number}");
        let mut doors = 1;
        while !done.get() {
            let answer = server.post(&registered(&locker, &doors.to_string())).await;
            assert_eq!(answer.status, 202, "{answer:?}");
            doors += 1;
            let seen = server.get(&format!("/lockers/{locker}")).await;
            assert_eq!((seen.status, seen.json()["compartments"].as_u64()), (200, Some(doors)), "{seen:?}");
            writes[number].set(writes[number].get() + 1);
        }
        doors
    };
    let reader = async |number: usize| {
        let mut last = 0;
        while !done.get() {
            let seen = server.get(&format!("/lockers/L{number}")).await;
            assert_eq!(seen.status, 200, "{seen:?}");
            let doors = seen.json()["compartments"].as_u64().unwrap();
            assert!(doors >= last, "L{number} went from {last} doors back to {doors}");
            last = doors;
            reads[number].set(reads[number].get() + 1);
        }
    };
    let rebuilding = async {
        for _ in 0..REBUILDS {
            let ended = rebuild_meanwhile(&folder).await;
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let report: Value = serde_json::from_str(&ended.stdout).unwrap();
            assert_eq!(report["compared_lockers"], 3, "{report}");
            // Between two of them everybody gets on.
            let before: Vec<_> = writes.iter().chain(&reads).map(Cell::get).collect();
            let after = || writes.iter().chain(&reads).map(Cell::get);
            eventually("all got on", async || before.iter().zip(after()).all(|(before, after)| *before < after)).await;
        }
        done.set(true);
    };
    let (doors, _, ()) = tokio::join!(join_all((0..3).map(&writer)), join_all((0..3).map(&reader)), rebuilding);

    server.says("the projection is rebuilt", REBUILDS).await;
    assert!(server.lines_saying("the projection is held up").is_empty());
    assert!(folder.segments().len() > 1, "the log went on to further segments");
    assert_eq!(leftovers(&folder).await, [""; 0]);
    // What was written after the last switch is in the new projection, whatever ends the process.
    server.accept(&[registered("L0", "last")]).await;
    let hash = server.state_hash("L0").await;
    server.kill();
    verified(&folder);
    let server = Server::start(&folder).await;
    assert_eq!(server.state_hash("L0").await, hash);
    assert_eq!(server.get("/lockers/L0").await.json()["compartments"], doors[0] + 1);
}

#[tokio::test]
async fn a_rebuild_beside_the_server_replaces_nothing_that_differs_and_names_it() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let doors: Vec<_> = (0..25).map(|number| registered(&format!("L{number:02}"), "A1")).collect();
    server.accept(&doors).await;
    let hash = server.state_hash("L07").await;
    folder.execute("UPDATE lockers SET state_hash = substr(state_hash, 33) || substr(state_hash, 1, 32) WHERE locker_id IN ('L07', 'L11')").await;

    let refused = rebuild(&folder, &[]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("for 2 lockers: \"L07\", \"L11\". Nothing was replaced"), "{refused:?}");
    assert_ne!(server.state_hash("L07").await, hash, "it is as it was");
    assert_eq!(leftovers(&folder).await, [""; 0]);

    folder.execute("UPDATE lockers SET state_hash = substr(state_hash, 33) || substr(state_hash, 1, 32) WHERE locker_id NOT IN ('L07', 'L11')").await;
    let refused = rebuild(&folder, &[]);
    assert!(
        refused.stderr.contains("for 25 lockers: \"L00\", ") && refused.stderr.contains("\"L19\" and 5 more"),
        "{refused:?}"
    );

    let forced = rebuild(&folder, &["--force"]);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert!(forced.stdout.contains("25 lockers, 25 differ"), "{forced:?}");
    assert_eq!(server.state_hash("L07").await, hash);
    server.accept(&[registered("L07", "A2")]).await;
    assert_eq!(server.get("/lockers/L07").await.json()["compartments"], 2);
    assert!(server.stop().success());
    verified(&folder);
}

#[tokio::test]
async fn a_rebuild_without_a_server_leaves_the_same_state() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1"), reserved("L", "A1", "R"), deposited("L", "R"), fault("L", "A1", 4)]).await;
    let hash = server.state_hash("L").await;
    assert!(server.stop().success());
    let rebuilt = rebuild(&folder, &[]);
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert!(rebuilt.stdout.contains("compared with the old one: 1 lockers, 0 differ"), "{rebuilt:?}");
    assert_eq!(leftovers(&folder).await, [""; 0]);
    verified(&folder);
    assert_eq!(Server::start(&folder).await.state_hash("L").await, hash);
}

#[tokio::test]
async fn a_server_killed_in_a_rebuild_starts_again_and_the_next_rebuild_cleans_up() {
    let folder = Folder::new();
    for round in 0..4 {
        let server = Server::start(&folder).await;
        let doors: Vec<_> = (0..40).map(|door| registered(&format!("L{round}"), &door.to_string())).collect();
        server.accept(&doors).await;
        let hash = server.state_hash("L0").await;
        // At a moment that nobody chose: the command is under way, however far it came.
        let mut command = lockstream(&folder);
        let mut ordering = command
            .arg("rebuild")
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..round {
            server.get("/lockers/L0").await;
        }
        server.kill();
        ordering.wait().unwrap();
        let server = Server::start(&folder).await;
        assert_eq!(server.state_hash("L0").await, hash);
        assert_eq!(rebuild(&folder, &[]).code, Some(0));
        assert_eq!(leftovers(&folder).await, [""; 0]);
        assert!(server.stop().success());
        verified(&folder);
    }
}

#[tokio::test]
async fn orders_are_taken_from_the_folder_s_owner_alone() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let socket = folder.path().join("admin.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // Not over the port that everybody reaches.
    assert_eq!(server.get("/rebuild").await.status, 404);

    fs::remove_file(&socket).unwrap();
    let refused = rebuild(&folder, &[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("takes no orders"), "{refused:?}");
}
