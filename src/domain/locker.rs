//! Lockers and their compartments, as they now are.

use std::collections::BTreeMap;

use crate::domain::event::Severity;
use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId, Sequence};
use crate::domain::reservation::ReservationState;
use crate::domain::rows::{CompartmentStatus, LockerSummary};
use crate::domain::state_hash::{self, ClosedDigest, Counts, Leaf};

/// One cabinet. It exists from its first compartment on.
#[derive(Debug, Clone, Default)]
pub struct Locker {
    pub compartments: BTreeMap<CompartmentId, Compartment>,
    pub closed: ClosedDigest,
}

/// One door.
#[derive(Debug, Clone)]
pub struct Compartment {
    /// The record that registered it.
    pub registered: Sequence,
    active: Option<ActiveReservation>,
    open_faults: BTreeMap<EventId, OpenFault>,
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
    /// The row of the locker; hashes the leaves that changed and the root.
    pub fn summary(&mut self, id: &LockerId) -> LockerSummary {
        let mut counts = Counts::default();
        for (compartment_id, compartment) in &mut self.compartments {
            counts.compartments += 1;
            counts.active_reservations += u64::from(compartment.active.is_some());
            counts.degraded_compartments += u64::from(compartment.is_degraded());
            compartment.refresh_leaf(compartment_id);
        }
        let leaves = self
            .compartments
            .values()
            .map(|compartment| compartment.leaf.expect("every leaf was refreshed in the loop above"));
        LockerSummary {
            locker_id: id.clone(),
            compartments: counts.compartments,
            active_reservations: counts.active_reservations,
            degraded_compartments: counts.degraded_compartments,
            state_hash: state_hash::root(id, counts, &self.closed, leaves),
        }
    }
}

impl Compartment {
    #[must_use]
    pub const fn new(registered: Sequence) -> Self {
        Self { registered, active: None, open_faults: BTreeMap::new(), leaf: None }
    }

    #[must_use]
    pub fn active_reservation(&self) -> Option<&ReservationId> {
        self.active.as_ref().map(|active| &active.id)
    }

    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.degrading_fault().is_some()
    }

    /// The open fault that was reported first among those that degrade the compartment.
    #[must_use]
    pub fn degrading_fault(&self) -> Option<(EventId, Sequence)> {
        let degrading = self.open_faults.iter().filter(|(_, fault)| fault.severity.degrades());
        degrading.map(|(id, fault)| (*id, fault.reported)).min_by_key(|(_, reported)| *reported)
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

    /// Takes over a reservation's state: an active one holds the compartment, a closed one frees it.
    pub fn hold(&mut self, id: &ReservationId, state: ReservationState) {
        self.active = state.is_active().then(|| ActiveReservation { id: id.clone(), state });
        self.leaf = None;
    }

    pub fn open_fault(&mut self, id: EventId, severity: Severity, reported: Sequence) {
        self.open_faults.insert(id, OpenFault { severity, reported });
        self.leaf = None;
    }

    pub fn close_fault(&mut self, id: EventId) {
        self.open_faults.remove(&id);
        self.leaf = None;
    }

    fn refresh_leaf(&mut self, id: &CompartmentId) {
        if self.leaf.is_none() {
            let active = self.active.as_ref().map(|active| (&active.id, active.state));
            let faults = self.open_faults.iter().map(|(fault, open)| (fault, open.severity));
            self.leaf = Some(state_hash::leaf(id, self.is_degraded(), active, faults));
        }
    }
}
