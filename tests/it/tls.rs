//! TLS to PostgreSQL: each `sslmode` of the URL does what libpq's manual says of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::support::postgres::Cluster;
use crate::support::postgres::database::Database;
use crate::support::server::{Server, lockstream};
use crate::support::{Folder, eventually};

/// A certificate for `localhost`, and its key.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Puts a file into the server's data, for the server's user alone.
fn put(data: &Path, name: &str, content: &str) -> PathBuf {
    let (file, owner) = (data.join(name), fs::metadata(data).unwrap());
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    file
}

/// Whether a service that starts with these parameters speaks TLS; the error is what it said
/// instead of starting.
async fn starts(database: &Database, host: &str, parameters: &str) -> Result<bool, String> {
    let folder = Folder::on_sqlite();
    let mut command = lockstream(&folder);
    let url = database.tcp_url().replace("postgres@127.0.0.1", &format!("postgres:s3cret@{host}"));
    assert!(url.contains(host), "{url}");
    command.env("DATABASE_URL", format!("{url}?{parameters}")).env("LOCKSTREAM_DATABASE_WAIT_MS", "10");
    let server = Server::spawn(command).await.map_err(|lines| {
        assert!(!lines.join("").contains("s3cret"), "{lines:?}");
        lines.last().unwrap().clone()
    })?;
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE datname = current_database() AND application_name LIKE 'lockstream%'";
    let encrypted = database.value(encrypted).await;
    assert!(server.stop().success());
    Ok(encrypted)
}

/// Has the server read its settings again, and waits until it did.
async fn reload(database: &Database) {
    let loaded = async || database.value::<String>("SELECT pg_conf_load_time()::text").await;
    let before = loaded().await;
    database.execute("SELECT pg_reload_conf()").await;
    eventually("the settings are read again", async || loaded().await != before).await;
}

#[tokio::test]
async fn each_sslmode_does_what_libpq_says_of_it() {
    let cluster = Cluster::start();
    let database = cluster.create_database();
    let data = cluster.folder().join("data");
    let starts = async |parameters: &str| starts(&database, "localhost", parameters).await;

    // A server without TLS.
    for mode in ["disable", "allow", "prefer"] {
        assert_eq!(starts(&format!("sslmode={mode}")).await, Ok(false), "{mode}");
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let refused = starts(&format!("sslmode={mode}")).await.unwrap_err();
        assert!(refused.contains("does not support TLS"), "{mode}: {refused}");
    }

    // One with TLS, whose certificate no authority knows.
    let (pem, key) = certificate();
    let own = put(&data, "server.crt", &pem);
    put(&data, "server.key", &key);
    let other = put(&data, "other.crt", &certificate().0);
    database.execute("ALTER SYSTEM SET ssl = on").await;
    reload(&database).await;
    for (mode, encrypted) in [("disable", false), ("allow", false), ("prefer", true), ("require", true)] {
        assert_eq!(starts(&format!("sslmode={mode}")).await, Ok(encrypted), "{mode}");
    }
    let (own, other) = (own.display(), other.display());
    for mode in ["verify-ca", "verify-full"] {
        assert!(
            starts(&format!("sslmode={mode}")).await.unwrap_err().contains("certificate"),
            "{mode}: unknown to all"
        );
        assert_eq!(starts(&format!("sslmode={mode}&sslrootcert={own}")).await, Ok(true), "{mode}");
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let refused = starts(&format!("sslmode={mode}&sslrootcert={other}")).await.unwrap_err();
        assert!(refused.contains("certificate"), "{mode}, of another authority: {refused}");
    }
    let by_number = async |mode: &str| {
        super::tls::starts(&database, "127.0.0.1", &format!("sslmode={mode}&sslrootcert={own}")).await
    };
    assert_eq!(by_number("verify-ca").await, Ok(true), "the name does not count");
    let refused = by_number("verify-full").await.unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");

    // A server that takes only one kind of connection.
    for (kind, outcomes) in [
        ("hostssl", [("disable", None), ("allow", Some(true)), ("prefer", Some(true))]),
        ("hostnossl", [("allow", Some(false)), ("prefer", Some(false)), ("require", None)]),
    ] {
        put(&data, "pg_hba.conf", &format!("local all all trust\n{kind} all all all trust\n"));
        reload(&database).await;
        for (mode, expected) in outcomes {
            let outcome = starts(&format!("sslmode={mode}")).await;
            match expected {
                Some(encrypted) => assert_eq!(outcome, Ok(encrypted), "{kind}, {mode}"),
                None => {
                    assert!(outcome.as_ref().is_err_and(|said| said.contains("pg_hba.conf")), "{kind}: {outcome:?}")
                }
            }
        }
    }
}
