//! The servers that are compared: started on loopback with a folder of their own, watched from
//! outside through what the kernel counts, and killed when they are dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::time::sleep;

use crate::Failure;
use crate::http::{Connection, request};

/// How long a start may take: a service may have millions of events to read.
const START_LIMIT: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(2);
/// The kernel's clock tick, the unit of processor time in /proc.
const TICKS_PER_SECOND: f64 = 100.0;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Lockstream,
    /// The server whose handlers do nothing.
    Ceiling,
    #[value(name = "umadb")]
    UmaDb,
    #[value(name = "fastapi")]
    FastApi,
    Cqrs,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Lockstream => "Lockstream",
            Self::Ceiling => "no-op",
            Self::UmaDb => "UmaDB",
            Self::FastApi => "FastAPI + SQLite",
            Self::Cqrs => "cqrs-es + sqlite-es",
        }
    }

    /// What answers with 200 once it serves.
    fn sign_of_life(self) -> &'static str {
        match self {
            Self::Lockstream => "/readyz",
            Self::Ceiling => "/hello",
            Self::UmaDb | Self::FastApi | Self::Cqrs => "/livez",
        }
    }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    pub lockstream: PathBuf,
    /// The folder of a Python environment with the requirements installed.
    pub python: PathBuf,
    /// The folder of the harness' sources, which has the Python service.
    pub sources: PathBuf,
    /// The folder of the harness' own binaries.
    pub own: PathBuf,
}

impl Programs {
    /// The binary of the service with none of the caller's settings.
    pub fn lockstream(&self, data: &Path) -> Command {
        let mut command = Command::new(&self.lockstream);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("LOCKSTREAM_") || text == "DATABASE_URL" || text == "RUST_LOG" {
                command.env_remove(&name);
            }
        }
        // A file .env of the caller is not read there.
        command.arg("--data-dir").arg(data).current_dir(data).stdin(Stdio::null());
        command
    }

    fn command(&self, kind: Kind, folder: &Path, addr: SocketAddr) -> Command {
        let python = self.python.join("bin");
        match kind {
            Kind::Lockstream => {
                let mut command = self.lockstream(folder);
                command.args(["--addr", &addr.to_string()]);
                command
            }
            Kind::Ceiling => {
                let mut command = Command::new(self.own.join("ceiling"));
                command.arg(addr.to_string());
                command
            }
            Kind::UmaDb => {
                let mut command = Command::new(python.join("umadb"));
                command.args(["--listen", &addr.to_string(), "--pipelined-writer", "true", "--db-path"]);
                command.arg(folder.join("events.uma"));
                command
            }
            Kind::FastApi => {
                let mut command = Command::new(python.join("uvicorn"));
                command.args(["fastapi_service:app", "--no-access-log", "--log-level", "warning", "--host"]);
                command.args([&addr.ip().to_string(), "--port", &addr.port().to_string()]);
                command.arg("--app-dir").arg(&self.sources).env("EVENTS_DB", folder.join("events.db"));
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Kind::Cqrs => {
                let mut command = Command::new(self.own.join("cqrs_service"));
                command.arg(addr.to_string()).arg(folder);
                command
            }
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub kind: Kind,
    pub addr: SocketAddr,
    pub folder: PathBuf,
    /// How many connections all requests share, where the protocol lets them; the others have each
    /// their own.
    pub channels: usize,
    /// From the start of the process until it was ready.
    pub started_in: Duration,
    child: Child,
}

impl Server {
    /// Starts on a folder, new or used, and waits until it is ready.
    pub async fn start(kind: Kind, programs: &Programs, folder: &Path) -> Result<Self, Failure> {
        let whose = kind.name();
        fs::create_dir_all(folder).map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
        let addr = free_address().map_err(|error| format!("no free port: {error}"))?;
        let said = folder.with_extension("stderr");
        let stderr = File::create(&said).map_err(|error| format!("{} cannot be made: {error}", said.display()))?;
        let mut command = programs.command(kind, folder, addr);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let begin = Instant::now();
        let child = command.spawn().map_err(|error| format!("{whose} cannot be started: {error}"))?;
        let folder = folder.to_owned();
        let mut server = Self { kind, addr, folder, channels: 1, started_in: Duration::ZERO, child };
        while !server.serves().await {
            let ended = server.child.try_wait().ok().flatten();
            if ended.is_some() || begin.elapsed() > START_LIMIT {
                let said = fs::read_to_string(&said).unwrap_or_default();
                let last = said.lines().last().unwrap_or("nothing");
                return Err(format!("{whose} did not start ({ended:?}); the last it said is: {last}").into());
            }
            sleep(LOOK).await;
        }
        server.started_in = begin.elapsed();
        Ok(server)
    }

    async fn serves(&self) -> bool {
        let Ok(mut connection) = Connection::open(self.addr).await else { return false };
        // It speaks another protocol: that it listens has to do.
        if self.kind == Kind::UmaDb {
            return true;
        }
        let asked = connection.ask(&request("GET", self.kind.sign_of_life(), "", "")).await;
        asked.is_ok_and(|status| status == 200)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        // Fails for a child that was waited for, and that is gone then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Processor seconds used so far, in user and kernel mode, all threads together.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.child.id().to_string())
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Starts counting its syncs; `None` where the kernel does not let us.
    pub async fn count_syncs(&self) -> Option<SyncCounter> {
        SyncCounter::start(self.child.id(), &self.folder.with_extension("syncs")).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Processor seconds of a process, or of `self`.
pub fn cpu_seconds(process: &str) -> f64 {
    ticks(process, 11) / TICKS_PER_SECOND
}

/// Processor seconds of all processes that this one started and waited for.
pub fn cpu_seconds_of_ended_children() -> f64 {
    ticks("self", 13) / TICKS_PER_SECOND
}

/// Two neighbouring counters: in user mode, in kernel mode.
fn ticks(process: &str, place: usize) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name of the process, in brackets, may have spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(place).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum()
}

/// Counts `fsync` and `fdatasync` of a process, also those through `io_uring`, by perf's trace points,
/// which cost it next to nothing.
#[derive(Debug)]
pub struct SyncCounter {
    perf: Child,
    output: PathBuf,
}

impl SyncCounter {
    async fn start(process: u32, output: &Path) -> Option<Self> {
        const CALLS: &str = "syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync";
        // UmaDB submits its syncs to the kernel without a call for each; 3 is IORING_OP_FSYNC.
        const SUBMITTED: [&str; 4] = ["-e", "io_uring:io_uring_submit_req", "--filter", "opcode == 3"];
        let mut command = Command::new("perf");
        command.args(["stat", "-x,", "-e", CALLS]).args(SUBMITTED);
        command.args(["-p", &process.to_string(), "-o"]).arg(output);
        let perf = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let mut counter = Self { perf, output: output.to_owned() };
        // It counts from when it has its counters open.
        let begin = Instant::now();
        while !counter.is_counting() {
            if counter.perf.try_wait().ok()?.is_some() || begin.elapsed() > Duration::from_secs(5) {
                return None;
            }
            sleep(LOOK).await;
        }
        Some(counter)
    }

    fn is_counting(&self) -> bool {
        let files = fs::read_dir(format!("/proc/{}/fd", self.perf.id())).into_iter().flatten().flatten();
        let is_counter = |path: &PathBuf| path.to_string_lossy().contains("perf_event");
        files.filter_map(|file| fs::read_link(file.path()).ok()).filter(is_counter).count() >= 3
    }

    /// How many there were.
    pub fn stop(mut self) -> Option<u64> {
        kill_process(Pid::from_child(&self.perf), Signal::INT).ok()?;
        self.perf.wait().ok()?;
        let text = fs::read_to_string(&self.output).ok()?;
        let counts = text.lines().filter(|line| line.contains("sys_enter") || line.contains("io_uring"));
        counts.map(|line| line.split(',').next()?.parse::<u64>().ok()).sum()
    }
}

impl Drop for SyncCounter {
    fn drop(&mut self) {
        let _ = self.perf.kill();
        let _ = self.perf.wait();
    }
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
