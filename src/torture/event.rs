//! Events as clients send them: bodies with the odd white space and unknown fields of real devices.

use std::sync::Arc;

use hyper::body::Bytes;
use serde_json::{Value, json};
use uuid::Builder;

use crate::domain::event::json::{CompactJson, ContentDigest, compact};
use crate::domain::ids::EventId;
use crate::random::Random;
use crate::torture::journal::Expected;

/// An event that is ready to be sent, again and again.
#[derive(Debug, Clone)]
pub struct Prepared(Arc<Content>);

#[derive(Debug)]
struct Content {
    event_id: EventId,
    value: Value,
    body: Bytes,
    digest: ContentDigest,
}

impl Prepared {
    /// A new event of this type.
    pub fn new(random: &mut Random, event_type: &str, locker: &str, payload: &Value) -> Self {
        let value = json!({
            "event_id": event_id(random).to_string(),
            "occurred_at": occurred_at(random),
            "locker_id": locker,
            "type": event_type,
            "payload": payload,
            "note": "é\u{1F4E6} ".repeat(random.index(24)),
        });
        Self::of(value, random.percent(20))
    }

    /// The same event with something else in its place; the id stays.
    #[must_use]
    pub fn with(&self, name: &str, new: Value) -> Self {
        let mut value = self.0.value.clone();
        value[name] = new;
        Self::of(value, false)
    }

    fn of(value: Value, spaced: bool) -> Self {
        let text = if spaced { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let body = Bytes::from(text.expect("a JSON value has a text"));
        let event_id = value["event_id"].as_str().and_then(EventId::parse).expect("every event here has its id");
        let digest = compact(&body).as_ref().map(CompactJson::digest).expect("what serde_json writes is sound JSON");
        Self(Arc::new(Content { event_id, value, body, digest }))
    }

    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.0.event_id
    }

    #[must_use]
    pub fn body(&self) -> Bytes {
        self.0.body.clone()
    }

    #[must_use]
    pub fn digest(&self) -> ContentDigest {
        self.0.digest
    }

    #[must_use]
    pub fn payload(&self) -> &Value {
        &self.0.value["payload"]
    }
}

/// An event, and what its sender expects.
#[derive(Debug, Clone)]
pub struct Planned {
    pub event: Prepared,
    pub expected: Expected,
}

fn event_id(random: &mut Random) -> EventId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random.number().to_be_bytes());
    bytes[8..].copy_from_slice(&random.number().to_be_bytes());
    Builder::from_random_bytes(bytes).into_uuid().into()
}

/// Any time at all: devices' clocks lie.
fn occurred_at(random: &mut Random) -> String {
    let mut number = |least, most| random.between(least, most);
    let (year, month, day) = (number(1990, 2060), number(1, 12), number(1, 28));
    let (hour, minute, second, offset) = (number(0, 23), number(0, 59), number(0, 59), number(0, 14));
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+{offset:02}:00")
}
