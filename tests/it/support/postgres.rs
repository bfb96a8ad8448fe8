//! A PostgreSQL of the tests' own: made in a temporary folder, reachable on this machine only, gone
//! with the test process. What is in it can be lost at any time, so nothing of it is synced.

pub mod database;
mod guardian;
pub mod programs;

use std::fs::{self, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::postgres::database::{Address, Database};
use crate::support::postgres::guardian::Guardian;
use crate::support::postgres::programs::{Programs, Somebody};
use crate::support::{PATIENCE, block_on};

/// What makes it fast, large enough for all tests at once, and keeps what its processes share in its
/// folder: one that is killed would leave it to the system, for ever. A segment of some bytes is
/// left all the same, which the guardian removes.
const SETTINGS: [&str; 6] = [
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=300",
    "dynamic_shared_memory_type=mmap",
];

/// A running server with its folder.
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    state: Mutex<State>,
    databases: AtomicU64,
    /// How a database is made whose texts are not ordered by their bytes.
    linguistic: OnceLock<&'static str>,
}

struct State {
    guardian: Guardian,
    /// While it runs.
    postmaster: Option<Pid>,
}

impl Cluster {
    /// The one that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One for a test that stops it.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, made by `initdb` with further options.
    pub fn start_with(initdb: &[&str]) -> Self {
        let programs = Programs::find().unwrap_or_else(|missing| panic!("{missing}"));
        let somebody = Somebody::needed();
        let folder = new_folder(somebody);
        let mut guardian = Guardian::start(&folder, &programs, somebody, initdb);
        for _ in 0..20 {
            let port = free_port();
            if let Some(postmaster) = run(&mut guardian, port, &[]) {
                let state = Mutex::new(State { guardian, postmaster: Some(postmaster) });
                return Self { folder, port, state, databases: AtomicU64::new(0), linguistic: OnceLock::new() };
            }
        }
        panic!("PostgreSQL does not start: {}", guardian.written())
    }

    /// One that follows another and can take its place: a standby, made from a copy of the other and
    /// fed by it since.
    pub fn standby_of(primary: &Self) -> Self {
        let standby = Self::start();
        standby.stop(Signal::INT);
        let data = standby.folder.join("data");
        fs::remove_dir_all(&data).unwrap();
        let programs = Programs::find().unwrap_or_else(|missing| panic!("{missing}"));
        let mut copy = primary.run_as_its_user(&programs.folder.join("pg_basebackup"));
        copy.arg("-D").arg(&data).arg("-h").arg(&primary.folder).args(["-p", &primary.port.to_string()]);
        copy.args(["-U", "postgres", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        let copied = copy.output().expect("pg_basebackup comes with the server's programs");
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        standby.start_again();
        standby
    }

    /// A command to be run by whom the server runs as.
    pub fn run_as_its_user(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(Somebody { user, group }) = Somebody::needed() {
            command.uid(user).gid(group);
        }
        command.current_dir(&self.folder);
        command
    }

    /// The database of the same name in a copy of the server.
    pub fn copy_of(&self, database: &Database) -> Database {
        Database::at(self.address(), database.name())
    }

    /// A fresh database. Where the server can, its texts are ordered as people order them: whoever
    /// relies on the order of bytes has to say so.
    pub fn create_database(&self) -> Database {
        let linguistic = self.linguistic.get_or_init(|| block_on(database::linguistic_options(&self.address())));
        self.create_database_with(linguistic)
    }

    /// A fresh database, made with these options of `CREATE DATABASE`.
    pub fn create_database_with(&self, options: &str) -> Database {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        Database::create(self.address(), format!("test_{number}"), options)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The process that all others of the server come from.
    pub fn postmaster_pid(&self) -> Pid {
        self.state.lock().unwrap().postmaster.expect("it runs")
    }

    /// Sends a signal and waits for the end: `TERM` lets its clients finish, `INT` ends them,
    /// `QUIT` ends everything at once.
    pub fn stop(&self, signal: Signal) {
        let mut state = self.state.lock().unwrap();
        let postmaster = state.postmaster.take().expect("it runs");
        kill_process(postmaster, signal).unwrap();
        let begin = Instant::now();
        while state.guardian.ask("running") == "yes" {
            assert!(begin.elapsed() < PATIENCE, "PostgreSQL does not stop: {}", state.guardian.written());
        }
    }

    /// Starts a stopped one again, at the same place.
    pub fn start_again(&self) {
        self.start_again_with(&[]);
    }

    /// The same, with further settings, as `name=value` without a space.
    pub fn start_again_with(&self, settings: &[&str]) {
        let mut state = self.state.lock().unwrap();
        assert!(state.postmaster.is_none(), "it runs");
        let begin = Instant::now();
        // What is left of one that was killed may be in the way for a moment.
        while state.postmaster.is_none() {
            assert!(begin.elapsed() < PATIENCE, "PostgreSQL does not start: {}", state.guardian.written());
            state.postmaster = run(&mut state.guardian, self.port, settings);
        }
    }

    fn address(&self) -> Address {
        Address { folder: self.folder.clone(), port: self.port }
    }
}

/// Starts the server; `None` when it ended instead of becoming ready.
fn run(guardian: &mut Guardian, port: u16, settings: &[&str]) -> Option<Pid> {
    let options: Vec<_> = SETTINGS.iter().chain(settings).map(|setting| format!("-c {setting}")).collect();
    let pid = guardian.ask(&format!("start {port} {}", options.join(" "))).parse().ok()?;
    Pid::from_raw(pid)
}

/// A folder that belongs to whom the server runs as, and whose socket others may reach.
fn new_folder(somebody: Option<Somebody>) -> PathBuf {
    let place = programs::place(somebody);
    let folder = tempfile::Builder::new().prefix("lockstream-pg-").tempdir_in(place).unwrap().keep();
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    if let Some(Somebody { user, group }) = somebody {
        chown(&folder, Some(user), Some(group)).unwrap();
    }
    folder
}

/// A port that nobody has, from below those that the system hands out by itself: so it is still
/// free for a server that starts again.
fn free_port() -> u16 {
    loop {
        let random = RandomState::new().hash_one(());
        let port = 10_000 + u16::try_from(random % 20_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
