//! Throughput against the size of the log: a service whose log grows, and one whose log is young, take
//! single events in turn. Both have a network of the same size that is only used, so that nothing but
//! history tells them apart.

use std::time::Duration;

use crate::Failure;
use crate::bench::{Bench, Measured, Packing, measure};
use crate::events::Lane;
use crate::large::{PORTION, at_rest};
use crate::load::Parcel;
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
    let all = bench.options.events();
    let mut old = Network::start(bench).await?;
    let mut lines = Vec::new();
    let mut lowest = f64::INFINITY;
    for part in 1..=PARTS {
        while old.events < all * part / PARTS {
            old.grow(bench, PORTION).await?;
            eprintln!("  {} events in the log", old.events);
        }
        let mut young = Network::start(bench).await?;
        let (share, pair) = compare(bench, &mut old, &mut young).await?;
        lowest = lowest.min(share);
        lines.extend(pair);
    }
    let mut measure = Measure::new("Throughput against the size of the log", "events/s", Vec::new());
    measure.lines = lines;
    let (what, measured) =
        (format!("{}: the lowest", measure.title), format!("{:+.1} %, in the mean of pairs", (lowest - 1.0) * 100.0));
    measure.goals.push(Goal { what, at_least: "-5 %, with 20,000,000 events", measured });
    let remark = "Up to the projection, in turn, each pair with the same number of events, the first of a pair \
                  alternately the old and the young one.";
    measure.remarks.push(remark.into());
    Ok(measure)
}

/// A service and the network that it has: everything is registered at the start, and then only used.
struct Network {
    server: Server,
    lanes: Vec<Lane>,
    events: u64,
}

impl Network {
    async fn start(bench: &mut Bench) -> Result<Self, Failure> {
        let server = bench.start(Kind::Lockstream).await?;
        let connections = bench.options.connections;
        let compartments = COMPARTMENTS.min(bench.options.events() / EVENTS_FOR_A_COMPARTMENT);
        let each = u32::try_from(compartments)?.div_ceil(connections);
        let mut network = Self { server, lanes: bench.steady(connections, each), events: 0 };
        network.grow(bench, u64::from(each) * u64::from(connections)).await?;
        Ok(network)
    }

    /// Takes events from all lanes alike and sends them in bulks, each lane's on one connection.
    async fn grow(&mut self, bench: &Bench, events: u64) -> Result<(), Failure> {
        let each = self.each(events);
        let connections = (bench.options.bulk_connections as usize).min(self.lanes.len());
        let of_each = self.lanes.len().div_ceil(connections);
        let parcels = self.lanes.chunks_mut(of_each).map(|lanes| {
            let events = lanes.iter_mut().flat_map(|lane| lane.take(each));
            Packing::Batch.parcels(Kind::Lockstream, events)
        });
        let parcels = parcels.collect();
        self.send(parcels).await.map(drop)
    }

    /// Sends single events, each lane's on a connection of its own.
    async fn turn(&mut self, time: Duration) -> Result<Measured, Failure> {
        let each = self.each((EVENTS_PER_SECOND * time.as_secs_f64()) as u64);
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

/// Pairs of turns. Gives the mean share that the old one reaches of the young one, and a line for each.
async fn compare(bench: &Bench, old: &mut Network, young: &mut Network) -> Result<(f64, [Line; 2]), Failure> {
    at_rest(&old.server).await;
    at_rest(&young.server).await;
    let names = [old, young].map(|network| (format!("with {} events in the log", network.events), network));
    let mut pair = names.map(|(name, network)| (name, network, Tally::default()));
    let time = bench.options.turn() / TURNS;
    let turns = bench.options.rounds() * TURNS;
    for turn in 0..turns {
        for place in [turn % 2, (turn + 1) % 2] {
            let (_, network, tally) = &mut pair[place as usize];
            let Measured { answers, took, cpu, loader_cpu } = network.turn(time).await?;
            tally.add(&answers, took, cpu, loader_cpu);
        }
        let [ours, theirs] = [0, 1].map(|place: usize| pair[place].2.rates[turn as usize]);
        eprintln!("  pair {}: {ours:.0}/s, {theirs:.0}/s with a young log", turn + 1);
    }
    let rates = [0, 1].map(|place: usize| pair[place].2.rates.clone());
    let shares: Vec<f64> = rates[0].iter().zip(&rates[1]).map(|(old, young)| old / young).collect();
    let (mean, error) = mean_and_error(&shares);
    let of_rates = rates[0].iter().sum::<f64>() / rates[1].iter().sum::<f64>();
    let mut lines = pair.map(|(name, _, tally)| tally.line(name, None));
    lines[0].remark = format!(
        "of the young one in {turns} pairs: mean {:.1} ± {:.1} % (standard error), median {:.1} %; mean rates {:.1} %",
        mean * 100.0,
        error * 100.0,
        median(&shares) * 100.0,
        of_rates * 100.0,
    );
    Ok((mean, lines))
}

/// The mean, and how far from it another series' mean would usually be.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (variance / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_mean_shrinks_with_the_number_of_values() {
        let (mean, error) = mean_and_error(&[0.9, 1.1]);
        assert!((mean - 1.0).abs() < 1e-9 && (error - 0.1).abs() < 1e-9);
        let (_, error) = mean_and_error(&[0.9, 1.1].repeat(50));
        assert!(error < 0.011);
    }
}
