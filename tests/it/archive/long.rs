//! Long events of the past.

use crate::archive::{TINY, forget};
use crate::support::Folder;
use crate::support::events::registered;
use crate::support::server::Server;

/// Their lines are read a kibibyte first, then eight times as much, and so on.
#[tokio::test]
async fn an_event_of_the_past_is_known_in_all_its_length() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &TINY).await;
    let long = |photo_bytes: usize| {
        let mut event = registered("L", &format!("door {photo_bytes}"));
        event["photo"] = "x".repeat(photo_bytes).into();
        event
    };
    let events = [10, 5_000, 60_000].map(long);
    server.accept(&[registered("clock", "tick")]).await;
    server.accept(&events).await;
    forget(&server, 4).await;
    for (mut event, sequence) in events.into_iter().zip(2..) {
        let same = server.post(&event).await;
        assert_eq!((same.status, same.sequence()), (200, sequence), "{same:?}");
        assert!(same.json()["content_matches"].is_null(), "{same:?}");
        let last = event["photo"].as_str().unwrap().len() - 1;
        event["photo"] = format!("{}y", "x".repeat(last)).into();
        let other = server.post(&event).await;
        assert_eq!((other.status, &other.json()["content_matches"]), (200, &false.into()), "{other:?}");
    }
}
