//! `lockstream simulate`: a network of lockers that behaves, sent to a server or written to a file.
//!
//! The demo, the load and the partner to rehearse with in one. [`network`] makes the events, from a
//! seed and whatever the answers are; each [`sender`] has a connection and some of the lockers;
//! [`verdict`] holds every answer against what the rules say. Like `torture` it is a client: it knows
//! the domain's names for the rules and nothing of how the server works.

pub mod alarm;
pub mod clock;
pub mod connection;
pub mod event;
pub mod file;
pub mod histogram;
pub mod locker;
pub mod network;
pub mod report;
pub mod sender;
pub mod target;
pub mod verdict;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::sync::Barrier;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::infrastructure::process::{cancel_on_signal, raise_descriptor_limit};
use crate::simulate::clock::Clock;
use crate::simulate::histogram::Histogram;
use crate::simulate::network::Network;
use crate::simulate::report::{Report, Tally, milliseconds, per_second};
use crate::simulate::sender::{Sender, Shared};
use crate::simulate::target::Target;

/// How often somebody who watches is told.
const SHOWN_EVERY: Duration = Duration::from_millis(250);
/// How long what is under way may take in the end.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// The network, where its events go, and how fast.
#[derive(Debug, Clone, Args)]
pub struct SimulateSettings {
    /// The server, http://HOST:PORT, with the path under which a proxy has it; by default the one at
    /// `LOCKSTREAM_ADDR`.
    #[arg(long, value_name = "URL")]
    pub to: Option<Target>,

    /// Write the events to a file instead, one a line, in the order to send them; `-` is standard
    /// output. Needs --events.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["to", "seconds", "rate", "connections", "batch", "give_up_after"])]
    pub file: Option<PathBuf>,

    /// End after so many events. Neither this nor --seconds: go on until Ctrl-C.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub events: Option<u64>,

    /// End after so many seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub seconds: Option<u64>,

    /// So many events a second, whatever the server does; latencies then count from the moment at
    /// which an event was due. By default each connection sends as soon as it has its answer.
    #[arg(long, value_name = "EVENTS_PER_S", value_parser = rate)]
    pub rate: Option<f64>,

    /// How many connections; each has lockers of its own, so the order of a locker holds.
    #[arg(long, default_value = "16", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub connections: u16,

    /// Send so many events with one request, to /events/batch.
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: Option<u32>,

    /// How many lockers the network has.
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub lockers: u32,

    /// How many compartments each locker gets in the course of time.
    #[arg(long, default_value = "24", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub compartments: u16,

    /// Decides all events, to the byte; by default another one for each run.
    #[arg(long)]
    pub seed: Option<u64>,

    /// Nothing twice, late, out of order or booked twice: every event is new, and accepted.
    #[arg(long)]
    pub orderly: bool,

    /// For how long an event is sent again when the server is away or says "not now".
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub give_up_after: u64,

    /// Print one JSON object on standard output instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl SimulateSettings {
    /// Whether the settings fit together; the error is a line.
    pub fn agree(&self) -> Result<(), String> {
        let Self { file, events, connections, lockers, .. } = self;
        if file.is_some() && events.is_none() {
            return Err("--file <PATH> needs --events <EVENTS>: a network never ends by itself".into());
        }
        if file.is_none() && u32::from(*connections) > *lockers {
            return Err(format!(
                "--connections <CONNECTIONS> is \"{connections}\": each needs a locker, and --lockers is {lockers}"
            ));
        }
        Ok(())
    }
}

/// Why a simulation could not be begun; what a server does is no error.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    #[error("the signals of the system cannot be heard: {0}")]
    Signals(std::io::Error),
    #[error("{} cannot be written (--file): {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

/// How far a simulation is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub events: u64,
    /// How many there will be.
    pub total: Option<u64>,
    pub accepted: u64,
    pub duplicates: u64,
    pub refused: u64,
    pub sent_again: u64,
    pub wrong: u64,
    /// Of late.
    pub rate_events_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Lets a network live until it has had its events or its time, or a signal comes.
///
/// `on_progress` is for somebody who watches; without it nothing is computed for them.
pub async fn simulate(
    settings: &SimulateSettings,
    addr: SocketAddr,
    on_progress: Option<&dyn Fn(Progress)>,
) -> Result<Report, SimulateError> {
    let signal = CancellationToken::new();
    cancel_on_signal(&signal).map_err(SimulateError::Signals)?;
    // Any number that was not used before, and short enough to be typed.
    let seed = settings.seed.unwrap_or_else(|| Uuid::now_v7().as_u64_pair().1 & u64::from(u32::MAX));
    let SimulateSettings { lockers, compartments, connections, orderly, .. } = *settings;
    let network = Network { seed, lockers, compartments, orderly };
    let mut report = Report {
        seed,
        lockers,
        compartments,
        connections,
        orderly,
        batch_events: settings.batch.unwrap_or(1),
        wanted_rate_events_per_s: settings.rate,
        ..Report::default()
    };
    let (tally, elapsed) = if let Some(path) = &settings.file {
        report.file = Some(path.display().to_string());
        let events = settings.events.unwrap_or(u64::MAX);
        let written = file::write(path, &network, events, &signal, on_progress).await;
        written.map_err(|source| SimulateError::File { path: path.clone(), source })?
    } else {
        let target = settings.to.clone().unwrap_or_else(|| addr.into());
        report.server = Some(target.to_string());
        // Each connection has a descriptor.
        raise_descriptor_limit();
        let shared = Rc::new(shared(settings, target, signal.child_token()));
        let elapsed = LocalSet::new().run_until(send(settings, &network, &shared, on_progress)).await;
        report.failure = shared.failure.take();
        (shared.tally.take(), elapsed)
    };
    report.interrupted = signal.is_cancelled();
    Ok(report.with(tally, elapsed))
}

fn shared(settings: &SimulateSettings, target: Target, stop: CancellationToken) -> Shared {
    Shared {
        target,
        events: settings.events.unwrap_or(u64::MAX),
        rate: settings.rate,
        batch: settings.batch,
        give_up_after: Duration::from_secs(settings.give_up_after),
        stop,
        start: Barrier::new(usize::from(settings.connections) + 1),
        begin: OnceCell::new(),
        clock: Clock::default(),
        tally: RefCell::default(),
        last_settled: Cell::new(None),
        failure: RefCell::new(None),
        outage: Cell::new(false),
    }
}

/// Sends a network with all its connections; returns how long it took from the first event to the
/// last answer.
async fn send(
    settings: &SimulateSettings,
    network: &Network,
    shared: &Rc<Shared>,
    on_progress: Option<&dyn Fn(Progress)>,
) -> Duration {
    let mut senders = JoinSet::new();
    for part in network.parts(settings.connections.into()) {
        senders.spawn_local(Sender::new(Rc::clone(shared), part).run());
    }
    // The time counts from when all are connected.
    tokio::select! {
        _ = shared.start.wait() => {}
        () = shared.stop.cancelled() => {}
    }
    let mut end = pin!(sleep(settings.seconds.map_or(Duration::MAX, Duration::from_secs)));
    let mut shown = interval(SHOWN_EVERY);
    let mut view = View::new();
    let mut clock = pin!(shared.clock.run());
    while !senders.is_empty() && !shared.stop.is_cancelled() {
        tokio::select! {
            ended = senders.join_next() => ended.transpose().map(drop).expect("a sender does not panic"),
            () = &mut end => shared.stop.cancel(),
            () = shared.stop.cancelled() => {}
            Err(error) = &mut clock => shared.fail(format!("the system has no timers: {error}")),
            _ = shown.tick(), if on_progress.is_some() => {
                if let Some(on_progress) = on_progress {
                    on_progress(view.look_at(&shared.tally.borrow(), settings.events));
                }
            }
        }
    }
    // What is under way is answered, or is told as unsettled.
    let _ = timeout(STOPPED_WITHIN, async { while senders.join_next().await.is_some() {} }).await;
    senders.shutdown().await;
    let (begin, end) = (shared.begin.get(), shared.last_settled.get());
    begin.zip(end).map_or(Duration::ZERO, |(begin, end)| end.duration_since(*begin))
}

/// What was seen at the last look, so that the next one can tell what is new.
struct View {
    moment: Instant,
    events: u64,
    latency: Histogram,
}

impl View {
    fn new() -> Self {
        Self { moment: Instant::now(), events: 0, latency: Histogram::default() }
    }

    /// Whether it is time to look again.
    fn is_due(&self) -> bool {
        self.moment.elapsed() >= SHOWN_EVERY
    }

    fn look_at(&mut self, tally: &Tally, total: Option<u64>) -> Progress {
        let (now, events) = (Instant::now(), tally.events());
        let recent = tally.latency.since(&self.latency);
        let rate_events_per_s = per_second(events - self.events, now - self.moment);
        *self = Self { moment: now, events, latency: tally.latency.clone() };
        Progress {
            events,
            total,
            accepted: tally.accepted,
            duplicates: tally.duplicates,
            refused: tally.refusals(),
            sent_again: tally.sent_again,
            wrong: tally.wrong,
            rate_events_per_s,
            p50_ms: milliseconds(recent.permille(500)),
            p99_ms: milliseconds(recent.permille(990)),
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    const MOST: f64 = 10_000_000.0;
    let rate: f64 = text.parse().map_err(|_| "must be a number of events a second".to_owned())?;
    // Not a number is in no range.
    if (0.001..=MOST).contains(&rate) { Ok(rate) } else { Err(format!("must lie between 0.001 and {MOST}")) }
}
