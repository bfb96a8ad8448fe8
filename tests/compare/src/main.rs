//! Runs Lockstream and its peers side by side on the same events; see README.md beside this folder.
//! No part of the service, and no test of it: what it prints are figures, not verdicts.

mod bench;
mod check;
mod disk;
mod events;
mod http;
mod large;
mod load;
mod measures;
mod options;
mod paced;
mod report;
mod server;
mod size;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::bench::Bench;
use crate::options::{Options, Subject};
use crate::report::Report;
use crate::server::Programs;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why it could not go on, in a sentence.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let options = Options::parse();
    let threads = options.threads.max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let done = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(options)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    let folder = Temporary::new(&options.data)?;
    disk::require_disk(&folder.0)?;
    let own = std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default();
    let programs = Programs {
        lockstream: fs::canonicalize(&options.lockstream)
            .map_err(|error| format!("{}: {error}", options.lockstream.display()))?,
        python: std::path::absolute(&options.python)?,
        sources: fs::canonicalize(&options.sources)?,
        own,
    };
    let mut bench = Bench::new(options, programs, folder.0.clone());
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Whichever way it ends, all servers are dropped, and so killed, and the folder is removed.
    let limit = Duration::from_secs(bench.options.limit * 60);
    tokio::select! {
        done = timeout(limit, work(&mut bench)) => done.map_err(|_| "it took longer than --limit")?,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    }
}

async fn work(bench: &mut Bench) -> Result<(), Failure> {
    if bench.options.check {
        return check::all(bench).await;
    }
    let mut report = Report { circumstances: circumstances(bench), measures: Vec::new() };
    let wants = |bench: &Bench, subject, doing: &str| {
        let wanted = bench.options.wants(subject);
        if wanted {
            eprintln!("{doing}");
        }
        wanted
    };
    if wants(bench, Subject::Single, "single events") {
        let connections = bench.options.connections;
        report.measures.push(measures::single(bench, connections).await?);
    }
    if wants(bench, Subject::Lone, "single events, one connection") {
        report.measures.push(measures::single(bench, 1).await?);
    }
    if wants(bench, Subject::Latency, "latency") {
        report.measures.push(measures::latency(bench).await?);
    }
    if wants(bench, Subject::Bulk, "batches") {
        report.measures.push(measures::bulk(bench).await?);
    }
    if wants(bench, Subject::Size, "the size of the log") {
        report.measures.push(size::all(bench).await?);
    }
    let large = [Subject::Reads, Subject::Startup, Subject::Replay];
    if large.into_iter().any(|subject| bench.options.wants(subject)) {
        eprintln!("the large log");
        report.measures.extend(large::all(bench).await?);
    }
    println!("{}", report.markdown());
    if let Some(file) = &bench.options.json {
        fs::write(file, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}

/// What somebody has to know to read the figures.
fn circumstances(bench: &Bench) -> Vec<(String, String)> {
    let options = &bench.options;
    let first_line = |file: &str| fs::read_to_string(file).unwrap_or_default().lines().next().unwrap_or("").to_owned();
    let said = |mut command: Command| {
        let output = command.output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).trim().to_owned()
    };
    let version = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments);
        said(command)
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let python = options.python.join("bin");
    let packages = version(&python.join("pip"), &["freeze", "--disable-pip-version-check"]);
    let package = |name: &str| {
        packages.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("==")).unwrap_or("?").to_owned()
    };
    vec![
        ("date".into(), chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string()),
        (
            "machine".into(),
            format!(
                "{cores} processors ({}), Linux {}, load average before the run {}",
                model.unwrap_or("unknown"),
                first_line("/proc/sys/kernel/osrelease"),
                first_line("/proc/loadavg").split(' ').next().unwrap_or("?"),
            ),
        ),
        (
            "turns".into(),
            format!("{} rounds of {:.1} s for everybody, in turn", options.rounds(), options.turn().as_secs_f64()),
        ),
        ("Lockstream".into(), version(&bench.programs.lockstream, &["--version"])),
        ("UmaDB".into(), format!("{}, with its Rust client of the same version", package("umadb"))),
        (
            "Python".into(),
            format!(
                "{}, FastAPI {}, uvicorn {}",
                version(&python.join("python"), &["--version"]),
                package("fastapi"),
                package("uvicorn")
            ),
        ),
        ("crates".into(), crates(&options.sources.join("Cargo.lock"))),
    ]
}

/// The versions of the peers' crates, as the lock file has them.
fn crates(lock_file: &Path) -> String {
    let text = fs::read_to_string(lock_file).unwrap_or_default();
    let version = |name: &str| {
        let start = text.find(&format!("name = \"{name}\"\nversion = \""))?;
        text[start..].split('"').nth(3)
    };
    let names = ["cqrs-es", "sqlite-es", "sqlx", "axum"];
    names.map(|name| format!("{name} {}", version(name).unwrap_or("?"))).join(", ")
}

/// A folder that goes with its owner.
struct Temporary(PathBuf);

impl Temporary {
    fn new(under: &Path) -> Result<Self, Failure> {
        let folder = std::path::absolute(under)?.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
