//! Settings and help: a wrong value is one line that names the variable, before anything starts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use clap::CommandFactory;
use lockstream::cli::Cli;

use crate::support::Folder;
use crate::support::server::{Ended, lockstream, run};

fn with(folder: &Folder, settings: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = lockstream(folder);
    command.envs(settings.iter().copied()).args(arguments);
    run(command)
}

/// For each environment variable values that it must not have.
fn wrong_values() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut wrong = BTreeMap::from([
        ("LOCKSTREAM_DATA_DIR", vec![""]),
        ("DATABASE_URL", vec!["", "mysql://h/d", "sqlite::memory:", "sqlite:", "sqlite:a.db?mode=ro"]),
        ("RUST_LOG", vec!["lockstream=loud", "info,=,"]),
        ("LOCKSTREAM_LOG_FORMAT", vec!["", "xml", "JSON"]),
        ("LOCKSTREAM_ADDR", vec!["", "localhost", "127.0.0.1", "127.0.0.1:66000", "http://127.0.0.1:8000"]),
    ]);
    let command = Cli::command();
    let limits = command.get_arguments().filter(|argument| argument.get_help_heading() == Some("Limits"));
    for limit in limits {
        let name = limit.get_env().unwrap().to_str().unwrap().to_owned();
        wrong.insert(name.leak(), vec!["", "0", "-1", "many", "10s", "1.5", "99999999999999999999999"]);
    }
    // Some have reasons to keep nothing free.
    wrong.get_mut("LOCKSTREAM_MIN_FREE_BYTES").unwrap().retain(|value| *value != "0");
    wrong
}

#[test]
fn every_wrong_setting_is_one_line_that_names_the_variable_before_anything_starts() {
    let folder = Folder::on_sqlite();
    let wrong = wrong_values();
    for argument in Cli::command().get_arguments() {
        let Some(name) = argument.get_env() else { continue };
        assert!(wrong.contains_key(name.to_str().unwrap()), "{name:?} is tested here");
    }
    assert!(wrong.len() > 15, "{wrong:?}");
    for (name, values) in wrong {
        for value in values {
            let ended = with(&folder, &[(name, value)], &[]);
            let case = format!("{name}={value:?}: {ended:?}");
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{case}");
            assert_eq!(ended.stderr.lines().count(), 1, "{case}");
            assert!(ended.stderr.starts_with(&format!("error: {name} ")), "{case}");
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was begun");
}

#[test]
fn a_postgres_url_that_cannot_be_right_is_refused_and_its_password_not_repeated() {
    let folder = Folder::on_sqlite();
    let urls = [
        ("postgres://lock:s3cret@db/lock?sslmode=perhaps", "sslmode is one of disable, allow"),
        ("postgres://lock:s3cret@db/lock?channel_binding=require", "the parameter \"channel_binding\" is not known"),
        ("postgres://lock:what?s3cret@db/lock", "`?` is written %3F"),
        ("postgresql://lock:s3cret@db:fifty/lock", "is no URL of PostgreSQL"),
        // Where a password ends that was not encoded, something else seems to begin.
        ("postgres://lock:12?s3cret@db/lock", "`?` is written %3F"),
        ("postgres://lock:12?s3cret=12@db/lock?sslmode=require", "`?` is written %3F"),
        ("postgres://lock:12#s3cret@db/lock", "`#` %23"),
        ("postgres://lock:12/s3cret@db/lock", "`/` %2F"),
    ];
    for (url, words) in urls {
        for command in [&[][..], &["verify"], &["rebuild"]] {
            let ended = with(&folder, &[("DATABASE_URL", url)], command);
            assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended:?}");
            assert!(ended.stderr.contains("DATABASE_URL") && ended.stderr.contains(words), "{ended:?}");
            assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let folder = Folder::on_sqlite();
    let place = |name: &str| folder.path().join(name).join("log").display().to_string();
    fs::write(folder.path().join(".env"), "LOCKSTREAM_DATA_DIR=./from-file\nLOCKSTREAM_MAX_BODY_BYTES=2048\n").unwrap();
    let looked_in = |environment: Option<&str>, flag: &[&str]| {
        let mut command = lockstream(&folder);
        command.env_remove("LOCKSTREAM_DATA_DIR");
        if let Some(name) = environment {
            command.env("LOCKSTREAM_DATA_DIR", folder.path().join(name));
        }
        command.arg("verify").args(flag);
        let ended = run(command);
        assert_eq!(ended.code, Some(1), "there is no log anywhere: {ended:?}");
        ended.stderr
    };
    assert!(looked_in(None, &[]).contains("./from-file/log"));
    assert!(looked_in(Some("from-environment"), &[]).contains(&place("from-environment")));
    assert!(looked_in(Some("from-environment"), &["--data-dir", "from-flag"]).contains("from-flag/log"));

    fs::write(folder.path().join(".env"), "LOCKSTREAM_MAX_BODY_BYTES=none\n").unwrap();
    let ended = with(&folder, &[], &[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.starts_with("error: LOCKSTREAM_MAX_BODY_BYTES "), "{ended:?}");
    let ended = with(&folder, &[("LOCKSTREAM_MAX_BODY_BYTES", "2048")], &["verify"]);
    assert_eq!(ended.code, Some(1), "the environment wins: {ended:?}");
}

#[test]
fn a_broken_env_file_is_one_line_that_tells_no_secret() {
    let folder = Folder::on_sqlite();
    for (content, place) in [
        (&b"# A comment\n\nRUST_LOG=info\nTOKEN hunter2\n"[..], "line 4 of the file .env"),
        (b"TOKEN=hunter2 and more\n", "line 1 of the file .env"),
        (b"RUST_LOG=info\nTOKEN='hunter2\nhunter2\n", "line 2 of the file .env"),
        (b"TOKEN=${hunter2\n", "the file .env"),
        (b"TOKEN=hunter2\xff\n", "the file .env cannot be read"),
    ] {
        fs::write(folder.path().join(".env"), content).unwrap();
        let ended = with(&folder, &[], &[]);
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended:?}");
        assert!(ended.stderr.contains(place) && !ended.stderr.contains("hunter2"), "{ended:?}");
    }
}

#[test]
fn a_setting_that_is_no_text_is_named() {
    let folder = Folder::on_sqlite();
    for name in ["LOCKSTREAM_ADDR", "DATABASE_URL", "LOCKSTREAM_LOG_FORMAT", "LOCKSTREAM_MAX_BODY_BYTES"] {
        let mut command = lockstream(&folder);
        // A path need not be text.
        command.env("LOCKSTREAM_DATA_DIR", folder.path().join(OsStr::from_bytes(b"caf\xe9")));
        command.env(name, OsStr::from_bytes(b"\xff"));
        let ended = run(command);
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended:?}");
        assert!(ended.stderr.starts_with(&format!("error: {name} ")), "{ended:?}");
    }
    let mut command = lockstream(&folder);
    command.arg("--addr").arg(OsStr::from_bytes(b"\xff"));
    let ended = run(command);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), "error: an argument is not valid UTF-8\n"));
}

#[test]
fn help_tells_a_newcomer_of_settings_and_exit_codes() {
    let folder = Folder::on_sqlite();
    let general = with(&folder, &[], &["--help"]);
    assert_eq!(general.code, Some(0));
    for argument in Cli::command().get_arguments() {
        let Some(name) = argument.get_env() else { continue };
        assert!(general.stdout.contains(name.to_str().unwrap()), "{name:?} stands in --help");
    }
    for part in [
        "verify",
        "rebuild",
        "backup",
        "restore",
        "health",
        "torture",
        "import",
        "simulate",
        "Exit codes: 0",
        "3 verify, rebuild, backup, restore, torture or simulate found something",
        ".env",
    ] {
        assert!(general.stdout.contains(part), "{part:?} stands in --help");
    }
    for (command, parts) in [
        ("verify", &["LOCKSTREAM_DATA_DIR", "DATABASE_URL", "RUST_LOG", "--json", "Exits with 3"][..]),
        ("rebuild", &["LOCKSTREAM_DATA_DIR", "DATABASE_URL", "RUST_LOG", "--json", "also while the server runs"]),
        ("backup", &["LOCKSTREAM_DATA_DIR", "--hard-link", "--json", "also while the server runs", "Exits with 3"]),
        ("restore", &["LOCKSTREAM_DATA_DIR", "DATABASE_URL", "--check", "--json", "Exits with 3"]),
        ("health", &["LOCKSTREAM_ADDR", "Exits with 0"]),
        ("import", &["LOCKSTREAM_DATA_DIR", "--errors", "--json", "also while the server runs", "Exits with 3"]),
        ("torture", &["[DIR]", "--minutes", "--cycles", "--seed", "--keep", "--json", "Exits with 3"]),
        ("simulate", &["--to", "--file", "--rate", "--seed", "--batch", "LOCKSTREAM_ADDR", "--json", "with 3 when"]),
    ] {
        let help = with(&folder, &[], &[command, "--help"]);
        assert_eq!(help.code, Some(0));
        for part in parts {
            let words = help.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains(part), "{part:?} stands in {command} --help: {words}");
        }
    }
    for wrong in [&["--no-such-flag"][..], &["no-such-command"], &["verify", "--loud"]] {
        let ended = with(&folder, &[], wrong);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
