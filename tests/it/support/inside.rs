//! A server inside the test's own process, for faults that only a port can inject. The same code
//! as the shipped binary from the listener on, spoken to over real HTTP.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use clap::Parser;
use lockstream::application::ports::{EventLog, LogFailure, NoRoom};
use lockstream::cli::Cli;
use lockstream::composition::Adapters;
use lockstream::domain::record::{Head, Record};
use lockstream::lifecycle::{self, ServeError};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::server::{Answer, answer};
use crate::support::{Folder, PATIENCE};

pub struct Inside {
    pub addr: SocketAddr,
    stop: CancellationToken,
    end: JoinHandle<Result<(), ServeError>>,
    client: reqwest::Client,
}

impl Inside {
    pub fn start(folder: &Folder, adapters: Adapters) -> Self {
        Self::start_with(folder, adapters, &[])
    }

    /// Starts with further flags. To be called within a runtime, like [`Self::start`].
    pub fn start_with(folder: &Folder, adapters: Adapters, flags: &[&str]) -> Self {
        let arguments = ["lockstream", "--data-dir", folder.path().to_str().unwrap(), "--addr", "127.0.0.1:0"];
        let database = folder.database_url().map(|url| format!("--database-url={url}"));
        let arguments = arguments.iter().chain(flags).copied().chain(database.as_deref());
        let cli = Cli::try_parse_from(arguments).unwrap();
        let listener = lifecycle::listen(cli.server.addr).unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let end = tokio::spawn({
            let stop = stop.clone();
            async move { lifecycle::run(listener, &cli.storage, &cli.server, adapters, stop).await }
        });
        Self { addr, stop, end, client: reqwest::Client::new() }
    }

    pub async fn post(&self, event: &Value) -> Answer {
        self.post_raw(event.to_string()).await
    }

    /// Posts any body as JSON.
    pub async fn post_raw(&self, body: String) -> Answer {
        let url = format!("http://{}/events", self.addr);
        let request = self.client.post(url).header("content-type", "application/json").body(body);
        answer(request).await.expect("the server answers")
    }

    /// Posts a bulk, as NDJSON.
    pub async fn send_batch(&self, body: String) -> Answer {
        let url = format!("http://{}/events/batch", self.addr);
        let request = self.client.post(url).header("content-type", "application/x-ndjson").body(body);
        answer(request).await.expect("the server answers")
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.client.get(format!("http://{}{path}", self.addr))).await.expect("the server answers")
    }

    /// Waits for the service to end by itself.
    pub async fn ended(self) -> Result<(), ServeError> {
        timeout(PATIENCE, self.end).await.expect("the service ends in good time").unwrap()
    }

    pub async fn stop(self) {
        self.stopped().await.unwrap();
    }

    /// Asks for the stop and says how it ended.
    pub async fn stopped(self) -> Result<(), ServeError> {
        self.stop.cancel();
        self.ended().await
    }
}

/// What happens to the log at its next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nothing reaches the file.
    Write,
    /// The batch reaches the file, and nobody knows whether it reaches the disk.
    Sync,
    Panic,
}

/// The test's hand on the log: counts, holds back and breaks what the real log does.
#[derive(Debug, Clone)]
pub struct LogControl(Arc<Control>);

#[derive(Debug)]
struct Control {
    appends: AtomicUsize,
    syncs: AtomicUsize,
    fault: Mutex<Fault>,
    /// While true, a sync waits.
    held: Mutex<bool>,
    released: Condvar,
}

struct Controlled {
    log: Box<dyn EventLog>,
    control: Arc<Control>,
}

impl LogControl {
    pub fn new() -> Self {
        let (appends, syncs) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (fault, held) = (Mutex::new(Fault::None), Mutex::new(false));
        Self(Arc::new(Control { appends, syncs, fault, held, released: Condvar::new() }))
    }

    pub fn adapters(&self) -> Adapters {
        let control = Arc::clone(&self.0);
        Adapters { log: Box::new(move |log| Box::new(Controlled { log, control })), ..Adapters::default() }
    }

    /// The batches that were written or should have been.
    pub fn appends(&self) -> usize {
        self.0.appends.load(Ordering::SeqCst)
    }

    /// The syncs that were tried, the one at the start included.
    pub fn syncs(&self) -> usize {
        self.0.syncs.load(Ordering::SeqCst)
    }

    pub fn fail(&self, fault: Fault) {
        *self.0.fault.lock().unwrap() = fault;
    }

    /// Makes the next sync wait for [`Self::release`].
    pub fn hold(&self) {
        *self.0.held.lock().unwrap() = true;
    }

    pub fn release(&self) {
        *self.0.held.lock().unwrap() = false;
        self.0.released.notify_all();
    }
}

impl EventLog for Controlled {
    fn make_room(&mut self, events: usize, event_bytes: usize) -> Result<Result<(), NoRoom>, LogFailure> {
        self.log.make_room(events, event_bytes)
    }

    fn check(&mut self) -> Result<(), NoRoom> {
        self.log.check()
    }

    fn append(&mut self, batch: &[Record]) -> Result<Head, LogFailure> {
        self.control.appends.fetch_add(1, Ordering::SeqCst);
        let fault = *self.control.fault.lock().unwrap();
        match fault {
            Fault::Write => Err(LogFailure("the log could not be written: no space left (injected)".into())),
            Fault::Panic => panic!("injected"),
            Fault::None | Fault::Sync => self.log.append(batch),
        }
    }

    fn sync(&mut self) -> Result<(), LogFailure> {
        self.control.syncs.fetch_add(1, Ordering::SeqCst);
        let held = self.control.held.lock().unwrap();
        let (_held, wait) = self.control.released.wait_timeout_while(held, PATIENCE, |held| *held).unwrap();
        assert!(!wait.timed_out(), "nobody released the sync");
        let fault = *self.control.fault.lock().unwrap();
        match fault {
            Fault::Sync => Err(LogFailure("the log could not be synced: input/output error (injected)".into())),
            _ => self.log.sync(),
        }
    }
}
