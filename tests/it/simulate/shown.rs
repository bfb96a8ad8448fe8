//! What somebody sees who watches a simulation on a terminal, and that nobody else is told.

use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::simulate::stand_in::StandIn;
use crate::simulate::{Simulation, count, report, sum};
use crate::support::server::{Server, lockstream, run};
use crate::support::terminal::Terminal;
use crate::support::{Folder, PATIENCE, eventually};

/// What the slowest answer takes: longer than the line stays as it is.
const SLOW: Duration = Duration::from_millis(300);

/// A server that accepts four events, the last of them slowly, knows two and refuses three. It holds
/// the next answer back until the sender is gone, and accepts the rest.
fn stand_in() -> (StandIn, Sender<()>) {
    let (go_on, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let server = StandIn::start(move |number, _| match number {
        4..6 => (200, "", r#"{"status":"duplicate"}"#.into()),
        6..9 => (409, "", r#"{"code":"compartment-occupied"}"#.into()),
        _ => {
            if number == 3 {
                std::thread::sleep(SLOW);
            }
            if number >= 9 {
                let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(PATIENCE);
            }
            (202, "", r#"{"status":"accepted"}"#.into())
        }
    });
    (server, go_on)
}

/// Twice as many events as [`stand_in`] answers at first.
fn eighteen_events(folder: &Folder, url: &str) -> Command {
    let mut command = lockstream(folder);
    command.args(["simulate", "--orderly", "--lockers", "1", "--connections", "1", "--events", "18", "--to", url]);
    command
}

/// The number that ends before these words.
fn number_before(line: &str, words: &str) -> f64 {
    let number = line.split_once(words).and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no number before {words:?}: {line:?}"))
}

#[tokio::test]
async fn on_a_terminal_a_line_tells_meanwhile_how_it_goes() {
    let folder = Folder::on_sqlite();
    let (server, go_on) = stand_in();
    let (terminal, end) = Terminal::open();
    let mut command = eighteen_events(&folder, &server.url());
    command.arg("--json").env("TERM", "xterm").stdout(Stdio::piped()).stderr(end);
    let simulation = Simulation(command.spawn().unwrap());
    drop(command);

    let nine = "4 accepted, 2 duplicates, 3 refused, 0 sent again, 3 WRONG";
    let is_of_nine = |line: &String| line.contains(nine) && line.contains("] 50%, ");
    eventually("all nine answers are told", async || terminal.lines().iter().any(is_of_nine)).await;
    let lines = terminal.lines();
    let told: Vec<_> = lines.iter().filter(|line| line.contains(" events/s, p50 ")).collect();
    let is_slow = |line: &&&String| number_before(line, " ms: ") >= SLOW.as_secs_f64() * 1_000.0;
    let slow = told.iter().find(is_slow).unwrap_or_else(|| panic!("the slow answer is told: {lines:?}"));
    assert!(number_before(slow, " events/s") > 0.0, "{slow}");
    assert!(number_before(slow, " ms, p99") <= number_before(slow, " ms: "), "{slow}");

    drop(go_on);
    let ended = simulation.ended().await;
    let report = report(&ended);
    assert_eq!((count(&report, "accepted"), count(&report, "duplicates"), sum(&report["refused"])), (13, 2, 3));
    let cleared = || terminal.shown().ends_with("\r\x1b[2K");
    eventually("the line is gone in the end", async || cleared()).await;
}

#[tokio::test]
async fn without_an_end_the_line_tells_for_how_long() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let (terminal, end) = Terminal::open();
    let mut command = lockstream(&folder);
    command.args(["simulate", "--lockers", "20", "--connections", "4", "--to", &server.url("")]);
    command.env("TERM", "xterm").stdout(Stdio::piped()).stderr(end);
    let simulation = Simulation(command.spawn().unwrap());
    drop(command);

    let tells = |line: &String| {
        line.contains("s, ") && line.contains(" WRONG") && number_before(line, " refused") > 0.0 && !line.contains('%')
    };
    eventually("refusals are told", async || terminal.lines().iter().any(tells)).await;
    simulation.signal(Signal::INT);
    let ended = simulation.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("sent to") && !ended.stdout.contains('\r'), "the table alone: {ended:?}");
}

#[tokio::test]
async fn where_nobody_watches_nothing_is_shown() {
    let folder = Folder::on_sqlite();
    for json in [&["--json"][..], &[]] {
        let (server, go_on) = stand_in();
        let mut command = eighteen_events(&folder, &server.url());
        command.args(json);
        drop(go_on);
        let ended = tokio::task::spawn_blocking(move || run(command)).await.unwrap();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(3), ""), "{ended:?}");
        assert!(!ended.stdout.contains(['\r', '\x1b']), "{ended:?}");
        assert!(!ended.stdout.contains(" left, "), "{ended:?}");
    }
}
