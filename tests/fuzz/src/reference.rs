//! A second reader of JSON and of events, as plain as it can be: the grammar of RFC 8259 and the
//! table of event types, one function each, nothing shared with the service but its types.

use lockstream::domain::event::{
    CompartmentRegistered, Event, Fact, FaultCleared, FaultReported, ParcelDeposited, ParcelPickedUp,
    ReservationCreated, ReservationExpired, Severity,
};
use lockstream::domain::ids::{CompartmentId, EventId, LockerId, ReservationId};

/// How deep this reader goes; the service stops earlier.
const DEEPEST: usize = 200;
/// How deep an event may nest, itself included.
const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// As it is spelled.
    Number(String),
    Text(Text),
    Array(Vec<Self>),
    Object(Vec<(Text, Self)>),
}

/// A string; none when it is no Unicode text.
pub type Text = Option<String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    NotJson,
    /// Deeper than this reader goes, and so too deep for an event.
    TooDeep,
}

/// Reads bytes as one JSON document.
pub fn read(bytes: &[u8]) -> Result<Json, Unread> {
    let text = std::str::from_utf8(bytes).map_err(|_| Unread::NotJson)?;
    let mut reader = Reader { rest: text };
    reader.space();
    let json = reader.value(1)?;
    reader.space();
    if reader.rest.is_empty() { Ok(json) } else { Err(Unread::NotJson) }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, expected: &str) -> Result<(), Unread> {
        self.rest = self.rest.strip_prefix(expected).ok_or(Unread::NotJson)?;
        Ok(())
    }

    fn next(&mut self) -> Result<char, Unread> {
        let next = self.rest.chars().next().ok_or(Unread::NotJson)?;
        self.rest = &self.rest[next.len_utf8()..];
        Ok(next)
    }

    fn value(&mut self, depth: usize) -> Result<Json, Unread> {
        if depth > DEEPEST {
            return Err(Unread::TooDeep);
        }
        match self.rest.chars().next() {
            Some('n') => self.take("null").map(|()| Json::Null),
            Some('t') => self.take("true").map(|()| Json::Bool(true)),
            Some('f') => self.take("false").map(|()| Json::Bool(false)),
            Some('"') => self.text().map(Json::Text),
            Some('[') => {
                let mut values = Vec::new();
                self.members(']', |reader| {
                    values.push(reader.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Json::Array(values))
            }
            Some('{') => {
                let mut members = Vec::new();
                self.members('}', |reader| {
                    let key = reader.text()?;
                    reader.space();
                    reader.take(":")?;
                    reader.space();
                    members.push((key, reader.value(depth + 1)?));
                    Ok(())
                })?;
                Ok(Json::Object(members))
            }
            _ => self.number().map(|spelled| Json::Number(spelled.to_owned())),
        }
    }

    fn members(&mut self, end: char, mut member: impl FnMut(&mut Self) -> Result<(), Unread>) -> Result<(), Unread> {
        self.next()?;
        self.space();
        if self.rest.starts_with(end) {
            return self.next().map(|_| ());
        }
        loop {
            self.space();
            member(self)?;
            self.space();
            match self.next()? {
                ',' => {}
                other if other == end => return Ok(()),
                _ => return Err(Unread::NotJson),
            }
        }
    }

    fn number(&mut self) -> Result<&'a str, Unread> {
        let all = self.rest;
        let _ = self.take("-");
        if self.take("0").is_err() {
            self.digits()?;
        }
        if self.take(".").is_ok() {
            self.digits()?;
        }
        if self.take("e").or_else(|_| self.take("E")).is_ok() {
            let _ = self.take("+").or_else(|_| self.take("-"));
            self.digits()?;
        }
        Ok(&all[..all.len() - self.rest.len()])
    }

    fn digits(&mut self) -> Result<(), Unread> {
        let after = self.rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
        if after.len() == self.rest.len() {
            return Err(Unread::NotJson);
        }
        self.rest = after;
        Ok(())
    }

    fn text(&mut self) -> Result<Text, Unread> {
        self.take("\"")?;
        let mut units = Vec::new();
        loop {
            match self.next()? {
                '"' => return Ok(String::from_utf16(&units).ok()),
                '\\' => units.push(self.escaped()?),
                control if control < ' ' => return Err(Unread::NotJson),
                other => units.extend_from_slice(other.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escaped(&mut self) -> Result<u16, Unread> {
        Ok(match self.next()? {
            'b' => 8,
            't' => 9,
            'n' => 10,
            'f' => 12,
            'r' => 13,
            same @ ('"' | '\\' | '/') => same as u16,
            'u' => {
                let mut unit = 0;
                for _ in 0..4 {
                    let digit = self.next()?.to_digit(16).ok_or(Unread::NotJson)?;
                    unit = unit * 16 + u16::try_from(digit).map_err(|_| Unread::NotJson)?;
                }
                unit
            }
            _ => return Err(Unread::NotJson),
        })
    }
}

/// Where a document has repeated keys, text that is no Unicode, or nests too deeply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unsound {
    pub envelope: bool,
    pub payload: bool,
}

impl Unsound {
    fn note(&mut self, in_payload: bool) {
        *(if in_payload { &mut self.payload } else { &mut self.envelope }) = true;
    }
}

/// Looks through a whole document.
pub fn unsound(json: &Json) -> Unsound {
    let mut found = Unsound::default();
    look(json, 1, &[], &mut found);
    found
}

fn look(json: &Json, depth: usize, path: &[&str], found: &mut Unsound) {
    let is_payload = path.first() == Some(&"payload");
    // Strictly inside of the payload; that it is none is a matter of the envelope.
    let inside = is_payload && path.len() > 1;
    match json {
        Json::Text(None) => found.note(inside),
        Json::Array(_) | Json::Object(_) if depth > MAX_DEPTH => found.note(inside),
        Json::Array(values) => {
            for value in values {
                look(value, depth + 1, &[path, &["-"]].concat(), found);
            }
        }
        Json::Object(members) => {
            for (at, (key, value)) in members.iter().enumerate() {
                if key.is_none() || members[..at].iter().any(|(before, _)| before == key) {
                    found.note(is_payload);
                }
                look(value, depth + 1, &[path, &[key.as_deref().unwrap_or("?")]].concat(), found);
            }
        }
        _ => {}
    }
}

/// What an event's envelope and payload say, whatever else is wrong with the document.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub event_id: EventId,
    /// None when the payload is not valid for its type.
    pub event: Option<Event>,
}

/// Reads an event; none when the envelope is not valid.
pub fn judge(json: &Json) -> Option<Judged> {
    let event_id = uuid(text(get(json, "event_id")?)?)?;
    is_date_time(text(get(json, "occurred_at")?)?).then_some(())?;
    let locker_id = LockerId::parse(text(get(json, "locker_id")?).and_then(id)?).ok()?;
    let event_type = text(get(json, "type")?)?;
    let payload = get(json, "payload")?;
    let Json::Object(_) = payload else { return None };
    let known = ["CompartmentRegistered", "ReservationCreated", "ParcelDeposited", "ParcelPickedUp"];
    let known_too = ["ReservationExpired", "FaultReported", "FaultCleared"];
    known.iter().chain(&known_too).find(|known| **known == event_type)?;
    let event = fact(event_type, payload).map(|fact| Event { id: event_id, locker_id, fact });
    Some(Judged { event_id, event })
}

fn fact(event_type: &str, payload: &Json) -> Option<Fact> {
    let compartment = || CompartmentId::parse(text(get(payload, "compartment_id")?).and_then(id)?).ok();
    let reservation = || ReservationId::parse(text(get(payload, "reservation_id")?).and_then(id)?).ok();
    let optional = || match get(payload, "compartment_id") {
        None | Some(Json::Null) => Some(None),
        Some(_) => compartment().map(Some),
    };
    Some(match event_type {
        "CompartmentRegistered" => {
            Fact::CompartmentRegistered(CompartmentRegistered { compartment_id: compartment()? })
        }
        "ReservationCreated" => Fact::ReservationCreated(ReservationCreated {
            reservation_id: reservation()?,
            compartment_id: compartment()?,
        }),
        "ParcelDeposited" => {
            Fact::ParcelDeposited(ParcelDeposited { reservation_id: reservation()?, compartment_id: optional()? })
        }
        "ParcelPickedUp" => {
            Fact::ParcelPickedUp(ParcelPickedUp { reservation_id: reservation()?, compartment_id: optional()? })
        }
        "ReservationExpired" => {
            Fact::ReservationExpired(ReservationExpired { reservation_id: reservation()?, compartment_id: optional()? })
        }
        "FaultReported" => {
            let Json::Number(spelled) = get(payload, "severity")? else { return None };
            // Neither a point nor an exponent: that is what parses.
            let severity = Severity::new(spelled.parse().ok()?);
            Fact::FaultReported(FaultReported { compartment_id: compartment()?, severity })
        }
        "FaultCleared" => {
            let fault_event_id = uuid(text(get(payload, "fault_event_id")?)?)?;
            Fact::FaultCleared(FaultCleared { compartment_id: compartment()?, fault_event_id })
        }
        _ => return None,
    })
}

fn get<'j>(json: &'j Json, name: &str) -> Option<&'j Json> {
    let Json::Object(members) = json else { return None };
    members.iter().find(|(key, _)| key.as_deref() == Some(name)).map(|(_, value)| value)
}

fn text(json: &Json) -> Option<&str> {
    let Json::Text(text) = json else { return None };
    text.as_deref()
}

fn id(text: &str) -> Option<&str> {
    let is_one = (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    is_one.then_some(text)
}

fn uuid(text: &str) -> Option<EventId> {
    let groups: Vec<_> = text.split('-').collect();
    let is_hex = |group: &&str| group.bytes().all(|digit| digit.is_ascii_hexdigit());
    let lengths: Vec<_> = groups.iter().map(|group| group.len()).collect();
    (lengths == [8, 4, 4, 4, 12] && groups.iter().all(is_hex)).then_some(())?;
    let number = u128::from_str_radix(&groups.concat(), 16).ok()?;
    Some(uuid::Uuid::from_u128(number).into())
}

/// RFC 3339, section 5.6, with the ranges of section 5.7.
fn is_date_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |at: usize, digits: usize| -> Option<u32> {
        let digits = bytes.get(at..at + digits)?;
        digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if !marks.iter().all(|(at, mark)| bytes.get(*at) == Some(mark)) || !matches!(bytes[10], b'T' | b't') {
        return false;
    }
    let parts = (number(0, 4), number(5, 2), number(8, 2), number(11, 2), number(14, 2), number(17, 2));
    let (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) = parts else { return false };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(is_leap),
        1..=12 => 31,
        _ => return false,
    };
    let mut rest = &text[19..];
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|digit: char| digit.is_ascii_digit());
        if rest.len() == fraction.len() {
            return false;
        }
    }
    let at = text.len() - rest.len();
    let is_offset = match rest.as_bytes() {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', _, _, b':', _, _] => {
            number(at + 1, 2).is_some_and(|hours| hours < 24) && number(at + 4, 2).is_some_and(|minutes| minutes < 60)
        }
        _ => false,
    };
    (1..=days).contains(&day) && hour < 24 && minute < 60 && second <= 60 && is_offset
}
