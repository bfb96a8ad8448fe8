//! SIGKILL under load, again and again on one folder: what was acknowledged is there exactly once,
//! under the sequence that was promised.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::Value;

use crate::support::events::{id, registered, reserved};
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, eventually};

const CLIENTS: usize = 6;

/// A device that reports one event after the other and repeats what got no answer.
#[derive(Default)]
struct Device {
    locker: String,
    doors: usize,
    /// The event that got no answer yet.
    pending: Option<Value>,
    /// Every promise: the event id and its sequence.
    promised: BTreeMap<String, u64>,
}

impl Device {
    fn next_event(&mut self) -> Value {
        let booked = self.promised.len() % 2 == 1;
        let door = self.doors.to_string();
        if booked {
            self.doors += 1;
            return reserved(&self.locker, &door, &format!("{}-{door}", self.locker));
        }
        registered(&self.locker, &door)
    }

    /// Reports until the server is gone.
    async fn report(&mut self, server: &Server, answered: &AtomicUsize) {
        loop {
            let event = self.pending.take().unwrap_or_else(|| self.next_event());
            let Ok(answer) = server.try_post("application/json", event.to_string()).await else {
                self.pending = Some(event);
                return;
            };
            assert!([200, 202].contains(&answer.status), "{event}: {answer:?}");
            self.promised.insert(id(&event).to_owned(), answer.sequence());
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Everything that the API says about the devices' lockers.
async fn answers(server: &Server, devices: &[Device]) -> Vec<String> {
    let mut answers = Vec::new();
    for Device { locker, doors, .. } in devices {
        answers.push(server.get(&format!("/lockers/{locker}")).await.body);
        for door in 0..*doors {
            answers.push(server.get(&format!("/lockers/{locker}/compartments/{door}")).await.body);
            answers.push(server.get(&format!("/reservations/{locker}-{door}")).await.body);
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_under_load_lose_nothing_and_repeat_nothing() {
    let folder = Folder::new();
    let mut devices: Vec<_> = (0..CLIENTS).map(|n| Device { locker: format!("L{n}"), ..Device::default() }).collect();
    for round in 0..10_usize {
        let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_SEGMENT_BYTES", "8192")]).await;
        let answered = AtomicUsize::new(0);
        let enough = 20 + 7 * round;
        let kill = async {
            eventually("enough was answered", || async { answered.load(Ordering::Relaxed) >= enough }).await;
            server.signal(rustix::process::Signal::KILL);
        };
        tokio::join!(kill, join_all(devices.iter_mut().map(|device| device.report(&server, &answered))));
        server.kill();

        let mut places: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        // The last line may be torn; whatever was promised is not.
        let text = String::from_utf8(folder.log_bytes()).unwrap();
        for (line, due) in text.lines().zip(1..) {
            let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
            assert_eq!(record["seq"], due, "round {round}: the sequence has no gap");
            places.entry(id(&record["event"]).to_owned()).or_default().push(due);
        }
        for (event_id, sequence) in devices.iter().flat_map(|device| &device.promised) {
            assert_eq!(places.get(event_id), Some(&vec![*sequence]), "round {round}: {event_id}");
        }
        assert!(places.values().all(|places| places.len() == 1), "round {round}: nothing stands there twice");
    }

    let server = Server::start(&folder).await;
    for device in &mut devices {
        let event = device.pending.take().expect("each device was cut off");
        assert!([200, 202].contains(&server.post(&event).await.status), "a repetition is always safe");
    }
    let before = answers(&server, &devices).await;
    assert!(server.stop().success());
    let mut verify = lockstream(&folder);
    verify.args(["verify", "--json"]);
    let ended = run(verify);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    folder.delete_database();
    let server = Server::start(&folder).await;
    assert_eq!(answers(&server, &devices).await, before, "the log alone gives the same answers and hashes");
}
