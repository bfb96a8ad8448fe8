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
    let report = match report {
        Ok(report) => report,
        Err(differences) => {
            eprintln!("error: {differences}");
            return Ok(exit::FINDINGS);
        }
    };
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(exit::OK)
}

/// Has the server that holds the data folder rebuild; the inner error says what differs.
fn rebuild_in_server(storage: &StorageSettings, force: bool) -> Result<Result<RebuildReport, String>, Box<dyn Error>> {
    let bar = byte_progress("rebuilding in the server");
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len} events, {eta} left");
    bar.set_style(style.expect("the template is well-formed"));
    let mut last = String::new();
    let socket = storage.folder().admin_socket();
    let ordered = admin_socket::order(&socket, &format!("/rebuild?force={force}"), |line| {
        if let Ok(RebuildLine::Progress(RebuildProgress { read_events, total_events })) = serde_json::from_str(line) {
            bar.set_length(total_events);
            bar.set_position(read_events);
        }
        line.clone_into(&mut last);
    });
    bar.finish_and_clear();
    ordered.map_err(|error| {
        format!(
            "the data folder is in use, and who has it takes no orders: {error} ({}). Is another `lockstream rebuild` \
             under way? Otherwise stop the server first",
            socket.display()
        )
    })?;
    match serde_json::from_str(&last) {
        Ok(RebuildLine::Done(report)) => Ok(Ok(report)),
        Ok(RebuildLine::Failed { detail, differs: true }) => Ok(Err(detail)),
        Ok(RebuildLine::Failed { detail, .. }) => Err(detail.into()),
        Ok(RebuildLine::Progress(_)) => Err("the server ended before the rebuild did".into()),
        Err(_) if last.is_empty() => Err("the server ended before the rebuild did".into()),
        Err(_) => Err(format!(
            "the server, which may be of another version, says something that this command does not understand: {last}"
        )
        .into()),
    }
}
