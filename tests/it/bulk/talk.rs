//! A client that sends and reads at its own pace.

use std::time::Duration;

use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use serde_json::Value;
use tokio::time::timeout;

use crate::bulk::NDJSON;
use crate::support::PATIENCE;
use crate::support::server::Server;

/// A bulk whose body is not at its end.
pub struct Talk {
    body: Option<Sender<Bytes>>,
    answer: reqwest::Response,
    read: Vec<u8>,
}

impl Talk {
    /// Begins with some bytes; the status has to be 200.
    pub async fn begin(server: &Server, first: impl Into<Bytes>) -> Self {
        let (mut body, bytes) = Channel::new(1);
        body.send_data(first.into()).await.unwrap();
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let request = client.post(server.url("/events/batch")).header("content-type", NDJSON);
        let answer = request.body(reqwest::Body::wrap(bytes)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        Self { body: Some(body), answer, read: Vec::new() }
    }

    /// Sends more; false when the server takes nothing more.
    pub async fn say(&mut self, bytes: impl Into<Bytes>) -> bool {
        let body = self.body.as_mut().expect("it is not at its end");
        matches!(timeout(PATIENCE, body.send_data(bytes.into())).await, Ok(Ok(())))
    }

    pub fn end(&mut self) {
        self.body = None;
    }

    /// The next line; `None` where the answer ends or breaks off.
    pub async fn line(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.read.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let chunk = timeout(PATIENCE, self.answer.chunk()).await.expect("the answer goes on or ends");
            self.read.extend_from_slice(&chunk.ok().flatten()?);
        }
    }

    pub async fn lines(&mut self, count: usize) -> Vec<Value> {
        let mut lines = Vec::new();
        while lines.len() < count {
            lines.push(self.line().await.expect("there is another line"));
        }
        lines
    }

    /// All lines up to the end of the answer.
    pub async fn rest(&mut self) -> Vec<Value> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        lines
    }

    /// Whether nothing is said for a moment.
    pub async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(50), self.line()).await.is_err()
    }
}
