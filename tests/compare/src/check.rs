//! Starts every server, sends a few events, and looks at what it makes of them: so that the harness
//! is known to work before it measures.

use crate::Failure;
use crate::bench::{Bench, Packing};
use crate::events::Lane;
use crate::http::{Connection, request};
use crate::load::{Parcel, caught_up, closed_loop};
use crate::measures::has_batches;
use crate::paced::open_loop;
use crate::server::{Kind, Server};

const EVENTS: usize = 10;

pub async fn all(bench: &mut Bench) -> Result<(), Failure> {
    for kind in bench.options.contestants(&[Kind::Ceiling, Kind::UmaDb, Kind::FastApi, Kind::Cqrs]) {
        let server = bench.start(kind).await?;
        takes_events(bench, &server).await?;
        knows_what_it_took(&server).await?;
        let counted = if server.count_syncs().await.is_some() { "can" } else { "cannot" };
        eprintln!("{}: well; its syncs {counted} be counted", kind.name());
    }
    queries(bench).await?;
    eprintln!("queries of the contract: well");
    if has_batches(bench).await? {
        let server = bench.start(Kind::Lockstream).await?;
        let lanes = bench.lanes(Kind::Lockstream, Packing::Batch, 2, 2_000);
        expect("batches", closed_loop(&server, lanes, None).await?.accepted, 2_000)?;
        eprintln!("batches: well");
    } else {
        eprintln!("batches: `POST /events/batch` is not there yet");
    }
    Ok(())
}

async fn takes_events(bench: &mut Bench, server: &Server) -> Result<(), Failure> {
    let lanes = bench.lanes(server.kind, Packing::Single, 2, EVENTS);
    let answers = closed_loop(server, lanes, None).await?;
    if answers.refused > 0 {
        return Err(format!("{} refused: {:?}", server.kind.name(), answers.first_refusal).into());
    }
    expect(server.kind.name(), answers.accepted, EVENTS as u64)?;
    let lanes = bench.lanes(server.kind, Packing::Single, 2, EVENTS);
    let (answers, latencies) = open_loop(server, lanes, 1_000.0)?;
    expect(server.kind.name(), answers.accepted, EVENTS as u64)?;
    expect("latencies", latencies.len() as u64, EVENTS as u64)
}

/// Whoever keeps events has to notice one that comes again. The ceiling keeps none.
async fn knows_what_it_took(server: &Server) -> Result<(), Failure> {
    let Some(event) = Lane::new(u32::MAX, 7).next() else { return Ok(()) };
    let twice = vec![vec![Parcel::single(server.kind, &event), Parcel::single(server.kind, &event)]];
    let answers = closed_loop(server, twice, None).await?;
    match server.kind {
        // Its condition fails, which its client reports as an error.
        Kind::UmaDb => expect("refused by UmaDB", answers.refused, 1),
        Kind::Lockstream | Kind::FastApi | Kind::Cqrs => {
            let mut connection = Connection::open(server.addr).await?;
            let status = connection.ask(&request("POST", "/events", "application/json", &event.body)).await?;
            expect("the answer to a repeated event", u64::from(status), 200)
        }
        Kind::Ceiling => Ok(()),
    }
}

async fn queries(bench: &mut Bench) -> Result<(), Failure> {
    let server = bench.start(Kind::Lockstream).await?;
    let lanes = bench.lanes(Kind::Lockstream, Packing::Single, 1, EVENTS);
    closed_loop(&server, lanes, None).await?;
    caught_up(&server).await?;
    let mut connection = Connection::open(server.addr).await?;
    for event in bench.last_lanes(1, EVENTS) {
        let locker = format!("/lockers/{}", event.locker);
        let compartment = format!("{locker}/compartments/{}", event.compartment);
        let reservation = event.reservation.map(|id| format!("/reservations/{id}"));
        for path in [Some(locker), Some(compartment), reservation].into_iter().flatten() {
            let status = connection.ask(&request("GET", &path, "", "")).await?;
            expect(&path, u64::from(status), 200)?;
        }
    }
    Ok(())
}

fn expect(what: &str, found: u64, expected: u64) -> Result<(), Failure> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found}, not {expected}").into()) }
}
