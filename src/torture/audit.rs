//! The audit of a server that nobody uses just now: log, answers, state hashes and database.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::composition::maintenance;
use crate::config::{Limits, StorageSettings};
use crate::domain::hash::StateHash;
use crate::domain::ids::LockerId;
use crate::domain::world::{Touched, World};
use crate::infrastructure::data_folder::DataFolder;
use crate::infrastructure::event_log::history::History;
use crate::torture::check::{Checked, Finding, Logged, Violation, check};
use crate::torture::connection::Connection;
use crate::torture::journal::Journal;

/// How long the projection may take to be where the log is.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// What the log says.
#[derive(Debug)]
pub struct Fold {
    pub log: Vec<Logged>,
    state_hashes: BTreeMap<LockerId, StateHash>,
}

/// Reads and folds a log to its end, or as far as it can be read: the sentence says why no further.
#[must_use]
pub fn fold(folder: &DataFolder) -> (Fold, Option<String>) {
    let mut world = World::default();
    let mut log = Vec::new();
    let mut read = || -> Result<(), Box<dyn Error>> {
        for item in History::open(&folder.log())? {
            let (record, _) = item?;
            world.replay(&record, &mut Touched::default())?;
            log.push(Logged::from(&record));
        }
        Ok(())
    };
    let damage = read().err().map(|error| error.to_string());
    (Fold { log, state_hashes: world.state_hashes() }, damage)
}

/// Holds everything against the log that claims to know it. With a server at `addr` also what that
/// one says.
pub async fn audit(data: &Path, limits: &Limits, journal: &Journal, server: Option<SocketAddr>) -> (Checked, u64) {
    let storage = StorageSettings { data_dir: data.to_owned(), database_url: None };
    let (Fold { log, state_hashes }, damage) = block_in_place(|| fold(&storage.folder()));
    let mut checked = block_in_place(|| check(&journal.entries(), &log));
    if let Some(damage) = damage {
        // A server has recovered it, so that there may not be a torn end either.
        checked.findings.insert(0, Finding::new(Violation::DamagedLog, format!("the log is damaged: {damage}")));
    } else if let Some(addr) = server
        && let Err(finding) = compare_hashes(addr, &state_hashes).await
    {
        checked.findings.push(finding);
    }
    let differs = |detail| Finding::new(Violation::DatabaseDiffers, detail);
    match block_in_place(|| maintenance::verify(&storage, limits, |_| ())) {
        Ok(report) => {
            let findings = report.findings.into_iter();
            checked.findings.extend(findings.map(|found| differs(format!("verify: {}: {}", found.code, found.detail))));
            let head = log.last().map_or(0, |record| record.sequence);
            if report.projected_sequence != Some(head) {
                let stands = report.projected_sequence;
                checked.findings.push(differs(format!("the database stands at {stands:?}, the log at {head}")));
            }
        }
        Err(error) => checked.findings.push(differs(format!("verify cannot be carried out: {error}"))),
    }
    (checked, log.len() as u64)
}

/// Asks for every locker of the log.
async fn compare_hashes(addr: SocketAddr, expected: &BTreeMap<LockerId, StateHash>) -> Result<(), Finding> {
    #[derive(Deserialize)]
    struct Summary {
        state_hash: String,
    }
    let wrong = |detail| Finding::new(Violation::WrongAnswer, detail);
    let deadline = Instant::now() + CATCH_UP_LIMIT;
    let mut connection = Connection::open(addr).await.map_err(|error| wrong(error.to_string()))?;
    for (locker, hash) in expected {
        let path = format!("/lockers/{locker}");
        let answer = loop {
            let answer = connection.get(&path).await.map_err(|error| wrong(format!("GET {path}: {error}")))?;
            if answer.status != 503 || Instant::now() > deadline {
                break answer;
            }
            sleep(PAUSE).await;
        };
        let body = String::from_utf8_lossy(&answer.body);
        let Ok(Summary { state_hash }) = serde_json::from_str(&body) else {
            return Err(wrong(format!("GET {path} was answered with {} {body}", answer.status)));
        };
        if state_hash != hash.to_string() {
            let detail = format!("locker {locker}: the log gives the state hash {hash}, the server says {state_hash}");
            return Err(Finding::new(Violation::HashMismatch, detail));
        }
    }
    // An empty log is waited for as well.
    if connection.get("/lockers/none").await.is_ok_and(|answer| answer.status == 404) {
        return Ok(());
    }
    Err(wrong("GET of a locker that never was is not answered with 404".into()))
}
