//! The short way and the router's: who comes by either gets the same answer.

use std::collections::BTreeSet;

use reqwest::header::HeaderName;

use crate::support::Folder;
use crate::support::events::{registered, reserved};
use crate::support::server::{Answer, Server};
use crate::support::wire::Wire;

#[tokio::test]
async fn an_id_spelled_with_percent_signs_gets_the_answer_of_the_plain_one() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1"), reserved("L", "A1", "R1")]).await;
    let pairs = [
        ("/lockers/L", "/lockers/%4C", 200),
        ("/lockers/X", "/lockers/%58", 404),
        ("/lockers/L/compartments/A1", "/lockers/L/compartments/A%31", 200),
        ("/lockers/L/compartments/A2", "/lockers/L/compartments/A%32", 404),
        ("/lockers/X/compartments/A1", "/lockers/%58/compartments/A1", 404),
        ("/reservations/R1", "/reservations/R%31", 200),
        ("/reservations/R2", "/reservations/R%32", 404),
    ];
    for (plain, encoded, status) in pairs {
        let (by_the_short_way, by_the_router) = (server.get(plain).await, server.get(encoded).await);
        assert_eq!((by_the_short_way.status, by_the_router.status), (status, status), "{plain}");
        assert_eq!(by_the_short_way.body, by_the_router.body, "{plain}");
        assert_eq!(names(&by_the_short_way), names(&by_the_router), "{plain}");
        for header in ["content-type", "content-length"] {
            assert_eq!(by_the_short_way.header(header), by_the_router.header(header), "{plain}");
        }
    }
}

/// The names of an answer's headers.
fn names(answer: &Answer) -> BTreeSet<&str> {
    answer.headers.keys().map(HeaderName::as_str).collect()
}

#[tokio::test]
async fn a_body_that_a_query_does_not_want_ends_the_connection_by_either_way() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    for path in ["/lockers/L", "/lockers/%4C", "/lockers/L/compartments/A1", "/lockers/L/compartments/A%31"] {
        let mut wire = Wire::connect(&server).await;
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\n")).await;
        let reply = wire.reply().await.unwrap();
        assert!(reply.status == 200 && reply.head.contains("connection: close"), "{path}: {reply:?}");
        assert!(wire.ends().await, "{path}");
    }
}

#[tokio::test]
async fn what_stands_behind_a_question_mark_changes_nothing() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let event = registered("L", "A1").to_string();
    for (question, status) in [("?a=b", 202), ("?a=/b", 200)] {
        let json = [("content-type", "application/json")];
        let posted = server.send("POST", &format!("/events{question}"), &json, event.clone()).await;
        assert_eq!(posted.status, status, "{question}");
        for path in ["/lockers/L", "/lockers/L/compartments/A1"] {
            assert_eq!(server.get(&format!("{path}{question}")).await.body, server.get(path).await.body, "{question}");
        }
    }
}

#[tokio::test]
async fn a_path_that_only_resembles_one_leads_nowhere() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1"), reserved("L", "A1", "R1")]).await;
    let paths = [
        "/lockers",
        "/lockers/",
        "/lockers//",
        "//lockers/L",
        "/lockers/L/",
        "/lockers/L/compartments",
        "/lockers/L/compartments/",
        "/lockers/L/compartments//",
        "/lockers/L/compartments/A1/",
        "/lockers/L/doors/A1",
        "/Lockers/L",
        "/reservations/",
        "/reservations/R1/",
        "/reservations/R1/compartments/A1",
        "/events/",
    ];
    for path in paths {
        for method in ["GET", "POST"] {
            let answer = server.send(method, path, &[("content-type", "application/json")], "").await;
            assert_eq!((answer.status, answer.code().as_str()), (404, "no-such-page"), "{method} {path}");
        }
    }
    for (method, path) in
        [("GET", "/events"), ("PUT", "/events"), ("POST", "/lockers/L"), ("DELETE", "/reservations/R1")]
    {
        let answer = server.send(method, path, &[("content-type", "application/json")], "").await;
        assert_eq!(answer.status, 405, "{method} {path}");
    }
}
