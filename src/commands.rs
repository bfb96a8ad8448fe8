//! The commands as a person or a script meets them: progress on standard error, the outcome on
//! standard output, in sentences or as JSON, and the exit code. What they do is done elsewhere.

pub mod import;
pub mod rebuild;
pub mod simulate;

use std::error::Error;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lockstream::application::verify::Report;
use lockstream::cli::{Cli, exit};
use lockstream::composition::backup::{self, CommandError, RestoreReport};
use lockstream::composition::{Adapters, maintenance};
use lockstream::infrastructure::event_log::recovery::ReadBytes;
use lockstream::infrastructure::process::use_small_pages;
use lockstream::lifecycle;
use lockstream::torture::{self, TortureSettings};
use serde::Serialize;

use crate::allocator;

/// The exit code, or why the command could not be carried out.
pub type Outcome = Result<u8, Box<dyn Error>>;

pub async fn serve(cli: &Cli, adapters: Adapters) -> Outcome {
    use_small_pages();
    // Ends with the runtime.
    tokio::spawn(allocator::give_back_also_at_rest());
    lifecycle::serve(&cli.storage, &cli.server, adapters).await?;
    Ok(exit::OK)
}

pub fn verify(cli: &Cli, json: bool) -> Outcome {
    let bar = byte_progress("verifying");
    let report = maintenance::verify(&cli.storage, &cli.server.limits, |read| show(&bar, read))?;
    bar.finish_and_clear();
    print_report(&report, json)?;
    Ok(if report.sound { exit::OK } else { exit::FINDINGS })
}

fn print_report(report: &Report, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, report)?;
        return writeln!(out);
    }
    writeln!(out, "log: sound up to sequence {}, hash {}", report.head_sequence, report.head_hash)?;
    match report.projected_sequence {
        Some(sequence) => writeln!(out, "projection: stands at sequence {sequence}")?,
        None => writeln!(out, "projection: there is none; the next start makes it")?,
    }
    let Report { lockers, compartments, reservations, .. } = report;
    writeln!(out, "folded: {lockers} lockers, {compartments} compartments, {reservations} reservations")?;
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    for finding in &report.findings {
        writeln!(out, "FOUND {}: {}", finding.code, finding.detail)?;
    }
    writeln!(out, "{}", if report.sound { "all is well" } else { "something is wrong; see above" })
}

pub async fn backup(cli: &Cli, dir: &Path, hard_link: bool, json: bool) -> Outcome {
    let bar = byte_progress("backing up");
    let outcome = backup::backup(&cli.storage, &cli.server.limits, dir, hard_link, |read| show(&bar, read)).await;
    bar.finish_and_clear();
    conclude(outcome, |_| exit::OK, json)
}

pub async fn restore(cli: &Cli, dir: &Path, json: bool) -> Outcome {
    let bar = byte_progress("restoring");
    let outcome = backup::restore(&cli.storage, &cli.server.limits, dir, |read| show(&bar, read)).await;
    bar.finish_and_clear();
    conclude(outcome, code_of_restore, json)
}

/// `restore --check`.
pub fn check(dir: &Path, json: bool) -> Outcome {
    let bar = byte_progress("checking");
    let outcome = backup::check(dir, |read| show(&bar, read));
    bar.finish_and_clear();
    conclude(outcome, code_of_restore, json)
}

fn code_of_restore(done: &RestoreReport) -> u8 {
    if done.findings.is_empty() { exit::OK } else { exit::FINDINGS }
}

/// Says what a backup or a restore did, or why it did nothing.
fn conclude<R: Serialize + Display>(outcome: Result<R, CommandError>, code: impl Fn(&R) -> u8, json: bool) -> Outcome {
    let report = match outcome {
        Err(error) if error.is_finding() => {
            eprintln!("error: {error}");
            return Ok(exit::FINDINGS);
        }
        outcome => outcome?,
    };
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(code(&report))
}

pub async fn torture(cli: &Cli, settings: &TortureSettings) -> Outcome {
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("torturing [{wide_bar}] {pos}/{len}, {msg}").expect("the template is well-formed"),
    );
    let torturing = torture::torture(settings, &cli.server.limits, |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(format!("{} cycles, {} acknowledged", progress.cycles, progress.acknowledged));
    });
    let report = torturing.await?;
    bar.finish_and_clear();
    print_tortured(&report, settings.json)?;
    Ok(if report.sound { exit::OK } else { exit::FINDINGS })
}

fn print_tortured(report: &torture::report::Report, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, report)?;
        return writeln!(out);
    }
    write!(out, "{report}")
}

/// Asks `/readyz`; no more of HTTP than that takes.
pub fn health(addr: SocketAddr) -> u8 {
    const TIMEOUT: Duration = Duration::from_secs(3);
    let ask = || -> std::io::Result<String> {
        // A server that listens everywhere is asked on this machine.
        let addr = match addr {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
                SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v6.port()))
            }
            other => other,
        };
        let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n")?;
        let mut status_line = String::new();
        BufReader::new(stream).read_line(&mut status_line)?;
        Ok(status_line)
    };
    match ask() {
        Ok(line) if line.starts_with("HTTP/1.1 200") => exit::OK,
        Ok(line) => {
            eprintln!("not ready: {}", line.trim());
            exit::FAILED
        }
        Err(error) => {
            eprintln!("no answer from {addr}: {error}");
            exit::FAILED
        }
    }
}

/// A bar on standard error, shown only when that is a terminal.
fn byte_progress(doing: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left")
        .expect("the template is well-formed");
    ProgressBar::new(0).with_style(style).with_message(doing)
}

/// Called for every record, so it does nothing most of the time.
fn show(bar: &ProgressBar, read: ReadBytes) {
    const STEPS: u64 = 1_000;
    if read.done.saturating_sub(bar.position()) > read.total / STEPS {
        bar.set_length(read.total);
        bar.set_position(read.done);
    }
}
