//! More than the machine can take: too many events, clients that are slow on purpose, thousands that
//! do nothing or come at once, bodies without end. Each time memory stays within the bound that
//! `docs/reliability.md` states, those who were let in are answered in time, the others are told when
//! to come back, and afterwards all is as before.

mod bodies;
mod burst;
mod idle;
mod load;
mod rate;
mod room;
mod slow;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Mutex, MutexGuard};

use crate::support::server::Server;

/// What a connection may take at most, in bytes: a head that is being read, an answer that waits.
const CONNECTION_BYTES: usize = 96 << 10;
/// What an accepted event takes for ever, in bytes, and how much of the projection's rows it brings.
const EVENT_BYTES: usize = 2 << 10;
/// What is not taken by a number of anything: reading a large event, a batch, the database's caches as far
/// as the small databases of these tests fill them.
const OTHER_BYTES: usize = 48 << 20;

/// What the test run itself needs of descriptors, other tests of it included.
const OTHER_DESCRIPTORS: usize = 500;

/// One of these tests at a time: each measures what the others would disturb.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// How many connections the system lets this process have, up to those wanted.
fn permitted(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
    let count = wanted.min(limit.saturating_sub(OTHER_DESCRIPTORS));
    assert!(count >= 500, "the hard limit of descriptors (ulimit -Hn) leaves {count} connections of {wanted}");
    count
}

/// The memory of a server now and at its worst so far, in bytes.
#[derive(Debug, Clone, Copy)]
struct Memory {
    now: usize,
    peak: usize,
}

fn memory(server: &Server) -> Memory {
    let path = format!("/proc/{}/status", server.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap();
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        value.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    };
    Memory { now: field("VmRSS:"), peak: field("VmHWM:") }
}

/// What a server may take beyond what it took before.
struct Bound {
    before: Memory,
    connections: usize,
    inflight_bytes: usize,
    events: usize,
}

impl Bound {
    fn holds_for(&self, server: &Server) {
        let Self { before, connections, inflight_bytes, events } = self;
        let more = connections * CONNECTION_BYTES + inflight_bytes + events * EVENT_BYTES + OTHER_BYTES;
        let peak = memory(server).peak;
        eprintln!("memory: {} MiB, at most {} MiB", peak >> 20, (before.now + more) >> 20);
        assert!(peak <= before.now + more, "{peak} bytes of memory, and {} before", before.now);
    }
}
