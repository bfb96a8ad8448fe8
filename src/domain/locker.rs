//! Lockers and their compartments, as they now are.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::event::Severity;
use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId, Sequence};
use crate::domain::reservation::ReservationState;
use crate::domain::rows::{CompartmentStatus, LockerSummary};
use crate::domain::state_hash::{self, ClosedDigest, Counts, Leaf};

/// One cabinet. It exists from its first compartment on.
#[derive(Debug, Clone, Default)]
pub struct Locker {
    compartments: BTreeMap<CompartmentId, Compartment>,
    /// Of the compartments above, kept up to date by [`Locker::change`].
    counts: Counts,
    closed: ClosedDigest,
}

/// One door.
#[derive(Debug, Clone)]
pub struct Compartment {
    /// The record that registered it.
    pub registered: Sequence,
    active: Option<ActiveReservation>,
    open_faults: BTreeMap<EventId, OpenFault>,
    /// Of the open faults those that degrade the compartment, the first reported first.
    degrading: BTreeSet<(Sequence, EventId)>,
    /// `None` after a change, until the hash is wanted.
    leaf: Option<Leaf>,
}

#[derive(Debug, Clone)]
struct ActiveReservation {
    id: ReservationId,
    state: ReservationState,
}

#[derive(Debug, Clone, Copy)]
struct OpenFault {
    severity: Severity,
    reported: Sequence,
}

impl Locker {
    #[must_use]
    pub fn compartment(&self, id: &CompartmentId) -> Option<&Compartment> {
        self.compartments.get(id)
    }

    pub fn compartments(&self) -> impl ExactSizeIterator<Item = (&CompartmentId, &Compartment)> {
        self.compartments.iter()
    }

    pub fn compartment_statuses(&self) -> impl Iterator<Item = CompartmentStatus> {
        self.compartments.iter().map(|(id, compartment)| compartment.status(id))
    }

    pub fn compartment_ids(&self) -> impl Iterator<Item = &CompartmentId> {
        self.compartments.keys()
    }

    /// The running digest of what closed.
    #[must_use]
    pub const fn closed(&self) -> ClosedDigest {
        self.closed
    }

    /// Goes on from a digest of what closed before.
    pub fn continue_from(&mut self, closed: ClosedDigest) {
        self.closed = closed;
    }

    /// Builds in a door.
    pub fn register(&mut self, id: CompartmentId, registered: Sequence) {
        self.counts.compartments += 1;
        self.compartments.insert(id, Compartment::new(registered));
    }

    /// Takes over a reservation's state: an active one holds the compartment, a closed one frees
    /// it.
    pub fn advance(&mut self, compartment_id: &CompartmentId, id: &ReservationId, state: ReservationState) {
        self.change(compartment_id, |compartment| {
            compartment.active = state.is_active().then(|| ActiveReservation { id: id.clone(), state });
        });
        if !state.is_active() {
            self.closed.add_reservation(compartment_id, id, state);
        }
    }

    pub fn open_fault(&mut self, compartment_id: &CompartmentId, id: EventId, severity: Severity, reported: Sequence) {
        self.change(compartment_id, |compartment| {
            compartment.open_faults.insert(id, OpenFault { severity, reported });
            if severity.degrades() {
                compartment.degrading.insert((reported, id));
            }
        });
    }

    pub fn close_fault(&mut self, compartment_id: &CompartmentId, id: EventId) {
        let mut closed = None;
        self.change(compartment_id, |compartment| {
            closed = compartment.open_faults.remove(&id);
            if let Some(fault) = closed {
                compartment.degrading.remove(&(fault.reported, id));
            }
        });
        let fault = closed.expect("the rules found the fault open");
        self.closed.add_fault(compartment_id, id, fault.severity);
    }

    /// The row of the locker; hashes the leaves that changed and the root.
    pub fn summary(&mut self, id: &LockerId) -> LockerSummary {
        let leaves = self.compartments.iter_mut().map(|(id, compartment)| compartment.leaf(id));
        LockerSummary {
            locker_id: id.clone(),
            compartments: self.counts.compartments,
            active_reservations: self.counts.active_reservations,
            degraded_compartments: self.counts.degraded_compartments,
            state_hash: state_hash::root(id, self.counts, &self.closed, leaves),
        }
    }

    /// Changes a compartment and the counts with it.
    fn change(&mut self, id: &CompartmentId, change: impl FnOnce(&mut Compartment)) {
        let compartment = self.compartments.get_mut(id).expect("the rules found the compartment that changes");
        self.counts.active_reservations -= u64::from(compartment.active.is_some());
        self.counts.degraded_compartments -= u64::from(compartment.is_degraded());
        change(compartment);
        compartment.leaf = None;
        self.counts.active_reservations += u64::from(compartment.active.is_some());
        self.counts.degraded_compartments += u64::from(compartment.is_degraded());
    }
}

impl Compartment {
    const fn new(registered: Sequence) -> Self {
        Self { registered, active: None, open_faults: BTreeMap::new(), degrading: BTreeSet::new(), leaf: None }
    }

    #[must_use]
    pub fn active_reservation(&self) -> Option<&ReservationId> {
        self.active.as_ref().map(|active| &active.id)
    }

    /// The faults that are open, in the order of their ids: severity and the record that reported it.
    pub fn open_faults(&self) -> impl Iterator<Item = (EventId, Severity, Sequence)> {
        self.open_faults.iter().map(|(id, fault)| (*id, fault.severity, fault.reported))
    }

    #[must_use]
    pub fn is_degraded(&self) -> bool {
        !self.degrading.is_empty()
    }

    /// The open fault that was reported first among those that degrade the compartment.
    #[must_use]
    pub fn degrading_fault(&self) -> Option<(EventId, Sequence)> {
        self.degrading.first().map(|(reported, id)| (*id, *reported))
    }

    /// The row of the compartment.
    #[must_use]
    pub fn status(&self, id: &CompartmentId) -> CompartmentStatus {
        CompartmentStatus {
            compartment_id: id.clone(),
            degraded: self.is_degraded(),
            active_reservation: self.active_reservation().cloned(),
        }
    }

    fn leaf(&mut self, id: &CompartmentId) -> Leaf {
        if let Some(leaf) = self.leaf {
            return leaf;
        }
        let active = self.active.as_ref().map(|active| (&active.id, active.state));
        let faults = self.open_faults.iter().map(|(fault, open)| (fault, open.severity));
        let leaf = state_hash::leaf(id, self.is_degraded(), active, faults);
        self.leaf = Some(leaf);
        leaf
    }
}
