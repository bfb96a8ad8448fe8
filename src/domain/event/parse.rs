//! From JSON to a typed [`Event`], with every problem found, each at its JSON Pointer.
//!
//! An event is judged in two steps, because a repeated `event_id` is recognised before its payload
//! is looked at: the *envelope* (who, when, where, which type) and the *content* (the payload of
//! that type). Whether the event is possible is not decided here but in
//! [`World`](crate::domain::world::World).

mod fields;
mod plain;
mod time;

use serde_json::value::RawValue;

use crate::domain::event::json::{CompactJson, ContentDigest, MAX_PROBLEMS, Problem, compact};
use crate::domain::event::parse::fields::{Fields, Members, kind_of};
use crate::domain::event::{
    CompartmentRegistered, Event, EventType, Fact, FaultCleared, FaultReported, ParcelDeposited, ParcelPickedUp,
    ReservationCreated, ReservationExpired,
};
use crate::domain::ids::{EventId, LockerId};

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
    let mut envelope = Fields::new("", members);
    let event_id = envelope.event_id("event_id");
    envelope.date_time("occurred_at");
    let locker_id = envelope.id("locker_id", LockerId::parse);
    let event_type = envelope.event_type("type");
    let payload = envelope.object("payload");

    let mut content_problems = Vec::new();
    let fact = match (event_type, payload) {
        (Some(event_type), Some(members)) => {
            let mut fields = Fields::new("/payload", members);
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

#[cfg(test)]
mod tests;
