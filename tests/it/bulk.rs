//! Bulk: many events in one request, in order, each with its own verdict.

mod arrays;
mod durable;
mod hostile;
mod import;
mod lingering;
mod room;
mod splitter;
mod talk;
mod verdicts;

use std::convert::Infallible;

use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use serde_json::Value;

use crate::support::events::{deposited, expired, id, picked_up, registered, reserved};
use crate::support::server::{Answer, Server};

pub const NDJSON: &str = "application/x-ndjson";

/// The answer to a bulk, taken apart.
#[derive(Debug)]
pub struct Answered {
    /// One for each event.
    pub lines: Vec<Value>,
    /// The last line.
    pub end: Value,
}

impl Answered {
    pub fn of(answer: &Answer) -> Self {
        assert_eq!((answer.status, answer.header("content-type")), (200, NDJSON), "{answer:?}");
        Self::of_text(&answer.body)
    }

    pub fn of_text(text: &str) -> Self {
        let mut lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        let end = lines.pop().expect("there is a last line");
        assert_eq!(end["status"], "end", "{text}");
        Self { lines, end }
    }

    pub fn statuses(&self) -> Vec<&str> {
        self.lines.iter().map(|line| line["status"].as_str().unwrap()).collect()
    }

    /// The sequences of accepted lines.
    pub fn sequences(&self) -> Vec<u64> {
        let accepted = self.lines.iter().filter(|line| line["status"] == "accepted");
        accepted.map(|line| line["sequence"].as_u64().unwrap()).collect()
    }
}

pub fn ndjson<'e>(events: impl IntoIterator<Item = &'e Value>) -> String {
    events.into_iter().flat_map(|event| [event.to_string(), "\n".to_owned()]).collect()
}

/// A body that comes in these pieces.
pub fn in_pieces<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> reqwest::Body {
    let frames: Vec<_> =
        pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    reqwest::Body::wrap(StreamBody::new(futures_util::stream::iter(frames)))
}

pub async fn send(server: &Server, content_type: &str, body: impl Into<reqwest::Body>) -> Answered {
    Answered::of(&server.send("POST", "/events/batch", &[("content-type", content_type)], body).await)
}

/// Sends events that all have to be accepted.
pub async fn accept(server: &Server, events: &[Value]) -> Answered {
    let answered = send(server, NDJSON, ndjson(events)).await;
    assert!(answered.lines.iter().all(|line| line["status"] == "accepted"), "{:?}", answered.end);
    assert_eq!((answered.lines.len(), &answered.end["complete"]), (events.len(), &Value::from(true)));
    answered
}

/// The life of a locker's doors: as many events as asked for, each possible after those before it,
/// and none of them after any other order.
pub fn story(locker: &str, count: usize) -> Vec<Value> {
    let lives = (0..).flat_map(|n| {
        let (door, parcel) = (format!("A{n}"), format!("{locker}-parcel-{n}"));
        [
            registered(locker, &door),
            reserved(locker, &door, &parcel),
            deposited(locker, &parcel),
            if n % 2 == 0 { picked_up(locker, &parcel) } else { expired(locker, &parcel) },
        ]
    });
    lives.take(count).collect()
}

pub fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| id(event).to_owned()).collect()
}
