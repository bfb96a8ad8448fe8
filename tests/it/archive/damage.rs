//! An archive that is damaged while it is in use: nothing is decided in ignorance, and it is mended.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::archive::{TINY, forget, forgotten, live, pass_time};
use crate::support::events::registered;
use crate::support::server::{Answer, Server};
use crate::support::{Folder, eventually};

/// Damages every block of every run, in place: whoever has the file open sees it. A run that was merged
/// away meanwhile is left out.
fn damage_every_block(folder: &Folder) {
    let text = fs::read_to_string(folder.archive().join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    for run in manifest["runs"].as_array().unwrap() {
        let path = folder.archive().join(run["name"].as_str().unwrap());
        let blocks = run["entries"].as_u64().unwrap().div_ceil(127);
        let Ok(file) = File::options().write(true).open(&path) else { continue };
        for block in 0..blocks {
            // A sequence that no log ever gets to.
            file.write_all_at(&[0xee], block * 4096 + 20).unwrap();
        }
    }
}

/// Damages the archive and sends an archived event, until that meets the damage: the archiver may be about
/// to replace what is damaged here, and then the answer is right.
async fn meet_damage(folder: &Folder, server: &Server, event: &Value, sequence: u64) -> Answer {
    for _ in 0..100 {
        damage_every_block(folder);
        let answer = server.post(event).await;
        if answer.status != 200 {
            return answer;
        }
        assert_eq!(answer.sequence(), sequence, "{answer:?}");
    }
    panic!("no damage was ever met");
}

#[tokio::test]
async fn what_needs_a_damaged_block_is_turned_away_until_the_archive_is_made_anew() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &TINY).await;
    let events = live(&server).await;
    forget(&server, events.len() as u64).await;

    let records = folder.records().len();
    let turned_away = meet_damage(&folder, &server, &events[4], 5).await;

    assert_eq!((turned_away.status, turned_away.code().as_str()), (503, "past-unreadable"), "{turned_away:?}");
    assert!(!turned_away.header("retry-after").is_empty());
    assert_eq!(folder.records().len(), records, "nothing was recorded");
    assert_eq!(server.get("/reservations/expired").await.status, 200, "queries are answered as ever");
    let other = registered("N", "A");
    eventually("new events are taken", async || server.post(&other).await.status < 300).await;
    for (event, sequence) in events.iter().zip(1..) {
        eventually("it is known again", async || {
            let answer = server.post(event).await;
            assert!(answer.status == 503 || (answer.status, answer.sequence()) == (200, sequence), "{answer:?}");
            answer.status == 200
        })
        .await;
    }
    assert!(server.stop().success());
    let server = Server::start_with(&folder, &TINY).await;
    assert_eq!(server.post(&events[4]).await.sequence(), 5);
    assert_eq!(
        server.lines_saying("the archive is thrown away and made anew; this start reads the whole log").len(),
        0
    );
}

#[tokio::test]
async fn a_damaged_line_of_the_log_is_never_taken_for_an_answer() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &TINY).await;
    let events = live(&server).await;
    forget(&server, events.len() as u64).await;
    let first = &folder.segments()[0];
    let whole = fs::read(first).unwrap();
    let at = String::from_utf8(whole.clone()).unwrap().find("08:00:00").unwrap();

    let mut bytes = whole.clone();
    bytes[at] = b'1';
    fs::write(first, bytes).unwrap();
    let turned_away = server.post(&events[0]).await;
    assert_eq!((turned_away.status, turned_away.code().as_str()), (503, "past-unreadable"), "{turned_away:?}");

    fs::write(first, whole).unwrap();
    assert_eq!(server.post(&events[0]).await.sequence(), 1, "as soon as it is put right");
    let anew = server.lines_saying("the archive is damaged; it is made anew from the log");
    assert!(anew.is_empty(), "another archive would lead to the same line");
}

#[tokio::test]
async fn an_archive_that_is_removed_beneath_the_service_is_not_missed() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &TINY).await;
    let events = live(&server).await;
    forget(&server, events.len() as u64).await;

    // At once, as one step: it may be written to just now.
    fs::rename(folder.archive(), folder.path().join("away")).unwrap();

    for (event, sequence) in events.iter().zip(1..) {
        assert_eq!(server.post(event).await.sequence(), sequence);
    }
    let before = forgotten(&server);
    eventually("it is made anew", async || {
        pass_time(&server).await;
        folder.archive().join("manifest.json").exists() && forgotten(&server) > before
    })
    .await;
    for (event, sequence) in events.iter().zip(1..) {
        assert_eq!(server.post(event).await.sequence(), sequence);
    }
}

#[tokio::test]
async fn an_archive_that_cannot_be_written_costs_memory_and_nothing_else() {
    let folder = Folder::new();
    folder.keep_without_archive();
    let server = Server::start_with(&folder, &TINY).await;
    let events = live(&server).await;
    let said = || server.lines_saying("the past cannot be archived and stays in memory; it is tried again").len();
    eventually("it is said", async || said() == 1).await;
    pass_time(&server).await;
    for (event, sequence) in events.iter().zip(1..) {
        assert_eq!(server.post(event).await.sequence(), sequence);
    }
    assert_eq!(forgotten(&server), 0, "nothing is forgotten that is not archived");

    fs::remove_file(folder.archive()).unwrap();

    eventually("it is archived after all", async || forgotten(&server) >= events.len() as u64).await;
    for (event, sequence) in events.iter().zip(1..) {
        assert_eq!(server.post(event).await.sequence(), sequence);
    }
    assert_eq!(said(), 1, "once is enough");
}
