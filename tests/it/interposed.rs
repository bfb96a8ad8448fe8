//! Calls into the C library that fail: libfiu stands between the shipped binary and the system and
//! makes single functions fail, with the error that we name, from a moment on that we choose.
//!
//! What it reaches is what the binary calls through the C library: `open`, `write`, `pwrite`,
//! `read`, `pread`, `ftruncate`, `fsync`, `fdatasync`, `rename`, `unlink`, `opendir`, `mmap`,
//! `malloc`, `realloc`. The log writes with `write` and SQLite with `pwrite`, so the two can be told
//! apart. `accept4`, `fallocate`, `statx`, `mkdir` and `readdir64` are not reached; descriptors run
//! out by a limit of the system instead.
//!
//! Whatever fails, the same is promised, and [`clients`] hold the service to it.

mod clients;
mod database;
mod descriptors;
mod files;
mod memory;
mod start;
mod syncs;
mod writes;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::io::Errno;

use crate::support::Folder;
use crate::support::server::{Server, lockstream, run};

/// A server whose calls can be made to fail.
struct Interposed {
    server: Server,
    /// Where the names of the pipes to libfiu begin.
    control: PathBuf,
}

impl Interposed {
    async fn start(folder: &Folder) -> Self {
        Self::start_with(folder, &[]).await
    }

    async fn start_with(folder: &Folder, settings: &[(&str, &str)]) -> Self {
        let started = Self::spawn(folder, settings, &[]).await;
        started.unwrap_or_else(|lines| panic!("it did not start: {lines:?}"))
    }

    /// Starts with faults in force from the first moment on; the error is what the process wrote
    /// instead of serving.
    async fn spawn(folder: &Folder, settings: &[(&str, &str)], faults: &[String]) -> Result<Self, Vec<String>> {
        let control = folder.path().join("fiu");
        let mut command = lockstream(folder);
        command.envs(settings.iter().copied()).env("LD_PRELOAD", preloaded());
        command.env("FIU_CTRL_FIFO", &control).env("FIU_ENABLE", faults.join("\n"));
        Ok(Self { server: Server::spawn(command).await?, control })
    }

    /// Gives libfiu in the process an order, and returns when it is in force.
    fn order(&self, order: &str) {
        let mut command = Command::new(installed("fiu-ctrl"));
        command.arg("-f").arg(&self.control).args(["-c", order, &self.pid().as_raw_nonzero().to_string()]);
        let ended = run(command);
        assert!(ended.code == Some(0) && ended.stdout.is_empty(), "{order}: {ended:?}");
    }

    /// Takes a fault back.
    fn heal(&self, call: &str) {
        self.order(&format!("disable name={call}"));
    }

    /// Waits for the end of a process that has to end in error, and returns what it said last.
    fn fails(&mut self) -> String {
        let status = self.server.wait();
        let lines = self.server.lines();
        assert_eq!(status.code(), Some(1), "{lines:?}");
        lines.last().cloned().unwrap_or_default()
    }
}

impl Deref for Interposed {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// The order that makes every such call fail.
fn always(call: &str, errno: Errno) -> String {
    format!("enable name={call},failinfo={}", errno.raw_os_error())
}

/// The order that makes the next such call fail, and no other.
fn once(call: &str, errno: Errno) -> String {
    format!("{},onetime", always(call, errno))
}

/// What stands between the binary and the C library, the first in front.
fn preloaded() -> &'static str {
    static PRELOADED: OnceLock<String> = OnceLock::new();
    PRELOADED.get_or_init(|| {
        let mut command = Command::new(installed("fiu-run"));
        // Only tells where Debian has put the libraries.
        command.args(["-x", "-n", "true"]);
        let told = run(command).stdout;
        let libfiu = told.split_once("LD_PRELOAD=\"").and_then(|(_, rest)| rest.split('"').next());
        format!("{} {}", library("files_only").display(), libfiu.unwrap_or_else(|| panic!("where is libfiu? {told}")))
    })
}

/// Compiles what stands between the binary and the C library: a file beside this one.
pub fn library(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/interposed").join(name).with_extension("c");
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("so");
    // Another test run may be using the one that is there.
    let fresh = library.with_extension(std::process::id().to_string());
    let mut command = Command::new(installed("cc"));
    command.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&fresh).arg(source);
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    std::fs::rename(fresh, &library).unwrap();
    library
}

/// Finds a program, or says what is missing.
fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{program} is missing; install it first (Debian: apt-get install fiu-utils build-essential)")
    })
}
