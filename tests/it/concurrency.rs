//! Many clients at once: one event is taken in once, one door is given away once, and whoever got
//! an answer sees its effect everywhere.

use std::collections::HashMap;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};

use crate::support::Folder;
use crate::support::events::{deposited, expired, picked_up, registered, reserved};
use crate::support::server::{Server, answer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_sent_200_times_at_once_is_accepted_once() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let event = registered("L", "A1");
    let answers = join_all((0..200).map(|_| server.post(&event))).await;
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(202), count(200)), (1, 199));
    assert!(answers.iter().all(|answer| answer.sequence() == 1));
    let times: Vec<_> = answers.iter().map(|answer| answer.json()["recorded_at"].clone()).collect();
    assert!(times.iter().all(|time| *time == times[0]), "all tell of the one record");
    assert_eq!(folder.records().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_door_is_reserved_once_however_many_ask() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    for round in 0..4 {
        let events: Vec<_> = (0..50).map(|n| reserved("L", "A1", &format!("R{round}-{n}"))).collect();
        let answers = join_all(events.iter().map(|event| server.post(event))).await;
        let winners: Vec<_> = (0..50).filter(|n| answers[*n].status == 202).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        let refused = answers.iter().filter(|answer| answer.status == 409 && answer.code() == "compartment-occupied");
        assert_eq!(refused.count(), 49, "round {round}");
        let reservation = format!("R{round}-{}", winners[0]);
        let door = server.get("/lockers/L/compartments/A1").await.json();
        assert_eq!(door["active_reservation"], reservation.as_str());
        server.accept(&[expired("L", &reservation)]).await;
    }
}

/// A connection that nobody used before.
async fn fresh_get(server: &Server, path: &str) -> crate::support::server::Answer {
    answer(reqwest::Client::new().get(server.url(path))).await.expect("the server answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_event_is_seen_at_once_on_any_other_connection() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let (server, rounds) = (&server, 25);
    join_all((0..6).map(|writer| async move {
        let locker = format!("L{writer}");
        server.accept(&[registered(&locker, "A1")]).await;
        for round in 0..rounds {
            let reservation = format!("R{writer}-{round}");
            let path = format!("/reservations/{reservation}");
            let steps = [
                (reserved(&locker, "A1", &reservation), "CREATED"),
                (deposited(&locker, &reservation), "DEPOSITED"),
                (picked_up(&locker, &reservation), "PICKED_UP"),
            ];
            for (event, status) in steps {
                assert_eq!(server.post(&event).await.status, 202);
                let seen = fresh_get(server, &path).await;
                assert_eq!(seen.json()["status"], status, "{path}: {seen:?}");
                let active = u64::from(status != "PICKED_UP");
                let locker = fresh_get(server, &format!("/lockers/{locker}")).await.json();
                assert_eq!(locker["active_reservations"], active, "{path} is {status}: {locker}");
            }
        }
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_never_go_back_in_time_under_heavy_writing() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "first")]).await;
    let (done, writing) = tokio::sync::watch::channel(false);
    let (server, last) = (&server, 600);
    let writers = async {
        let events: Vec<_> = (1..last).map(|n| registered("L", &n.to_string())).collect();
        let posts = stream::iter(&events).map(|event| server.post(event)).buffer_unordered(16);
        assert!(posts.all(|answer| async move { answer.status == 202 }).await);
        done.send_replace(true);
    };
    let reader = || async {
        let mut seen: Vec<(u64, String)> = Vec::new();
        let mut finished = false;
        while !finished {
            finished = *writing.borrow(); // Read first: so one answer is from after the end.
            let body = fresh_get(server, "/lockers/L").await.json();
            seen.push((body["compartments"].as_u64().unwrap(), body["state_hash"].as_str().unwrap().to_owned()));
        }
        seen
    };
    let ((), one, other, third) = tokio::join!(writers, reader(), reader(), reader());
    for seen in [&one, &other, &third] {
        assert!(seen.is_sorted_by_key(|(compartments, _)| compartments), "{seen:?}");
        assert_eq!(seen.last().unwrap().0, last);
    }
    let mut hashes = HashMap::new();
    for (compartments, hash) in one.into_iter().chain(other).chain(third) {
        let known = hashes.entry(compartments).or_insert_with(|| hash.clone());
        assert_eq!(*known, hash, "one state has one hash, whoever asks");
    }
    assert!(hashes.len() > 5, "the readers saw the writing under way: {} states", hashes.len());
}
