//! The PostgreSQL of the tests: that it is what the tests take it for, and that nothing is left of
//! it, however a test run ends.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, geteuid, test_kill_process};
use sqlx::Connection;

use crate::support::eventually;
use crate::support::postgres::Cluster;
use crate::support::postgres::programs::{Programs, VARIABLE};
use crate::support::server::run;

fn is_gone(pid: Pid) -> bool {
    test_kill_process(pid) == Err(Errno::SRCH)
}

#[tokio::test]
async fn a_database_is_there_by_socket_and_by_tcp_and_goes_with_its_test() {
    let cluster = Cluster::shared();
    let (database, other) = (cluster.create_database(), cluster.create_database());
    database.execute("CREATE TABLE fruit (name TEXT); INSERT INTO fruit VALUES ('plum')").await;
    let mut by_tcp = sqlx::PgConnection::connect(&database.tcp_url()).await.unwrap();
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM fruit").fetch_all(&mut by_tcp).await.unwrap();
    assert_eq!(names, ["plum"]);
    assert!(!other.value::<bool>("SELECT EXISTS (SELECT FROM pg_tables WHERE tablename = 'fruit')").await);

    let name = database.name().to_owned();
    drop(database); // Though somebody is connected.

    let left = format!("SELECT EXISTS (SELECT FROM pg_database WHERE datname = '{name}')");
    assert!(!other.value::<bool>(&left).await);
}

#[test]
fn an_ordinary_user_may_run_it_as_well_as_root() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o777)).unwrap();
    let tests = place.path().join("it");
    // By another process: a file that this one has open for writing cannot be run meanwhile.
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&tests).status().unwrap().success());
    fs::set_permissions(&tests, Permissions::from_mode(0o755)).unwrap();
    let mut again = Command::new(&tests);
    again.args(["--exact", "cluster::a_database_is_there_by_socket_and_by_tcp_and_goes_with_its_test"]);
    again.current_dir(place.path()).env("TMPDIR", place.path());
    if geteuid().is_root() {
        again.uid(65_534).gid(65_534);
    }
    let ended = run(again);
    assert!(ended.code == Some(0) && ended.stdout.contains("1 passed"), "{ended:?}");
}

#[tokio::test]
async fn texts_are_not_ordered_by_their_bytes_unless_asked() {
    let cluster = Cluster::shared();
    let database = cluster.create_database();
    assert!(database.value::<bool>("SELECT 'a' < 'B'").await, "as people order them");
    assert!(!database.value::<bool>("SELECT 'a' < 'B' COLLATE \"C\"").await);
    let plain = cluster.create_database_with("TEMPLATE template0");
    assert!(!plain.value::<bool>("SELECT 'a' < 'B'").await);
}

#[tokio::test]
async fn a_stopped_one_starts_again_at_the_same_place_with_what_it_had() {
    let cluster = Cluster::start_with(&["--wal-segsize=1"]);
    let database = cluster.create_database();
    database.execute("CREATE TABLE fruit (name TEXT)").await;
    let kept = database.connect().await;
    for signal in [Signal::INT, Signal::QUIT, Signal::KILL] {
        let postmaster = cluster.postmaster_pid();
        cluster.stop(signal);
        assert!(is_gone(postmaster), "{signal:?}");
        assert!(sqlx::PgConnection::connect(&database.url()).await.is_err(), "{signal:?}: nobody is there");
        cluster.start_again();
        assert_ne!(cluster.postmaster_pid(), postmaster);
        assert_eq!(database.value::<i64>("SELECT count(*) FROM fruit").await, 0);
    }
    drop(kept);
    cluster.stop(Signal::TERM);
    cluster.start_again_with(&["default_transaction_read_only=on"]);
    let mut connection = database.connect().await;
    let refused = sqlx::query("INSERT INTO fruit VALUES ('plum')").execute(&mut connection).await.unwrap_err();
    assert!(refused.to_string().contains("read-only transaction"), "{refused}");
}

#[tokio::test]
async fn a_cluster_that_is_dropped_leaves_nothing() {
    let cluster = Cluster::start();
    let (folder, postmaster) = (cluster.folder().to_owned(), cluster.postmaster_pid());
    let database = cluster.create_database();
    let _connection = database.connect().await;
    drop(cluster);
    assert!(!folder.exists() && is_gone(postmaster));
}

/// The files and segments of memory that the processes of a server share.
fn shared_memory(cluster: &Cluster) -> Vec<String> {
    // Nobody else may look, where root has lost its rights.
    let mut show = cluster.run_as_its_user("cat".as_ref());
    show.arg(format!("/proc/{}/maps", cluster.postmaster_pid().as_raw_nonzero()));
    let maps = run(show).stdout;
    let columns = maps.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    columns.filter(|line| line[1].ends_with('s')).filter_map(|line| line.get(5).map(|&name| name.to_owned())).collect()
}

/// The segments that the system holds for whoever asks for their keys.
fn segments() -> Vec<String> {
    let held = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let keys = held.lines().skip(1).map(|line| line.split_whitespace().next().unwrap().parse::<i32>().unwrap());
    keys.map(|key| format!("/SYSV{key:08x}")).collect()
}

#[test]
fn a_cluster_that_is_killed_leaves_nothing_to_the_system() {
    let cluster = Cluster::start();
    let (folder, postmaster) = (cluster.folder().to_owned(), cluster.postmaster_pid());
    let shared = shared_memory(&cluster);
    let its_own = fs::canonicalize(&folder).unwrap();
    assert!(shared.iter().any(|name| Path::new(name).starts_with(&its_own)), "{shared:?}");
    assert!(!shared.iter().any(|name| name.starts_with("/dev/shm/PostgreSQL.")), "{shared:?}");
    let segment = shared.into_iter().find(|name| segments().contains(name)).expect("PostgreSQL has one of 56 bytes");
    cluster.stop(Signal::KILL);

    drop(cluster);

    assert!(!folder.exists() && is_gone(postmaster));
    assert!(!segments().contains(&segment), "{segment}");
}

/// The variable by which the next test starts itself as the test run that is killed.
const VICTIM: &str = "LOCKSTREAM_TEST_VICTIM";

#[tokio::test]
async fn a_killed_test_run_leaves_neither_a_process_nor_a_folder() {
    if let Some(note) = std::env::var_os(VICTIM) {
        let cluster = Cluster::shared();
        let told = format!("{} {}", cluster.postmaster_pid().as_raw_nonzero(), cluster.folder().display());
        fs::write(Path::new(&note).with_extension("part"), told).unwrap();
        fs::rename(Path::new(&note).with_extension("part"), note).unwrap();
        std::future::pending::<()>().await;
    }
    let place = tempfile::tempdir().unwrap();
    let note = place.path().join("note");
    let itself = "cluster::a_killed_test_run_leaves_neither_a_process_nor_a_folder";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", itself]).env(VICTIM, &note).stdout(Stdio::null()).stderr(Stdio::null());
    let mut victim = command.spawn().unwrap();
    eventually("the other run has a PostgreSQL", async || note.exists()).await;
    let told = fs::read_to_string(&note).unwrap();
    let (pid, folder) = told.split_once(' ').unwrap();
    let (pid, folder) = (Pid::from_raw(pid.parse().unwrap()).unwrap(), PathBuf::from(folder));
    assert!(folder.exists() && !is_gone(pid));

    victim.kill().unwrap();
    victim.wait().unwrap();

    eventually("process and folder are gone", async || is_gone(pid) && !folder.exists()).await;
}

#[test]
fn a_machine_without_postgresql_is_told_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let none = empty.path();
    let missing = Programs::find_in(None, none, none.as_os_str()).unwrap_err();
    for part in ["initdb and postgres", "apt-get install postgresql", "tests/run.sh", VARIABLE] {
        assert!(missing.contains(part), "{part:?} is missing in {missing:?}");
    }
    // A folder that is named is the one that is meant.
    let everywhere = OsStr::new("/usr/bin:/usr/local/bin");
    let named = Programs::find_in(Some(none.as_os_str()), "/usr/lib/postgresql".as_ref(), everywhere).unwrap_err();
    assert!(named.contains(&format!("{VARIABLE} names {}", none.display())), "{named}");
    assert!(!missing.contains('\n') && !named.contains('\n'));
}

#[test]
fn the_newest_version_is_taken_and_the_named_folder_before_all() {
    let place = tempfile::tempdir().unwrap();
    let folders = ["9/bin", "10/bin", "11/bin", "own"].map(|name| place.path().join(name));
    for folder in &folders {
        fs::create_dir_all(folder).unwrap();
    }
    let [nine, ten, _without, own] = &folders;
    for folder in [nine, ten, own] {
        fs::write(folder.join("initdb"), "").unwrap();
        fs::write(folder.join("postgres"), "").unwrap();
    }
    let found = |named: Option<&PathBuf>, debian: &Path| {
        Programs::find_in(named.map(|path| path.as_os_str()), debian, own.as_os_str()).unwrap().folder
    };
    assert_eq!(found(None, place.path()), *ten);
    assert_eq!(found(None, own), *own, "in PATH");
    assert_eq!(found(Some(nine), place.path()), *nine);
}
