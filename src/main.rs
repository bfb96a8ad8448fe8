//! The `lockstream` binary: reads the settings, runs a command, ends with a documented code.

mod allocator;
mod commands;

use std::path::Path;
use std::process::ExitCode;

use lockstream::cli::{self, Cli, Command, exit};
use lockstream::composition::Adapters;
use lockstream::infrastructure::process::{end_with_parent, survive_long_files};
use lockstream::infrastructure::telemetry;
use lockstream::torture::clock::JumpingClock;

use crate::commands::{Outcome, import, rebuild, simulate};

fn main() -> ExitCode {
    allocator::give_back_soon();
    if let Err(reason) = cli::read_env_file(Path::new(".env")) {
        eprintln!("error: {reason}");
        return ExitCode::from(exit::USAGE);
    }
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let filter = telemetry::parse_filter(&cli.logging.log).expect("the setting was checked when it was read");
    telemetry::start(filter, cli.logging.log_format);
    match run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

fn run(cli: &Cli) -> Outcome {
    let mut runtime = match cli.command {
        // It shares the machine with the server, and one thread makes more load than that takes.
        Some(Command::Simulate(_)) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(async {
        survive_long_files()?;
        match &cli.command {
            None => commands::serve(cli, Adapters::default()).await,
            &Some(Command::TortureServer { parent, clock_seed }) => {
                end_with_parent(parent)?;
                let mut adapters = Adapters::default();
                if let Some(seed) = clock_seed {
                    adapters.clock = Box::new(JumpingClock::new(seed));
                }
                commands::serve(cli, adapters).await
            }
            &Some(Command::Verify { json }) => commands::verify(cli, json),
            &Some(Command::Rebuild { force, json }) => rebuild::rebuild(cli, force, json).await,
            Some(Command::Backup { dir, hard_link, json }) => commands::backup(cli, dir, *hard_link, *json).await,
            Some(Command::Restore { dir, check: true, json }) => commands::check(dir, *json),
            Some(Command::Restore { dir, check: false, json }) => commands::restore(cli, dir, *json).await,
            Some(Command::Torture(settings)) => commands::torture(cli, settings).await,
            Some(Command::Import { file, errors, json }) => import::import(cli, file, errors.as_deref(), *json).await,
            Some(Command::Simulate(settings)) => simulate::simulate(cli, settings).await,
            Some(Command::Health) => Ok(commands::health(cli.server.addr)),
        }
    })
}
