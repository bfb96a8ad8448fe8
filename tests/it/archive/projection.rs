//! The projection and an archive: one that is behind the archive, empty, or of another log gets every
//! row, those too that the writer has forgotten.

use crate::archive::{TINY, forget, live, pass_time};
use crate::support::Folder;
use crate::support::server::Server;
use crate::support::views::views;

#[tokio::test]
async fn a_projection_behind_the_archive_gets_what_it_misses() {
    let mut folder = Folder::new();
    let server = Server::start_with(&folder, &TINY).await;
    live(&server).await;
    pass_time(&server).await;
    assert!(server.stop().success());
    let mut early = Folder::new();
    early.take_database_of(&folder);

    let server = Server::start_with(&folder, &TINY).await;
    let sequence = folder.records().len() as u64;
    server
        .accept(&[
            crate::support::events::picked_up("M", "deposited"),
            crate::support::events::reserved("M", "A", "later"),
            crate::support::events::expired("M", "later"),
        ])
        .await;
    forget(&server, sequence + 10).await;
    let due = views(&server, &folder, &serde_json::Value::Null).await;
    assert!(server.stop().success());

    folder.delete_database();
    folder.take_database_of(&early);
    let server = Server::start_with(&folder, &TINY).await;
    assert_eq!(views(&server, &folder, &serde_json::Value::Null).await, due);
    assert_eq!(server.lines_saying("the projection is written anew").len(), 0, "it was gone on from");
}

#[tokio::test]
async fn an_empty_projection_and_one_of_another_log_get_every_row() {
    let mut folder = Folder::new();
    let server = Server::start_with(&folder, &TINY).await;
    live(&server).await;
    forget(&server, 20).await;
    let due = views(&server, &folder, &serde_json::Value::Null).await;
    assert!(due.contains_key("/reservations/expired"));
    assert!(server.stop().success());

    folder.delete_database();
    let server = Server::start_with(&folder, &TINY).await;
    assert_eq!(views(&server, &folder, &serde_json::Value::Null).await, due);
    assert!(server.stop().success());

    let other = Folder::new();
    let stranger = Server::start(&other).await;
    live(&stranger).await;
    assert!(stranger.stop().success());
    folder.delete_database();
    folder.take_database_of(&other);
    let server = Server::start_with(&folder, &TINY).await;
    assert_eq!(views(&server, &folder, &serde_json::Value::Null).await, due);
    assert_eq!(server.lines_saying("the projection is written anew").len(), 1);
}
