//! Throughput against the size of the log: a service whose log grows, and one whose log is young, take
//! single events in turn. Both have a network of the same size that is only used, so that nothing but
//! history tells them apart.

use std::time::Duration;

use crate::Failure;
use crate::bench::{Bench, Measured, Packing, measure};
use crate::events::Lane;
use crate::large::{PORTION, at_rest};
use crate::load::Parcel;
use crate::measures::has_batches;
use crate::report::{Goal, Line, Measure, Tally, median};
use crate::server::{Kind, Server};

/// How many parts the log grows in; throughput is measured after each.
const PARTS: u64 = 2;
/// Compartments of a network: three thousand lockers.
const COMPARTMENTS: u64 = 60_000;
/// A small log gets a smaller network, so that most of its events are not registrations.
const EVENTS_FOR_A_COMPARTMENT: u64 = 50;
/// One turn of others is this many of these: short ones meet the same moods of the machine.
const TURNS: u32 = 4;
/// How many events a turn has, for each second that it should take. Both get the same number.
const EVENTS_PER_SECOND: f64 = 25_000.0;

/// Lets one log grow, and measures it against a young one on the way.
pub async fn all(bench: &mut Bench) -> Result<Measure, Failure> {
    let mut measure = Measure::new("Throughput against the size of the log", "events/s", Vec::new());
    let all = bench.options.events();
    let batches = has_batches(bench).await?;
    let mut old = Network::start(bench, batches).await?;
    for part in 1..=PARTS {
        let until = all * part / PARTS;
        while old.events < until {
            old.grow(bench, (until - old.events).min(PORTION)).await?;
            eprintln!("  {} events in the log", old.events);
        }
        let mut young = Network::start(bench, batches).await?;
        let (goal, pair) = compare(bench, &mut old, &mut young).await?;
        measure.goals.push(goal);
        measure.lines.extend(pair);
    }
    let remark = "Up to the projection, in turn, each pair with the same number of events; the old one and the young \
                  one go first by turns. CPU-seconds are all that a server used during the series.";
    measure.remarks.push(remark.into());
    Ok(measure)
}

/// A service and the network that it has: everything is registered at the start, and then only used.
struct Network {
    server: Server,
    lanes: Vec<Lane>,
    events: u64,
    /// Whether the service has the batch endpoint.
    batches: bool,
}

impl Network {
    async fn start(bench: &mut Bench, batches: bool) -> Result<Self, Failure> {
        let server = bench.start(Kind::Lockstream).await?;
        let connections = bench.options.connections;
        let compartments = COMPARTMENTS.min(bench.options.events() / EVENTS_FOR_A_COMPARTMENT);
        let each = u32::try_from(compartments)?.div_ceil(connections).max(1);
        let mut network = Self { server, lanes: bench.steady(connections, each), events: 0, batches };
        network.grow(bench, u64::from(each) * u64::from(connections)).await?;
        Ok(network)
    }

    /// Takes events from all lanes alike and sends them in bulks, each lane's on one connection.
    async fn grow(&mut self, bench: &Bench, events: u64) -> Result<(), Failure> {
        let each = self.each(events);
        if !self.batches {
            return self.singly(each).await.map(drop);
        }
        let connections = (bench.options.bulk_connections as usize).min(self.lanes.len());
        let of_each = self.lanes.len().div_ceil(connections);
        let parcels = self.lanes.chunks_mut(of_each).map(|lanes| {
            let events = lanes.iter_mut().flat_map(|lane| lane.take(each));
            Packing::Batch.parcels(Kind::Lockstream, events)
        });
        let parcels = parcels.collect();
        self.send(parcels).await.map(drop)
    }

    async fn turn(&mut self, time: Duration) -> Result<Measured, Failure> {
        self.singly(self.each((EVENTS_PER_SECOND * time.as_secs_f64()) as u64)).await
    }

    /// Sends so many single events of each lane, each lane's on a connection of its own.
    async fn singly(&mut self, each: usize) -> Result<Measured, Failure> {
        let single = |lane: &mut Lane| Packing::Single.parcels(Kind::Lockstream, lane.take(each));
        let parcels = self.lanes.iter_mut().map(single).collect();
        self.send(parcels).await
    }

    fn each(&self, events: u64) -> usize {
        (events as usize).div_ceil(self.lanes.len())
    }

    async fn send(&mut self, parcels: Vec<Vec<Parcel>>) -> Result<Measured, Failure> {
        let measured = measure(&self.server, parcels, None).await?;
        let answers = &measured.answers;
        if answers.refused > 0 {
            return Err(format!("{} events were refused: {:?}", answers.refused, answers.first_refusal).into());
        }
        self.events += answers.accepted;
        Ok(measured)
    }
}

/// Pairs of turns: the share that the old one reaches of the young one, and a line for each.
async fn compare(bench: &Bench, old: &mut Network, young: &mut Network) -> Result<(Goal, [Line; 2]), Failure> {
    at_rest(&old.server).await;
    at_rest(&young.server).await;
    let mut pair = [old, young].map(|network| {
        let (events, cpu) = (network.events, network.server.cpu_seconds());
        (network, Tally::default(), events, cpu)
    });
    let time = bench.options.turn() / TURNS;
    let turns = bench.options.rounds() * TURNS;
    for turn in 0..turns {
        for place in [turn % 2, (turn + 1) % 2] {
            let (network, tally, _, cpu) = &mut pair[place as usize];
            let Measured { answers, took, loader_cpu, .. } = network.turn(time).await?;
            // What it did by itself in the turn of the other was for its own events too.
            let now = network.server.cpu_seconds();
            tally.add(&answers, took, now - std::mem::replace(cpu, now), loader_cpu);
        }
        let [ours, theirs] = [0, 1].map(|place: usize| pair[place].1.rates[turn as usize]);
        eprintln!("  pair {}: {ours:.0}/s, {theirs:.0}/s with a young log", turn + 1);
    }
    let rates = [0, 1].map(|place: usize| pair[place].1.rates.clone());
    let shares: Vec<f64> = rates[0].iter().zip(&rates[1]).map(|(old, young)| old / young).collect();
    let (mean, error) = mean_and_error(&shares);
    let measured = format!("{:+.1} ± {:.1} %, the mean of {turns} pairs", (mean - 1.0) * 100.0, error * 100.0);
    let what = format!("Throughput with {} events in the log", pair[0].2);
    let goal = Goal { what, at_least: "-5 %, with 20,000,000 events", measured };
    let mut lines = pair.map(|(network, tally, events, _)| {
        tally.line(format!("with {events} events in the log, {} in the end", network.events), None)
    });
    let said = std::mem::take(&mut lines[0].remark);
    let share = format!(
        "of the young one: mean {:.1} ± {:.1} % (standard error), median {:.1} %",
        mean * 100.0,
        error * 100.0,
        median(&shares) * 100.0
    );
    lines[0].remark = if said.is_empty() { share } else { format!("{share}; {said}") };
    Ok((goal, lines))
}

/// The geometric mean, and how far from it another series' mean would usually be. The arithmetic one of
/// ratios is too large: two turns of which one is twice as fast, once this and once that, have 125 %.
fn mean_and_error(ratios: &[f64]) -> (f64, f64) {
    let count = ratios.len() as f64;
    let mean = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / count;
    let variance = ratios.iter().map(|ratio| (ratio.ln() - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean.exp(), mean.exp() * (variance / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_a_ratio_and_its_inverse_is_one() {
        let (mean, error) = mean_and_error(&[0.5, 2.0]);
        assert!((mean - 1.0).abs() < 1e-9 && (error - 2_f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn the_error_of_a_mean_shrinks_with_the_number_of_values() {
        let (mean, error) = mean_and_error(&[0.95; 4]);
        assert!((mean - 0.95).abs() < 1e-9 && error < 1e-9);
        let (_, of_two) = mean_and_error(&[0.9, 1.1]);
        let (_, of_many) = mean_and_error(&[0.9, 1.1].repeat(50));
        assert!(of_two > 0.09 && of_many < 0.011);
    }
}
