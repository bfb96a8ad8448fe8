//! What makes a test short: a data folder, a server process on it, events to send, answers to read.

pub mod backend;
pub mod clock;
pub mod documents;
pub mod events;
pub mod inside;
pub mod logs;
pub mod postgres;
pub mod proxy;
pub mod server;
pub mod terminal;
pub mod views;
pub mod wire;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::backend::Backend;
use crate::support::postgres::database::Database;

/// Every wait of a test ends here at the latest, in error.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A data folder of its own with its database, both removed at the end of the test. Whatever is
/// started for it finds that database.
pub struct Folder {
    place: TempDir,
    backend: Backend,
}

impl Folder {
    /// On the database that the tests are run on.
    pub fn new() -> Self {
        Self::on(Backend::chosen())
    }

    /// For a test of the SQLite file itself.
    pub fn on_sqlite() -> Self {
        Self::on(Backend::Sqlite)
    }

    /// For a test of PostgreSQL itself.
    pub fn on_postgres() -> Self {
        Self::on(Backend::on_postgres())
    }

    /// For a test of the server that has this database.
    pub fn with(database: Database) -> Self {
        Self::on(Backend::Postgres(OnceLock::from(database)))
    }

    fn on(backend: Backend) -> Self {
        Self { place: tempfile::tempdir().expect("the system has room for a temporary folder"), backend }
    }

    pub fn path(&self) -> &Path {
        self.place.path()
    }

    pub fn log(&self) -> PathBuf {
        self.path().join("log")
    }

    /// The segments of the log in their order.
    pub fn segments(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.log()) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut segments: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
        segments.sort();
        segments
    }

    /// The bytes of the whole log.
    pub fn log_bytes(&self) -> Vec<u8> {
        self.segments().iter().flat_map(|segment| std::fs::read(segment).unwrap()).collect()
    }

    /// The records of the log, parsed.
    pub fn records(&self) -> Vec<Value> {
        let text = String::from_utf8(self.log_bytes()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many records the log has by now; a server may be writing it.
    pub fn records_so_far(&self) -> usize {
        self.log_bytes().split(|byte| *byte == b'\n').count() - 1
    }

    /// The event ids in the log, in its order.
    pub fn event_ids(&self) -> Vec<String> {
        self.records().iter().map(|record| record["event"]["event_id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Waits until `condition` holds; fails the test when it does not in good time.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let begin = Instant::now();
    while !condition().await {
        assert!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a future to its end for a caller that is not async, and may be within a runtime.
pub fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
    std::thread::scope(|scope| scope.spawn(run).join().expect("it ends without a panic"))
}
