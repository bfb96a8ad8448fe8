//! The command line: commands, their help, and how settings errors read.

use std::any::TypeId;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{LogSettings, ServerSettings, StorageSettings};
use crate::simulate::SimulateSettings;
use crate::torture::TortureSettings;

/// How the process ends: documented in `--help` and in the README.
pub mod exit {
    /// All went well.
    pub const OK: u8 = 0;
    /// The command could not be carried out, or the server had to end.
    pub const FAILED: u8 = 1;
    /// A setting or an argument is wrong; nothing was started.
    pub const USAGE: u8 = 2;
    /// `verify`, `rebuild`, `backup`, `restore`, `torture` or `simulate` found something, or `import` was
    /// given events that were not recorded.
    pub const FINDINGS: u8 = 3;
}

const AFTER_HELP: &str = "\
Every setting can be given as a flag or as the environment variable shown with it; a flag wins, and a
file .env in the working directory fills in what the environment leaves out.

Exit codes: 0 all well; 1 could not be done, or the server had to end; 2 a setting is wrong;
3 verify, rebuild, backup, restore, torture or simulate found something wrong, or import was given
events that cannot be recorded.

Example: lockstream --data-dir ./data --addr 127.0.0.1:8000, then open http://127.0.0.1:8000/docs";

/// Takes in the facts of parcel-locker networks, refuses the impossible ones with a reason, keeps
/// the rest for ever, and answers what is.
///
/// Without a command it serves HTTP until it gets SIGTERM or Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "lockstream", version, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub storage: StorageSettings,

    #[command(flatten)]
    pub logging: LogSettings,

    #[command(flatten)]
    pub server: ServerSettings,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Check the log and compare the database with it.
    ///
    /// Walks the hash chain from the first record, folds all events anew, and compares every row of
    /// the projection. Reads only, so it may run beside a server; it then checks up to the head it
    /// finds. Exits with 3 when it finds something.
    Verify {
        /// Print one JSON object on standard output instead of sentences.
        #[arg(long)]
        json: bool,
    },
    /// Make the database anew from the log, also while the server runs.
    ///
    /// Builds a second projection beside the first, compares the state hash of every locker, and
    /// puts it in the place of the first. Where a server has the data folder, that one does it and
    /// goes on answering. Exits with 3, and replaces nothing, when the hashes of a locker differ.
    Rebuild {
        /// Replace also where the hashes differ: the log is right.
        #[arg(long)]
        force: bool,
        /// Print one JSON object on standard output instead of sentences.
        #[arg(long)]
        json: bool,
    },
    /// Copy the log to another folder, also while the server runs.
    ///
    /// Copies up to what the server says is durable, or, where none runs, up to the last whole
    /// record, and proves each line of the copy by the chain of hashes. DIR/manifest.json says what
    /// the backup holds; it is replaced last, so a backup that is cut off leaves the one before. A
    /// second backup to the same folder copies only what is new. The database is not backed up: it
    /// is made from the log. Exits with 3, and leaves the backup as it was, when the log is damaged
    /// or is not the one that was backed up there before.
    Backup {
        /// The folder for the backup: empty, missing, or with an earlier backup of the same log.
        dir: PathBuf,
        /// Make complete segments hard links to those of the log, where the file system can: no
        /// room is needed, and no second copy is there when the disk fails.
        #[arg(long)]
        hard_link: bool,
        /// Print one JSON object on standard output instead of sentences.
        #[arg(long)]
        json: bool,
    },
    /// Put the log of a backup into a data folder that has none.
    ///
    /// Copies it beside its place, proves all of it up to the manifest's hash, and only then puts it
    /// there. The next start makes the database anew. Exits with 3 when the backup is damaged
    /// (nothing is restored), or when something in the data folder or the database proves that the
    /// log once had more (the backup is restored, and the start will be refused).
    Restore {
        /// The folder of the backup.
        dir: PathBuf,
        /// Read and prove all of the backup, and restore nothing.
        #[arg(long)]
        check: bool,
        /// Print one JSON object on standard output instead of sentences.
        #[arg(long)]
        json: bool,
    },
    /// Ask the server at `LOCKSTREAM_ADDR` whether it is ready; for container health checks.
    ///
    /// Exits with 0 when it is and with 1 when it is not, or does not answer.
    Health,
    /// Hurt a server of its own, and check that it keeps every promise.
    ///
    /// Starts a server in DIR, lets many clients send, kills it at random moments, stops it under load,
    /// deletes its database, lets its disk run full, its clock jump, its clients disconnect and repeat
    /// themselves; and checks after each that every acknowledged event is in the log exactly once, no
    /// refused one is, and log, database and answers agree. Exits with 3 when a promise was broken, and
    /// keeps what shows it. No setting reaches that server, and no data folder but its own is touched.
    Torture(TortureSettings),
    /// Record the events of a file, also while the server runs.
    ///
    /// Reads one event a line, or a JSON array of events, records them in their order and says what
    /// became of each, like POST /events/batch; where a server has the data folder, that one does it.
    /// Also takes the lines of a predecessor's log, one flat object for each event, and those of a log
    /// of Lockstream. Importing a file again is safe: what is recorded is known. Exits with 3 when some
    /// of the events were refused or are not valid; the others are recorded.
    Import {
        /// The file; `-` for standard input.
        file: PathBuf,
        /// Write every line of the answer whose event was not recorded to this file, as NDJSON.
        #[arg(long, value_name = "FILE")]
        errors: Option<PathBuf>,
        /// Print one JSON object on standard output instead of sentences.
        #[arg(long)]
        json: bool,
    },
    /// Be a network of parcel lockers that report to a server; as a demo, as load, as a rehearsal.
    ///
    /// Registrations, reservations, deposits, pickups, expiries, faults and repairs; of a hundred
    /// events two are said twice, two are late, and some are out of order or book a door twice, which
    /// the server has to refuse. All of it comes from a seed: the same seed sends the same bytes.
    /// What gets no answer, or "not now", is sent again. Each answer is held against the one that the
    /// rules give.
    ///
    /// With --rate, events are due at moments of their own, and a latency counts from there: a server
    /// that stands still is charged with everything that had to wait ("coordinated omission" is the
    /// name that Gil Tene gave to the mistake of leaving that out).
    ///
    /// Exits with 0 when every answer was right, also after Ctrl-C; with 1 when an event got no
    /// verdict within --give-up-after; with 3 when an answer was wrong (an event accepted that has to
    /// be refused, or the other way round; another code; a 422, 404 or 500): a server that is away
    /// heals by itself, one that answers wrongly does not.
    Simulate(SimulateSettings),
    /// The server of a torture: it ends with the process that started it, and its clock may jump.
    #[command(hide = true)]
    TortureServer {
        #[arg(long)]
        parent: i32,
        #[arg(long)]
        clock_seed: Option<u64>,
    },
}

/// Lets a file fill in what the environment leaves out. A missing one is normal; a broken one must
/// not be half-read. What stands in it is never repeated: it may be a secret.
pub fn read_env_file(path: &Path) -> Result<(), String> {
    let shown = path.display();
    match dotenvy::from_path(path) {
        Ok(()) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        Err(dotenvy::Error::LineParse(content, _)) => {
            // The parser knows the content only; a value in quotes may go over several lines.
            let text = fs::read_to_string(path).unwrap_or_default();
            let first = content.lines().next().unwrap_or_default();
            let number = text.lines().position(|line| line.contains(first)).filter(|_| !first.is_empty());
            let place = number.map_or_else(|| "a line".to_owned(), |before| format!("line {}", before + 1));
            Err(format!("{place} of the file {shown} is not NAME=value (a value with spaces needs quotes)"))
        }
        Err(error) => Err(format!("the file {shown} cannot be read: {error}")),
    }
}

/// Reads the command line and environment. On a wrong setting, prints one line that names the
/// variable, and says how to end.
pub fn parse() -> Result<Cli, ExitCode> {
    let cli = Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::from(exit::USAGE)
        }
        ErrorKind::InvalidUtf8 => {
            eprintln!("error: {}", not_utf8());
            ExitCode::from(exit::USAGE)
        }
        _ => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            // Nothing can be done where even the message cannot be written.
            let _ = error.print();
            ExitCode::from(code)
        }
    })?;
    let simulation = match &cli.command {
        Some(Command::Simulate(settings)) => settings.agree(),
        _ => Ok(()),
    };
    cli.server.limits.agree().and(simulation).map_err(|disagreement| {
        eprintln!("error: {disagreement}");
        ExitCode::from(exit::USAGE)
    })?;
    Ok(cli)
}

/// One line for a value that is no text. The parser does not say which one it was.
fn not_utf8() -> String {
    let command = Cli::command();
    let is_path = |argument: &clap::Arg| argument.get_value_parser().type_id() == TypeId::of::<PathBuf>();
    let mut texts = command.get_arguments().filter(|argument| !is_path(argument));
    let wrong = texts.find_map(|argument| {
        let name = argument.get_env()?;
        env::var_os(name)?.to_str().is_none().then(|| name.to_string_lossy().into_owned())
    });
    format!("{} is not valid UTF-8", wrong.as_deref().unwrap_or("an argument"))
}

/// One line for a wrong value: the variable, the flag, the value and why.
fn one_line(error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let argument = text(ContextKind::InvalidArg);
    let mut command = Cli::command();
    // Only a built command knows how its arguments are spelled.
    command.build();
    let known = command.get_arguments().find(|known| known.to_string() == argument);
    let variable =
        known.and_then(clap::Arg::get_env).map_or_else(String::new, |name| format!("{} ", name.to_string_lossy()));
    let value = match known {
        // It may hold a password.
        Some(known) if known.is_hide_env_values_set() => "not usable".to_owned(),
        _ => format!("{:?}", text(ContextKind::InvalidValue)),
    };
    let reason = match (std::error::Error::source(error), text(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, valid) if valid.is_empty() => "not a valid value".to_owned(),
        (None, valid) => format!("must be one of {valid}"),
    };
    format!("{variable}({argument}) is {value}: {reason}")
}
