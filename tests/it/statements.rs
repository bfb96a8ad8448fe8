//! How many statements reach the database: a few, whatever the number of rows, and shared by the
//! queries of one moment. Counted by what the drivers log, not by our own code.

use std::collections::HashSet;

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::events::{deposited, registered, reserved};
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, eventually, logs};

/// Makes the drivers log each statement.
const LOGGED: [(&str, &str); 1] = [("RUST_LOG", "info,sqlx::query=debug")];

/// The statements that a process has sent, by what it has written so far.
fn statements(lines: &[String]) -> Vec<String> {
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let logged = lines.filter(|line| line["target"] == "sqlx::query");
    // A short statement is its own summary.
    let text = |line: Value| match line["db.statement"].as_str().unwrap().trim() {
        "" => line["summary"].as_str().unwrap().to_owned(),
        whole => whole.to_owned(),
    };
    logged.map(text).collect()
}

/// Appends events to the log of a stopped server, the last one a registration of this locker, and
/// starts it; returns the beginnings of the statements by which the projection takes them in.
async fn taking_in(folder: &Folder, mut events: Vec<Value>, last: &str) -> Vec<String> {
    events.push(registered(last, "A1"));
    logs::write(&folder.log(), &[events]);
    let mut server = Server::start_with(folder, &LOGGED).await;
    let path = format!("/lockers/{last}");
    eventually("all is taken in", async || server.get(&path).await.status == 200).await;
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let [transaction] = writing_transactions(&server.lines()).try_into().expect("everything is taken in at once");
    transaction
}

/// The transactions that wrote the projection, by the beginnings of their statements.
fn writing_transactions(lines: &[String]) -> Vec<Vec<String>> {
    let beginning = |statement: &String| statement.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let statements: Vec<_> = statements(lines).iter().map(beginning).collect();
    let transactions = statements.split_inclusive(|statement| statement == "COMMIT");
    // Those that bring the tables up to date write no checkpoint.
    let writing = transactions.filter(|statements| statements.iter().any(|one| one == "INSERT INTO checkpoint"));
    let from_its_begin = |statements: &[String]| {
        let begin = statements.iter().rposition(|statement| statement.starts_with("BEGIN")).unwrap();
        statements[begin..].to_vec()
    };
    writing.map(from_its_begin).collect()
}

#[tokio::test]
async fn a_transaction_is_a_few_statements_for_two_events_and_for_thousands() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    assert!(server.stop().success());

    let few = taking_in(&folder, vec![reserved("L", "A1", "R")], "few").await;
    let lockers: Vec<_> = (0..2_000).map(|n| (format!("L{n}"), format!("R{n}"))).collect();
    let registrations = lockers.iter().map(|(locker, _)| registered(locker, "A1"));
    let reservations = lockers.iter().map(|(locker, reservation)| reserved(locker, "A1", reservation));
    let deposits = lockers[..1_000].iter().map(|(locker, reservation)| deposited(locker, reservation));
    let many = taking_in(&folder, registrations.chain(reservations).chain(deposits).collect(), "many").await;

    let rows = |counts| transaction(&folder, counts);
    assert_eq!(few, rows([2, 2, 1]));
    assert_eq!(many, rows([2_001, 2_001, 2_000]));

    let registrations = (0..20_000).map(|n| registered(&format!("M{n}"), "A1")).collect();
    let more = taking_in(&folder, registrations, "more").await;
    assert_eq!(more, rows([20_001, 20_001, 0]), "still one transaction");
}

/// The beginnings of the statements that write so many lockers, compartments and reservations.
/// PostgreSQL takes ten thousand rows in one statement; SQLite 256, and what is left of them in
/// powers of two, and it is told how far its log may grow.
fn transaction(folder: &Folder, [lockers, compartments, reservations]: [usize; 3]) -> Vec<&'static str> {
    let statements = |rows: usize| {
        let on_sqlite = |chunk: usize| chunk / 256 + (chunk % 256).count_ones() as usize;
        if folder.is_on_postgres() {
            rows.div_ceil(10_000)
        } else {
            rows / 10_000 * on_sqlite(10_000) + on_sqlite(rows % 10_000)
        }
    };
    let tables = [
        ("INSERT INTO lockers", lockers),
        ("INSERT INTO compartments", compartments),
        ("INSERT INTO reservations", reservations),
    ];
    let writes = tables.into_iter().flat_map(|(beginning, rows)| vec![beginning; statements(rows)]);
    let begin = if folder.is_on_postgres() { "BEGIN" } else { "BEGIN IMMEDIATE" };
    let setting = (!folder.is_on_postgres()).then_some("PRAGMA wal_autocheckpoint =");
    let around = ([begin, "SELECT sequence, chain_hash"], ["INSERT INTO checkpoint"]);
    around.0.into_iter().chain(writes).chain(around.1).chain(setting).chain(["COMMIT"]).collect()
}

/// Events of so many lockers, each with a compartment and a reservation.
fn lockers_with_a_reservation(count: usize) -> Vec<Value> {
    let lockers = (0..count).map(|number| (format!("L{number}"), format!("R{number}")));
    lockers.flat_map(|(locker, id)| [registered(&locker, "A1"), reserved(&locker, "A1", &id)]).collect()
}

/// How often a process has read the state hashes of a whole projection.
fn comparisons(lines: &[String]) -> usize {
    statements(lines).iter().filter(|statement| *statement == "SELECT locker_id, state_hash FROM lockers").count()
}

#[tokio::test]
async fn a_projection_is_made_anew_in_one_transaction_for_a_locker_and_for_thousands() {
    for lockers in [1, 2_300] {
        let folder = Folder::new();
        logs::write(&folder.log(), &[lockers_with_a_reservation(lockers)]);
        assert!(Server::start(&folder).await.stop().success());
        let everything = [transaction(&folder, [lockers; 3])];

        let mut command = lockstream(&folder);
        command.arg("rebuild").envs(LOGGED);
        let alone = run(command);
        assert_eq!(alone.code, Some(0), "{alone:?}");
        let lines: Vec<_> = alone.stderr.lines().map(str::to_owned).collect();
        assert_eq!(writing_transactions(&lines), everything, "by a rebuild without a server");
        assert_eq!(comparisons(&lines), 1, "of the old one");

        let mut server = Server::start_with(&folder, &LOGGED).await;
        let mut command = lockstream(&folder);
        command.arg("rebuild");
        let beside = tokio::task::spawn_blocking(move || run(command)).await.unwrap();
        assert_eq!(beside.code, Some(0), "{beside:?}");
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        assert_eq!(writing_transactions(&server.lines()), everything, "by a rebuild beside the server");
        assert_eq!(comparisons(&server.lines()), 2, "of the old one and of the new one");

        let mut server = Server::start_with(&folder, &LOGGED).await;
        folder.execute("UPDATE checkpoint SET chain_hash = substr(chain_hash, 33) || substr(chain_hash, 1, 32)").await;
        server.accept(&[deposited("L0", "R0")]).await;
        assert_eq!(server.get("/reservations/R0").await.json()["status"], "DEPOSITED");
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        assert_eq!(writing_transactions(&server.lines()), everything, "of a database that is not where it was left");
    }
}
/// What a client asks for.
type PathOf = fn(usize) -> String;

#[tokio::test]
async fn queries_that_wait_at_the_same_time_share_statements() {
    const CLIENTS: usize = 64;
    const QUERIES: usize = 20;
    let folder = Folder::new();
    let mut server = Server::start_with(&folder, &LOGGED).await;
    let events = (0..CLIENTS).flat_map(|client| {
        let locker = format!("L{client}");
        [registered(&locker, "A1"), reserved(&locker, "A1", &format!("R{client}"))]
    });
    server.accept(&events.collect::<Vec<_>>()).await;
    let kinds: [(&str, PathOf); 3] = [
        ("CROSS JOIN lockers", |client| format!("/lockers/L{client}")),
        ("CROSS JOIN compartments", |client| format!("/lockers/L{client}/compartments/A1")),
        ("CROSS JOIN reservations", |client| format!("/reservations/R{client}")),
    ];
    for (_, path) in kinds {
        let clients = (0..CLIENTS).map(async |client| {
            for _ in 0..QUERIES {
                assert_eq!(server.get(&path(client)).await.status, 200);
            }
        });
        join_all(clients).await;
    }
    // What it has logged is complete when it has ended.
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let statements = statements(&server.lines());
    // PostgreSQL has one text for any number of keys, SQLite one for 1, 2, 4, … 256 of them.
    let most_texts = if folder.is_on_postgres() { 1 } else { 9 };
    for (kind, _) in kinds {
        let sent: Vec<_> = statements.iter().filter(|statement| statement.contains(kind)).collect();
        // How many share one depends on how many stand waiting; that all come alone does not happen.
        let (sent, texts) = (sent.len(), sent.into_iter().collect::<HashSet<_>>().len());
        assert!((1..CLIENTS * QUERIES).contains(&sent), "{kind}: {sent} for {} queries", CLIENTS * QUERIES);
        assert!((1..=most_texts).contains(&texts), "{kind}: {texts} texts, which stay prepared");
    }
}
