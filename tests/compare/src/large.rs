//! The measures that need a log of some size: one log grows, and at its end is measured.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::Failure;
use crate::bench::{Bench, Packing, contestant, lines, measure};
use crate::http::Connection;
use crate::load::{Parcel, closed_loop};
use crate::measures::has_batches;
use crate::options::Subject;
use crate::report::{Line, Measure, Tally};
use crate::server::{Kind, Server, cpu_seconds, cpu_seconds_of_ended_children};

const MEMORY_GOAL: &str = "48 bytes at most, with 10,000,000 events";
/// How many events are made and sent at a time while the log is filled.
pub const PORTION: u64 = 200_000;
/// Of how many reservations the readers ask.
const SAMPLE: usize = 20_000;
/// How many events arrive right before the service is killed.
const NOT_AT_REST: u64 = 500_000;

/// Fills a log and measures what is wanted of it.
pub async fn all(bench: &mut Bench) -> Result<Vec<Measure>, Failure> {
    let mut measures = Vec::new();
    let batches = has_batches(bench).await?;
    let folder = bench.new_folder(Kind::Lockstream);
    let mut server = Server::start(Kind::Lockstream, &bench.programs, &folder).await?;
    let empty_bytes = server.resident_bytes();
    let mut paths = Paths::default();
    let (mut filled, until) = (0, bench.options.events());
    while filled < until {
        filled += fill(bench, &server, batches, (until - filled).min(PORTION), &mut paths).await?;
        eprintln!("  {filled} events in the log");
    }
    let loaded_bytes = server.resident_bytes();
    if bench.options.wants(Subject::Reads) {
        let (reads, same) = reads(bench, server, &paths).await?;
        measures.push(reads);
        server = same;
    }
    if bench.options.wants(Subject::Startup) {
        measures.extend(startup(bench, &mut server, batches, (filled, loaded_bytes), empty_bytes).await?);
    }
    server.kill();
    if bench.options.wants(Subject::Replay) {
        measures.push(replay(bench, &folder).await?);
    }
    Ok(measures)
}

/// What the readers ask for.
#[derive(Default)]
struct Paths {
    paths: Vec<String>,
    reservations: u64,
}

/// Sends events as fast as it goes, remembers some of them, and says how many it were.
async fn fill(
    bench: &mut Bench,
    server: &Server,
    batches: bool,
    events: u64,
    paths: &mut Paths,
) -> Result<u64, Failure> {
    let (packing, lanes) = if batches {
        (Packing::Batch, bench.options.bulk_connections)
    } else {
        (Packing::Single, bench.options.connections)
    };
    let parcels = bench.lanes(server.kind, packing, lanes, events as usize);
    let each = parcels.first().map_or(0, |lane| lane.iter().map(Parcel::events).sum());
    let keep_every = (bench.options.events() as usize / SAMPLE / 3).max(1);
    let created = bench.last_lanes(lanes, each as usize).filter(|event| event.kind == "ReservationCreated");
    for (number, event) in created.enumerate() {
        paths.reservations += 1;
        if number % keep_every == 0 && paths.paths.len() < SAMPLE * 3 {
            let locker = format!("/lockers/{}", event.locker);
            paths.paths.push(format!("{locker}/compartments/{}", event.compartment));
            paths.paths.push(locker);
            paths.paths.extend(event.reservation.map(|id| format!("/reservations/{id}")));
        }
    }
    let measured = measure(server, parcels, None).await?;
    let answers = measured.answers;
    if answers.refused > 0 {
        return Err(format!("{} events were refused: {:?}", answers.refused, answers.first_refusal).into());
    }
    Ok(answers.accepted)
}

async fn head(server: &Server) -> Result<u64, Failure> {
    let mut connection = Connection::open(server.addr).await?;
    connection.ask(&crate::http::request("GET", "/readyz", "", "")).await?;
    let body: Value = serde_json::from_slice(connection.body())?;
    body["head_sequence"].as_u64().ok_or_else(|| format!("no head in {body}").into())
}

/// Waits until the server has done what it does by itself, at most a minute: what it still archives of
/// millions of events that came in bulks would be taken for what the size of the log costs, and slow the
/// turns of others too.
pub async fn at_rest(server: &Server) {
    for _ in 0..120 {
        let before = server.cpu_seconds();
        sleep(Duration::from_millis(500)).await;
        if server.cpu_seconds() - before < 0.02 {
            return;
        }
    }
    eprintln!("  it does not come to rest");
}

/// The contract's three queries against an answer that never changes.
async fn reads(bench: &mut Bench, server: Server, paths: &Paths) -> Result<(Measure, Server), Failure> {
    at_rest(&server).await;
    let readers = bench.options.readers as usize;
    let ceiling = bench.start(Kind::Ceiling).await?;
    let mut servers = [contestant(server, Packing::Single), contestant(ceiling, Packing::Single)];
    let mut expected = [20_000.0, 60_000.0];
    for round in 0..=bench.options.rounds() {
        let time = if round == 0 { Duration::from_millis(500) } else { bench.options.turn() };
        for (one, expected) in servers.iter_mut().zip(&mut expected) {
            let each = (*expected * time.as_secs_f64() * 1.6) as usize / readers + 1;
            let question = |place: usize| match one.server.kind {
                // Neighbours in the list are of one locker: they are not asked for in a row.
                Kind::Lockstream => Parcel::question(&paths.paths[place.wrapping_mul(7_919) % paths.paths.len()]),
                _ => Parcel::question("/hello"),
            };
            let offset = round as usize * 1_000_003;
            let lanes =
                (0..readers).map(|lane| (0..each).map(|n| question(offset + lane * each + n)).collect()).collect();
            let (cpu, loader_cpu) = (one.server.cpu_seconds(), cpu_seconds("self"));
            let answers = closed_loop(&one.server, lanes, Some(time)).await?;
            let rate = answers.accepted as f64 / answers.took.as_secs_f64();
            *expected = rate.max(1_000.0);
            if round > 0 {
                eprintln!("  round {round}: {} {rate:.0}/s", one.who);
                let (cpu, loader_cpu) = (one.server.cpu_seconds() - cpu, cpu_seconds("self") - loader_cpu);
                one.tally.add(&answers, answers.took, cpu, loader_cpu);
            }
        }
    }
    let [ours, ceiling] = servers;
    let (tally, server) = (ours.tally, ours.server);
    let (others, _) = lines(vec![ceiling]);
    let mut all = vec![tally.line(Kind::Lockstream.name(), None)];
    all.extend(others);
    let title =
        format!("Queries of the contract, {readers} connections, more than {} reservations", paths.reservations);
    let mut measure = Measure::new(title, "answers/s", all);
    measure
        .remarks
        .push("A third each of lockers, compartments and reservations, spread over the whole database.".into());
    Ok((measure.goal(Kind::Ceiling.name(), "70 %"), server))
}

/// Kills it and starts it again.
async fn startup(
    bench: &mut Bench,
    server: &mut Server,
    batches: bool,
    (loaded, loaded_bytes): (u64, u64),
    empty: u64,
) -> Result<[Measure; 2], Failure> {
    let (mut seconds, mut bytes) = (Vec::new(), Vec::new());
    let of_each = |bytes: u64, events: u64| bytes as f64 / events as f64;
    at_rest(server).await;
    // What is free by then goes back after a while.
    sleep(Duration::from_secs(5)).await;
    let mut events = head(server).await?;
    let rested = of_each(server.resident_bytes(), events);
    for round in 1..=bench.options.rounds().min(3) {
        // A crash comes while there is something to do.
        events += fill(bench, server, batches, NOT_AT_REST, &mut Paths::default()).await?;
        server.kill();
        *server = Server::start(Kind::Lockstream, &bench.programs, &server.folder.clone()).await?;
        seconds.push(server.started_in.as_secs_f64());
        bytes.push(of_each(server.resident_bytes(), events));
        eprintln!("  round {round}: ready in {:.2} s", server.started_in.as_secs_f64());
    }
    let mut start = Line::new("from the start of the process to ready", seconds);
    start.remark = format!("{:.0} events/s", events as f64 / start.median);
    let mut start = Measure::new(format!("Start after `kill -9`, {events} events"), "s", vec![start]);
    start.remarks.push("The log is in the page cache; a start of the machine reads it from the disk first.".into());
    let more: Vec<_> = bytes.iter().map(|bytes| bytes - of_each(empty, events)).collect();
    let mut more = Line::new("the same without what an empty server has", more);
    more.remark = format!("that is {:.1} MiB", empty as f64 / f64::from(1 << 20));
    let lines = vec![
        Line::new("after the start", bytes),
        more,
        Line::new(format!("right after the load of {loaded}"), vec![of_each(loaded_bytes, loaded)]),
        Line::new("after the load, when it has come to rest", vec![rested]),
    ];
    let mut memory = Measure::new("Resident memory for each accepted event", "bytes an event", Vec::new());
    memory.lines = lines;
    (start.smaller_is_better, memory.smaller_is_better) = (true, true);
    let start = start.goal("from the start", "less than 2 s, with 10,000,000 events");
    Ok([start, memory.goal("after the", MEMORY_GOAL).goal("right after", MEMORY_GOAL)])
}

/// The commands that read the whole log; no server runs.
async fn replay(bench: &mut Bench, folder: &Path) -> Result<Measure, Failure> {
    let mut fold = Vec::new();
    let mut verify = (Tally::default(), "`lockstream verify`: read, proved, folded, compared", "head_sequence");
    let mut rebuild = (Tally::default(), "`lockstream rebuild`: read, folded, all rows written", "records");
    for round in 1..=bench.options.rounds().min(3) {
        for ((tally, _, count), command) in [(&mut verify, "verify"), (&mut rebuild, "rebuild")] {
            let (report, took, cpu) = run(bench, folder, command, count).await?;
            let events = report[*count].as_u64().unwrap_or_default();
            if let (Some(all), Some(rest)) = (report["elapsed_ms"].as_u64(), report["comparing_ms"].as_u64()) {
                fold.push(events as f64 / (all - rest) as f64 * 1e3);
            }
            eprintln!("  round {round}: {command} {:.0}/s", events as f64 / took.as_secs_f64());
            let answers = crate::load::Answers { accepted: events, took, ..Default::default() };
            tally.add(&answers, took, cpu, 0.0);
        }
    }
    let mut measure = Measure::new("Replay of the log", "events/s", Vec::new());
    measure.lines = [verify, rebuild].map(|(tally, who, _)| tally.line(who, None)).into();
    for line in &mut measure.lines {
        line.loader_cpu_seconds_per_million = None;
    }
    let who = "the fold of `verify`: read, proved, folded, while the projection is read beside it";
    measure.lines.insert(0, Line::new(who, fold));
    Ok(measure.goal("the fold", "1,000,000 events/s").goal("`lockstream rebuild`", "200,000 events/s"))
}

/// Runs a command of the service with `--json`; gives its report, which has to count events.
async fn run(bench: &Bench, folder: &Path, name: &str, count: &str) -> Result<(Value, Duration, f64), Failure> {
    let mut command = tokio::process::Command::from(bench.programs.lockstream(folder));
    command.args([name, "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let cpu = cpu_seconds_of_ended_children();
    let begin = Instant::now();
    let output = command.output().await?;
    let took = begin.elapsed();
    let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() || !report[count].is_u64() {
        return Err(format!("{name} found something: {report}").into());
    }
    Ok((report, took, cpu_seconds_of_ended_children() - cpu))
}
