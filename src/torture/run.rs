//! A run under way: one cycle after the other on one data folder, until that is full.

mod hurt;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::infrastructure::data_folder::DataFolder;
use crate::torture::TortureError;
use crate::torture::audit::{Fold, audit, fold};
use crate::torture::check::{Checked, Finding, Violation, check};
use crate::torture::client::Client;
use crate::torture::folder::TortureFolder;
use crate::torture::journal::Journal;
use crate::torture::plan::{Cycle, Kind, Mix, Plan};
use crate::torture::report::Report;
use crate::torture::round::{Recent, Round};
use crate::torture::server::Server;

/// How long the clients may take in the end for what got no answer.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// How many requests the journal holds for each record that a folder may have.
const REQUESTS_A_RECORD: u64 = 10;

/// A run.
pub struct Run<'a> {
    folder: &'a TortureFolder,
    limits: &'a Limits,
    plan: Plan,
    stop: CancellationToken,
    pub report: Report,
    journal: Arc<Journal>,
    recent: Arc<Recent>,
    clients: Vec<Client>,
    /// How many entries of the journal are counted.
    counted: usize,
    /// The records at the last check.
    records: u64,
}

impl<'a> Run<'a> {
    pub fn begin(
        folder: &'a TortureFolder,
        limits: &'a Limits,
        stop: CancellationToken,
        report: Report,
    ) -> Result<Self, TortureError> {
        let journal = Arc::new(Journal::create(&folder.journal())?);
        let plan = Plan::new(report.seed);
        let recent = Arc::default();
        let mut run =
            Self { folder, limits, plan, stop, report, journal, recent, clients: Vec::new(), counted: 0, records: 0 };
        run.begin_folder()?;
        Ok(run)
    }

    /// Begins with an empty data folder, an empty journal and new devices.
    pub fn begin_folder(&mut self) -> Result<(), TortureError> {
        let Report { seed, folders, clients, sound, .. } = self.report;
        if !sound {
            return Ok(());
        }
        self.folder.clear()?;
        self.journal = Arc::new(Journal::create(&self.folder.journal())?);
        self.recent = Arc::default();
        self.clients = (0..clients).map(|number| Client::new(seed, folders, number)).collect();
        (self.counted, self.records) = (0, 0);
        self.report.folders += 1;
        Ok(())
    }

    /// Whether the data folder has had its share.
    pub fn is_full(&self, records: u64) -> bool {
        self.records >= records || self.counted as u64 >= records.saturating_mul(REQUESTS_A_RECORD)
    }

    /// Starts a server, checks everything, lets the clients loose and hurts it.
    pub async fn cycle(&mut self, number: u64) -> Result<(), TortureError> {
        let cycle = self.plan.cycle(number);
        if cycle.kind == Kind::DatabaseDeleted && self.folder.data().exists() {
            self.folder.delete_database()?;
        }
        self.report.cycles += 1;
        *self.report.kinds.entry(cycle.kind).or_default() += 1;
        let Some(mut server) = self.start(&cycle).await else { return Ok(()) };
        if self.check(Some(server.addr)).await.is_none() {
            return Ok(());
        }
        let round = self.round(number, server.addr, cycle.mix);
        let mut sending: JoinSet<Client> =
            self.clients.drain(..).map(|client| client.send(Arc::clone(&round))).collect();
        let hurt = self.hurt(&mut server, &cycle, &round).await;
        round.over.store(true, Ordering::Relaxed);
        while let Some(client) = sending.join_next().await {
            self.clients.push(client.expect("a client does not panic"));
        }
        self.clients.sort_by_key(Client::number);
        if let Err(sentence) = hurt {
            let detail = format!("cycle {number} ({:?}): the server {sentence}", cycle.kind);
            self.report.find([Finding::new(Violation::Process, detail)]);
        }
        self.take_in_journal()
    }

    /// Starts once more, settles what got no answer, and checks for the last time, with the server
    /// and without.
    pub async fn finish_folder(&mut self) -> Result<(), TortureError> {
        if !self.report.sound {
            return Ok(());
        }
        let cycle = Cycle { clock_seed: None, ..self.plan.cycle(0) };
        let Some(mut server) = self.start(&cycle).await else { return Ok(()) };
        if self.check(Some(server.addr)).await.is_none() {
            return Ok(());
        }
        let mix = Mix { repeats: 0, volleys: 0, disconnects: 0 };
        let round = self.round(self.report.cycles, server.addr, mix);
        let mut settling: JoinSet<Client> =
            self.clients.drain(..).map(|client| client.finish(Arc::clone(&round))).collect();
        let deadline = tokio::spawn({
            let round = Arc::clone(&round);
            async move {
                sleep(SETTLED_WITHIN).await;
                round.over.store(true, Ordering::Relaxed);
            }
        });
        while settling.join_next().await.is_some() {}
        deadline.abort();
        self.take_in_journal()?;
        let Some(checked) = self.check(Some(server.addr)).await else { return Ok(()) };
        self.report.unanswered += checked.unanswered;
        self.report.settled += checked.settled;
        self.report.records += self.records;
        if checked.settled < checked.unanswered {
            let detail = format!("{} events got no answer to the end", checked.unanswered - checked.settled);
            self.report.find([Finding::new(Violation::Unsettled, detail)]);
        }
        match server.stop().await {
            Ok(()) => {
                self.check(None).await;
            }
            Err(sentence) => {
                let detail = format!("at the last stop: the server {sentence}");
                self.report.find([Finding::new(Violation::Process, detail)]);
            }
        }
        Ok(())
    }

    /// Checks everything; `None` when a promise was broken.
    async fn check(&mut self, server: Option<SocketAddr>) -> Option<Checked> {
        let (mut checked, records) = audit(&self.folder.data(), self.limits, &self.journal, server).await;
        self.records = records;
        let findings = std::mem::take(&mut checked.findings);
        self.report.find(findings);
        self.report.sound.then_some(checked)
    }

    /// Writes the journal to its file, and counts what is new in it.
    fn take_in_journal(&mut self) -> Result<(), TortureError> {
        self.journal.write()?;
        let entries = self.journal.entries();
        self.report.count(&entries[self.counted..]);
        self.counted = entries.len();
        Ok(())
    }

    fn round(&self, cycle: u64, addr: SocketAddr, mix: Mix) -> Arc<Round> {
        Arc::new(Round {
            cycle,
            addr,
            mix,
            journal: Arc::clone(&self.journal),
            recent: Arc::clone(&self.recent),
            over: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        })
    }

    /// A server that does not start is a finding.
    async fn start(&mut self, cycle: &Cycle) -> Option<Server> {
        match Server::start(&self.folder.data(), &self.folder.server_log(), cycle).await {
            Ok(server) => {
                let started_ms = u64::try_from(server.started_in.as_millis()).unwrap_or(u64::MAX);
                self.report.longest_recovery_ms = self.report.longest_recovery_ms.max(server.recovery_ms);
                self.report.longest_start_ms = self.report.longest_start_ms.max(started_ms);
                Some(server)
            }
            Err(sentence) => {
                let detail = format!("cycle {}: the server {sentence}", self.report.cycles);
                self.report.find([Finding::new(Violation::Process, detail)]);
                // What there is of the log tells what is lost. A torn end is no news here.
                let (Fold { log, .. }, _) = fold(&DataFolder::new(self.folder.data()));
                self.report.find(check(&self.journal.entries(), &log).findings);
                None
            }
        }
    }
}
