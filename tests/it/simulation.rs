//! The real log on a simulated disk that loses power and fails, over many seeds: what was
//! acknowledged is there after every crash, in its place and unaltered, and the log always opens.
//!
//! `LOCKSTREAM_SIMULATION_SEEDS=1000000 cargo test --test it simulation` runs more of them, and
//! `LOCKSTREAM_SIMULATION_SEED=42` runs a single one again, the way it went.

mod disk;

use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use lockstream::application::ports::{Durable, EventLog};
use lockstream::domain::record::{Head, Record};
use lockstream::infrastructure::event_log::recovery::{self, DurabilityProof, ProofSource, Recovered, RecoveryError};
use lockstream::infrastructure::event_log::{FileEventLog, line};

use crate::simulation::disk::SimulatedDisk;
use crate::support::events::{deposited, fault, registered, reserved};
use crate::support::logs::{self, Refusal};
use lockstream::random::Random;

const LOG: &str = "/log";
/// How many seeds the ordinary test run takes.
const SEEDS: u64 = 100_000;
const THREADS: u64 = 2;

/// What is appended again and again; nobody judges it here.
static EVENTS: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let long = "x".repeat(700);
    let events = [registered("L", "A1"), reserved("L", "A1", "R1"), deposited("L", "R1"), fault("L", &long[..90], 3)];
    let mut events = events.to_vec();
    events[1]["note"] = long.into();
    logs::records(Head::default(), &events)
});

/// A log, the crashes it lives through, and what it has promised.
struct Trial {
    disk: SimulatedDisk,
    random: Random,
    /// The head after each record that was ever handed to the log and not found missing since.
    heads: Vec<Head>,
    /// How many records somebody was told of.
    promised: usize,
    /// What lies outside of the log and proves how far it was durable.
    proofs: Vec<DurabilityProof>,
    max_segment_bytes: u64,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let max_segment_bytes = 300 + random.index(4_000) as u64;
        let (heads, proofs) = (vec![Head::default()], Vec::new());
        Self { disk: SimulatedDisk::new(seed), random, heads, promised: 0, proofs, max_segment_bytes }
    }

    /// Lives and dies a few times, as the seed wants it; the error is a broken promise.
    fn run(&mut self) -> Result<(), String> {
        for _ in 0..2 + self.random.index(3) {
            let power_fails_in = (self.random.index(4) > 0).then(|| self.random.index(40));
            let operation_fails_in = (self.random.index(2) == 0).then(|| self.random.index(30));
            self.live_until(power_fails_in, operation_fails_in)?;
        }
        self.end()
    }

    /// Lives until the power fails, if it does, in this operation.
    fn live_until(&mut self, power_fails_in: Option<usize>, operation_fails_in: Option<usize>) -> Result<(), String> {
        self.disk.plan(power_fails_in, operation_fails_in);
        let ended = self.live()?;
        if let Some(error) = ended.filter(|_| !self.disk.has_failed()) {
            return Err(format!("nothing had failed, but {error}"));
        }
        // A process alone can die too; then all that it wrote is still there to be read.
        if power_fails_in.is_some() || (self.random.index(2) == 0) {
            self.disk.power_cycle();
        }
        Ok(())
    }

    /// On a disk that is sound from now on, the log opens and has all that was promised.
    fn end(&mut self) -> Result<(), String> {
        self.disk.power_cycle();
        self.disk.plan(None, None);
        if let Err(error) = self.start()? {
            return Err(format!("the log does not open: {error}"));
        }
        match self.disk.gone() {
            None => Ok(()),
            Some(bytes) => Err(format!("{} bytes that were cut off are kept nowhere", bytes.len())),
        }
    }

    /// Starts and appends until it has had enough, or something ends it: that is the answer.
    fn live(&mut self) -> Result<Option<String>, String> {
        let mut log = match self.start()? {
            Ok(log) => log,
            Err(error) => return Ok(Some(error)),
        };
        for _ in 0..self.random.index(8) {
            if let Err(error) = self.append(&mut log) {
                return Ok(Some(error));
            }
        }
        Ok(None)
    }

    /// Recovers and looks whether all is there that was promised.
    fn start(&mut self) -> Result<Result<FileEventLog, String>, String> {
        let limits = logs::limits(self.max_segment_bytes);
        let recovered: Result<_, Refusal> =
            recovery::recover(&self.disk.storage(), Path::new(LOG), &self.proofs, limits, |_, _, _| Ok(()));
        let Recovered { mut log, head, torn } = match recovered {
            Ok(recovered) => recovered,
            // What is wrong with the log may never be the outcome of a crash.
            Err(refusal @ (RecoveryError::Io { .. } | RecoveryError::Unreadable(_))) => {
                return Ok(Err(refusal.to_string()));
            }
            Err(refusal) => return Err(refusal.to_string()),
        };
        let records = usize::try_from(head.sequence.get()).unwrap();
        if records < self.promised {
            return Err(format!("{} records were promised, and {records} are there", self.promised));
        }
        if self.heads.get(records) != Some(&head) {
            return Err(format!("record {records} is none that was ever written there"));
        }
        self.heads.truncate(records + 1);
        let kept = torn.map(|torn| (self.disk.storage().length_bytes(&torn.kept_at).ok(), torn.bytes));
        if let Some((kept, cut)) = kept.filter(|(kept, cut)| *kept != Some(*cut)) {
            return Err(format!("{cut} bytes were cut off, and of these were kept: {kept:?}"));
        }
        match Durable::recovered(&mut log, head) {
            Ok(durable) => {
                self.promise(durable);
                Ok(Ok(log))
            }
            Err(failure) => Ok(Err(failure.to_string())),
        }
    }

    /// Appends one batch, as the writer does.
    fn append(&mut self, log: &mut FileEventLog) -> Result<(), String> {
        let batch = self.next_batch();
        let event_bytes = batch.iter().map(|record| record.json.as_str().len()).sum();
        match log.make_room(batch.len(), event_bytes) {
            Ok(Ok(())) => {}
            Ok(Err(no_room)) => return if self.disk.has_failed() { Ok(()) } else { Err(no_room.to_string()) },
            Err(failure) => return Err(failure.to_string()),
        }
        let mut head = self.heads[self.heads.len() - 1];
        for record in &batch {
            head = line::encode(record, head.chain_hash, &mut Vec::new());
            self.heads.push(head);
        }
        match Durable::append(log, &batch) {
            Ok(durable) => {
                self.promise(durable);
                Ok(())
            }
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Somebody is told, or writes down elsewhere, that all up to here survives.
    fn promise(&mut self, durable: Durable) {
        let head = durable.head();
        self.promised = usize::try_from(head.sequence.get()).unwrap();
        if self.random.index(4) == 0 {
            let source = [ProofSource::CleanStop, ProofSource::Checkpoint][self.random.index(2)];
            self.proofs.retain(|proof| proof.source != source);
            self.proofs.push(DurabilityProof { source, head });
        }
    }

    fn next_batch(&mut self) -> Vec<Record> {
        let first = self.heads[self.heads.len() - 1].sequence.next();
        let mut batch: Vec<Record> = Vec::new();
        for _ in 0..[1, 1, 2, 3, 6][self.random.index(5)] {
            let sequence = batch.last().map_or(first, |record| record.sequence.next());
            let event = &EVENTS[self.random.index(EVENTS.len())];
            batch.push(Record { sequence, batch: first, ..event.clone() });
        }
        batch
    }
}

/// Runs a seed; the message says how to run it again.
fn run(seed: u64) -> Result<(), String> {
    Trial::new(seed).run().map_err(|broken| {
        format!("{broken}\n    LOCKSTREAM_SIMULATION_SEED={seed} cargo test --test it simulation::what_was_promised")
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

#[test]
fn what_was_promised_is_kept_through_every_crash() {
    if let Some(seed) = number("LOCKSTREAM_SIMULATION_SEED") {
        return run(seed).unwrap_or_else(|broken| panic!("{broken}"));
    }
    let seeds = number("LOCKSTREAM_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let begin = Instant::now();
    let next = AtomicU64::new(1);
    let broken = thread::scope(|scope| {
        let worker = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed > seeds {
                    return None;
                }
                if let Err(broken) = run(seed) {
                    next.store(seeds, Ordering::Relaxed);
                    return Some(broken);
                }
            }
        };
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().find_map(|worker| worker.join().unwrap())
    });
    assert!(broken.is_none(), "{}", broken.unwrap());
    eprintln!("{seeds} seeds in {:.1} s", begin.elapsed().as_secs_f64());
}

#[test]
fn a_crash_in_any_step_of_a_start_and_of_the_start_after_it_leaves_a_log_that_opens() {
    let mut trials = 0;
    for first in 8..40 {
        for (second, third) in (0..14).flat_map(|second| (0..14).step_by(3).map(move |third| (second, third))) {
            trials += 1;
            let mut trial = Trial::new(trials);
            let mut crash = || {
                // A first segment or two; a torn one; a start that is cut off, and the one after it.
                [Some(first), Some(second), Some(third)].iter().try_for_each(|power| trial.live_until(*power, None))?;
                trial.end()
            };
            crash().unwrap_or_else(|broken| panic!("power lost at {first}, {second}, {third}: {broken}"));
        }
    }
}

#[test]
fn a_failure_of_the_log_says_what_to_do() {
    let mut said = Vec::new();
    for operation in 0..4 {
        let mut trial = Trial::new(7);
        let mut log = trial.start().unwrap().unwrap();
        trial.disk.plan(None, Some(operation));
        // Without room nothing has failed yet.
        said.extend(trial.append(&mut log).err());
    }
    assert!(said.len() == 2 && said[0].contains("written") && said[1].contains("synced"), "{said:?}");
    for failure in said {
        for part in ["after sequence 0: simulated (/log/0", "Nothing of this batch was", "then start again", "repeat"] {
            assert!(failure.contains(part), "{part:?} is missing in {failure}");
        }
    }
}

#[test]
fn a_full_segment_gives_way_to_the_next_where_no_file_may_be_longer() {
    let mut trial = Trial::new(3);
    trial.max_segment_bytes = 8_000;
    trial.disk.limit_files(8_000);
    let mut log = trial.start().unwrap().unwrap();
    for batch in 0..20 {
        trial.append(&mut log).unwrap_or_else(|error| panic!("batch {batch}: {error}"));
    }
    assert!(trial.disk.storage().list(Path::new(LOG)).unwrap().len() > 2);
}

#[test]
fn a_disk_that_says_synced_and_is_not_is_found_out() {
    let found_out = (1..200).any(|seed| {
        let mut trial = Trial::new(seed);
        trial.disk.lie();
        trial.run().is_err()
    });
    assert!(found_out, "or these trials would find nothing at all");
}
