//! Sends events to one server at a given rate, whatever it answers (open loop), and gives the latency
//! of each answer, from when its event was due.

mod http;
mod umadb;

use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::load::{Answers, GRACE, Parcel};
use crate::server::{Kind, Server};

/// About how often what is due is handed out, and over HTTP how often one looks for answers: a latency
/// may be too large by that for the one and for the other.
const PACE: Duration = Duration::from_micros(250);

/// Sends at a rate, spread evenly over the connections, and gives the latency of each answer.
///
/// Never with more threads than it takes: they would take turns with the server on two processors, and
/// their waiting would be counted as the server's.
pub fn open_loop(server: &Server, lanes: Vec<Vec<Parcel>>, rate: f64) -> Result<(Answers, Vec<Duration>), Failure> {
    let alone = || {
        if server.kind == Kind::UmaDb {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(umadb::open_loop(server, lanes, rate));
        }
        http::open_loop(server.kind.name(), server.addr, lanes, rate)
    };
    tokio::task::block_in_place(|| thread::scope(|scope| scope.spawn(alone).join()))
        .map_err(|_| "the load generator ended early")?
}

/// The times at which events are due.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    begin: Instant,
    /// Events a second.
    rate: f64,
    events: usize,
}

impl Schedule {
    /// How many were due until now; the first one is at once.
    fn due(&self) -> usize {
        ((self.begin.elapsed().as_secs_f64() * self.rate) as usize + 1).min(self.events)
    }

    fn time_of(&self, event: usize) -> Instant {
        self.begin + Duration::from_secs_f64(event as f64 / self.rate)
    }

    /// When it should be over at the latest.
    fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.events as f64 / self.rate) + GRACE
    }
}

fn late(who: &str) -> Failure {
    format!("{who} did not answer in time").into()
}
