//! `lockstream simulate`: the network that it is, to a file, to a real server, and to servers that
//! do what a real one must not.

mod files;
mod limits;
mod outages;
mod servers;
mod shown;
mod stand_in;
mod times;
mod wrong;

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::server::{Ended, lockstream, run};
use crate::support::{Folder, eventually};

/// Runs a simulation to its end.
fn simulate(folder: &Folder, arguments: &[&str]) -> Ended {
    let mut command = lockstream(folder);
    command.arg("simulate").args(arguments);
    run(command)
}

/// Runs a simulation that has to end well; gives its report.
async fn simulated(folder: &Folder, arguments: &[&str]) -> Value {
    let mut command = lockstream(folder);
    command.args(["simulate", "--json"]).args(arguments);
    let ended = tokio::task::spawn_blocking(move || run(command)).await.unwrap();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    report(&ended)
}

fn report(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {ended:?}"))
}

/// A count of a report.
fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name} is no count: {report}"))
}

fn sum(counts: &Value) -> u64 {
    counts.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
}

/// The events that a network sends, as a file has them.
fn file_of(folder: &Folder, arguments: &[&str]) -> Vec<Value> {
    let ended = simulate(folder, &[&["--file", "-"], arguments].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The ids of events by their lockers, each in its order, the first time that it is there.
fn ids_by_locker<'e>(events: impl IntoIterator<Item = &'e Value>) -> BTreeMap<String, Vec<String>> {
    let mut lockers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        let ids = lockers.entry(text("locker_id")).or_default();
        if !ids.contains(&text("event_id")) {
            ids.push(text("event_id"));
        }
    }
    lockers
}

/// A simulation that runs beside the test; killed when dropped.
struct Simulation(Child);

impl Simulation {
    fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let mut command = lockstream(folder);
        command.args(["simulate", "--json"]).args(arguments);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    async fn ended(mut self) -> Ended {
        let child = Mutex::new(&mut self.0);
        eventually("the simulation ends", || async { child.lock().unwrap().try_wait().unwrap().is_some() }).await;
        let read = |pipe: &mut dyn std::io::Read| std::io::read_to_string(pipe).unwrap();
        Ended {
            code: self.0.wait().unwrap().code(),
            stdout: read(self.0.stdout.as_mut().unwrap()),
            // Nothing where it is a terminal.
            stderr: self.0.stderr.as_mut().map_or_else(String::new, |pipe| read(pipe)),
        }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}
