//! The short way to read an event that is spelled as most are: compact, without escapes, and with
//! nothing but texts, whole numbers and words beside what is known.
//!
//! Whatever looks any different is left to the long way, which also finds the problems. So this may
//! say no to anything, and says yes only to a text that is compact and sound and that the long way
//! reads as the same event; a test holds the two against each other.

use crate::domain::event::parse::time::is_rfc3339_date_time;
use crate::domain::event::{
    CompartmentRegistered, Event, EventType, Fact, FaultCleared, FaultReported, ParcelDeposited, ParcelPickedUp,
    ReservationCreated, ReservationExpired, Severity,
};
use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId};

/// Reads an event; `None` leaves it to the long way.
pub(super) fn read(json: &str) -> Option<Event> {
    let mut at = Cursor { text: json, at: 0 };
    let (mut event_id, mut occurred_at, mut locker_id, mut event_type, mut payload) = (None, None, None, None, None);
    at.members(|at, key| match key {
        "event_id" => at.string().map(|text| event_id = Some(text)),
        "occurred_at" => at.string().map(|text| occurred_at = Some(text)),
        "locker_id" => at.string().map(|text| locker_id = Some(text)),
        "type" => at.string().map(|text| event_type = Some(text)),
        "payload" => Payload::read(at).map(|read| payload = Some(read)),
        _ => at.scalar(),
    })?;
    if at.at != json.len() || !is_rfc3339_date_time(occurred_at?) {
        return None;
    }
    let fact = payload?.fact(EventType::parse(event_type?)?)?;
    Some(Event { id: EventId::parse(event_id?)?, locker_id: LockerId::parse(locker_id?).ok()?, fact })
}

/// How many members an object may have that the short way reads.
const MAX_MEMBERS: usize = 16;

/// What any payload may have.
#[derive(Default)]
struct Payload<'a> {
    compartment_id: Option<&'a str>,
    reservation_id: Option<&'a str>,
    fault_event_id: Option<&'a str>,
    severity: Option<&'a str>,
}

impl<'a> Payload<'a> {
    fn read(at: &mut Cursor<'a>) -> Option<Self> {
        let mut read = Self::default();
        at.members(|at, key| match key {
            "compartment_id" => at.string().map(|text| read.compartment_id = Some(text)),
            "reservation_id" => at.string().map(|text| read.reservation_id = Some(text)),
            "fault_event_id" => at.string().map(|text| read.fault_event_id = Some(text)),
            "severity" => at.digits().map(|digits| read.severity = Some(digits)),
            _ => at.scalar(),
        })?;
        Some(read)
    }

    fn fact(&self, event_type: EventType) -> Option<Fact> {
        let compartment_id = || CompartmentId::parse(self.compartment_id?).ok();
        let reservation_id = || ReservationId::parse(self.reservation_id?).ok();
        // One that is given has to be good, or there is a problem to be told.
        let optional = || self.compartment_id.map_or(Some(None), |id| CompartmentId::parse(id).ok().map(Some));
        Some(match event_type {
            EventType::CompartmentRegistered => {
                Fact::CompartmentRegistered(CompartmentRegistered { compartment_id: compartment_id()? })
            }
            EventType::ReservationCreated => Fact::ReservationCreated(ReservationCreated {
                reservation_id: reservation_id()?,
                compartment_id: compartment_id()?,
            }),
            EventType::ParcelDeposited => Fact::ParcelDeposited(ParcelDeposited {
                reservation_id: reservation_id()?,
                compartment_id: optional()?,
            }),
            EventType::ParcelPickedUp => {
                Fact::ParcelPickedUp(ParcelPickedUp { reservation_id: reservation_id()?, compartment_id: optional()? })
            }
            EventType::ReservationExpired => Fact::ReservationExpired(ReservationExpired {
                reservation_id: reservation_id()?,
                compartment_id: optional()?,
            }),
            EventType::FaultReported => Fact::FaultReported(FaultReported {
                compartment_id: compartment_id()?,
                severity: Severity::new(self.severity?.parse().ok()?),
            }),
            EventType::FaultCleared => Fact::FaultCleared(FaultCleared {
                compartment_id: compartment_id()?,
                fault_event_id: EventId::parse(self.fault_event_id?)?,
            }),
        })
    }
}

/// How many bytes a string goes on for without a quote, an escape or a control character; `None` when
/// none of those follows. Eight bytes at a time: most of an event is inside of strings.
fn literal_length(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST_BITS: u64 = ONES << 7;
    // Sets the highest bit of the first byte that is below a limit of up to 128, and of none before it
    // (Sean Eron Anderson, "Bit Twiddling Hacks").
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGHEST_BITS;
    let is_end = |byte: u8| matches!(byte, b'"' | b'\\' | ..b' ');
    let mut words = bytes.chunks_exact(8);
    for (number, word) in words.by_ref().enumerate() {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        let [quotes, escapes] = [b'"', b'\\'].map(|byte| below(word ^ (ONES * u64::from(byte)), 1));
        let ends = quotes | escapes | below(word, b' ');
        if ends != 0 {
            return Some(number * 8 + ends.trailing_zeros() as usize / 8);
        }
    }
    let rest = words.remainder();
    rest.iter().position(|byte| is_end(*byte)).map(|at| bytes.len() - rest.len() + at)
}

/// A place in a text. Every method goes on behind what it reads, or says no.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, byte: u8) -> Option<()> {
        (self.next() == Some(byte)).then(|| self.at += 1)
    }

    /// An object that has members, none of them twice; each value is for `read`, given its key.
    fn members(&mut self, mut read: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.skip(b'{')?;
        let mut keys = [""; MAX_MEMBERS];
        for count in 0..MAX_MEMBERS {
            let key = self.string()?;
            if keys[..count].contains(&key) {
                return None;
            }
            keys[count] = key;
            self.skip(b':')?;
            read(self, key)?;
            if self.skip(b'}').is_some() {
                return Some(());
            }
            self.skip(b',')?;
        }
        None
    }

    /// A string that is spelled as what it says.
    fn string(&mut self) -> Option<&'a str> {
        self.skip(b'"')?;
        let length = literal_length(&self.text.as_bytes()[self.at..])?;
        let text = &self.text[self.at..self.at + length];
        self.at += length;
        self.skip(b'"')?;
        Some(text)
    }

    /// A whole number that is not negative.
    fn digits(&mut self) -> Option<&'a str> {
        let rest = &self.text.as_bytes()[self.at..];
        let length = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        let digits = &self.text[self.at..self.at + length];
        let is_number = length == 1 || (length > 1 && !digits.starts_with('0'));
        self.at += length;
        is_number.then_some(digits)
    }

    /// A value with nothing inside: a string, a whole number, or a word.
    fn scalar(&mut self) -> Option<()> {
        match self.next()? {
            b'"' => self.string().map(|_| ()),
            b'0'..=b'9' => self.digits().map(|_| ()),
            _ => {
                let rest = &self.text[self.at..];
                let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word))?;
                self.at += word.len();
                Some(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_ends_at_the_first_byte_that_can_end_it_wherever_that_stands() {
        for end in 0..=u8::MAX {
            for before in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                for at in 0..20 {
                    let mut bytes = vec![before; 24];
                    bytes[at] = end;
                    let ends = |byte: &u8| *byte == b'"' || *byte == b'\\' || *byte < b' ';
                    assert_eq!(literal_length(&bytes), bytes.iter().position(ends), "{bytes:?}");
                    bytes[at + 1..].fill(b'"');
                    assert_eq!(literal_length(&bytes), bytes.iter().position(ends), "{bytes:?}");
                }
            }
        }
        assert_eq!(literal_length(b""), None);
    }
}
