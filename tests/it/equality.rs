//! Both databases hold the same: one log gives the same bytes in every answer, whatever the
//! identifiers in it look like and whichever way the projection was made.

use std::fs;

use serde_json::json;

use crate::support::Folder;
use crate::support::events::{cleared, deposited, expired, fault, picked_up, registered, reserved};
use crate::support::server::{Server, lockstream, run};
use crate::support::views::{Views, compartment_path, locker_path, reservation_path, views};

/// What some collation, normalisation, number format or quoting somewhere takes for one and the
/// same, or for something else than a text.
fn confusable_ids() -> Vec<String> {
    let letters = ["a", "A", "á", "a\u{301}", "ä", "a\u{308}", "ａ", "ª", "ss", "ß", "ẞ", "SS", "i", "I", "İ", "ı"];
    let joined = ["fi", "ﬁ", "æ", "ae", "Å", "\u{212b}", "Ω", "\u{2126}", "か\u{3099}", "が", "ｶﾞ"];
    let spaces = ["a ", "a  ", " a", "a\u{a0}", "a\u{200b}", "a\u{200d}", "a\u{ad}", "\u{feff}a", " ", "  "];
    let edges = ["\u{ffff}", "\u{fffe}", "\u{fffd}", "\u{fdd0}", "\u{d7ff}", "\u{e000}", "\u{10000}", "\u{10ffff}"];
    let pictures = ["😀", "👩‍🚀", "👩🚀", "👩", "🇩🇪", "שלום", "\u{202e}abc", "abc", "\u{2066}abc", "١", "۱", "１"];
    let quotes =
        ["'", "''", "\"", "\"\"", "\\", "\\\\", "\\'", "`", "%", "%%", "_", "%25", "$1", "?", "?1", ":a", "--"];
    let json = ["[]", "{}", "[\"a\"]", "{\"a\":1}", "\"a\"", "null", "NULL", "true", "TRUE", "t", "false", "\\u0061"];
    let numbers = ["1", "01", "1.0", "+1", "1e3", "1E3", "1000", "007", "7", "0x7", "-0", "0", "NaN", "1e400", "\\x61"];
    let long = ["", "x", "y"].map(|end| format!("{}{end}", "😀".repeat(127)));
    let short = [&letters[..], &joined, &spaces, &edges, &pictures, &quotes, &json, &numbers].concat();
    short.into_iter().map(str::to_owned).chain(long).collect()
}

/// A history in which each of these ids is a locker's, a compartment's and a reservation's, and
/// neighbours differ in what became of them.
async fn tell_history_of(ids: &[String], server: &Server) {
    for (number, id) in ids.iter().enumerate() {
        server.accept(&[registered(id, id), registered("doors", id), reserved(id, id, id)]).await;
        match number % 4 {
            0 => {}
            1 => server.accept(&[deposited(id, id)]).await,
            2 => server.accept(&[deposited(id, id), picked_up(id, id)]).await,
            _ => {
                let defect = fault("doors", id, 4);
                server.accept(&[expired(id, id), defect.clone(), fault("doors", id, 3)]).await;
                server.accept(&[cleared("doors", id, &defect)]).await;
            }
        }
    }
}

async fn is_told_apart(ids: &[String], server: &Server) {
    let doors = server.get("/lockers/doors").await.json();
    assert_eq!((&doors["compartments"], &doors["degraded_compartments"]), (&json!(ids.len()), &json!(ids.len() / 4)));
    for (number, id) in ids.iter().enumerate() {
        let status = ["CREATED", "DEPOSITED", "PICKED_UP", "EXPIRED"][number % 4];
        let active = (number % 4 < 2).then_some(id);
        let door = server.get(&compartment_path(id, id)).await.json();
        assert_eq!(door, json!({"compartment_id": id, "degraded": false, "active_reservation": active}));
        let in_doors = server.get(&compartment_path("doors", id)).await.json();
        assert_eq!(in_doors, json!({"compartment_id": id, "degraded": number % 4 == 3, "active_reservation": null}));
        let reservation = server.get(&reservation_path(id)).await.json();
        assert_eq!(reservation, json!({"reservation_id": id, "status": status}));
        let locker = server.get(&locker_path(id)).await.json();
        assert_eq!((&locker["locker_id"], &locker["compartments"]), (&json!(id), &json!(1)), "{id:?}");
        assert_eq!(locker["active_reservations"], u64::from(active.is_some()), "{id:?}");
    }
}

/// A folder that has a log of its own, copied from another, and no database yet.
fn copy_log(from: &Folder, to: Folder) -> Folder {
    fs::create_dir(to.log()).unwrap();
    for segment in from.segments() {
        fs::copy(&segment, to.log().join(segment.file_name().unwrap())).unwrap();
    }
    to
}

fn command(folder: &Folder, name: &str) {
    let mut command = lockstream(folder);
    command.arg(name);
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
}

/// Every answer of a service that starts on the folder.
async fn all_answers(folder: &Folder) -> Views {
    let server = Server::start(folder).await;
    let views = views(&server, folder, &json!(null)).await;
    assert!(server.stop().success());
    command(folder, "verify");
    views
}

#[tokio::test]
async fn one_log_gives_the_same_bytes_on_both_databases_whichever_way_they_were_written() {
    let ids = confusable_ids();
    let origin = Folder::new();
    let server = Server::start_with(&origin, &[("LOCKSTREAM_MAX_SEGMENT_BYTES", "50000")]).await;
    tell_history_of(&ids, &server).await;
    is_told_apart(&ids, &server).await;
    assert!(server.stop().success());
    // Written event by event.
    let answers = all_answers(&origin).await;
    assert!(answers.len() > 3 * ids.len() && answers.values().all(|(status, _)| *status == 200));
    assert!(origin.segments().len() > 1);

    for folder in [Folder::on_sqlite(), Folder::on_postgres()] {
        let folder = copy_log(&origin, folder);
        // Written at once, at the start.
        assert_eq!(all_answers(&folder).await, answers);
        // Written by a rebuild, with what was there and without.
        command(&folder, "rebuild");
        assert_eq!(all_answers(&folder).await, answers);
        folder.delete_database();
        command(&folder, "rebuild");
        assert_eq!(all_answers(&folder).await, answers);
    }
}

#[tokio::test]
async fn a_folder_may_move_from_one_database_to_the_other_and_back() {
    let sqlite = Folder::on_sqlite();
    let server = Server::start(&sqlite).await;
    server.accept(&[registered("L", "A1"), reserved("L", "A1", "R1"), deposited("L", "R1")]).await;
    let hash = server.state_hash("L").await;
    assert!(server.stop().success());

    let database = Folder::on_postgres();
    let mut moved = lockstream(&sqlite);
    moved.env("DATABASE_URL", database.database_url().unwrap());
    let server = Server::spawn(moved).await.unwrap();
    assert_eq!(server.state_hash("L").await, hash);
    server.accept(&[picked_up("L", "R1"), reserved("L", "A1", "R2")]).await;
    let hash = server.state_hash("L").await;
    assert!(server.stop().success());

    // The file is where it was left, and catches up.
    let server = Server::start(&sqlite).await;
    assert_eq!(server.state_hash("L").await, hash);
    assert_eq!(server.get("/reservations/R1").await.json()["status"], "PICKED_UP");
}
