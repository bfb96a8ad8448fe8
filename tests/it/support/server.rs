//! A server process: the shipped binary, on a port of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Folder, PATIENCE, eventually};

/// Where the shipped binary lies.
pub const BINARY: &str = env!("CARGO_BIN_EXE_lockstream");

/// The shipped binary, with nothing of the tester's environment.
pub fn lockstream(folder: &Folder) -> Command {
    lockstream_at(BINARY.as_ref(), folder)
}

/// A copy of the binary that lies elsewhere.
pub fn lockstream_at(binary: &Path, folder: &Folder) -> Command {
    let mut command = Command::new(binary);
    // Coverage of child processes is the only thing that is handed on.
    let kept: Vec<_> = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LLVM_")).collect();
    command.env_clear().envs(kept).envs(folder.database_url().map(|url| ("DATABASE_URL", url)));
    command.current_dir(folder.path()).env("LOCKSTREAM_DATA_DIR", folder.path()).env("LOCKSTREAM_ADDR", "127.0.0.1:0");
    command.env("LOCKSTREAM_LOG_FORMAT", "json").stdin(Stdio::null());
    command
}

/// The shipped binary, whose files may not become longer than `ulimit`, the shell's command, says with
/// this option.
pub fn lockstream_limited(folder: &Folder, option: &str) -> Command {
    let mut command = lockstream_at("/bin/sh".as_ref(), folder);
    command.args(["-c", &format!(r#"ulimit {option}; exec "$0""#), BINARY]);
    // The counters of a measured coverage would be such a file too.
    command.env("LLVM_PROFILE_FILE", "/dev/null");
    command
}

/// How long a server lets whoever asks it wait, unless a test sets it: that a machine is slow and busy
/// is no reason to turn a test away.
const PATIENT: [(&str, &str); 2] =
    [("LOCKSTREAM_ANSWER_TIMEOUT_MS", "50000"), ("LOCKSTREAM_QUERY_TIMEOUT_MS", "50000")];

/// What a command that ended left.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end, which has to come in good time.
pub fn run(mut command: Command) -> Ended {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output().unwrap()));
    let output = end.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let _ = kill_process(pid, Signal::KILL);
        panic!("the command did not end: {command:?}")
    });
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A running server. Killed when dropped.
pub struct Server {
    pub addr: SocketAddr,
    child: Child,
    /// What the process wrote to standard error so far, a JSON object a line.
    lines: Arc<Mutex<Vec<String>>>,
    /// Ends when standard error does.
    reading: Option<JoinHandle<()>>,
    client: reqwest::Client,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {:?}", self.body))
    }

    /// The `code` of a problem, empty for other bodies.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The `sequence` of a receipt.
    pub fn sequence(&self) -> u64 {
        self.json()["sequence"].as_u64().unwrap_or_else(|| panic!("no receipt: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Server {
    /// Starts on a folder with the default settings.
    pub async fn start(folder: &Folder) -> Self {
        Self::start_with(folder, &[]).await
    }

    /// Starts with settings, given as environment variables.
    pub async fn start_with(folder: &Folder, settings: &[(&str, &str)]) -> Self {
        let mut command = lockstream(folder);
        command.envs(settings.iter().copied());
        Self::spawn(command).await.unwrap_or_else(|lines| panic!("the server did not start: {lines:?}"))
    }

    /// Starts a command that should serve; the error is what it wrote instead.
    pub async fn spawn(mut command: Command) -> Result<Self, Vec<String>> {
        let is_set = |name: &str| command.get_envs().any(|(set, _)| set == name);
        let patient: Vec<_> = PATIENT.into_iter().filter(|(name, _)| !is_set(name)).collect();
        command.envs(patient);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (serving, starts) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let kept = Arc::clone(&lines);
        let reading = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let object: Value = serde_json::from_str(&line).unwrap_or_default();
                kept.lock().unwrap().push(line);
                if object["message"] == "serving" {
                    let _ = serving.send(object["addr"].as_str().unwrap().parse().unwrap());
                }
            }
        });
        let started = tokio::task::spawn_blocking(move || starts.recv_timeout(PATIENCE)).await.unwrap();
        match started {
            Ok(addr) => Ok(Self { addr, child, lines, reading: Some(reading), client: patient_client() }),
            Err(error) => {
                if error == RecvTimeoutError::Timeout {
                    child.kill().unwrap();
                }
                child.wait().unwrap();
                Err(lines.lock().unwrap().clone())
            }
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.client.get(self.url(path))).await.expect("the server answers")
    }

    /// Sends any request.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let request = self.client.request(method.parse().unwrap(), self.url(path)).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        answer(request).await.expect("the server answers")
    }

    /// Posts an event.
    pub async fn post(&self, event: &Value) -> Answer {
        self.post_raw("application/json", event.to_string()).await
    }

    /// Posts any body.
    pub async fn post_raw(&self, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.try_post(content_type, body).await.expect("the server answers")
    }

    /// Posts any body to a server that may go away.
    pub async fn try_post(&self, content_type: &str, body: impl Into<reqwest::Body>) -> reqwest::Result<Answer> {
        answer(self.client.post(self.url("/events")).header("content-type", content_type).body(body)).await
    }

    /// Posts events one after the other; each has to be accepted.
    pub async fn accept<'e>(&self, events: impl IntoIterator<Item = &'e Value>) {
        for event in events {
            let answer = self.post(event).await;
            assert_eq!(answer.status, 202, "{event}: {answer:?}");
        }
    }

    /// The state hash of a locker.
    pub async fn state_hash(&self, locker: &str) -> String {
        self.get(&format!("/lockers/{locker}")).await.json()["state_hash"].as_str().unwrap().to_owned()
    }

    /// The process's log lines with this message so far, parsed. Needs the JSON format.
    pub fn lines_saying(&self, message: &str) -> Vec<Value> {
        let objects = self.lines().into_iter().filter_map(|line| serde_json::from_str(&line).ok());
        objects.filter(|line: &Value| line["message"] == message).collect()
    }

    /// Waits until the process has said this so many times: what it says is read beside the test.
    pub async fn says(&self, message: &str, times: usize) {
        let what = format!("{message:?} is said {times} times");
        eventually(&what, async || self.lines_saying(message).len() >= times).await;
        assert_eq!(self.lines_saying(message).len(), times, "{message}");
    }

    /// The process's log lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the process to end by itself; [`Self::lines`] are complete then.
    pub fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                if let Some(reading) = self.reading.take() {
                    reading.join().unwrap();
                }
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "the process did not end: {:?}", self.lines());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request and reads the answer to its end.
pub async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, body: response.text().await? })
}

/// A client that gives up: a server that hangs fails its test and not the whole run.
fn patient_client() -> reqwest::Client {
    reqwest::Client::builder().timeout(PATIENCE).build().unwrap()
}
