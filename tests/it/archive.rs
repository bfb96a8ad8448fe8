//! The past on disk: what the writer has forgotten is answered as if it had forgotten nothing, and
//! the files that this takes can be damaged, lost or strange without a wrong answer.

mod crash;
mod damage;
mod doubt;
mod hurt;
mod long;
mod memory;
mod projection;
mod start;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::support::events::{cleared, deposited, expired, fault, id, picked_up, registered, reserved};
use crate::support::server::{Answer, Server};
use crate::support::{Folder, eventually};

/// Segments of three records or so, and a line for each stretch that is archived.
const TINY: [(&str, &str); 2] =
    [("LOCKSTREAM_MAX_SEGMENT_BYTES", "1024"), ("RUST_LOG", "info,lockstream::application::writer=debug")];

impl Folder {
    pub fn archive(&self) -> PathBuf {
        self.path().join("archive")
    }

    /// Puts something in the way of an archive, so that no server makes one.
    pub fn keep_without_archive(&self) {
        std::fs::write(self.archive(), "in the way").unwrap();
    }
}

/// The last record that the writer of this process has forgotten.
pub fn forgotten(server: &Server) -> u64 {
    let last = server.lines_saying("the past is forgotten").pop();
    last.map_or(0, |line| line["up_to"].as_str().unwrap().parse().unwrap())
}

/// Events that go on for ever and leave the present as it is.
pub async fn pass_time(server: &Server) {
    let report = fault("clock", "tick", 1);
    for event in [&report, &cleared("clock", "tick", &report)] {
        assert_eq!(server.post(event).await.status, 202);
    }
}

/// Waits until the writer has forgotten a record; history goes on meanwhile.
pub async fn forget(server: &Server, sequence: u64) {
    eventually("the past is archived", async || {
        pass_time(server).await;
        forgotten(server) >= sequence
    })
    .await;
}

/// A history in which everything comes to an end that can, this fault of a compartment B too.
fn everything_that_ends(broken: &Value) -> Vec<Value> {
    vec![
        registered("clock", "tick"),
        registered("L", "A"),
        registered("L", "B"),
        registered("M", "A"),
        reserved("L", "A", "picked up"),
        deposited("L", "picked up"),
        picked_up("L", "picked up"),
        reserved("L", "A", "expired"),
        expired("L", "expired"),
        reserved("M", "A", "deposited"),
        deposited("M", "deposited"),
        broken.clone(),
        cleared("L", "B", broken),
    ]
}

/// Lets a server take in such a history and one open fault; what it was.
pub async fn live(server: &Server) -> Vec<Value> {
    let mut events = everything_that_ends(&fault("L", "B", 4));
    events.push(fault("L", "A", 3));
    server.accept(&events).await;
    events
}

/// A server that forgets and one that never does, on the same history.
struct Twins {
    forgetful: Server,
    other: Server,
    recorded_at: BTreeMap<String, String>,
}

impl Twins {
    /// Sends an event to both, whose answers have to be the same, word for word.
    async fn post(&mut self, event: &Value) -> Answer {
        let answer = self.forgetful.post(event).await;
        let comparable = |answer: &Answer| {
            let mut body = answer.json();
            let members = body.as_object_mut().unwrap();
            let recorded_at = members.remove("recorded_at");
            members.remove("instance");
            (answer.status, body, recorded_at)
        };
        let (status, body, recorded_at) = comparable(&answer);
        let (other_status, other_body, _) = comparable(&self.other.post(event).await);
        assert_eq!((status, body), (other_status, other_body), "{event}");
        if let Some(Value::String(recorded_at)) = recorded_at {
            let first = self.recorded_at.entry(id(event).to_owned()).or_insert_with(|| recorded_at.clone());
            assert_eq!(*first, recorded_at, "a duplicate tells when the original was recorded");
        }
        answer
    }

    async fn forget(&mut self, sequence: u64) {
        while forgotten(&self.forgetful) < sequence {
            let report = fault("clock", "tick", 1);
            self.post(&report).await;
            self.post(&cleared("clock", "tick", &report)).await;
        }
    }
}

#[tokio::test]
async fn of_what_is_forgotten_every_answer_is_the_one_that_memory_gives() {
    let (folder, other) = (Folder::new(), Folder::new());
    let (forgetful, plain) = (Server::start_with(&folder, &TINY).await, Server::start(&other).await);
    let mut twins = Twins { forgetful, other: plain, recorded_at: BTreeMap::new() };
    let broken = fault("L", "B", 4);
    let history = everything_that_ends(&broken);
    for event in &history {
        assert_eq!(twins.post(event).await.status, 202, "{event}");
    }
    twins.forget(history.len() as u64).await;

    for (event, sequence) in history.iter().zip(1..) {
        let again = twins.post(event).await;
        assert_eq!((again.status, again.sequence()), (200, sequence));
        let mut changed = event.clone();
        changed["payload"] = json!({"nonsense": 1});
        assert_eq!(twins.post(&changed).await.json()["content_matches"], false);
    }
    let refused = [
        (reserved("L", "A", "picked up"), "reservation-already-exists", 5),
        (reserved("L", "B", "expired"), "reservation-already-exists", 8),
        (deposited("L", "picked up"), "reservation-not-awaiting-deposit", 7),
        (picked_up("L", "expired"), "reservation-not-awaiting-pickup", 9),
        (expired("L", "expired"), "reservation-already-closed", 9),
        (expired("M", "picked up"), "reservation-elsewhere", 5),
        (reserved("M", "A", "new"), "compartment-occupied", 10),
        (cleared("L", "B", &broken), "fault-already-cleared", 13),
        (cleared("L", "A", &broken), "fault-elsewhere", 12),
    ];
    for (event, code, sequence) in refused {
        let answer = twins.post(&event).await;
        assert_eq!((answer.code().as_str(), answer.json()["conflicting_sequence"].as_u64()), (code, Some(sequence)));
    }
    // The id of an event that was no fault, one that never was, and a reservation that never was.
    for event in [cleared("L", "A", &history[0]), cleared("L", "A", &registered("", "")), expired("L", "never")] {
        assert!(twins.post(&event).await.code().ends_with("-not-found"));
    }
    assert_eq!(twins.post(&picked_up("M", "deposited")).await.status, 202, "what is open goes on");
    for path in ["/lockers/L", "/lockers/M", "/reservations/expired", "/reservations/deposited"] {
        assert_eq!(twins.forgetful.get(path).await.body, twins.other.get(path).await.body, "{path}");
    }
}

/// The key under which an archive has something: documented, so anybody can choose an event id that is
/// one.
fn key(kind: &str, id: &[u8]) -> Uuid {
    let digest = Sha256::new_with_prefix(kind).chain_update([0]).chain_update(id).finalize();
    Uuid::from_slice(&digest[..16]).unwrap()
}

#[tokio::test]
async fn an_event_whose_id_is_the_key_of_something_else_is_told_apart_from_it() {
    let (folder, other) = (Folder::new(), Folder::new());
    let (forgetful, plain) = (Server::start_with(&folder, &TINY).await, Server::start(&other).await);
    let mut twins = Twins { forgetful, other: plain, recorded_at: BTreeMap::new() };
    let broken = fault("L", "A", 1);
    let fault_id: Uuid = id(&broken).parse().unwrap();
    let named = |event: Value, key: Uuid| {
        let mut event = event;
        event["event_id"] = key.to_string().into();
        event
    };
    let history = [
        registered("clock", "tick"),
        registered("L", "A"),
        reserved("L", "A", "closed"),
        expired("L", "closed"),
        broken.clone(),
        cleared("L", "A", &broken),
        named(registered("L", "B"), key("reservation", b"closed")),
        named(registered("L", "C"), key("fault", fault_id.as_bytes())),
        // Of what is never there.
        named(registered("L", "D"), key("reservation", b"never")),
    ];
    for event in &history {
        assert_eq!(twins.post(event).await.status, 202, "{event}");
    }
    twins.forget(history.len() as u64).await;
    for (event, sequence) in history.iter().zip(1..) {
        assert_eq!(twins.post(event).await.sequence(), sequence);
    }
    for (event, code) in [
        (reserved("L", "A", "closed"), "reservation-already-exists"),
        (expired("L", "never"), "reservation-not-found"),
        (cleared("L", "A", &broken), "fault-already-cleared"),
        (cleared("L", "B", &history[6]), "fault-not-found"),
    ] {
        assert_eq!(twins.post(&event).await.code(), code);
    }
    assert_eq!(twins.post(&reserved("L", "A", "never")).await.status, 202);
}
