//! The state hash, held against `docs/state-hash.md` and against a second implementation in
//! another language that knows nothing but that page.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use lockstream::domain::hash::hex;
use lockstream::domain::record::Head;
use lockstream::domain::world::{Touched, World};
use lockstream::infrastructure::event_log::line;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::Folder;
use crate::support::documents::{blocks, read, root, section};
use crate::support::events::{cleared, deposited, event, expired, fault, picked_up, registered, reserved};
use crate::support::server::Server;

/// Runs the second implementation.
fn python(arguments: &[&str], log: &Path) -> String {
    let script = root().join("tests/state_hash.py");
    let output = Command::new("python3").env("PYTHONUTF8", "1").arg(script).args(arguments).arg(log).output();
    let output = output.expect("python3 is there; tests/run.sh installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The hash of each locker, as the second implementation reads it from a log.
fn python_hashes(log: &Path) -> BTreeMap<String, String> {
    serde_json::from_str(&python(&[], log)).unwrap()
}

async fn hash_of(server: &Server, locker: &str) -> String {
    let encoded: Vec<_> = locker.bytes().map(|byte| format!("%{byte:02X}")).collect();
    server.state_hash(&encoded.concat()).await
}

#[test]
fn the_documented_bytes_have_the_documented_hashes() {
    let page = read("docs/state-hash.md");
    let bytes = blocks(section(&page, "### One compartment, byte by byte"), "text").concat();
    let value = |name: &str| {
        let line = bytes.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.split_whitespace().last().unwrap()
    };
    for (input, hash) in [("leaf input", "leaf  "), ("root input", "state_hash")] {
        let digits = value(input);
        let input: Vec<u8> =
            (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..][..2], 16).unwrap()).collect();
        assert_eq!(hex(&Sha256::digest(input).into()), value(hash).as_bytes());
    }
    assert!(value("root input").ends_with(value("leaf  ")), "the root ends with the one leaf");
    let first = blocks(section(&page, "### A whole log"), "text").concat();
    assert!(first.starts_with(&format!("1 {} campus-north\n", value("state_hash"))), "the log begins with that event");
}

#[tokio::test]
async fn the_documented_log_has_the_documented_hashes_after_each_record() {
    let page = read("docs/state-hash.md");
    let vectors = section(&page, "### A whole log");
    let [log, shown] = ["jsonl", "text"].map(|language| blocks(vectors, language).concat());

    let folder = Folder::new();
    std::fs::create_dir(folder.log()).unwrap();
    std::fs::write(folder.log().join("00000000000000000001.jsonl"), &log).unwrap();
    assert_eq!(python(&["--each"], &folder.log()), shown);

    let (mut world, mut head, mut folded) = (World::default(), Head::default(), Vec::new());
    for line in log.lines() {
        let (record, next) = line::decode(line.as_bytes(), head).unwrap();
        let mut touched = Touched::default();
        world.replay(&record, &mut touched).unwrap();
        let summary = &world.rows(&touched).lockers[0];
        folded.push(format!("{} {} {}\n", record.sequence, summary.state_hash, summary.locker_id));
        head = next;
    }
    assert_eq!(folded.concat(), shown);

    let server = Server::start(&folder).await;
    for (locker, hash) in python_hashes(&folder.log()) {
        assert_eq!(hash_of(&server, &locker).await, hash, "{locker}");
    }
}

#[tokio::test]
async fn another_language_reads_the_same_hashes_from_the_log_alone() {
    let folder = Folder::new();
    // Many small segments, so that their order matters too.
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_SEGMENT_BYTES", "1024")]).await;
    let lockers = ["campus-north", "Küche 7/β", "🗄️%2F\u{2028}", "Z\"\\"];
    for locker in lockers {
        server.accept(&busy_history(locker)).await;
    }
    // What changes nothing must not change a hash either.
    assert_eq!(server.post(&registered(lockers[0], "é")).await.status, 409);

    let hashes = python_hashes(&folder.log());

    assert!(folder.segments().len() > 3, "the log has several segments");
    assert_eq!(hashes.len(), lockers.len());
    for locker in lockers {
        assert_eq!(hash_of(&server, locker).await, hashes[locker], "{locker}");
    }
    let distinct: std::collections::HashSet<_> = hashes.values().collect();
    assert_eq!(distinct.len(), lockers.len(), "like histories of different lockers differ");
}

#[tokio::test]
async fn another_language_reads_the_same_hash_of_a_locker_with_very_many_doors_and_faults() {
    const MANY: usize = 300;
    let in_no_order = |events: Vec<Value>| (0..MANY).map(move |number| events[number * 7 % MANY].clone());
    let doors = in_no_order((0..MANY).map(|door| registered("L", &door.to_string())).collect());
    let faults: Vec<_> = (0..MANY).map(|_| fault("L", "7", 4)).collect();
    let repairs: Vec<_> = faults.iter().step_by(3).map(|reported| cleared("L", "7", reported)).collect();
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&doors.chain(in_no_order(faults)).chain(repairs).collect::<Vec<_>>()).await;
    server.accept(&[reserved("L", "8", "R1"), reserved("L", "299", "R2")]).await;
    assert_eq!(hash_of(&server, "L").await, python_hashes(&folder.log())["L"]);
}

/// Everything that can happen to a locker, with compartments in no order and ids beyond ASCII.
fn busy_history(locker: &str) -> Vec<Value> {
    let doors = ["é", "a", "Z", "🚪", "\u{ffff}", "10", "9"];
    let mut events: Vec<_> = doors.iter().map(|door| registered(locker, door)).collect();
    let parcel = |number: usize| format!("{locker}#{number}");
    for (number, door) in doors.iter().enumerate().take(5) {
        events.push(reserved(locker, door, &parcel(number)));
    }
    for number in [1, 2, 3] {
        events.push(deposited(locker, &parcel(number)));
    }
    events.push(picked_up(locker, &parcel(2)));
    events.push(expired(locker, &parcel(1)));
    let null_door = json!({"reservation_id": parcel(0), "compartment_id": null});
    events.push(event("ReservationExpired", locker, null_door));
    let faults: Vec<_> = [3, 2, -1, i64::MAX, i64::MIN, 0, 4].map(|severity| fault(locker, "Z", severity)).into();
    events.extend(faults.iter().cloned());
    events.push(fault(locker, "9", 3));
    events.extend([3, 0, 4].map(|which: usize| cleared(locker, "Z", &faults[which])));
    events
}
