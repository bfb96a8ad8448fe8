//! A wrong setting is one line that names the variable, before anything starts.

use crate::support::Folder;
use crate::support::server::{lockstream, run};

/// Each limit with values that are just outside its bounds.
const OUTSIDE: [(&str, &str, &str); 19] = [
    ("LOCKSTREAM_MAX_BODY_BYTES", "1023", "16777217"),
    ("LOCKSTREAM_BODY_TIMEOUT_MS", "9", "3600001"),
    ("LOCKSTREAM_HEAD_TIMEOUT_MS", "9", "3600001"),
    ("LOCKSTREAM_WRITE_TIMEOUT_MS", "9", "3600001"),
    ("LOCKSTREAM_MAX_CONNECTIONS", "0", "1000001"),
    ("LOCKSTREAM_MAX_QUEUE_EVENTS", "0", "1000001"),
    ("LOCKSTREAM_MAX_INFLIGHT_BYTES", "1023", "1099511627777"),
    ("LOCKSTREAM_MAX_BATCH_EVENTS", "0", "1000001"),
    ("LOCKSTREAM_MAX_BATCH_BYTES", "0", "1073741825"),
    ("LOCKSTREAM_MAX_LAG_EVENTS", "0", "1000000001"),
    ("LOCKSTREAM_ANSWER_TIMEOUT_MS", "9", "3600001"),
    ("LOCKSTREAM_QUERY_TIMEOUT_MS", "9", "3600001"),
    ("LOCKSTREAM_STOP_TIMEOUT_MS", "9", "3600001"),
    ("LOCKSTREAM_MAX_SEGMENT_BYTES", "1023", "1099511627777"),
    ("LOCKSTREAM_MIN_FREE_BYTES", "-1", "1099511627777"),
    ("LOCKSTREAM_DATABASE_TIMEOUT_MS", "9", "3600001"),
    ("LOCKSTREAM_DATABASE_WAIT_MS", "9", "3600001"),
    ("LOCKSTREAM_BULK_WAIT_MS", "9", "3600001"),
    ("LOCKSTREAM_MAX_BULK_REQUESTS", "0", "100001"),
];

fn is_refused(variable: &str, value: &str) {
    let folder = Folder::on_sqlite();
    let mut command = lockstream(&folder);
    command.env(variable, value);
    let ended = run(command);
    let message = ended.stderr;
    assert_eq!(ended.code, Some(2), "{variable}={value}: {message}");
    assert_eq!(message.lines().count(), 1, "{variable}={value}: {message}");
    assert!(message.starts_with(&format!("error: {variable} (--")), "{message}");
    assert!(message.contains(&format!("{value:?}: ")), "it says the value and why: {message}");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing was started");
}

#[test]
fn a_limit_outside_its_bounds_is_refused_before_anything_starts() {
    for (variable, too_small, too_large) in OUTSIDE {
        is_refused(variable, too_small);
        is_refused(variable, too_large);
    }
}

#[test]
fn a_limit_that_is_no_whole_number_is_refused() {
    for value in ["", " ", "many", "-1", "1.5", "1e3", "1_000", "10MB", "99999999999999999999999"] {
        is_refused("LOCKSTREAM_MAX_BODY_BYTES", value);
    }
}

#[test]
fn memory_that_holds_not_one_body_is_refused() {
    is_refused("LOCKSTREAM_MAX_INFLIGHT_BYTES", "65535");
}

#[test]
fn other_settings_are_checked_as_well() {
    is_refused("LOCKSTREAM_ADDR", "localhost");
    is_refused("LOCKSTREAM_LOG_FORMAT", "xml");
    is_refused("RUST_LOG", "lockstream=loud");
}

#[test]
fn a_database_url_is_refused_without_being_repeated() {
    for (url, secret) in
        [("postgres://user:s3cret@host/db?sslmode=no", "s3cret"), ("sqlite:s3cret.db?mode=rwc", "s3cret")]
    {
        let folder = Folder::on_sqlite();
        for as_flag in [false, true] {
            let mut command = lockstream(&folder);
            if as_flag {
                command.args(["--database-url", url])
            } else {
                command.env("DATABASE_URL", url)
            };
            let output = command.output().unwrap();
            let message = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{message}");
            assert!(message.starts_with("error: DATABASE_URL (--database-url <URL>) is not usable: "), "{message}");
            assert!(message.lines().count() == 1 && !message.contains(secret), "{message}");
        }
    }
}
