//! Lockers and their compartments, as they now are.

use crate::domain::event::Severity;
use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId, Sequence};
use crate::domain::reservation::ReservationState;
use crate::domain::rows::{CompartmentStatus, LockerSummary};
use crate::domain::small_map::SmallMap;
use crate::domain::state_hash::{self, ClosedDigest, Counts, Leaf};

/// One cabinet. It exists from its first compartment on.
#[derive(Debug, Clone, Default)]
pub struct Locker {
    compartments: SmallMap<CompartmentId, Compartment>,
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
    /// Most doors never had one. A door that had keeps room for another, which then takes no allocation.
    faults: Option<Box<OpenFaults>>,
    /// `None` after a change, until the hash is wanted.
    leaf: Option<Leaf>,
}

#[derive(Debug, Clone)]
struct ActiveReservation {
    id: ReservationId,
    state: ReservationState,
}

#[derive(Debug, Clone)]
struct OpenFaults {
    all: SmallMap<EventId, OpenFault>,
    /// Those of them that degrade the compartment, the first reported first.
    degrading: SmallMap<(Sequence, EventId), ()>,
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
        self.compartments.iter().map(|(id, _)| id)
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
            let faults = compartment.faults.get_or_insert_with(|| Box::new(OpenFaults::new()));
            faults.all.insert(id, OpenFault { severity, reported });
            if severity.degrades() {
                faults.degrading.insert((reported, id), ());
            }
        });
    }

    pub fn close_fault(&mut self, compartment_id: &CompartmentId, id: EventId) {
        let mut closed = None;
        self.change(compartment_id, |compartment| closed = compartment.close_fault(id));
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

impl OpenFaults {
    const fn new() -> Self {
        Self { all: SmallMap::new(), degrading: SmallMap::new() }
    }
}

impl Compartment {
    const fn new(registered: Sequence) -> Self {
        Self { registered, active: None, faults: None, leaf: None }
    }

    #[must_use]
    pub fn active_reservation(&self) -> Option<&ReservationId> {
        self.active.as_ref().map(|active| &active.id)
    }

    fn faults(&self) -> &OpenFaults {
        static NONE: OpenFaults = OpenFaults::new();
        self.faults.as_deref().unwrap_or(&NONE)
    }

    fn close_fault(&mut self, id: EventId) -> Option<OpenFault> {
        let faults = self.faults.as_mut()?;
        let closed = faults.all.remove(&id)?;
        faults.degrading.remove(&(closed.reported, id));
        Some(closed)
    }

    /// The faults that are open, in the order of their ids: severity and the record that reported it.
    pub fn open_faults(&self) -> impl Iterator<Item = (EventId, Severity, Sequence)> {
        self.faults().all.iter().map(|(id, fault)| (*id, fault.severity, fault.reported))
    }

    #[must_use]
    pub fn is_degraded(&self) -> bool {
        !self.faults().degrading.is_empty()
    }

    /// The open fault that was reported first among those that degrade the compartment.
    #[must_use]
    pub fn degrading_fault(&self) -> Option<(EventId, Sequence)> {
        self.faults().degrading.iter().next().map(|((reported, id), ())| (*id, *reported))
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
        let faults = self.faults().all.iter().map(|(fault, open)| (fault, open.severity));
        let leaf = state_hash::leaf(id, self.is_degraded(), active, faults);
        self.leaf = Some(leaf);
        leaf
    }
}
