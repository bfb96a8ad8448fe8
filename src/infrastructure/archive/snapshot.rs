//! Snapshots: the present at the end of a sealed segment, as bytes.
//!
//! Numbers are big-endian; a text is its length as u16 and its bytes. There is one spelling of every
//! present.

use crate::domain::event::Severity;
use crate::domain::hash::ChainHash;
use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId, Sequence};
use crate::domain::record::{Head, RecordedAt};
use crate::domain::state_hash::ClosedDigest;
use crate::domain::world::present::{Present, PresentCompartment, PresentFault, PresentLocker, PresentReservation};

/// The beginning of every snapshot; the last byte is the format.
const MAGIC: &[u8; 8] = b"LSworld\x01";
const NO_RESERVATION: u8 = 0;
const CREATED: u8 = 1;
const DEPOSITED: u8 = 2;

/// The present, where it is in history, and the time of its last record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub head: Head,
    pub last_recorded_at: Option<RecordedAt>,
    pub present: Present,
}

impl Snapshot {
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Output(MAGIC.to_vec());
        out.number(self.head.sequence.get());
        out.0.extend_from_slice(self.head.chain_hash.as_bytes());
        out.text(&self.last_recorded_at.map_or_else(String::new, |time| time.to_string()));
        out.number(self.present.reservations_ever);
        out.number(self.present.lockers.len() as u64);
        for locker in &self.present.lockers {
            out.text(locker.id.as_str());
            out.0.extend_from_slice(locker.closed.as_bytes());
            out.number(locker.compartments.len() as u64);
            locker.compartments.iter().for_each(|compartment| out.compartment(compartment));
        }
        out.0
    }

    /// `None` for bytes that no snapshot of this version has.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes.strip_prefix(MAGIC)?);
        let sequence = input.sequence()?;
        let head = Head { sequence, chain_hash: ChainHash::new(*input.take()?) };
        let last_recorded_at = match input.text()? {
            "" => None,
            time => Some(RecordedAt::parse(time)?),
        };
        let reservations_ever = input.number()?;
        let mut lockers = Vec::new();
        for _ in 0..input.number()? {
            let (id, closed) = (LockerId::parse(input.text()?).ok()?, ClosedDigest::from_bytes(*input.take()?));
            let mut compartments = Vec::new();
            for _ in 0..input.number()? {
                compartments.push(input.compartment()?);
            }
            lockers.push(PresentLocker { id, closed, compartments });
        }
        let present = Present { reservations_ever, lockers };
        input.0.is_empty().then_some(Self { head, last_recorded_at, present })
    }
}

struct Output(Vec<u8>);

impl Output {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        let length = u16::try_from(text.len()).expect("an identifier has at most 128 characters");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn compartment(&mut self, compartment: &PresentCompartment) {
        self.text(compartment.id.as_str());
        self.number(compartment.registered.get());
        match &compartment.active {
            None => self.0.push(NO_RESERVATION),
            Some(PresentReservation { id, deposited, created, changed }) => {
                self.0.push(if *deposited { DEPOSITED } else { CREATED });
                self.text(id.as_str());
                self.number(created.get());
                self.number(changed.get());
            }
        }
        self.number(compartment.open_faults.len() as u64);
        for fault in &compartment.open_faults {
            self.0.extend_from_slice(fault.id.as_bytes());
            self.0.extend_from_slice(&fault.severity.get().to_be_bytes());
            self.number(fault.reported.get());
        }
    }
}

struct Input<'b>(&'b [u8]);

impl<'b> Input<'b> {
    fn take<const N: usize>(&mut self) -> Option<&'b [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(|bytes| u64::from_be_bytes(*bytes))
    }

    fn sequence(&mut self) -> Option<Sequence> {
        self.number().map(Sequence::new)
    }

    fn text(&mut self) -> Option<&'b str> {
        let length = u16::from_be_bytes(*self.take()?);
        let (text, rest) = self.0.split_at_checked(usize::from(length))?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn compartment(&mut self) -> Option<PresentCompartment> {
        let id = CompartmentId::parse(self.text()?).ok()?;
        let registered = self.sequence()?;
        let active = match self.take::<1>()? {
            [NO_RESERVATION] => None,
            [state @ (CREATED | DEPOSITED)] => {
                let (id, deposited) = (ReservationId::parse(self.text()?).ok()?, *state == DEPOSITED);
                Some(PresentReservation { id, deposited, created: self.sequence()?, changed: self.sequence()? })
            }
            _ => return None,
        };
        let mut open_faults = Vec::new();
        for _ in 0..self.number()? {
            let id = EventId::from(uuid::Uuid::from_bytes(*self.take()?));
            let severity = Severity::new(i64::from_be_bytes(*self.take()?));
            open_faults.push(PresentFault { id, severity, reported: self.sequence()? });
        }
        Some(PresentCompartment { id, registered, active, open_faults })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let compartment = |name: &str, active, faults: &[i64]| PresentCompartment {
            id: CompartmentId::parse(name).unwrap(),
            registered: Sequence::new(3),
            active,
            open_faults: faults
                .iter()
                .map(|severity| PresentFault {
                    id: EventId::from(uuid::Uuid::from_u128(7)),
                    severity: Severity::new(*severity),
                    reported: Sequence::new(9),
                })
                .collect(),
        };
        let reservation = |deposited| PresentReservation {
            id: ReservationId::parse("süß 🦀").unwrap(),
            deposited,
            created: Sequence::new(4),
            changed: Sequence::new(5),
        };
        let compartments = vec![
            compartment("A", None, &[]),
            compartment("B", Some(reservation(false)), &[i64::MIN, 3]),
            compartment("C", Some(reservation(true)), &[i64::MAX]),
        ];
        let closed = ClosedDigest::from_bytes([6; 32]);
        let locker = PresentLocker { id: LockerId::parse("L").unwrap(), closed, compartments };
        Snapshot {
            head: Head { sequence: Sequence::new(11), chain_hash: ChainHash::new([8; 32]) },
            last_recorded_at: RecordedAt::parse("2026-11-21T08:00:00.000001Z"),
            present: Present { reservations_ever: 12, lockers: vec![locker] },
        }
    }

    #[test]
    fn a_snapshot_reads_back() {
        let empty = Snapshot { head: Head::default(), last_recorded_at: None, present: Present::default() };
        for snapshot in [snapshot(), empty] {
            assert_eq!(Snapshot::from_bytes(&snapshot.to_bytes()), Some(snapshot));
        }
    }

    #[test]
    fn no_part_of_a_snapshot_is_one_and_no_bytes_are_a_panic() {
        let bytes = snapshot().to_bytes();
        for end in 0..bytes.len() {
            assert_eq!(Snapshot::from_bytes(&bytes[..end]), None, "{end} bytes");
            for flip in [1, 0x80, 0xff] {
                let mut flipped = bytes.clone();
                flipped[end] ^= flip;
                assert_ne!(Snapshot::from_bytes(&flipped), Some(snapshot()), "byte {end}");
            }
        }
        assert_eq!(Snapshot::from_bytes(&[bytes, vec![0]].concat()), None);
    }
}
