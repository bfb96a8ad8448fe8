//! `lockstream torture`: hurts a server of its own in every way it knows, and checks after each that
//! no promise was broken.
//!
//! A [`plan`] made from a seed says what happens; [`client`]s send what their [`device`]s report to a
//! real [`server`] process and note every request in the [`journal`]; between two starts the
//! [`audit`] holds the log, the database and the server's answers against it. What is a violation is
//! decided in [`check`] alone.
//!
//! Nothing here knows how the server works: it sees HTTP, signals, and the files that the server's
//! documents describe.

pub mod audit;
pub mod check;
pub mod client;
pub mod clock;
pub mod connection;
pub mod device;
pub mod event;
pub mod folder;
pub mod journal;
pub mod plan;
pub mod report;
pub mod round;
pub mod run;
pub mod server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use clap::Args;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Limits;
use crate::infrastructure::process::cancel_on_signal;
use crate::torture::folder::{FolderError, TortureFolder};
use crate::torture::report::Report;
use crate::torture::run::Run;

/// What to do, and for how long.
#[derive(Debug, Clone, Args)]
pub struct TortureSettings {
    /// A folder that is not there or empty; the data folder of the settings is not touched.
    #[arg(default_value = "./torture", value_name = "DIR")]
    pub dir: PathBuf,

    /// For how long; the last cycle is carried through.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub minutes: u64,

    /// For how many cycles (start, check, load, fault), instead of minutes.
    #[arg(long, conflicts_with = "minutes", value_parser = clap::value_parser!(u64).range(1..))]
    pub cycles: Option<u64>,

    /// Decides the events, the faults and their order; by default another one for each run.
    #[arg(long)]
    pub seed: Option<u64>,

    /// How many clients send at once.
    #[arg(long, default_value = "32", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub clients: u16,

    /// After how many records an empty data folder takes the place of the old one.
    #[arg(long, value_name = "RECORDS", default_value = "100000", value_parser = clap::value_parser!(u64).range(1..))]
    pub fresh_after: u64,

    /// Keep the folder; it is always kept when something was found.
    #[arg(long)]
    pub keep: bool,

    /// Print one JSON object on standard output instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Why a run could not be carried out; what it finds is no error.
#[derive(Debug, thiserror::Error)]
pub enum TortureError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("the torture's own files cannot be written: {0}")]
    Io(#[from] std::io::Error),
}

/// How far a run is, in seconds or cycles.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
    pub cycles: u64,
    pub acknowledged: u64,
}

/// Tortures a server of its own. Ends early on SIGTERM or Ctrl-C, with the last check.
pub async fn torture(
    settings: &TortureSettings,
    limits: &Limits,
    on_progress: impl Fn(Progress),
) -> Result<Report, TortureError> {
    // Any number that was not used before.
    let seed = settings.seed.unwrap_or_else(|| Uuid::now_v7().as_u64_pair().1 >> 16);
    let folder = TortureFolder::take(&settings.dir)?;
    let begin = Instant::now();
    let stop = CancellationToken::new();
    cancel_on_signal(&stop)?;
    let report = Report {
        sound: true,
        version: env!("CARGO_PKG_VERSION"),
        seed,
        date: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
        file_system: folder.file_system(),
        clients: usize::from(settings.clients),
        ..Report::default()
    };
    let mut run = Run::begin(&folder, limits, stop.clone(), report)?;
    let lasts = Duration::from_secs(settings.minutes * 60);
    for number in 0.. {
        let elapsed = begin.elapsed();
        let (done, total) = match settings.cycles {
            Some(cycles) => (number, cycles),
            None => (elapsed.as_secs(), lasts.as_secs()),
        };
        on_progress(Progress { done, total, cycles: number, acknowledged: run.report.acknowledged });
        if done >= total || stop.is_cancelled() || !run.report.sound {
            break;
        }
        run.cycle(number).await?;
        if run.is_full(settings.fresh_after) {
            run.finish_folder().await?;
            run.begin_folder()?;
        }
    }
    run.finish_folder().await?;
    let mut report = run.report;
    report.interrupted = stop.is_cancelled();
    report.elapsed_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    // A full disk, or a folder that somebody touched, takes nothing away from what the report says.
    if !report.sound {
        let _ = folder.keep_findings(&report.findings_text());
    }
    let root = folder.root().display().to_string();
    if settings.keep || !report.sound || folder.remove().is_err() {
        report.kept = Some(root);
    }
    Ok(report)
}
