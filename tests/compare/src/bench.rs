//! Turns: everybody gets the same load for the same time, one after the other, round by round, so that
//! what else happens on the machine meets all of them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::events::{Event, Lane};
use crate::load::{Answers, Parcel, caught_up, closed_loop};
use crate::options::Options;
use crate::report::{Line, Tally};
use crate::server::{Kind, Programs, Server, SyncCounter, cpu_seconds};

/// How many events go in one batch.
pub const BATCH: usize = 1_000;
/// Before the first round everybody runs this long, which also shows how much a round will need.
const WARM_UP: Duration = Duration::from_millis(700);
/// What a server is first thought to do in a second, in events.
const FIRST_GUESS: f64 = 40_000.0;
/// More than what is thought to be needed is made, because a server may become faster.
const RESERVE: f64 = 1.6;

/// What a parcel is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Single,
    Batch,
    /// UmaDB alone: without asking whether an event is known.
    BatchUnconditional,
}

impl Packing {
    pub fn parcels(self, kind: Kind, events: impl Iterator<Item = Event>) -> Vec<Parcel> {
        if self == Self::Single {
            return events.map(|event| Parcel::single(kind, &event)).collect();
        }
        let events: Vec<_> = events.collect();
        let pack = |batch: &[Event]| match kind {
            Kind::UmaDb => Parcel::appended(batch, self == Self::Batch),
            _ => Parcel::batch(batch),
        };
        events.chunks(BATCH).map(pack).collect()
    }
}

/// One of those who have turns.
pub struct Contestant {
    pub who: String,
    pub server: Server,
    packing: Packing,
    /// Events in a second, as far as is known.
    expected: f64,
    pub tally: Tally,
    /// Rates up to the last answer, where the projection is waited for after it.
    pub acknowledged: Vec<f64>,
    syncs: Option<SyncCounter>,
}

impl Contestant {
    pub fn line(self) -> Line {
        let syncs = self.syncs.and_then(SyncCounter::stop);
        self.tally.line(self.who, syncs)
    }
}

/// What all measures share.
pub struct Bench {
    pub options: Options,
    pub programs: Programs,
    pub folder: PathBuf,
    folders: u32,
    run: u32,
}

impl Bench {
    pub fn new(options: Options, programs: Programs, folder: PathBuf) -> Self {
        Self { options, programs, folder, folders: 0, run: 0 }
    }

    /// A folder that nobody has used.
    pub fn new_folder(&mut self, kind: Kind) -> PathBuf {
        self.folders += 1;
        self.folder.join(format!("{}-{}", self.folders, kind.name().split(' ').next().unwrap_or_default()))
    }

    pub async fn start(&mut self, kind: Kind) -> Result<Server, Failure> {
        let folder = self.new_folder(kind);
        Server::start(kind, &self.programs, &folder).await
    }

    pub async fn contestant(&mut self, kind: Kind, packing: Packing) -> Result<Contestant, Failure> {
        let server = self.start(kind).await?;
        Ok(contestant(server, packing))
    }

    /// Lanes of events that were never sent before, packed for a server of this kind.
    pub fn lanes(&mut self, kind: Kind, packing: Packing, lanes: u32, events: usize) -> Vec<Vec<Parcel>> {
        self.run += 1;
        let run = self.run;
        let each = events.div_ceil(lanes as usize).max(1);
        let each = if packing == Packing::Single { each } else { each.next_multiple_of(BATCH) };
        (0..lanes).map(|lane| packing.parcels(kind, Lane::new(run, lane).take(each))).collect()
    }

    /// The lanes of a network of so many compartments each.
    pub fn steady(&mut self, lanes: u32, compartments: u32) -> Vec<Lane> {
        self.run += 1;
        (0..lanes).map(|lane| Lane::steady(self.run, lane, compartments)).collect()
    }

    /// The events that the last `lanes` sent, lane by lane, made again.
    pub fn last_lanes(&self, lanes: u32, each: usize) -> impl Iterator<Item = Event> {
        let run = self.run;
        (0..lanes).flat_map(move |lane| Lane::new(run, lane).take(each))
    }

    /// Everybody in turn, as often as there are rounds.
    pub async fn turns(&mut self, contestants: &mut [Contestant], connections: u32) -> Result<(), Failure> {
        for contestant in contestants.iter_mut() {
            self.turn(contestant, connections, WARM_UP).await?;
            contestant.tally = Tally::default();
            contestant.acknowledged.clear();
            contestant.syncs = contestant.server.count_syncs().await;
        }
        for round in 1..=self.options.rounds() {
            for contestant in contestants.iter_mut() {
                let rate = self.turn(contestant, connections, self.options.turn()).await?;
                eprintln!("  round {round}: {} {rate:.0}/s", contestant.who);
            }
        }
        Ok(())
    }

    async fn turn(&mut self, one: &mut Contestant, connections: u32, time: Duration) -> Result<f64, Failure> {
        let events = one.expected * time.as_secs_f64() * RESERVE;
        let lanes = self.lanes(one.server.kind, one.packing, connections, events as usize);
        let measured = measure(&one.server, lanes, Some(time)).await?;
        let Measured { answers, took, cpu, loader_cpu } = &measured;
        let rate = answers.accepted as f64 / took.as_secs_f64();
        let acknowledged = answers.accepted as f64 / answers.took.as_secs_f64();
        one.acknowledged.push(acknowledged);
        one.expected = one.expected.min(acknowledged * 4.0).max(acknowledged).max(100.0);
        one.tally.add(answers, *took, *cpu, *loader_cpu);
        Ok(rate)
    }
}

pub fn contestant(server: Server, packing: Packing) -> Contestant {
    let expected = match (packing, server.kind) {
        (Packing::Single, _) => FIRST_GUESS,
        _ => FIRST_GUESS * 4.0,
    };
    let who = server.kind.name().to_owned();
    let (tally, acknowledged) = (Tally::default(), Vec::new());
    Contestant { who, server, packing, expected, tally, acknowledged, syncs: None }
}

pub struct Measured {
    pub answers: Answers,
    /// Until everything is visible, where there is something to wait for.
    pub took: Duration,
    pub cpu: f64,
    pub loader_cpu: f64,
}

/// Sends, waits for the projection of a server that has one, and says what it took.
pub async fn measure(server: &Server, lanes: Vec<Vec<Parcel>>, limit: Option<Duration>) -> Result<Measured, Failure> {
    let (cpu, loader_cpu) = (server.cpu_seconds(), cpu_seconds("self"));
    let mut answers = closed_loop(server, lanes, limit).await?;
    let sent = Instant::now();
    if server.kind == Kind::Lockstream {
        caught_up(server).await?;
    }
    let took = answers.took + sent.elapsed();
    // What was made and not sent is none of the load's work.
    let measured = Measured {
        took,
        cpu: server.cpu_seconds() - cpu,
        loader_cpu: cpu_seconds("self") - loader_cpu,
        answers: std::mem::take(&mut answers),
    };
    Ok(measured)
}

/// The lines of all, and their rates up to the last answer.
pub fn lines(contestants: Vec<Contestant>) -> (Vec<Line>, HashMap<String, Vec<f64>>) {
    let acknowledged = contestants.iter().map(|one| (one.who.clone(), one.acknowledged.clone())).collect();
    (contestants.into_iter().map(Contestant::line).collect(), acknowledged)
}
