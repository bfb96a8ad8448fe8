//! Entries: what the archive knows of one id. 32 bytes, whose order as bytes is the order of runs.
//!
//! An entry leads to a line of the log and proves nothing by itself: keys of reservations and faults
//! are hashes, and an event's id is chosen by its sender. So several entries may have one key, and
//! who reads the line compares the true id.

use sha2::{Digest, Sha256};

use crate::domain::ids::{EventId, ReservationId};

pub const ENTRY_BYTES: usize = 32;
pub const KEY_BYTES: usize = 16;

/// The kind shares eight bytes with a sequence, of which the log will never need the uppermost.
const KIND_SHIFT: u32 = 56;

pub type Key = [u8; KEY_BYTES];

/// What an entry tells of, and so what its numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An accepted event: its sequence, and where its line begins in its segment.
    Original = 1,
    /// A reservation that ended with this: the sequence that created it, and the one that closed it.
    PickedUp = 2,
    Expired = 3,
    /// A cleared fault: the sequence that reported it, and the one that cleared it.
    Fault = 4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub key: Key,
    pub kind: Kind,
    pub first: u64,
    pub second: u64,
}

impl Entry {
    #[must_use]
    pub fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        debug_assert!(self.first >> KIND_SHIFT == 0, "a sequence leaves room for the kind");
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..16].copy_from_slice(&self.key);
        bytes[16..24].copy_from_slice(&((self.kind as u64) << KIND_SHIFT | self.first).to_be_bytes());
        bytes[24..].copy_from_slice(&self.second.to_be_bytes());
        bytes
    }

    /// `None` for what no entry looks like.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let (key, numbers) = bytes.split_first_chunk::<KEY_BYTES>()?;
        let (first, second) = numbers.split_first_chunk::<8>()?;
        let (first, second) = (u64::from_be_bytes(*first), u64::from_be_bytes(second.try_into().ok()?));
        let kind = match first >> KIND_SHIFT {
            1 => Kind::Original,
            2 => Kind::PickedUp,
            3 => Kind::Expired,
            4 => Kind::Fault,
            _ => return None,
        };
        Some(Self { key: *key, kind, first: first & ((1 << KIND_SHIFT) - 1), second })
    }
}

/// The key of an accepted event: its id.
#[must_use]
pub fn key_of_event(id: EventId) -> Key {
    *id.as_bytes()
}

#[must_use]
pub fn key_of_reservation(id: &ReservationId) -> Key {
    hashed(b"reservation", id.as_str().as_bytes())
}

#[must_use]
pub fn key_of_fault(id: EventId) -> Key {
    hashed(b"fault", id.as_bytes())
}

/// The first half of a SHA-256.
fn hashed(kind: &[u8], id: &[u8]) -> Key {
    let digest = Sha256::new_with_prefix(kind).chain_update([0]).chain_update(id).finalize();
    digest[..KEY_BYTES].try_into().expect("a SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_its_bytes_have_its_order() {
        let entry = |key, kind, first, second| Entry { key: [key; KEY_BYTES], kind, first, second };
        let in_order = [
            entry(1, Kind::Original, 7, 0),
            entry(1, Kind::Original, 8, 3),
            entry(1, Kind::PickedUp, 2, 9),
            entry(1, Kind::Fault, (1 << 56) - 1, u64::MAX),
            entry(2, Kind::Expired, 1, 2),
        ];
        for entry in in_order {
            assert_eq!(Entry::from_bytes(&entry.to_bytes()), Some(entry));
        }
        assert!(in_order.is_sorted() && in_order.map(Entry::to_bytes).is_sorted());
        assert_eq!(Entry::from_bytes(&[0; ENTRY_BYTES]), None);
        assert_eq!(Entry::from_bytes(&[255; ENTRY_BYTES]), None);
    }
}
