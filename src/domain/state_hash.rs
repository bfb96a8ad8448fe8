//! The state hash of a locker: what exactly is hashed, byte for byte.
//!
//! A Merkle-style digest. One leaf for each compartment, a running digest over everything that
//! closed (reservations and faults, in the order in which they closed), and a root over both. The
//! hash depends on the state and its history alone: never on platform, backend, batch size,
//! restarts, duplicates or refusals. `docs/state-hash.md` states the same for other languages,
//! with test vectors.
//!
//! `text(x)` below is the length of x in UTF-8 bytes as a big-endian u32, then those bytes;
//! integers are big-endian.

use sha2::{Digest as _, Sha256};

use crate::domain::event::Severity;
use crate::domain::hash::StateHash;
use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId};
use crate::domain::reservation::ReservationState;

/// The first byte of each input: no leaf can pass for a root.
const LEAF: u8 = 0;
const CLOSED: u8 = 1;
const ROOT: u8 = 2;

/// What kind of thing closed.
const CLOSED_RESERVATION: u8 = 1;
const CLOSED_FAULT: u8 = 2;

type Digest = [u8; 32];

/// The digest of one compartment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf(Digest);

/// Hashes one compartment:
/// `0x00, text(compartment_id), degraded as 0 or 1, reservation, u32 open faults, faults`, where
/// reservation is `0x00` for none or the state's code and `text(reservation_id)`, and each fault,
/// in the order of the ids' bytes, is the 16 bytes of its id and its severity as i64.
pub fn leaf<'f>(
    compartment_id: &CompartmentId,
    degraded: bool,
    active_reservation: Option<(&ReservationId, ReservationState)>,
    open_faults: impl ExactSizeIterator<Item = (&'f EventId, Severity)>,
) -> Leaf {
    let mut input = Input::new(LEAF);
    input.text(compartment_id.as_str());
    input.byte(u8::from(degraded));
    match active_reservation {
        None => input.byte(0),
        Some((reservation_id, state)) => {
            input.byte(state_code(state));
            input.text(reservation_id.as_str());
        }
    }
    input.count_u32(open_faults.len());
    for (fault, severity) in open_faults {
        input.bytes(fault.as_bytes());
        input.bytes(&severity.get().to_be_bytes());
    }
    Leaf(input.digest())
}

/// The running digest over what closed in one locker: 32 zero bytes at first, then for each
/// closing `SHA-256(0x01, digest before, entry)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClosedDigest(Digest);

impl ClosedDigest {
    /// A digest that was kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The entry is `0x01, text(compartment_id), text(reservation_id), code of the final state`.
    pub fn add_reservation(&mut self, compartment: &CompartmentId, id: &ReservationId, state: ReservationState) {
        let mut input = self.next_entry(CLOSED_RESERVATION, compartment);
        input.text(id.as_str());
        input.byte(state_code(state));
        self.0 = input.digest();
    }

    /// The entry is `0x02, text(compartment_id), 16 bytes of the fault's id, severity as i64`.
    pub fn add_fault(&mut self, compartment: &CompartmentId, id: EventId, severity: Severity) {
        let mut input = self.next_entry(CLOSED_FAULT, compartment);
        input.bytes(id.as_bytes());
        input.bytes(&severity.get().to_be_bytes());
        self.0 = input.digest();
    }

    fn next_entry(&self, kind: u8, compartment: &CompartmentId) -> Input {
        let mut input = Input::new(CLOSED);
        input.bytes(&self.0);
        input.byte(kind);
        input.text(compartment.as_str());
        input
    }
}

/// How many there are of each thing in a locker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub compartments: u64,
    pub active_reservations: u64,
    pub degraded_compartments: u64,
}

/// Hashes a locker: `0x02, text(locker_id), u64 compartments, u64 active reservations, u64
/// degraded compartments, closed digest, leaves`, the leaves in the byte order of the
/// compartments' ids.
pub fn root(locker: &LockerId, counts: Counts, closed: &ClosedDigest, leaves: impl Iterator<Item = Leaf>) -> StateHash {
    let mut input = Input::new(ROOT);
    input.text(locker.as_str());
    input.bytes(&counts.compartments.to_be_bytes());
    input.bytes(&counts.active_reservations.to_be_bytes());
    input.bytes(&counts.degraded_compartments.to_be_bytes());
    input.bytes(&closed.0);
    for leaf in leaves {
        input.bytes(&leaf.0);
    }
    StateHash::new(input.digest())
}

const fn state_code(state: ReservationState) -> u8 {
    match state {
        ReservationState::Created => 1,
        ReservationState::Deposited => 2,
        ReservationState::PickedUp => 3,
        ReservationState::Expired => 4,
    }
}

/// Feeds a SHA-256 with the canonical bytes of things.
struct Input(Sha256);

impl Input {
    fn new(kind: u8) -> Self {
        let mut input = Self(Sha256::new());
        input.byte(kind);
        input
    }

    fn byte(&mut self, byte: u8) {
        self.0.update([byte]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn count_u32(&mut self, count: usize) {
        let count = u32::try_from(count).expect("no collection in memory has 2^32 members of this size");
        self.0.update(count.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count_u32(text.len());
        self.0.update(text.as_bytes());
    }

    fn digest(self) -> Digest {
        self.0.finalize().into()
    }
}
