//! How often a whole request asks for memory on the thread that answers it, from the socket to the
//! socket: what the writer and the database take on theirs is counted elsewhere.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use lockstream::composition::Adapters;
use tokio::runtime::{Builder, Runtime};

use super::allocations;
use crate::support::events::{registered, reserved};
use crate::support::inside::Inside;
use crate::support::{Folder, PATIENCE};

/// So many that what a connection takes once, and what the service does by itself meanwhile, is less
/// than one for each.
const REQUESTS: u64 = 1_000;

/// What the router takes for its way at least.
const THE_ROUTER: u64 = 8;

#[test]
fn an_event_and_the_queries_go_past_the_router() {
    let folder = Folder::on_sqlite();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(async { Inside::start(&folder, Adapters::default()) });
    let (door, reservation) = (registered("L", "A1"), reserved("L", "A1", "R1"));
    for event in [&door, &reservation] {
        assert_eq!(runtime.block_on(server.post(event)).status, 202);
    }
    let taken = |request: &str, status: u16| taken_for_each(&runtime, server.addr, request, status);

    // Of a query, the question to the database included, which these alone do not share with others. It
    // takes 27 or 30, and a few more where the answer is not there yet when somebody looks for it.
    let queries = [
        ("/lockers/L", "/lockers/%4C", 30),
        ("/lockers/L/compartments/A1", "/lockers/L/compartments/A%31", 33),
        ("/reservations/R1", "/reservations/R%31", 30),
    ];
    for (plain, encoded, bound) in queries {
        let asked = |path| taken(&format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n"), 200);
        let (past, through) = (asked(plain), asked(encoded));
        assert!(past <= bound && past + THE_ROUTER <= through, "{past} and {through} for {plain}");
    }
    // An event that was taken in before, which leaves nothing to project.
    let body = reservation.to_string();
    let head = format!("POST /events HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n", body.len());
    let event = taken(&format!("{head}content-type: application/json\r\n\r\n{body}"), 200);
    assert!(event <= 17, "{event} for an event");
    runtime.block_on(server.stop());
}

/// Allocations for each of many such requests, which one connection sends one after the other.
fn taken_for_each(runtime: &Runtime, addr: SocketAddr, request: &str, status: u16) -> u64 {
    let request = request.to_owned();
    let asking = move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        for _ in 0..REQUESTS {
            stream.write_all(request.as_bytes()).unwrap();
            assert_eq!(read_answer(&mut answers), status);
        }
    };
    let taken = allocations(|| runtime.block_on(runtime.spawn_blocking(asking)).unwrap());
    taken / REQUESTS
}

/// Reads an answer to its end; its status.
fn read_answer(answers: &mut impl BufRead) -> u16 {
    let (mut line, mut status, mut length) = (String::new(), 0, 0);
    loop {
        line.clear();
        answers.read_line(&mut line).unwrap();
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().unwrap();
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        } else if line.trim().is_empty() {
            answers.read_exact(&mut vec![0; length]).unwrap();
            return status;
        }
    }
}
