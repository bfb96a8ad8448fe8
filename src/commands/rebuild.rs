//! `lockstream rebuild`: by itself, or through the server that has the data folder.

use std::error::Error;
use std::io::Write;

use indicatif::ProgressStyle;
use lockstream::application::rebuild::report::{RebuildError, RebuildProgress, RebuildReport};
use lockstream::cli::{Cli, exit};
use lockstream::composition::{StartError, maintenance};
use lockstream::config::StorageSettings;
use lockstream::infrastructure::admin_socket;
use lockstream::infrastructure::data_folder::DataFolderError;
use lockstream::web::admin::RebuildLine;

use crate::commands::{Outcome, byte_progress, show};

pub async fn rebuild(cli: &Cli, force: bool, json: bool) -> Outcome {
    let bar = byte_progress("reading the log");
    let rebuilt = maintenance::rebuild(&cli.storage, &cli.server.limits, force, |read| show(&bar, read)).await;
    bar.finish_and_clear();
    let report = match rebuilt {
        Err(StartError::DataFolder(DataFolderError::InUse(_))) => rebuild_in_server(&cli.storage, force)?,
        Err(StartError::Rebuild(error @ RebuildError::Differs(_))) => Err(error.to_string()),
        rebuilt => Ok(rebuilt?),
    };
    match report {
        Ok(report) => print_rebuilt(&report, json)?,
        Err(differences) => {
            eprintln!("error: {differences}");
            return Ok(exit::FINDINGS);
        }
    }
    Ok(exit::OK)
}

/// Has the server that holds the data folder rebuild; the inner error says what differs.
fn rebuild_in_server(storage: &StorageSettings, force: bool) -> Result<Result<RebuildReport, String>, Box<dyn Error>> {
    let bar = byte_progress("rebuilding in the server");
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len} events, {eta} left");
    bar.set_style(style.expect("the template is well-formed"));
    let mut last = None;
    let socket = storage.folder().admin_socket();
    let ordered = admin_socket::order(&socket, &format!("/rebuild?force={force}"), |line| {
        let line = serde_json::from_str(line).ok();
        if let Some(RebuildLine::Progress(RebuildProgress { read_events, total_events })) = line {
            bar.set_length(total_events);
            bar.set_position(read_events);
        }
        last = line;
    });
    bar.finish_and_clear();
    ordered.map_err(|error| {
        format!(
            "the data folder is in use, and who has it takes no orders: {error} ({}). Is another `lockstream rebuild` \
             under way? Otherwise stop the server first",
            socket.display()
        )
    })?;
    match last {
        Some(RebuildLine::Done(report)) => Ok(Ok(report)),
        Some(RebuildLine::Failed { detail, differs: true }) => Ok(Err(detail)),
        Some(RebuildLine::Failed { detail, .. }) => Err(detail.into()),
        Some(RebuildLine::Progress(_)) | None => Err("the server ended before the rebuild did".into()),
    }
}

fn print_rebuilt(report: &RebuildReport, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, report)?;
        return writeln!(out);
    }
    let RebuildReport { records, lockers, compartments, reservations, elapsed_ms, differing_lockers, .. } = report;
    writeln!(
        out,
        "rebuilt from {records} records in {elapsed_ms} ms: {lockers} lockers, {compartments} compartments, \
         {reservations} reservations"
    )?;
    match report.compared_lockers {
        Some(compared) => writeln!(out, "compared with the old one: {compared} lockers, {differing_lockers} differ")?,
        None => writeln!(out, "not compared with the old one, which is of another log or cannot be read")?,
    }
    match report.held_ms {
        0 => Ok(()),
        held_ms => {
            let held_events = report.held_events;
            writeln!(out, "queries may have waited {held_ms} ms at the end, while {held_events} events were taken in")
        }
    }
}
