//! The audit of a real server: what clients were told, the log, the answers and the database agree,
//! and where they do not, that is found.

use clap::Parser;
use lockstream::cli::Cli;
use lockstream::domain::event::parse::ReceivedEvent;
use lockstream::domain::record::RecordedAt;
use lockstream::torture::audit::audit;
use lockstream::torture::check::Violation;
use lockstream::torture::journal::{Entry, Expected, Journal, Outcome};
use serde_json::Value;

use crate::support::Folder;
use crate::support::events::{fault, registered, reserved};
use crate::support::server::Server;

/// A folder with a few records, and the journal of the client that sent them.
async fn lived_in() -> (Folder, Journal) {
    let folder = Folder::on_sqlite();
    let journal = Journal::create(&folder.path().join("journal.jsonl")).unwrap();
    let server = Server::start(&folder).await;
    for event in [registered("L", "A1"), reserved("L", "A1", "R1"), registered("M", "A1"), fault("M", "A1", 3)] {
        post(&server, &journal, &event).await;
    }
    assert!(server.stop().success());
    (folder, journal)
}

async fn post(server: &Server, journal: &Journal, event: &Value) {
    let received = ReceivedEvent::parse(event.to_string().as_bytes()).unwrap();
    let sent_ns = journal.now_ns();
    let answer = server.post(event).await;
    assert_eq!(answer.status, 202);
    let recorded_at = RecordedAt::parse(answer.json()["recorded_at"].as_str().unwrap()).unwrap();
    journal.add(Entry {
        cycle: 0,
        client: 0,
        event_id: received.event_id,
        digest: received.digest,
        expected: Expected::Accepted,
        sent_ns,
        ended_ns: journal.now_ns(),
        outcome: Outcome::Accepted { sequence: answer.sequence(), recorded_at },
    });
}

/// Starts a server on the folder and audits it.
async fn found(folder: &Folder, journal: &Journal) -> Vec<Violation> {
    let limits = Cli::try_parse_from(["lockstream"]).unwrap().server.limits;
    let server = Server::start(folder).await;
    let (checked, _) = audit(folder.path(), &limits, journal, Some(server.addr)).await;
    checked.findings.into_iter().map(|finding| finding.violation).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_kept_its_promises_passes() {
    let (folder, journal) = lived_in().await;
    assert_eq!(found(&folder, &journal).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_hash_that_is_not_the_fold_of_the_log_is_found() {
    let (folder, journal) = lived_in().await;
    folder
        .execute(
            "UPDATE lockers SET state_hash = substr(state_hash, 33) || substr(state_hash, 1, 32) WHERE locker_id = 'M'",
        )
        .await;
    assert_eq!(found(&folder, &journal).await, [Violation::HashMismatch, Violation::DatabaseDiffers]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_not_the_fold_of_the_log_is_found() {
    let (folder, journal) = lived_in().await;
    folder.execute("UPDATE compartments SET degraded = NOT degraded WHERE locker_id = 'L'").await;
    assert_eq!(found(&folder, &journal).await, [Violation::DatabaseDiffers]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_nobody_sent_is_found() {
    let (folder, journal) = lived_in().await;
    journal.entries().pop();
    assert_eq!(found(&folder, &journal).await, [Violation::RefusedButPresent]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_swapped_for_an_empty_one_is_found() {
    let (folder, journal) = lived_in().await;
    std::fs::remove_dir_all(folder.log()).unwrap();
    std::fs::remove_file(folder.path().join("clean-stop.json")).unwrap();
    folder.delete_database();
    assert_eq!(found(&folder, &journal).await, [Violation::Lost; 4]);
}
