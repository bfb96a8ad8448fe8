//! `lockstream simulate`: the live display and the outcome.

use std::io::Write;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use lockstream::cli::{Cli, exit};
use lockstream::simulate::{self, SimulateSettings};

use crate::commands::Outcome;

pub async fn simulate(cli: &Cli, settings: &SimulateSettings) -> Outcome {
    let bar = simulation_progress(settings);
    let watch = |now: simulate::Progress| {
        bar.set_position(now.events);
        bar.set_message(format!(
            "{:.0} events/s, p50 {:.1} ms, p99 {:.1} ms: {} accepted, {} duplicates, {} refused, {} sent again, {} WRONG",
            now.rate_events_per_s,
            now.p50_ms,
            now.p99_ms,
            now.accepted,
            now.duplicates,
            now.refused,
            now.sent_again,
            now.wrong
        ));
    };
    let watched: Option<&dyn Fn(simulate::Progress)> = if bar.is_hidden() { None } else { Some(&watch) };
    let report = simulate::simulate(settings, cli.server.addr, watched).await;
    bar.finish_and_clear();
    let report = report?;
    let told = if settings.json { serde_json::to_string(&report)? + "\n" } else { report.to_string() };
    if settings.file.as_deref() == Some(Path::new("-")) {
        // Standard output belongs to the events.
        std::io::stderr().write_all(told.as_bytes())?;
    } else {
        std::io::stdout().write_all(told.as_bytes())?;
    }
    Ok(match (report.sound, report.failure) {
        (false, _) => exit::FINDINGS,
        (true, Some(_)) => exit::FAILED,
        (true, None) => exit::OK,
    })
}

/// A line on standard error, shown only when that is a terminal.
fn simulation_progress(settings: &SimulateSettings) -> ProgressBar {
    let (bar, template) = match settings.events {
        Some(events) => (ProgressBar::new(events), "[{bar:20}] {percent}%, {eta} left, {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {elapsed}, {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is well-formed"))
}
