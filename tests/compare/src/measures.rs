//! The measures: each starts what it needs, gives everybody turns, and ends what it started.

use std::thread;
use std::time::Duration;

use crate::Failure;
use crate::bench::{BATCH, Bench, Contestant, Packing, lines};
use crate::disk;
use crate::events::Lane;
use crate::http::Connection;
use crate::load::{Parcel, closed_loop};
use crate::paced::open_loop;
use crate::report::{Line, Measure, NOT_MEASURED, median, quantile_ms};
use crate::server::Kind;

/// How often the disk is asked for a sync where that is counted from when it was due.
const SYNC_EVERY: Duration = Duration::from_millis(1);

const EVERYBODY: [Kind; 4] = [Kind::Ceiling, Kind::UmaDb, Kind::FastApi, Kind::Cqrs];

/// One event a request, as fast as it goes.
pub async fn single(bench: &mut Bench, connections: u32) -> Result<Measure, Failure> {
    let mut contestants = Vec::new();
    for kind in bench.options.contestants(&EVERYBODY) {
        contestants.push(bench.contestant(kind, Packing::Single).await?);
        // It may let all share one connection, which is its best, or have as many as the others have.
        if kind == Kind::UmaDb && connections > 1 {
            let mut many = bench.contestant(kind, Packing::Single).await?;
            many.server.channels = connections as usize;
            many.who = format!("{}, {connections} connections", many.who);
            contestants.push(many);
            let [.., one, _] = contestants.as_mut_slice() else { continue };
            one.who = format!("{}, {connections} appends in flight on 1 connection", one.who);
        }
    }
    bench.turns(&mut contestants, connections).await?;
    let (lines, acknowledged) = lines(contestants);
    let connected = if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") };
    let mut measure = Measure::new(format!("One event a request, {connected}"), "events/s", lines);
    measure.remarks.push(format!(
        "Lockstream's time ends when the last event is projected too; up to the last answer alone it is {:.0} events/s.",
        median(&acknowledged[Kind::Lockstream.name()]),
    ));
    let measure = if connections == 1 { measure } else { measure.goal(Kind::Ceiling.name(), "60 %") };
    Ok(measure.goal(Kind::UmaDb.name(), if connections == 1 { "2 ×" } else { "3 ×" }))
}

/// Latency at half of the highest rate; the disk's own has its turn too.
pub async fn latency(bench: &mut Bench) -> Result<Measure, Failure> {
    let (connections, turn) = (bench.options.connections, bench.options.turn());
    let mut contestants = Vec::new();
    for kind in bench.options.contestants(&[Kind::UmaDb]) {
        contestants.push(bench.contestant(kind, Packing::Single).await?);
    }
    let mut highest = Vec::new();
    for one in &contestants {
        highest.push(highest_rate(bench, one, connections).await?);
    }
    if bench.options.peers.contains(&Kind::Ceiling) {
        // What is left to gain: the machine and the load generator, at the first one's rate.
        let mut ceiling = bench.contestant(Kind::Ceiling, Packing::Single).await?;
        ceiling.who.push_str(", at Lockstream's rate");
        contestants.push(ceiling);
        highest.push(highest[0]);
    }
    let (mut disk_p99, mut disk_p99_when_due, mut busy_disk_p99) = (Vec::new(), Vec::new(), Vec::new());
    let mut figures = vec![(Vec::new(), Vec::new(), Vec::new()); contestants.len()];
    for round in 1..=bench.options.rounds() {
        let mut syncs = disk::syncs(&bench.folder, Duration::from_secs(1))?;
        disk_p99.push(quantile_ms(&mut syncs, 0.99));
        match disk::syncs_when_due(&bench.folder, SYNC_EVERY, turn)? {
            Some(mut syncs) => disk_p99_when_due.push(quantile_ms(&mut syncs, 0.99)),
            None => {
                eprintln!("  round {round}: the disk does not keep the pace");
                disk_p99_when_due.push(NOT_MEASURED);
            }
        }
        for ((one, highest), (p50, p99, rates)) in contestants.iter().zip(&highest).zip(&mut figures) {
            let rate = highest / 2.0;
            let events = (rate * turn.as_secs_f64()) as usize;
            let lanes = bench.lanes(one.server.kind, Packing::Single, connections, events);
            let (answers, mut latencies) = open_loop(&one.server, lanes, rate)?;
            p50.push(quantile_ms(&mut latencies, 0.5));
            p99.push(quantile_ms(&mut latencies, 0.99));
            rates.push(answers.accepted as f64 / answers.took.as_secs_f64());
            eprintln!("  round {round}: {} p99 {:.2} ms", one.who, p99.last().unwrap_or(&0.0));
            if one.server.kind == Kind::Ceiling {
                // A machine that is as busy, and a disk that nobody else uses.
                let lanes = bench.lanes(Kind::Ceiling, Packing::Single, connections, events);
                let folder = bench.folder.clone();
                let syncs = thread::spawn(move || {
                    disk::syncs_when_due(&folder, SYNC_EVERY, turn).map_err(|error| error.to_string())
                });
                open_loop(&one.server, lanes, rate)?;
                let syncs = syncs.join().map_err(|_| "the syncs ended early")??;
                match syncs {
                    Some(mut syncs) => busy_disk_p99.push(quantile_ms(&mut syncs, 0.99)),
                    None => {
                        eprintln!("  round {round}: the disk beside it does not keep the pace");
                        busy_disk_p99.push(NOT_MEASURED);
                    }
                }
            }
        }
    }
    let mut all = Vec::new();
    for ((one, highest), (p50, p99, rates)) in contestants.iter().zip(&highest).zip(figures) {
        let mut line = Line::new(&one.who, p99);
        line.remark = format!("p50 {:.2} ms; got {:.0} events/s of {:.0}", median(&p50), median(&rates), highest / 2.0);
        all.push(line);
    }
    all.push(Line::new("the disk: `fdatasync` of 4 KiB, alone, one after the other", disk_p99));
    let who = "the disk, counted alike: `fdatasync` of 4 KiB each millisecond, alone, from when it was due";
    all.push(Line::new(who, disk_p99_when_due));
    if !busy_disk_p99.is_empty() {
        let who = "`fdatasync` of 4 KiB each millisecond, from when it was due, while the no-op server has that load";
        all.push(Line::new(who, busy_disk_p99));
    }
    let mut measure = Measure::new("Latency at half of the highest rate, p99", "ms", all);
    measure.smaller_is_better = true;
    measure.remarks.push(
        "Counted from when the event was due, not from when it was sent; each server at half of its own highest rate."
            .into(),
    );
    Ok(measure
        .goal("the disk:", "less than 4 ×")
        .goal("the disk, counted alike", "less than 4 ×, counted alike")
        .goal("`fdatasync`", "less than 4 ×, the machine as busy and counted alike"))
}

/// What a server does in a short while when it is pressed: the median of three times.
async fn highest_rate(bench: &mut Bench, one: &Contestant, connections: u32) -> Result<f64, Failure> {
    let time = Duration::from_secs(1);
    let mut rates = Vec::new();
    for _ in 0..3 {
        let lanes = bench.lanes(one.server.kind, Packing::Single, connections, 60_000);
        let answers = closed_loop(&one.server, lanes, Some(time)).await?;
        rates.push(answers.accepted as f64 / answers.took.as_secs_f64());
    }
    Ok(median(&rates))
}

/// A thousand events a request.
pub async fn bulk(bench: &mut Bench) -> Result<Measure, Failure> {
    let connections = bench.options.bulk_connections;
    let title = format!("{BATCH} events a request, {connections} connections");
    let mut contestants = Vec::new();
    if has_batches(bench).await? {
        contestants.push(bench.contestant(Kind::Lockstream, Packing::Batch).await?);
    }
    let lacking = contestants.is_empty();
    if bench.options.peers.contains(&Kind::UmaDb) {
        for packing in [Packing::Batch, Packing::BatchUnconditional] {
            let mut one = bench.contestant(Kind::UmaDb, packing).await?;
            one.server.channels = connections as usize;
            if packing == Packing::BatchUnconditional {
                one.who.push_str(", not asked whether it knows an event");
            }
            contestants.push(one);
        }
    }
    bench.turns(&mut contestants, connections).await?;
    let (mut lines, acknowledged) = lines(contestants);
    if lacking {
        lines.insert(0, Line::new(Kind::Lockstream.name(), Vec::new()));
        lines[0].remark = "`POST /events/batch` is not there yet".into();
        return Ok(Measure::new(title, "events/s", lines));
    }
    // Both of ours: the first is compared.
    let projected = lines.remove(0);
    let mut first = Line::new("Lockstream, acknowledged", acknowledged[Kind::Lockstream.name()].clone());
    first.remark.clone_from(&projected.remark);
    lines.insert(0, first);
    let mut measure = Measure::new(title, "events/s", lines);
    measure.lines.insert(1, Line { who: "Lockstream, projected".into(), remark: String::new(), ..projected });
    Ok(measure.goal("Lockstream, acknowledged", "200,000 events/s").goal("Lockstream, projected", "150,000 events/s"))
}

/// Whether the service has the batch endpoint.
pub async fn has_batches(bench: &mut Bench) -> Result<bool, Failure> {
    let server = bench.start(Kind::Lockstream).await?;
    let events: Vec<_> = Lane::new(u32::MAX, 0).take(10).collect();
    let Parcel::Http(request, _) = Parcel::batch(&events) else { return Ok(false) };
    let status = Connection::open(server.addr).await?.ask(&request).await?;
    Ok(!matches!(status, 404 | 405))
}
