//! How long a simulation waits for a server at most. Seconds pass here, for it is a program of its own.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::simulate::stand_in::StandIn;
use crate::simulate::{Simulation, count, report};
use crate::support::{Folder, eventually};

/// Slow machines get as long again and more; what has no limit takes longer than all of it.
const SOON: Duration = Duration::from_secs(40);

#[tokio::test]
async fn a_simulation_waits_for_nothing_longer_than_it_should() {
    tokio::join!(a_pause_of_an_hour(), an_answer_after_the_end(), a_connection_that_nobody_takes());
}

/// A server may ask for a pause of ten seconds at most.
async fn a_pause_of_an_hour() {
    let folder = Folder::on_sqlite();
    let server = StandIn::start(|number, _| match number {
        0 => (503, "retry-after: 3600\r\n", r#"{"code":"busy"}"#.into()),
        _ => (202, "", r#"{"status":"accepted"}"#.into()),
    });
    let begin = Instant::now();
    let arguments = ["--to", &server.url(), "--events", "1", "--connections", "1", "--give-up-after", "7200"];
    let ended = Simulation::start(&folder, &arguments).ended().await;
    assert_eq!((ended.code, count(&report(&ended), "accepted")), (Some(0), 1), "{ended:?}");
    let took = begin.elapsed();
    assert!((Duration::from_secs(10)..SOON).contains(&took), "{took:?}");
}

/// Who is told to stop waits ten seconds for the answers to what was sent, and says what had none.
async fn an_answer_after_the_end() {
    let folder = Folder::on_sqlite();
    let server = StandIn::start(|_, _| {
        std::thread::park();
        unreachable!("nobody wakes it")
    });
    let simulation =
        Simulation::start(&folder, &["--to", &server.url(), "--connections", "1", "--give-up-after", "7200"]);
    eventually("an event is sent", || async { !server.asked().is_empty() }).await;
    let begin = Instant::now();
    simulation.signal(Signal::TERM);
    let ended = simulation.ended().await;
    assert_eq!((count(&report(&ended), "events"), count(&report(&ended), "unsettled")), (0, 1), "{ended:?}");
    let took = begin.elapsed();
    assert!((Duration::from_secs(10)..SOON).contains(&took), "{took:?}");
}

/// A connection may take five seconds; then the event waits for its next try.
async fn a_connection_that_nobody_takes() {
    let folder = Folder::on_sqlite();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    // The system takes some for whoever listens, and then no more.
    let mut taken = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(500), TcpStream::connect(addr)).await {
        taken.push(stream.unwrap());
        assert!(taken.len() < 100, "there is no end to it");
    }
    let begin = Instant::now();
    let url = format!("http://{addr}");
    let arguments = ["--to", &url, "--events", "1", "--connections", "1", "--give-up-after", "6"];
    let ended = Simulation::start(&folder, &arguments).ended().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let failure = report(&ended)["failure"].as_str().unwrap().to_owned();
    assert!(failure.starts_with("no verdict on an event for 6 s; the last try: "), "{failure}");
    // Before the start, and at the first event.
    let took = begin.elapsed();
    assert!((Duration::from_secs(10)..SOON).contains(&took), "{took:?}");
}
