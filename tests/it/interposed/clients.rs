//! Clients that report events until something goes wrong, and remember what they were told.
//!
//! After every fault the service is started again without faults, and then: each 202 is in the log
//! exactly once, at its sequence; what got no answer, or a refusal to take it just now, is there at
//! most once, and repeating it settles it; nothing else is there; the log verifies.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::Value;

use crate::support::events::{id, registered};
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, eventually};

/// The clients of a folder's servers, one after the other.
pub struct Clients {
    clients: Vec<Client>,
}

/// What a round of reporting ended with.
pub struct Told {
    /// The status and code of each client's last answer; none where the connection ended instead.
    pub last: Vec<Option<(u16, String)>>,
}

impl Told {
    pub fn heard(&self, status: u16, code: &str) -> usize {
        self.last.iter().flatten().filter(|(told, said)| *told == status && said == code).count()
    }
}

#[derive(Default)]
struct Client {
    locker: String,
    doors: usize,
    /// Every 202 and 200: the event and its sequence.
    promised: Vec<(Value, u64)>,
    /// What was sent and not acknowledged.
    open: Vec<Value>,
}

/// What the clients of one round share.
#[derive(Default)]
struct Round {
    /// From now on the fault is in force, and nothing new can be acknowledged.
    forbidden: AtomicBool,
    acknowledged: AtomicUsize,
    /// The round ends here at the latest.
    most: usize,
}

/// How many more are acknowledged at most after a fault that leaves a way to.
const MOST_AFTERWARDS: usize = 300;

impl Client {
    /// Reports one door after the other until one is not acknowledged.
    async fn report(&mut self, server: &Server, round: &Round) -> Option<(u16, String)> {
        while round.acknowledged.load(Ordering::SeqCst) < round.most {
            let event = registered(&self.locker, &self.doors.to_string());
            self.doors += 1;
            let forbidden = round.forbidden.load(Ordering::SeqCst);
            let answered = server.try_post("application/json", event.to_string()).await;
            let Ok(answer) = answered else {
                self.open.push(event);
                return None;
            };
            if answer.status != 202 {
                self.open.push(event);
                assert!(matches!(answer.status, 503 | 507), "{answer:?}");
                self.repeat_known(server).await;
                return Some((answer.status, answer.code()));
            }
            assert!(!forbidden, "sent after the fault, and yet acknowledged: {answer:?}");
            self.promised.push((event, answer.sequence()));
            round.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        None
    }

    /// Once the log has failed, not even what is known is answered from the world in memory.
    async fn repeat_known(&self, server: &Server) {
        let Some((event, sequence)) = self.promised.last() else { return };
        if let Ok(answer) = server.try_post("application/json", event.to_string()).await {
            assert!(answer.status >= 500 || (answer.status, answer.sequence()) == (200, *sequence), "{answer:?}");
        }
    }
}

impl Clients {
    pub fn new(count: usize) -> Self {
        let client = |n| Client { locker: format!("L{n}"), ..Client::default() };
        Self { clients: (0..count).map(client).collect() }
    }

    /// Has all of them report; once `enough` events of this round are acknowledged, the fault is
    /// brought about, in force when `fault` returns. `is_final` says that it leaves no way to
    /// acknowledge anything.
    pub async fn report(&mut self, server: &Server, enough: usize, is_final: bool, fault: impl FnOnce()) -> Told {
        let round = Round { most: enough + MOST_AFTERWARDS, ..Round::default() };
        let strike = async {
            eventually("enough was acknowledged", || async { round.acknowledged.load(Ordering::SeqCst) >= enough })
                .await;
            // The clients go on meanwhile.
            tokio::task::block_in_place(fault);
            round.forbidden.store(is_final, Ordering::SeqCst);
        };
        let reporting = join_all(self.clients.iter_mut().map(|client| client.report(server, &round)));
        let ((), last) = tokio::join!(strike, reporting);
        Told { last }
    }

    /// Starts the service again without faults and holds it to all that was promised.
    pub async fn settle(&mut self, folder: &Folder) {
        let server = Server::start(folder).await;
        for client in &mut self.clients {
            for event in std::mem::take(&mut client.open) {
                let answer = server.post(&event).await;
                assert!(matches!(answer.status, 200 | 202), "a repetition is always safe: {answer:?}");
                client.promised.push((event, answer.sequence()));
            }
            let doors = server.get(&format!("/lockers/{}", client.locker)).await.json()["compartments"].clone();
            assert_eq!(doors, client.doors, "every door is there once");
        }
        assert!(server.stop().success());

        let ids = folder.event_ids();
        let places: BTreeMap<_, _> = ids.iter().map(String::as_str).zip(1_u64..).collect();
        let promised: Vec<_> = self.clients.iter().flat_map(|client| &client.promised).collect();
        for (event, sequence) in &promised {
            assert_eq!(places.get(id(event)), Some(sequence), "{event}");
        }
        assert_eq!((ids.len(), places.len()), (promised.len(), promised.len()), "each once, and nothing else");
        let mut verify = lockstream(folder);
        verify.args(["verify", "--json"]);
        let ended = run(verify);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}
