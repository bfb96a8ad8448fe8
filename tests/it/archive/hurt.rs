//! Random histories through many starts, each after something has happened to the data folder: its
//! archive damaged, gone or of long ago, its database or its mark of long ago, a segment of another
//! time. Every answer is the one of a world that holds everything.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lockstream::domain::event::parse::ReceivedEvent;
use lockstream::domain::ids::Sequence;
use lockstream::domain::record::{Record, RecordedAt};
use lockstream::domain::world::{Touched, World};
use lockstream::random::Random;
use serde_json::{Value, json};

use crate::archive::TINY;
use crate::support::events::{cleared, deposited, expired, fault, id, picked_up, registered, reserved};
use crate::support::server::{Answer, Server, lockstream, run};
use crate::support::{Folder, eventually, logs};

const SEEDS: [u64; 2] = [16, 17];
const STARTS: usize = 12;
const MAX_EVENTS_A_START: u64 = 100;
const DOORS: [(&str, &str); 8] =
    [("L", "A"), ("L", "B"), ("L", "C"), ("M", "A"), ("M", "ä/🦀"), ("M", "C"), ("N", "A"), ("N", "B")];

/// What the service should say, from a fold that never forgets.
#[derive(Default)]
struct Oracle {
    world: World,
    accepted: Vec<Value>,
}

impl Oracle {
    fn check(&mut self, event: &Value, answer: &Answer) {
        let ReceivedEvent { event_id, json, digest, content } =
            ReceivedEvent::parse(event.to_string().as_bytes()).expect("it is an event");
        let body = answer.json();
        let said = [&body["sequence"], &body["conflicting_sequence"], &body["content_matches"]];
        if let Some(original) = self.world.original(event_id) {
            let differs = if original.digest == digest { Value::Null } else { json!(false) };
            let due = [json!(original.sequence), Value::Null, differs];
            assert!(answer.status == 200 && said == [&due[0], &due[1], &due[2]], "{event}: {answer:?}");
            assert_eq!(body["recorded_at"], original.recorded_at.to_string());
            return;
        }
        let Ok(event_read) = content else { return assert_eq!(answer.status, 422, "{event}: {answer:?}") };
        match self.world.decide(&event_read) {
            Err(violation) => {
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (409, violation.rule.code()),
                    "{event}: {answer:?}"
                );
                assert_eq!(body["detail"], violation.detail);
                assert_eq!(*said[1], json!(violation.conflicting_sequence), "{event}: {answer:?}");
            }
            Ok(change) => {
                self.accepted.push(event.clone());
                assert_eq!((answer.status, said[0]), (202, &json!(self.accepted.len())), "{event}: {answer:?}");
                let recorded_at = RecordedAt::parse(body["recorded_at"].as_str().unwrap()).unwrap();
                let sequence = Sequence::new(self.accepted.len() as u64);
                let record = Record { sequence, batch: sequence, recorded_at, event: event_read, json, digest };
                self.world.apply(change, &record, &mut Touched::default());
            }
        }
    }

    /// An event about something that happened before, or about nothing yet.
    fn next_event(&self, random: &mut Random) -> Value {
        let (locker, door) = *random.pick(&DOORS);
        if self.accepted.len() < DOORS.len() {
            return registered(DOORS[self.accepted.len()].0, DOORS[self.accepted.len()].1);
        }
        if random.percent(50) {
            let new = reserved(locker, door, &format!("r{}", random.number()));
            let latest = self.accepted.iter().rfind(|event| event["type"] == "ReservationCreated").unwrap_or(&new);
            return match random.below(3) {
                0 => fault(locker, door, 1),
                1 => expired(
                    latest["locker_id"].as_str().unwrap(),
                    latest["payload"]["reservation_id"].as_str().unwrap(),
                ),
                _ => new,
            };
        }
        let recent = random.percent(50);
        let first = if recent { self.accepted.len().saturating_sub(8) } else { 0 };
        let earlier = &self.accepted[first + random.index(self.accepted.len() - first)];
        let [locker, door, reservation] = ["locker_id", "compartment_id", "reservation_id"]
            .map(|name| earlier[name].as_str().or(earlier["payload"][name].as_str()).unwrap_or("none"));
        match random.below(10) {
            0 => earlier.clone(),
            1 => {
                let mut changed = registered(locker, "other");
                changed["event_id"] = json!(id(earlier));
                changed
            }
            2 => reserved(DOORS[0].0, DOORS[0].1, reservation),
            3 | 4 => deposited(locker, reservation),
            5 => picked_up(locker, reservation),
            6 | 7 => expired(locker, reservation),
            8 => fault(locker, door, if random.percent(5) { 3 } else { 1 }),
            _ => cleared(locker, door, earlier),
        }
    }
}

/// What was in a data folder at some time.
fn keep(folder: &Folder) -> Vec<(PathBuf, Vec<u8>)> {
    let folders = [folder.path().to_owned(), folder.archive()];
    let is_kept = |path: &Path| !path.to_string_lossy().ends_with(".lock");
    let files = folders.iter().filter(|folder| folder.exists()).flat_map(|folder| logs::files(folder));
    files.filter(|(path, _)| is_kept(path)).collect()
}

/// Does something to a folder whose server has ended, that must not change any answer.
fn hurt(folder: &Folder, random: &mut Random, kept: &[Vec<(PathBuf, Vec<u8>)>]) {
    let put_back = |random: &mut Random, choice: &dyn Fn(&Path) -> bool| {
        for (path, bytes) in random.pick(kept).iter().filter(|(path, _)| choice(path)) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    };
    let archived = || if folder.archive().exists() { logs::files(&folder.archive()) } else { BTreeMap::new() };
    match random.below(9) {
        0 => drop(fs::remove_dir_all(folder.archive())),
        1 => folder.delete_database(),
        2 => {
            let _ = fs::remove_dir_all(folder.archive());
            put_back(random, &|path| path.starts_with(folder.archive()));
        }
        3 => put_back(random, &|path| path.ends_with("manifest.json")),
        4 => put_back(random, &|path| path.ends_with("clean-stop.json")),
        5 if !archived().is_empty() => {
            let files: Vec<_> = archived().into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
            let (path, mut bytes) = random.pick(&files).clone();
            let at = random.index(bytes.len());
            bytes[at] ^= 1 << random.below(8);
            fs::write(path, bytes).unwrap();
        }
        6 if !archived().is_empty() => {
            let files: Vec<_> = archived().into_keys().collect();
            fs::remove_file(random.pick(&files)).unwrap();
        }
        7 => {
            let segments = folder.segments();
            let path = random.pick(&segments);
            fs::write(path, fs::read(path).unwrap()).unwrap();
        }
        _ => drop(fs::remove_file(folder.path().join("clean-stop.json"))),
    }
}

#[tokio::test]
async fn whatever_happens_to_an_archive_every_answer_is_the_one_that_memory_gives() {
    for seed in SEEDS {
        let (folder, mut random, mut oracle) = (Folder::new(), Random::new(seed), Oracle::default());
        let mut kept = Vec::new();
        for _ in 0..STARTS {
            let server = Server::start_with(&folder, &TINY).await;
            for _ in 0..random.below(MAX_EVENTS_A_START) {
                let event = oracle.next_event(&mut random);
                let answer = RefCell::new(server.post(&event).await);
                // A damaged block: nothing was decided, and it is mended.
                let is_unreadable = || answer.borrow().code() == "past-unreadable";
                eventually("the archive is mended", async || {
                    if is_unreadable() {
                        let again = server.post(&event).await;
                        answer.replace(again);
                    }
                    !is_unreadable()
                })
                .await;
                oracle.check(&event, &answer.into_inner());
            }
            if random.percent(50) {
                server.kill();
            } else {
                assert!(server.stop().success());
            }
            kept.push(keep(&folder));
            for _ in 0..random.below(3) {
                hurt(&folder, &mut random, &kept);
            }
        }
        let archived =
            kept.iter().filter(|files| files.iter().any(|(path, _)| path.ends_with("manifest.json"))).count();
        assert!(oracle.accepted.len() > 100 && archived > 2, "{} {archived}", oracle.accepted.len());
        let server = Server::start_with(&folder, &TINY).await;
        for event in &oracle.accepted.clone() {
            oracle.check(event, &server.post(event).await);
        }
        assert!(server.stop().success());
        let mut verify = lockstream(&folder);
        verify.arg("verify");
        let ended = run(verify);
        assert_eq!(ended.code, Some(0), "seed {seed}: {ended:?}");
    }
}
