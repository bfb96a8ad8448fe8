//! Random histories against a naive model: the model keeps a list of accepted events and looks
//! everything up in it from the start each time. Slow, simple, and written from the rule table.
//!
//! For each history: every answer is the model's; the state is the model's; and the state hashes
//! are the same live, after a restart, after the database was deleted, and in a fold of the log.

use std::collections::BTreeMap;

use lockstream::domain::world::{Touched, World};
use lockstream::infrastructure::event_log::history::History;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::archive;
use crate::support::Folder;
use crate::support::events::{event, id};
use crate::support::server::Server;

/// How many histories one run tries, and how long they are at most.
const HISTORIES: u32 = 40;
const ARCHIVED_HISTORIES: u32 = 15;
const MAX_EVENTS: usize = 60;

const LOCKERS: [&str; 2] = ["north", "süd/2"];
const DOORS: [&str; 3] = ["A", "B", "%41"];
const RESERVATIONS: [&str; 5] = ["r1", "r2", "r3", "r4", "r5"];

/// One step of a history, in small numbers that shrink well.
#[derive(Debug, Clone)]
struct Step {
    kind: usize,
    locker: usize,
    door: usize,
    reservation: usize,
    severity: i64,
    /// Which earlier event a fault is cleared of, or the whole event repeats.
    earlier: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..24usize, 0..LOCKERS.len(), 0..DOORS.len(), 0..RESERVATIONS.len(), 0..6i64, 0..MAX_EVENTS);
    let step = step.prop_map(|(kind, locker, door, reservation, severity, earlier)| Step {
        kind,
        locker,
        door,
        reservation,
        severity,
        earlier,
    });
    prop::collection::vec(step, 1..MAX_EVENTS)
}

/// Makes the event of a step; `sent` are the events before it.
fn build(step: &Step, sent: &[Value]) -> Value {
    let (locker, door) = (LOCKERS[step.locker], DOORS[step.door]);
    let reservation = RESERVATIONS[step.reservation];
    let earlier = (!sent.is_empty()).then(|| &sent[step.earlier % sent.len()]);
    let fault = earlier.map_or_else(|| id(&event("x", "x", json!({}))).to_owned(), |event| id(event).to_owned());
    match step.kind {
        0..=3 => event("CompartmentRegistered", locker, json!({"compartment_id": door})),
        4..=7 => event("ReservationCreated", locker, json!({"reservation_id": reservation, "compartment_id": door})),
        8..=10 => event("ParcelDeposited", locker, json!({"reservation_id": reservation})),
        11 => event("ParcelDeposited", locker, json!({"reservation_id": reservation, "compartment_id": door})),
        12..=14 => event("ParcelPickedUp", locker, json!({"reservation_id": reservation})),
        15..=16 => event("ReservationExpired", locker, json!({"reservation_id": reservation})),
        17..=18 => event("FaultReported", locker, json!({"compartment_id": door, "severity": step.severity})),
        19..=20 => event("FaultCleared", locker, json!({"compartment_id": door, "fault_event_id": fault})),
        21 => event("FaultReported", locker, json!({"compartment_id": door, "severity": "3"})),
        22 => earlier.cloned().unwrap_or_else(|| event("CompartmentRegistered", locker, json!({}))),
        _ => {
            // A known id with another, broken body.
            let mut repeated = event("ParcelDeposited", locker, json!({}));
            if let Some(earlier) = earlier {
                repeated["event_id"] = earlier["event_id"].clone();
            }
            repeated
        }
    }
}

/// Everything that was accepted, in order.
#[derive(Default)]
struct Model(Vec<Value>);

impl Model {
    /// The status and code that an event has to be answered with; accepted ones are remembered.
    fn post(&mut self, event: &Value) -> (u16, &'static str) {
        if self.0.iter().any(|known| known["event_id"] == event["event_id"]) {
            return (200, "");
        }
        let verdict = self.judge(event);
        if verdict == (202, "") {
            self.0.push(event.clone());
        }
        verdict
    }

    fn judge(&self, event: &Value) -> (u16, &'static str) {
        let payload = &event["payload"];
        let (locker, door, reservation) = (&event["locker_id"], &payload["compartment_id"], &payload["reservation_id"]);
        let refused = |code| (409, code);
        match event["type"].as_str().unwrap() {
            _ if *payload == json!({}) || payload["severity"].is_string() => (422, "invalid-event"),
            "CompartmentRegistered" if self.is_registered(locker, door) => refused("compartment-already-registered"),
            "ReservationCreated" | "FaultReported" | "FaultCleared" if !self.is_registered(locker, door) => {
                refused("compartment-not-registered")
            }
            "ReservationCreated" if self.is_degraded(locker, door) => refused("compartment-degraded"),
            "ReservationCreated" if self.holder(locker, door).is_some() => refused("compartment-occupied"),
            "ReservationCreated" if self.creation(reservation).is_some() => refused("reservation-already-exists"),
            "FaultCleared" => {
                let fault = self
                    .0
                    .iter()
                    .find(|known| known["type"] == "FaultReported" && known["event_id"] == payload["fault_event_id"]);
                match fault {
                    None => refused("fault-not-found"),
                    Some(fault) if fault["locker_id"] != *locker || fault["payload"]["compartment_id"] != *door => {
                        refused("fault-elsewhere")
                    }
                    Some(fault) if self.is_cleared(fault) => refused("fault-already-cleared"),
                    Some(_) => (202, ""),
                }
            }
            "CompartmentRegistered" | "ReservationCreated" | "FaultReported" => (202, ""),
            step => {
                let Some(creation) = self.creation(reservation) else { return refused("reservation-not-found") };
                let elsewhere = creation["locker_id"] != *locker
                    || (!door.is_null() && creation["payload"]["compartment_id"] != *door);
                match (step, self.status(reservation)) {
                    _ if elsewhere => refused("reservation-elsewhere"),
                    ("ParcelDeposited", "CREATED")
                    | ("ParcelPickedUp", "DEPOSITED")
                    | ("ReservationExpired", "CREATED" | "DEPOSITED") => (202, ""),
                    ("ParcelDeposited", _) => refused("reservation-not-awaiting-deposit"),
                    ("ParcelPickedUp", _) => refused("reservation-not-awaiting-pickup"),
                    _ => refused("reservation-already-closed"),
                }
            }
        }
    }

    fn of_type<'m>(&'m self, event_type: &'m str) -> impl DoubleEndedIterator<Item = &'m Value> {
        self.0.iter().filter(move |event| event["type"] == event_type)
    }

    fn is_registered(&self, locker: &Value, door: &Value) -> bool {
        self.of_type("CompartmentRegistered")
            .any(|event| event["locker_id"] == *locker && event["payload"]["compartment_id"] == *door)
    }

    fn creation(&self, reservation: &Value) -> Option<&Value> {
        self.of_type("ReservationCreated").find(|event| event["payload"]["reservation_id"] == *reservation)
    }

    fn status(&self, reservation: &Value) -> &'static str {
        let mut about = self.0.iter().filter(|event| event["payload"]["reservation_id"] == *reservation);
        match about.next_back().unwrap()["type"].as_str().unwrap() {
            "ReservationCreated" => "CREATED",
            "ParcelDeposited" => "DEPOSITED",
            "ParcelPickedUp" => "PICKED_UP",
            _ => "EXPIRED",
        }
    }

    fn holder(&self, locker: &Value, door: &Value) -> Option<&Value> {
        self.of_type("ReservationCreated")
            .filter(|event| event["locker_id"] == *locker && event["payload"]["compartment_id"] == *door)
            .map(|event| &event["payload"]["reservation_id"])
            .find(|reservation| ["CREATED", "DEPOSITED"].contains(&self.status(reservation)))
    }

    fn is_cleared(&self, fault: &Value) -> bool {
        self.of_type("FaultCleared").any(|event| event["payload"]["fault_event_id"] == fault["event_id"])
    }

    fn is_degraded(&self, locker: &Value, door: &Value) -> bool {
        self.of_type("FaultReported")
            .filter(|event| event["locker_id"] == *locker && event["payload"]["compartment_id"] == *door)
            .any(|fault| fault["payload"]["severity"].as_i64().unwrap() >= 3 && !self.is_cleared(fault))
    }

    /// What the queries have to answer: path to status and body, the state hash left out.
    fn answers(&self) -> BTreeMap<String, (u16, Value)> {
        let mut answers = BTreeMap::new();
        for locker in LOCKERS {
            let path = format!("/lockers/{}", encoded(locker));
            let doors: Vec<_> =
                DOORS.into_iter().filter(|door| self.is_registered(&json!(locker), &json!(door))).collect();
            let count = |holds: &dyn Fn(&Value) -> bool| doors.iter().filter(|door| holds(&json!(door))).count();
            let summary = json!({
                "locker_id": locker,
                "compartments": doors.len(),
                "active_reservations": count(&|door| self.holder(&json!(locker), door).is_some()),
                "degraded_compartments": count(&|door| self.is_degraded(&json!(locker), door)),
            });
            for door in DOORS {
                let answer = if doors.contains(&door) {
                    let (locker, door) = (json!(locker), json!(door));
                    let (degraded, holder) = (self.is_degraded(&locker, &door), self.holder(&locker, &door));
                    (200, json!({"compartment_id": door, "degraded": degraded, "active_reservation": holder}))
                } else {
                    (404, Value::Null)
                };
                answers.insert(format!("{path}/compartments/{}", encoded(door)), answer);
            }
            answers.insert(path, if doors.is_empty() { (404, Value::Null) } else { (200, summary) });
        }
        for reservation in RESERVATIONS {
            let answer = match self.creation(&json!(reservation)) {
                Some(_) => (200, json!({"reservation_id": reservation, "status": self.status(&json!(reservation))})),
                None => (404, Value::Null),
            };
            answers.insert(format!("/reservations/{reservation}"), answer);
        }
        answers
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |path, byte| path + &format!("%{byte:02X}"))
}

type Hashes = BTreeMap<String, String>;

/// Asks the server everything, compares it with the model, and returns the state hashes.
async fn check_answers(server: &Server, model: &Model) -> Hashes {
    let mut hashes = Hashes::new();
    for (path, (status, expected)) in model.answers() {
        let answer = server.get(&path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        if status == 200 {
            let mut body = answer.json();
            if let Some(hash) = body.as_object_mut().unwrap().remove("state_hash") {
                hashes.insert(body["locker_id"].as_str().unwrap().to_owned(), hash.as_str().unwrap().to_owned());
            }
            assert_eq!(body, expected, "{path}");
        }
    }
    hashes
}

/// What the time is told by while something is waited for; no history knows it.
const CLOCK: &str = "clock";

/// The state hashes in a fold of the log.
fn folded_hashes(folder: &Folder) -> Hashes {
    let mut world = World::default();
    for item in History::open(&folder.log()).unwrap() {
        world.replay(&item.unwrap().0, &mut Touched::default()).unwrap();
    }
    let lockers = world.all_rows().lockers.into_iter().filter(|row| row.locker_id.as_str() != CLOCK);
    lockers.map(|row| (row.locker_id.to_string(), row.state_hash.to_string())).collect()
}

/// Segments that hold two or three records.
const TINY_SEGMENTS: [(&str, &str); 2] =
    [("LOCKSTREAM_MAX_SEGMENT_BYTES", "1024"), ("RUST_LOG", "info,lockstream::application::writer=debug")];

/// How often a history waits until all that can be is archived.
const ARCHIVE_EVERY: usize = 12;

async fn try_history(steps: &[Step], settings: &[(&str, &str)]) {
    let folder = Folder::new();
    let mut model = Model::default();
    let server = Server::start_with(&folder, settings).await;
    let mut sent = Vec::new();
    for (step, number) in steps.iter().zip(1..) {
        let event = build(step, &sent);
        let expected = model.post(&event);
        let answer = server.post(&event).await;
        assert_eq!((answer.status, answer.code().as_str()), expected, "{event}: {answer:?}");
        sent.push(event);
        if !settings.is_empty() && number % ARCHIVE_EVERY == 0 {
            forget(&server, model.0.len().saturating_sub(ARCHIVE_EVERY) as u64, &mut model).await;
        }
    }
    let live = check_answers(&server, &model).await;
    assert!(server.stop().success());
    let accepted: Vec<_> = model.0.iter().map(|event| id(event).to_owned()).collect();
    assert_eq!(folder.event_ids(), accepted);
    assert_eq!(folded_hashes(&folder), live, "a fold of the log");

    let server = Server::start_with(&folder, settings).await;
    assert_eq!(check_answers(&server, &model).await, live, "after a restart");
    server.kill();
    folder.delete_database();
    let server = Server::start_with(&folder, settings).await;
    assert_eq!(check_answers(&server, &model).await, live, "after the database was deleted");
}

/// Waits until a record is forgotten. What happens meanwhile, the model knows too.
async fn forget(server: &Server, sequence: u64, model: &mut Model) {
    while archive::forgotten(server) < sequence {
        let event = event("CompartmentRegistered", CLOCK, json!({"compartment_id": Uuid::now_v7()}));
        assert_eq!(model.post(&event), (202, ""));
        assert_eq!(server.post(&event).await.status, 202);
    }
}

#[test]
fn random_histories_agree_with_the_naive_model_through_every_restart() {
    try_histories(HISTORIES, &[]);
}

#[test]
fn random_histories_agree_with_the_naive_model_when_nearly_all_is_forgotten() {
    try_histories(ARCHIVED_HISTORIES, &TINY_SEGMENTS);
}

fn try_histories(cases: u32, settings: &[(&str, &str)]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        let tried = std::panic::AssertUnwindSafe(|| runtime.block_on(try_history(&steps, settings)));
        std::panic::catch_unwind(tried).map_err(|panic| {
            let words = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "no message".into());
            TestCaseError::fail(words)
        })
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
