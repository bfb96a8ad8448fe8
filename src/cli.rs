//! The command line: commands, their help, and how settings errors read.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{LogSettings, ServerSettings, StorageSettings};

/// How the process ends: documented in `--help` and in the README.
pub mod exit {
    /// All went well.
    pub const OK: u8 = 0;
    /// The command could not be carried out, or the server had to end.
    pub const FAILED: u8 = 1;
    /// A setting or an argument is wrong; nothing was started.
    pub const USAGE: u8 = 2;
    /// `verify` found something.
    pub const FINDINGS: u8 = 3;
}

const AFTER_HELP: &str = "\
Every setting can be given as a flag or as the environment variable shown with it; a flag wins, and a
file .env in the working directory fills in what the environment leaves out.

Exit codes: 0 all well; 1 could not be done, or the server had to end; 2 a setting is wrong;
3 verify found something.

Example: lockstream --data-dir ./data --addr 127.0.0.1:8000, then open http://127.0.0.1:8000/docs";

/// Takes in the facts of parcel-locker networks, refuses the impossible ones with a reason, keeps
/// the rest for ever, and answers what is.
///
/// Without a command it serves HTTP until it gets SIGTERM or Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "lockstream", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = false)]
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

#[derive(Debug, Clone, Copy, Subcommand)]
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
    /// Make the database anew from the log.
    ///
    /// Builds a new file beside the old one and puts it in its place at the end. The server must
    /// not be running.
    Rebuild {
        /// Print one JSON object on standard output instead of sentences.
        #[arg(long)]
        json: bool,
    },
    /// Ask the server at LOCKSTREAM_ADDR whether it is ready; for container health checks.
    ///
    /// Exits with 0 when it is and with 1 when it is not, or does not answer.
    Health,
}

/// Reads the command line and environment. On a wrong setting, prints one line that names the
/// variable, and says how to end.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::from(exit::USAGE)
        }
        _ => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            // Nothing can be done where even the message cannot be written.
            let _ = error.print();
            ExitCode::from(code)
        }
    })
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
    // Before it is built an argument cannot even tell its own name.
    command.build();
    let setting = command.get_arguments().find(|known| known.to_string() == argument);
    let variable = setting.and_then(clap::Arg::get_env);
    let variable = variable.map_or_else(String::new, |name| format!("{} ", name.to_string_lossy()));
    let value = match text(ContextKind::InvalidValue) {
        // It may hold a password.
        value if !value.is_empty() && setting.is_some_and(clap::Arg::is_hide_env_values_set) => "wrong".to_owned(),
        value => format!("{value:?}"),
    };
    let reason = match (std::error::Error::source(error), text(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, valid) if valid.is_empty() => "not a valid value".to_owned(),
        (None, valid) => format!("must be one of {valid}"),
    };
    format!("{variable}({argument}) is {value}: {reason}")
}
