//! The members of a JSON object, read as what they have to be, with every problem found.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::event::json::Problem;
use crate::domain::event::parse::time::is_rfc3339_date_time;
use crate::domain::event::{EventType, Severity};
use crate::domain::ids::{EventId, IdError};

/// The members of one JSON object, in order, with their values unread.
pub struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// `None` for what is no object.
    pub fn of(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.get())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some(Key(key)) = map.next_key()? {
                    members.push((key, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A key, borrowed where it has no escapes. One that holds a lone surrogate is read too, with a
/// replacement character: such a document is refused as a whole, and its other members still have to be
/// found.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;
        impl<'de> Visitor<'de> for AnyText {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Key<'de>, E> {
                Ok(Key(String::from_utf8_lossy(bytes)))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Key<'de>, E> {
                Ok(Key(String::from_utf8_lossy(bytes).into_owned().into()))
            }
        }
        deserializer.deserialize_bytes(AnyText)
    }
}

/// A JSON string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads typed fields of an object and collects what is wrong with them.
pub struct Fields<'a> {
    /// The JSON Pointer of the object.
    at: &'static str,
    members: Members<'a>,
    /// What was wrong with the fields that were read, in their order.
    pub problems: Vec<Problem>,
}

impl<'a> Fields<'a> {
    /// Of the object at this JSON Pointer.
    pub fn new(at: &'static str, members: Members<'a>) -> Self {
        Self { at, members, problems: Vec::new() }
    }

    fn problem(&mut self, name: &str, detail: impl Into<String>) {
        self.problems.push(Problem::new(format!("{}/{name}", self.at), detail));
    }

    fn required(&mut self, name: &str) -> Option<&'a str> {
        let value = self.members.get(name);
        if value.is_none() {
            self.problem(name, "is required and missing");
        }
        value
    }

    fn string(&mut self, name: &str, value: &'a str) -> Option<Cow<'a, str>> {
        if let Ok(Text(text)) = serde_json::from_str(value) {
            Some(text)
        } else {
            self.problem(name, format!("must be a string, not {}", kind_of(value)));
            None
        }
    }

    /// An identifier, which must be there. `None`, of this and of all others: a problem was added.
    pub fn id<T>(&mut self, name: &str, parse: fn(&str) -> Result<T, IdError>) -> Option<T> {
        let value = self.required(name)?;
        let text = self.string(name, value)?;
        parse(&text).map_err(|error| self.problem(name, error.to_string())).ok()
    }

    /// An identifier that may be left out; `null` counts as left out.
    pub fn optional_id<T>(&mut self, name: &str, parse: fn(&str) -> Result<T, IdError>) -> Option<T> {
        self.members.get(name).filter(|value| *value != "null")?;
        self.id(name, parse)
    }

    /// A UUID.
    pub fn event_id(&mut self, name: &str) -> Option<EventId> {
        let value = self.required(name)?;
        let text = self.string(name, value)?;
        let id = EventId::parse(&text);
        if id.is_none() {
            self.problem(name, "must be a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057");
        }
        id
    }

    /// A time as RFC 3339 spells it; nobody needs its value.
    pub fn date_time(&mut self, name: &str) {
        let Some(value) = self.required(name) else { return };
        let Some(text) = self.string(name, value) else { return };
        if !is_rfc3339_date_time(&text) {
            let detail = "must be an RFC 3339 date-time with an offset, such as 2026-11-21T08:00:00Z";
            self.problem(name, detail);
        }
    }

    /// The name of a type of event.
    pub fn event_type(&mut self, name: &str) -> Option<EventType> {
        let value = self.required(name)?;
        let text = self.string(name, value)?;
        let event_type = EventType::parse(&text);
        if event_type.is_none() {
            let all: Vec<_> = EventType::ALL.iter().map(|known| known.as_str()).collect();
            self.problem(name, format!("must be one of {}", all.join(", ")));
        }
        event_type
    }

    /// The members of an object inside of this one.
    pub fn object(&mut self, name: &str) -> Option<Members<'a>> {
        let value = self.required(name)?;
        let members = Members::of(value);
        if members.is_none() {
            self.problem(name, format!("must be an object, not {}", kind_of(value)));
        }
        members
    }

    /// An integer of 64 bits.
    pub fn severity(&mut self, name: &str) -> Option<Severity> {
        let value = self.required(name)?;
        // Read from the spelling: `3.0` and `3e0` are floats, and `-0` is an integer.
        let digits = value.strip_prefix('-').unwrap_or(value);
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            let kind = if matches!(kind_of(value), "a number") { "a fractional number" } else { kind_of(value) };
            self.problem(name, format!("must be an integer, not {kind}"));
            return None;
        }
        let severity = value.parse().map(Severity::new).ok();
        if severity.is_none() {
            self.problem(name, format!("must lie between {} and {}", i64::MIN, i64::MAX));
        }
        severity
    }
}

/// What kind of JSON value a text is, by its first character.
pub fn kind_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_string_and_nothing_else() {
        let error = serde_json::from_str::<Key>("5").err().expect("a number is no key");
        assert!(error.to_string().contains("expected a key"), "{error}");
    }
}
