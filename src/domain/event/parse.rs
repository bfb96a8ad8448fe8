//! From JSON to a typed [`Event`], with every problem found, each at its JSON Pointer.
//!
//! An event is judged in two steps, because a repeated `event_id` is recognised before its payload
//! is looked at: the *envelope* (who, when, where, which type) and the *content* (the payload of
//! that type). Whether the event is possible is not decided here but in
//! [`World`](crate::domain::world::World).

mod plain;

use std::borrow::Cow;
use std::fmt;

use chrono::DateTime;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::event::json::{CompactJson, ContentDigest, MAX_PROBLEMS, Problem, compact};
use crate::domain::event::{
    CompartmentRegistered, Event, EventType, Fact, FaultCleared, FaultReported, ParcelDeposited, ParcelPickedUp,
    ReservationCreated, ReservationExpired, Severity,
};
use crate::domain::ids::{EventId, IdError, LockerId};

/// An event whose envelope is valid; its content may still be wrong.
#[derive(Debug, Clone)]
pub struct ReceivedEvent {
    pub event_id: EventId,
    /// The event as it was sent, on one line.
    pub json: CompactJson,
    pub digest: ContentDigest,
    /// The typed event, or what is wrong with the payload.
    pub content: Result<Event, Vec<Problem>>,
}

/// The white space of JSON (RFC 8259, section 2).
const JSON_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

impl ReceivedEvent {
    /// Reads a body. The error lists every problem, of envelope and content alike.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<Problem>> {
        if let Ok(text) = std::str::from_utf8(body)
            && let text = text.trim_matches(JSON_SPACE)
            && let Some(event) = plain::read(text)
        {
            let json = CompactJson::known(text);
            return Ok(Self { event_id: event.id, digest: json.digest(), json, content: Ok(event) });
        }
        let (json, unsound) = match compact(body) {
            Ok(json) => (json, Vec::new()),
            Err(problems) => {
                let (in_payload, in_envelope): (Vec<_>, Vec<_>) =
                    problems.into_iter().partition(|problem| problem.pointer.starts_with("/payload/"));
                if !in_envelope.is_empty() || in_payload.is_empty() {
                    return Err(with_problems_of(body, in_envelope, in_payload));
                }
                // Judged as a duplicate first; it can never be accepted, so its spelling is free.
                (CompactJson::known(&String::from_utf8_lossy(body)), in_payload)
            }
        };
        let digest = json.digest();
        let (envelope, content) = interpret(json.as_str());
        let event_id = match envelope {
            Ok(event_id) => event_id,
            Err(mut problems) => {
                let members = content.err().unwrap_or_default();
                let unread = |problem: &Problem| !unsound.iter().any(|known| known.pointer == problem.pointer);
                problems.extend(members.into_iter().filter(unread));
                problems.extend(unsound);
                problems.truncate(MAX_PROBLEMS);
                return Err(problems);
            }
        };
        let content = if unsound.is_empty() { content } else { Err(unsound) };
        Ok(Self { event_id, json, digest, content })
    }

    /// What it takes while it waits to be judged, in bytes: what is wrong with it may be longer than
    /// the event. The typed event is shorter.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        let problems = self.content.as_ref().err().map_or(&[][..], Vec::as_slice);
        let each = |problem: &Problem| size_of::<Problem>() + problem.pointer.len() + problem.detail.len();
        self.json.as_str().len() + problems.iter().map(each).sum::<usize>()
    }
}

impl Event {
    /// Reads an event that was accepted before, as a log line keeps it.
    pub fn from_kept(json: &str) -> Result<Self, Vec<Problem>> {
        if let Some(event) = plain::read(json) {
            return Ok(event);
        }
        let (envelope, content) = interpret(json);
        envelope?;
        content
    }
}

/// Adds to what makes the document unsound whatever its members tell, where they can be read.
fn with_problems_of(body: &[u8], mut problems: Vec<Problem>, in_payload: Vec<Problem>) -> Vec<Problem> {
    problems.extend(in_payload);
    if let Ok(text) = std::str::from_utf8(body)
        && serde_json::from_str::<&RawValue>(text).is_ok()
    {
        let (envelope, content) = interpret(text);
        let members = envelope.err().unwrap_or_default().into_iter().chain(content.err().unwrap_or_default());
        for problem in members {
            if !problems.iter().any(|known| known.pointer == problem.pointer) {
                problems.push(problem);
            }
        }
    }
    problems.truncate(MAX_PROBLEMS);
    problems
}

type Content = Result<Event, Vec<Problem>>;

/// Reads envelope and content of a valid JSON text.
fn interpret(json: &str) -> (Result<EventId, Vec<Problem>>, Content) {
    let Some(members) = Members::of(json) else {
        let problem = Problem::new("", format!("must be a JSON object, not {}", kind_of(json.trim_start())));
        return (Err(vec![problem]), Err(Vec::new()));
    };
    let mut envelope = Fields { at: "", members, problems: Vec::new() };
    let event_id = envelope.event_id("event_id");
    envelope.date_time("occurred_at");
    let locker_id = envelope.id("locker_id", LockerId::parse);
    let event_type = envelope.event_type("type");
    let payload = envelope.object("payload");

    let mut content_problems = Vec::new();
    let fact = match (event_type, payload) {
        (Some(event_type), Some(members)) => {
            let mut fields = Fields { at: "/payload", members, problems: Vec::new() };
            let fact = read_fact(event_type, &mut fields);
            content_problems = fields.problems;
            fact
        }
        _ => None,
    };
    let Some(id) = event_id.filter(|_| envelope.problems.is_empty()) else {
        return (Err(envelope.problems), Err(content_problems));
    };
    let content = match (locker_id, fact) {
        (Some(locker_id), Some(fact)) if content_problems.is_empty() => Ok(Event { id, locker_id, fact }),
        _ => Err(content_problems),
    };
    (Ok(id), content)
}

/// Reads the payload of a type; `None` means that `fields` collected a problem.
fn read_fact(event_type: EventType, fields: &mut Fields<'_>) -> Option<Fact> {
    use crate::domain::ids::{CompartmentId, ReservationId};
    const COMPARTMENT: &str = "compartment_id";
    const RESERVATION: &str = "reservation_id";
    // Every field is read before any is missed, so that one answer lists all problems.
    Some(match event_type {
        EventType::CompartmentRegistered => Fact::CompartmentRegistered(CompartmentRegistered {
            compartment_id: fields.id(COMPARTMENT, CompartmentId::parse)?,
        }),
        EventType::ReservationCreated => {
            let reservation_id = fields.id(RESERVATION, ReservationId::parse);
            let compartment_id = fields.id(COMPARTMENT, CompartmentId::parse);
            Fact::ReservationCreated(ReservationCreated {
                reservation_id: reservation_id?,
                compartment_id: compartment_id?,
            })
        }
        EventType::ParcelDeposited | EventType::ParcelPickedUp | EventType::ReservationExpired => {
            let reservation_id = fields.id(RESERVATION, ReservationId::parse);
            let compartment_id = fields.optional_id(COMPARTMENT, CompartmentId::parse);
            let reservation_id = reservation_id?;
            match event_type {
                EventType::ParcelDeposited => Fact::ParcelDeposited(ParcelDeposited { reservation_id, compartment_id }),
                EventType::ParcelPickedUp => Fact::ParcelPickedUp(ParcelPickedUp { reservation_id, compartment_id }),
                _ => Fact::ReservationExpired(ReservationExpired { reservation_id, compartment_id }),
            }
        }
        EventType::FaultReported => {
            let compartment_id = fields.id(COMPARTMENT, CompartmentId::parse);
            let severity = fields.severity("severity");
            Fact::FaultReported(FaultReported { compartment_id: compartment_id?, severity: severity? })
        }
        EventType::FaultCleared => {
            let compartment_id = fields.id(COMPARTMENT, CompartmentId::parse);
            let fault_event_id = fields.event_id("fault_event_id");
            Fact::FaultCleared(FaultCleared { compartment_id: compartment_id?, fault_event_id: fault_event_id? })
        }
    })
}

/// The members of one JSON object, in order, with their values unread.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    fn of(json: &'a str) -> Option<Self> {
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
/// replacement character: such a document is refused by [`compact`], and its other members still
/// have to be found.
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
struct Fields<'a> {
    at: &'static str,
    members: Members<'a>,
    problems: Vec<Problem>,
}

impl<'a> Fields<'a> {
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

    fn id<T>(&mut self, name: &str, parse: fn(&str) -> Result<T, IdError>) -> Option<T> {
        let value = self.required(name)?;
        let text = self.string(name, value)?;
        parse(&text).map_err(|error| self.problem(name, error.to_string())).ok()
    }

    /// An identifier that may be left out; `null` counts as left out.
    fn optional_id<T>(&mut self, name: &str, parse: fn(&str) -> Result<T, IdError>) -> Option<T> {
        self.members.get(name).filter(|value| *value != "null")?;
        self.id(name, parse)
    }

    fn event_id(&mut self, name: &str) -> Option<EventId> {
        let value = self.required(name)?;
        let text = self.string(name, value)?;
        let id = EventId::parse(&text);
        if id.is_none() {
            self.problem(name, "must be a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057");
        }
        id
    }

    fn date_time(&mut self, name: &str) {
        let Some(value) = self.required(name) else { return };
        let Some(text) = self.string(name, value) else { return };
        if !is_rfc3339_date_time(&text) {
            let detail = "must be an RFC 3339 date-time with an offset, such as 2026-11-21T08:00:00Z";
            self.problem(name, detail);
        }
    }

    fn event_type(&mut self, name: &str) -> Option<EventType> {
        let value = self.required(name)?;
        let text = self.string(name, value)?;
        let event_type = EventType::parse(&text);
        if event_type.is_none() {
            let all: Vec<_> = EventType::ALL.iter().map(|known| known.as_str()).collect();
            self.problem(name, format!("must be one of {}", all.join(", ")));
        }
        event_type
    }

    fn object(&mut self, name: &str) -> Option<Members<'a>> {
        let value = self.required(name)?;
        let members = Members::of(value);
        if members.is_none() {
            self.problem(name, format!("must be an object, not {}", kind_of(value)));
        }
        members
    }

    fn severity(&mut self, name: &str) -> Option<Severity> {
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

/// RFC 3339 section 5.6, `date-time`: narrower than what chrono reads, which also takes a space
/// for the `T` and signs beyond ASCII.
fn is_rfc3339_date_time(text: &str) -> bool {
    is_usual_date_time(text.as_bytes())
        || (text.is_ascii()
            && matches!(text.as_bytes().get(10), Some(b'T' | b't'))
            && DateTime::parse_from_rfc3339(text).is_ok())
}

/// Whether a text is one of the spellings that devices use, which need no library to be understood:
/// whole seconds or a few digits of their fraction, in UTC or with an offset.
fn is_usual_date_time(text: &[u8]) -> bool {
    let Some((date_time, rest)) = text.split_first_chunk::<19>() else { return false };
    let number = |at: usize| two_digits(&date_time[at..]);
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| date_time[*at] != *byte) || number(0).is_none() || number(2).is_none() {
        return false;
    }
    // Days that only some months have are left to the library.
    let is_within = |at: usize, least: u8, most: u8| number(at).is_some_and(|value| (least..=most).contains(&value));
    if !(is_within(5, 1, 12)
        && is_within(8, 1, 28)
        && is_within(11, 0, 23)
        && is_within(14, 0, 59)
        && is_within(17, 0, 59))
    {
        return false;
    }
    let rest = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &fraction[digits..]
        }
        None => rest,
    };
    match rest {
        b"Z" => true,
        [b'+' | b'-', hour @ .., b':', _, _] if hour.len() == 2 => {
            two_digits(hour).is_some_and(|hour| hour < 24) && two_digits(&rest[4..]).is_some_and(|minute| minute < 60)
        }
        _ => false,
    }
}

/// The number that two digits at the beginning of a text make.
fn two_digits(text: &[u8]) -> Option<u8> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', ..] => Some((tens - b'0') * 10 + (ones - b'0')),
        _ => None,
    }
}

/// What kind of JSON value a text is, by its first character.
fn kind_of(json: &str) -> &'static str {
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
mod tests;
