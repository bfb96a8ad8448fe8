//! `lockstream import`: shows how far it is, collects what was not recorded, and sums up.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::time::Instant;

use lockstream::cli::{Cli, exit};
use lockstream::composition::Adapters;
use lockstream::lifecycle::import::{Input, import as record};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::commands::{Outcome, byte_progress};

/// How many lines whose events were not recorded are shown.
const SHOWN: usize = 10;

pub async fn import(cli: &Cli, path: &Path, errors: Option<&Path>, json: bool) -> Outcome {
    let begin = Instant::now();
    let (file, bytes) = open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let errors =
        errors.map(|path| File::create(path).map_err(|error| format!("{} cannot be written: {error}", path.display())));
    let mut collected = Collected { errors: errors.transpose()?.map(BufWriter::new), ..Collected::default() };
    let bar = byte_progress("importing");
    bar.set_length(bytes);
    let input = Input::open(file, {
        let bar = bar.clone();
        move |read| bar.inc(read)
    });
    let input = input.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let recorded =
        record(&cli.storage, &cli.server.limits, Adapters::default(), input, |line| collected.take(line)).await;
    bar.finish_and_clear();
    let report = collected.report(begin)?;
    // What was found until then is told in any case.
    print(&report, json)?;
    recorded?;
    if !report.complete {
        let why = report.detail.as_deref().unwrap_or("The answer broke off.");
        return Err(format!("not all was imported: {why} What was recorded stays; import the file again").into());
    }
    Ok(if report.refused + report.invalid > 0 { exit::FINDINGS } else { exit::OK })
}

/// The file, and how long it is where that is known.
fn open(path: &Path) -> io::Result<(Box<dyn Read + Send>, u64)> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(io::stdin()), 0));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok((Box::new(file), metadata.len()))
}

/// What the answer said so far.
#[derive(Default)]
struct Collected {
    end: End,
    not_recorded: Vec<Value>,
    errors: Option<BufWriter<File>>,
    failed: Option<io::Error>,
}

/// As much of a line as is looked at.
#[derive(Deserialize)]
struct Line<'a> {
    status: &'a str,
}

/// The last line of an answer.
#[derive(Default, Deserialize)]
struct End {
    complete: bool,
    accepted: u64,
    duplicate: u64,
    refused: u64,
    invalid: u64,
    unavailable: u64,
    code: Option<String>,
    detail: Option<String>,
}

impl Collected {
    fn take(&mut self, line: &[u8]) {
        match serde_json::from_slice(line).map_or("", |Line { status }| status) {
            "accepted" => self.end.accepted += 1,
            "duplicate" => self.end.duplicate += 1,
            "end" => self.end = serde_json::from_slice(line).unwrap_or_default(),
            status => {
                match status {
                    "refused" => self.end.refused += 1,
                    "invalid" => self.end.invalid += 1,
                    _ => self.end.unavailable += 1,
                }
                if self.not_recorded.len() < SHOWN {
                    self.not_recorded.extend(serde_json::from_slice::<Value>(line));
                }
                if let Some(errors) = &mut self.errors
                    && let Err(error) = errors.write_all(line)
                {
                    // The import goes on: it is worth more than the list.
                    self.failed.get_or_insert(error);
                }
            }
        }
    }

    fn report(self, begin: Instant) -> Result<Report, Box<dyn Error>> {
        let Self { end, not_recorded, errors, failed } = self;
        let End { complete, accepted, duplicate, refused, invalid, unavailable, code, detail } = end;
        let flushed = errors.map_or(Ok(()), |mut errors| errors.flush());
        if let Some(error) = failed.or(flushed.err()) {
            eprintln!("error: the file of errors is not whole: {error}");
        }
        let elapsed_ms = u64::try_from(begin.elapsed().as_millis())?;
        Ok(Report {
            complete,
            accepted,
            duplicate,
            refused,
            invalid,
            unavailable,
            code,
            detail,
            not_recorded,
            elapsed_ms,
        })
    }
}

/// What became of the file.
#[derive(Serialize)]
struct Report {
    /// Whether each of its events has its verdict.
    complete: bool,
    accepted: u64,
    duplicate: u64,
    refused: u64,
    invalid: u64,
    unavailable: u64,
    /// Why it is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The first lines of the answer whose events were not recorded.
    not_recorded: Vec<Value>,
    elapsed_ms: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, duplicate, refused, invalid, unavailable, elapsed_ms, .. } = self;
        write!(
            f,
            "{accepted} events recorded, {duplicate} known already, {refused} refused, {invalid} not valid, in \
             {elapsed_ms} ms"
        )?;
        for line in &self.not_recorded {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            let problem = &line["errors"][0];
            let why = match problem["detail"].as_str() {
                Some(detail) => format!("{} {detail}", problem["pointer"].as_str().unwrap_or_default()),
                None => text("detail"),
            };
            write!(f, "\nline {}: {} ({}): {}", line["line"], text("status"), text("code"), why.trim())?;
        }
        let more = (refused + invalid + unavailable).saturating_sub(self.not_recorded.len() as u64);
        if more > 0 {
            write!(f, "\nand {more} more; --errors FILE writes all of them")?;
        }
        Ok(())
    }
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, report)?;
        return writeln!(out);
    }
    writeln!(out, "{report}")
}
