//! Faults: reported defects of a compartment, each named by the event that reported it.

use crate::domain::ids::{CompartmentId, LockerId, Sequence};

/// A fault that was reported at some time, open or not.
#[derive(Debug, Clone)]
pub struct Fault {
    pub locker_id: LockerId,
    pub compartment_id: CompartmentId,
    /// The record that reported it.
    pub reported: Sequence,
    /// The record that cleared it; `None` while it is open.
    pub cleared: Option<Sequence>,
}
