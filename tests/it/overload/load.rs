//! Clients that post events, each over a connection of its own: as fast as they are answered, or at
//! a rate that does not ask whether they are.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval_at};

use crate::support::server::Server;
use crate::support::wire::Wire;

/// What clients are to do.
#[derive(Clone, Copy)]
pub struct Load {
    /// Tells the events of one load from those of others.
    pub number: u32,
    pub clients: u32,
    pub lasts: Duration,
    /// Events a second by all of them together; `None` is as fast as they are answered.
    pub rate: Option<f64>,
}

/// What became of their events.
#[derive(Default)]
pub struct Outcome {
    pub accepted: Vec<String>,
    /// Turned away with 503 and the time to come back: nothing was recorded.
    pub refused: Vec<String>,
    /// Given up by the service after the answer timeout: recorded or not.
    pub unknown: Vec<String>,
    /// How long the answers to accepted events took, sorted.
    pub latencies: Vec<Duration>,
    pub elapsed: Duration,
}

impl Outcome {
    /// Accepted events a second.
    pub fn rate(&self) -> f64 {
        count(self.accepted.len()) / self.elapsed.as_secs_f64()
    }

    pub fn sent(&self) -> usize {
        self.accepted.len() + self.refused.len() + self.unknown.len()
    }

    /// The time within which so many of a hundred accepted events were answered.
    pub fn percentile(&self, hundredths: usize) -> Duration {
        self.latencies[(self.latencies.len() - 1) * hundredths / 100]
    }

    /// Nobody was turned away because of others, and most were answered sooner than somebody could be
    /// who has to wait for those.
    pub fn is_answered_within(&self, time: Duration) {
        let (refused, unknown) = (self.refused.len(), self.unknown.len());
        assert_eq!((refused, unknown), (0, 0), "nobody is turned away for them");
        assert!(self.percentile(50) < time, "{:?}", self.percentile(50));
    }

    pub fn tell(&self, what: &str) {
        eprintln!(
            "{what}: {:.0} events/s sent, {:.0}/s accepted, {} refused, {} unknown; p50 {:?}, p99 {:?}",
            count(self.sent()) / self.elapsed.as_secs_f64(),
            self.rate(),
            self.refused.len(),
            self.unknown.len(),
            self.percentile(50),
            self.percentile(99),
        );
    }

    /// What came of a load that followed.
    pub fn go_on(&mut self, next: Self) {
        self.elapsed += next.elapsed;
        self.add(next);
        self.latencies.sort();
    }

    fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.refused.extend(other.refused);
        self.unknown.extend(other.unknown);
        self.latencies.extend(other.latencies);
    }
}

pub fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

impl Load {
    /// Every answer has to be one of those that an overloaded service may give.
    pub async fn run(self, server: &Server) -> Outcome {
        let begin = Instant::now();
        let mut all = Outcome::default();
        for outcome in join_all((0..self.clients).map(|client| self.client(client, server))).await {
            all.add(outcome);
        }
        all.elapsed = begin.elapsed();
        all.latencies.sort();
        assert!(!all.accepted.is_empty(), "nothing was accepted");
        all
    }

    async fn client(self, client: u32, server: &Server) -> Outcome {
        let mut wire = Wire::connect(server).await;
        let mut outcome = Outcome::default();
        let begin = Instant::now();
        // Each begins a little later than the one before; what was missed is made up for.
        let pause = self.rate.map(|rate| Duration::from_secs_f64(f64::from(self.clients) / rate));
        let mut pauses = pause.map(|pause| {
            let mut pauses = interval_at((begin + pause * client / self.clients).into(), pause);
            pauses.set_missed_tick_behavior(MissedTickBehavior::Burst);
            pauses
        });
        for event in 0.. {
            if let Some(pauses) = &mut pauses {
                pauses.tick().await;
            }
            if begin.elapsed() >= self.lasts {
                break;
            }
            let id = format!("{:08x}-0000-4000-8000-{client:04x}{event:08x}", self.number);
            let sent = Instant::now();
            wire.send(self.request(&id, client, event)).await;
            let reply = wire.reply().await.expect("every event is answered");
            match reply.status {
                202 => {
                    outcome.latencies.push(sent.elapsed());
                    outcome.accepted.push(id);
                }
                503 => {
                    assert!(reply.head.contains("retry-after: 1\r\n"), "{reply:?}");
                    match reply.code().as_str() {
                        "overloaded" | "projection-behind" => outcome.refused.push(id),
                        "outcome-unknown" => outcome.unknown.push(id),
                        _ => panic!("no answer for an overload: {reply:?}"),
                    }
                }
                _ => panic!("no answer for an overload: {reply:?}"),
            }
        }
        outcome
    }

    /// A new compartment of a locker that has few.
    fn request(self, id: &str, client: u32, event: u32) -> String {
        let locker = format!("L{}-{client}-{}", self.number, event / 64);
        let body = format!(
            r#"{{"event_id":"{id}","occurred_at":"2026-11-21T08:00:00Z","locker_id":"{locker}","type":"CompartmentRegistered","payload":{{"compartment_id":"{event}"}}}}"#
        );
        let head = "POST /events HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: ";
        format!("{head}{}\r\n\r\n{body}", body.len())
    }
}
