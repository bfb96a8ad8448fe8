//! What one client reports: a stream of events that the seed decides, whatever the answers are.
//!
//! A device has a locker of its own, about which it knows everything, so that it can say beforehand
//! how each event will be judged. In the lockers that all share it competes with the others.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::domain::ids::EventId;
use crate::random::Random;
use crate::torture::event::{Planned, Prepared};
use crate::torture::journal::Expected;

/// How many doors a locker gets.
const MAX_DOORS: usize = 16;
/// The lockers that all devices report about.
const SHARED_LOCKERS: [&str; 3] = ["shared-0", "shared-1", "shared-2"];
const SHARED_DOORS: u64 = 24;

/// A source of events.
#[derive(Debug)]
pub struct Device {
    random: Random,
    locker: String,
    doors: Vec<Door>,
    reservations: u64,
    /// Those that are over, of which every further event is refused.
    closed: VecDeque<String>,
    /// Faults that are cleared, with their doors.
    cleared: VecDeque<(EventId, String)>,
    /// The device's latest reservations in the shared lockers, with their lockers.
    shared: VecDeque<(String, String)>,
    /// What comes before anything else.
    due: VecDeque<Planned>,
}

#[derive(Debug)]
struct Door {
    id: String,
    /// The active reservation, and whether its parcel is in.
    reservation: Option<(String, bool)>,
    /// Open faults with their severities.
    faults: Vec<(EventId, i64)>,
}

impl Door {
    fn is_degraded(&self) -> bool {
        self.faults.iter().any(|(_, severity)| *severity >= 3)
    }
}

impl Device {
    #[must_use]
    pub fn new(random: Random, number: usize) -> Self {
        Self {
            random,
            locker: format!("own-{number}"),
            doors: Vec::new(),
            reservations: 0,
            closed: VecDeque::new(),
            cleared: VecDeque::new(),
            shared: VecDeque::new(),
            due: VecDeque::new(),
        }
    }

    /// The next event. The one before it has to be settled by then.
    pub fn next_event(&mut self) -> Planned {
        if let Some(due) = self.due.pop_front() {
            return due;
        }
        if self.doors.is_empty() || (self.doors.len() < MAX_DOORS && self.random.percent(10)) {
            return self.register();
        }
        match self.random.below(100) {
            0..20 => self.shared(),
            20..30 => self.invalid(),
            30..45 => self.refused(),
            45..60 => self.fault(),
            _ => self.parcel(),
        }
    }

    fn own(&mut self, expected: Expected, event_type: &str, payload: &Value) -> Planned {
        let event = Prepared::new(&mut self.random, event_type, &self.locker, payload);
        Planned { event, expected }
    }

    fn register(&mut self) -> Planned {
        let id = format!("door-{}", self.doors.len());
        let planned = self.own(Expected::Accepted, "CompartmentRegistered", &json!({ "compartment_id": id }));
        self.doors.push(Door { id, reservation: None, faults: Vec::new() });
        planned
    }

    fn new_reservation(&mut self) -> String {
        self.reservations += 1;
        format!("{}-{}", self.locker, self.reservations)
    }

    /// Takes one reservation a step further, or makes a new one.
    fn parcel(&mut self) -> Planned {
        let at = self.random.index(self.doors.len());
        let door = self.doors[at].id.clone();
        match self.doors[at].reservation.clone() {
            None if self.doors[at].is_degraded() => self.clear(at),
            None => {
                let reservation = self.new_reservation();
                let reserving = json!({ "reservation_id": reservation, "compartment_id": door });
                let create = self.own(Expected::Accepted, "ReservationCreated", &reserving);
                self.doors[at].reservation = Some((reservation.clone(), false));
                if !self.random.percent(15) {
                    return create;
                }
                // The deposit comes too early, is refused, and comes again, as it was.
                self.doors[at].reservation = Some((reservation.clone(), true));
                let refused = Expected::Refused("reservation-not-found");
                let early = self.own(refused, "ParcelDeposited", &json!({ "reservation_id": reservation }));
                self.due.extend([create, Planned { expected: Expected::Accepted, ..early.clone() }]);
                early
            }
            Some((reservation, deposited)) => {
                let (event_type, ends) = match (self.random.percent(25), deposited) {
                    (true, _) => ("ReservationExpired", true),
                    (false, true) => ("ParcelPickedUp", true),
                    (false, false) => ("ParcelDeposited", false),
                };
                self.doors[at].reservation = (!ends).then(|| (reservation.clone(), true));
                if ends {
                    keep(&mut self.closed, reservation.clone());
                }
                let payload = json!({ "reservation_id": reservation, "compartment_id": door });
                self.own(Expected::Accepted, event_type, &payload)
            }
        }
    }

    fn fault(&mut self) -> Planned {
        let at = self.random.index(self.doors.len());
        if self.doors[at].faults.len() > 2 {
            return self.clear(at);
        }
        let severity = self.random.below(6).cast_signed();
        let payload = json!({ "compartment_id": self.doors[at].id, "severity": severity });
        let planned = self.own(Expected::Accepted, "FaultReported", &payload);
        self.doors[at].faults.push((planned.event.event_id(), severity));
        planned
    }

    /// Clears one of a door's faults; there is one.
    fn clear(&mut self, at: usize) -> Planned {
        let which = self.random.index(self.doors[at].faults.len());
        let (fault, _) = self.doors[at].faults.remove(which);
        let door = self.doors[at].id.clone();
        keep(&mut self.cleared, (fault, door.clone()));
        let payload = json!({ "compartment_id": door, "fault_event_id": fault });
        self.own(Expected::Accepted, "FaultCleared", &payload)
    }

    /// An event that will be refused for ever, so that it does no harm when it arrives late.
    fn refused(&mut self) -> Planned {
        let door = self.random.pick(&self.doors).id.clone();
        let choice = self.random.below(5);
        match (choice, self.closed.front().cloned(), self.cleared.front().cloned()) {
            (0, Some(closed), _) => self.own(
                Expected::Refused("reservation-already-closed"),
                "ReservationExpired",
                &json!({ "reservation_id": closed }),
            ),
            (1, _, Some((fault, door))) => self.own(
                Expected::Refused("fault-already-cleared"),
                "FaultCleared",
                &json!({ "compartment_id": door, "fault_event_id": fault }),
            ),
            (2, ..) => self.own(
                Expected::Refused("compartment-not-registered"),
                "FaultReported",
                &json!({ "compartment_id": "no-such-door", "severity": 3 }),
            ),
            (3, ..) => self.own(
                Expected::Refused("reservation-not-found"),
                "ParcelPickedUp",
                &json!({ "reservation_id": format!("{}-never", self.locker) }),
            ),
            _ => self.own(
                Expected::Refused("compartment-already-registered"),
                "CompartmentRegistered",
                &json!({ "compartment_id": door }),
            ),
        }
    }

    /// An event that is not valid; it often comes again, mended, under the same id.
    fn invalid(&mut self) -> Planned {
        let sound = self.register_or_parcel();
        let mut payload = sound.event.payload().clone();
        let broken = match self.random.below(4) {
            0 => sound.event.with("occurred_at", json!("2026-11-21 08:00")),
            1 => sound.event.with("type", json!("DoorLeftOpen")),
            2 => sound.event.with("payload", json!([])),
            _ => {
                payload.as_object_mut().expect("a payload is an object").retain(|name, _| name == "severity");
                payload["severity"] = json!("high");
                sound.event.with("payload", payload)
            }
        };
        self.due.push_front(sound);
        Planned { event: broken, expected: Expected::Invalid }
    }

    fn register_or_parcel(&mut self) -> Planned {
        if self.doors.len() < MAX_DOORS { self.register() } else { self.parcel() }
    }

    /// An event about a locker that others report about too.
    fn shared(&mut self) -> Planned {
        let expected = Expected::AcceptedOrRefused;
        let locker = (*self.random.pick(&SHARED_LOCKERS)).to_owned();
        let door = format!("door-{}", self.random.below(SHARED_DOORS));
        let known = (!self.shared.is_empty()).then(|| self.random.pick(self.shared.make_contiguous()).clone());
        let (event_type, locker, payload) = match (self.random.below(8), known) {
            (0, _) => ("CompartmentRegistered", locker, json!({ "compartment_id": door })),
            (1, _) => {
                let severity = self.random.below(4).cast_signed();
                ("FaultReported", locker, json!({ "compartment_id": door, "severity": severity }))
            }
            (2 | 3, Some((locker, id))) => ("ParcelDeposited", locker, json!({ "reservation_id": id })),
            (4, Some((locker, id))) => ("ParcelPickedUp", locker, json!({ "reservation_id": id })),
            (5, Some((locker, id))) => ("ReservationExpired", locker, json!({ "reservation_id": id })),
            _ => {
                let id = self.new_reservation();
                keep(&mut self.shared, (locker.clone(), id.clone()));
                ("ReservationCreated", locker, json!({ "reservation_id": id, "compartment_id": door }))
            }
        };
        let event = Prepared::new(&mut self.random, event_type, &locker, &payload);
        Planned { event, expected }
    }
}

/// Keeps the latest few.
fn keep<T>(items: &mut VecDeque<T>, item: T) {
    items.push_back(item);
    if items.len() > 8 {
        items.pop_front();
    }
}
