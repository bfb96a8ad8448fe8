//! The server process that is tortured: the running binary, started once more.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::time::sleep;

use crate::infrastructure::process::limit_file_size;
use crate::torture::connection::Connection;
use crate::torture::plan::Cycle;

/// How long a start may take until the first answer.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long an orderly stop may take: both of its steps have 10 s.
const STOP_LIMIT: Duration = Duration::from_secs(25);
/// How often is looked whether something happened.
const LOOK: Duration = Duration::from_millis(2);

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    pub addr: SocketAddr,
    /// From the start of the process to its first answer.
    pub started_in: Duration,
    /// What the server says that its recovery took.
    pub recovery_ms: u64,
    child: Child,
    reading: Option<JoinHandle<()>>,
}

/// The server's line that says that it is there.
#[derive(Debug, Deserialize)]
struct Serving {
    message: String,
    addr: SocketAddr,
    recovery_ms: u64,
}

impl Server {
    /// Starts on a data folder; the error is a sentence. What it writes to standard error is appended
    /// to a file by this process, so that a limit on the server's files does not concern it.
    pub async fn start(data: &Path, log_file: &Path, cycle: &Cycle) -> Result<Self, String> {
        let begin = Instant::now();
        let file = File::options().create(true).append(true).open(log_file);
        let file = file.map_err(|error| format!("{} cannot be written: {error}", log_file.display()))?;
        let mut child = command(data, cycle)?.spawn().map_err(|error| format!("cannot be started: {error}"))?;
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let (lines, said) = mpsc::channel();
        let reading = thread::spawn(move || pump(BufReader::new(stderr), file, &lines));
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { addr, started_in: Duration::ZERO, recovery_ms: 0, child, reading: Some(reading) };
        let Serving { addr, recovery_ms, .. } = server.serving(&said, begin).await.map_err(|sentence| {
            let lines = std::fs::read_to_string(log_file).unwrap_or_default();
            format!("{sentence}; its last line is {}", lines.lines().last().unwrap_or_default())
        })?;
        (server.addr, server.recovery_ms) = (addr, recovery_ms);
        let mut connection = Connection::open(addr).await.map_err(|error| error.to_string())?;
        let answer = connection.get("/livez").await.map_err(|error| error.to_string())?;
        server.started_in = begin.elapsed();
        match answer.status {
            200 => Ok(server),
            status => Err(format!("answered /livez with {status}")),
        }
    }

    async fn serving(&mut self, said: &Receiver<Serving>, begin: Instant) -> Result<Serving, String> {
        loop {
            match said.try_recv() {
                Ok(serving) => return Ok(serving),
                Err(TryRecvError::Disconnected) => {
                    let status = self.ended_within(START_LIMIT).await?;
                    return Err(format!("ended before it served: {status}"));
                }
                Err(TryRecvError::Empty) if begin.elapsed() > START_LIMIT => {
                    return Err(format!("did not serve within {} s", START_LIMIT.as_secs()));
                }
                Err(TryRecvError::Empty) => sleep(LOOK).await,
            }
        }
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        // A child that cannot be asked is as good as one that runs: every wait has its end.
        let status = self.child.try_wait().ok().flatten()?;
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
        Some(status)
    }

    async fn ended_within(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if begin.elapsed() > limit {
                return Err(format!("did not end within {} s", limit.as_secs()));
            }
            sleep(LOOK).await;
        }
    }

    /// Ends it as a power cut would, as far as the process is concerned.
    pub async fn kill(&mut self) -> Result<(), String> {
        self.signal(Signal::KILL);
        self.ended_within(STOP_LIMIT).await.map(|_| ())
    }

    /// Has it end in order, which it has to do with the exit code 0.
    pub async fn stop(&mut self) -> Result<(), String> {
        self.signal(Signal::TERM);
        let status = self.ended_within(STOP_LIMIT).await.map_err(|error| format!("after SIGTERM it {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("after SIGTERM it ended with {status}")) }
    }

    /// Lets its files grow up to this length only; `None` takes the limit away again.
    pub fn limit_files(&self, bytes: Option<u64>) -> Result<(), String> {
        limit_file_size(self.pid(), bytes).map_err(|error| format!("its files cannot be limited: {error}"))
    }

    fn signal(&mut self, signal: Signal) {
        // Another process may have the number of one that was waited for.
        if self.ended().is_none() {
            let _ = kill_process(self.pid(), signal);
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails for a child that was waited for, and that is gone then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(data: &Path, cycle: &Cycle) -> Result<Command, String> {
    let binary = std::env::current_exe().map_err(|error| format!("cannot be found: {error}"))?;
    let mut command = Command::new(binary);
    // Nobody would end a server whose torture was killed.
    command.args(["torture-server", "--parent", &std::process::id().to_string()]);
    if let Some(seed) = cycle.clock_seed {
        command.args(["--clock-seed", &seed.to_string()]);
    }
    for (name, _) in std::env::vars_os() {
        let named = name.to_string_lossy();
        if named.starts_with("LOCKSTREAM_") || named == "DATABASE_URL" || named == "RUST_LOG" {
            command.env_remove(&name);
        }
    }
    let folder = data.parent().expect("the data folder lies in the torture's");
    command.arg("--data-dir").arg(data).args(["--addr", "127.0.0.1:0"]).current_dir(folder);
    command.env("LOCKSTREAM_LOG_FORMAT", "json");
    command.env("LOCKSTREAM_MAX_SEGMENT_BYTES", cycle.segment_bytes.to_string());
    // Ctrl-C on the terminal is for this process, which ends the server in its own way.
    command.process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(command)
}

/// Copies lines to a file until there are no more, and hands on the one that matters.
fn pump(lines: impl BufRead, mut file: File, said: &mpsc::Sender<Serving>) {
    for line in lines.lines().map_while(Result::ok) {
        // A full disk below this process must not block the server on its standard error.
        let _ = writeln!(file, "{line}");
        if let Ok(serving) = serde_json::from_str::<Serving>(&line)
            && serving.message == "serving"
        {
            let _ = said.send(serving);
        }
    }
}
