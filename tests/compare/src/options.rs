//! What can be chosen on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::server::Kind;

/// Runs Lockstream and its peers side by side on the same events, and prints how they compare.
///
/// Everything runs on this machine, on loopback, in a temporary folder, with every sync done; all
/// servers end with it.
#[derive(Debug, Parser)]
pub struct Options {
    /// The binary of the service.
    #[arg(long, value_name = "FILE")]
    pub lockstream: PathBuf,

    /// The Python environment with the requirements installed.
    #[arg(long, value_name = "DIR")]
    pub python: PathBuf,

    /// The folder of this harness' sources.
    #[arg(long, value_name = "DIR")]
    pub sources: PathBuf,

    /// Where the servers keep their data while it runs; has to be on a disk.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,

    /// Start each server, send ten events, check the answers, and measure nothing.
    #[arg(long)]
    pub check: bool,

    /// Less of everything: three rounds of 1.5 s, 200,000 events.
    #[arg(long)]
    pub quick: bool,

    /// Measure only these.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub only: Vec<Subject>,

    /// Compare with these only.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "ceiling,umadb,fastapi,cqrs")]
    pub peers: Vec<Kind>,

    /// How often everybody has a turn.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,

    /// How long a turn takes.
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<f64>,

    /// How many events the large log has for reading, replay and start-up, and the old one for size.
    /// 3,375,000 have a million reservations.
    #[arg(long, value_name = "N")]
    pub events: Option<u64>,

    /// Connections that send single events.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,

    /// Connections that read.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub readers: u32,

    /// Connections that send batches.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub bulk_connections: u32,

    /// Threads that the load comes from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,

    /// When to give up, in minutes: something hangs then.
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    pub limit: u64,

    /// Write all figures, round by round, to this file too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// One event a request, many connections.
    Single,
    /// One event a request, one connection.
    Lone,
    /// Latency at half of the highest rate, against the disk's own.
    Latency,
    /// A thousand events a request.
    Bulk,
    /// The contract's queries on the large log.
    Reads,
    /// `verify` and `rebuild` of the large log.
    Replay,
    /// The start after a crash, and memory, with the large log.
    Startup,
    /// Throughput with an old log and with a young one.
    Size,
}

impl Options {
    pub fn wants(&self, subject: Subject) -> bool {
        self.only.is_empty() || self.only.contains(&subject)
    }

    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 })
    }

    pub fn turn(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(if self.quick { 1.5 } else { 3.0 }))
    }

    pub fn events(&self) -> u64 {
        self.events.unwrap_or(if self.quick { 200_000 } else { 3_375_000 })
    }

    /// Lockstream, and those of these that are wanted.
    pub fn contestants(&self, peers: &[Kind]) -> Vec<Kind> {
        let wanted = peers.iter().copied().filter(|peer| self.peers.contains(peer));
        std::iter::once(Kind::Lockstream).chain(wanted).collect()
    }
}
