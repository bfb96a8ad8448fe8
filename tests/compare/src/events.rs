//! The events that all servers get: lockers that behave, so that every one of them is acceptable.
//! Each connection has lockers of its own, because only what one connection sends has an order.

use std::fmt::Write;

/// How often a compartment is used before the next one is registered.
const CYCLES: u32 = 8;
/// How many compartments a locker has.
const COMPARTMENTS: u32 = 20;

/// One event, with what the peers have to know of it without reading its body.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: String,
    pub kind: &'static str,
    pub locker: String,
    pub compartment: String,
    /// The reservation that it concerns, if it concerns one.
    pub reservation: Option<String>,
    pub body: String,
}

/// The events of one connection, without end.
///
/// A compartment is registered, used by eight parcels (one of which is never picked up), found faulty
/// and repaired: 27 events; then comes the next one, after twenty of them the next locker. In a steady
/// lane all are registered first, and after the last one it is the first one's turn again.
#[derive(Debug)]
pub struct Lane {
    name: String,
    random: u64,
    /// How many compartments there will be; without it there is always a next one.
    most: Option<u32>,
    registered: u32,
    /// The number of the compartment that is used.
    used: u32,
    reservations: u32,
    step: u32,
    fault: String,
}

impl Lane {
    /// Lanes of different numbers share no locker, no reservation and no event id.
    pub fn new(run: u32, lane: u32) -> Self {
        let random = (u64::from(run) << 32 | u64::from(lane)).wrapping_mul(0x2545_f491_4f6c_dd1d);
        let name = format!("{run}-{lane}");
        Self { name, random, most: None, registered: 0, used: 0, reservations: 0, step: 0, fault: String::new() }
    }

    /// A lane of so many compartments, and no more.
    pub fn steady(run: u32, lane: u32, compartments: u32) -> Self {
        Self { most: Some(compartments), ..Self::new(run, lane) }
    }

    /// The step and the compartment after this one.
    fn go_on(&mut self, last_step: u32) {
        (self.step, self.used) = match (self.step, self.most) {
            (0, None) => (1, self.registered - 1),
            (0, Some(most)) => (u32::from(self.registered == most), 0),
            (step, Some(most)) if step == last_step => (1, (self.used + 1) % most),
            (step, None) if step == last_step => (0, 0),
            (step, _) => (step + 1, self.used),
        };
    }

    fn event_id(&mut self) -> String {
        uuid::Builder::from_random_bytes(
            (u128::from(self.next_random()) << 64 | u128::from(self.next_random())).to_be_bytes(),
        )
        .into_uuid()
        .to_string()
    }

    /// `SplitMix64`.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Iterator for Lane {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let id = self.event_id();
        let step = self.step;
        let faulty = CYCLES * 3 + 1;
        let in_use = (1..faulty).contains(&step);
        let (kind, extra) = match step {
            0 => {
                self.registered += 1;
                ("CompartmentRegistered", String::new())
            }
            _ if in_use && step % 3 == 1 => {
                self.reservations += 1;
                ("ReservationCreated", String::new())
            }
            _ if in_use && step % 3 == 2 => ("ParcelDeposited", String::new()),
            _ if step == CYCLES * 3 => ("ReservationExpired", String::new()),
            _ if in_use => ("ParcelPickedUp", String::new()),
            _ if step == faulty => {
                self.fault.clone_from(&id);
                ("FaultReported", r#","severity":3"#.to_owned())
            }
            _ => ("FaultCleared", format!(r#","fault_event_id":"{}""#, self.fault)),
        };
        let number = if step == 0 { self.registered - 1 } else { self.used };
        self.go_on(faulty + 1);
        let locker = format!("locker-{}-{}", self.name, number / COMPARTMENTS);
        let compartment = format!("C{}", number % COMPARTMENTS);
        let reservation = in_use.then(|| format!("parcel-{}-{}", self.name, self.reservations));
        let mut body = String::with_capacity(288);
        let second = self.random % 60;
        let _ = write!(
            body,
            r#"{{"event_id":"{id}","occurred_at":"2026-11-21T08:15:{second:02}Z","locker_id":"{locker}","type":"{kind}","payload":{{"compartment_id":"{compartment}""#
        );
        if let Some(reservation) = &reservation {
            let _ = write!(body, r#","reservation_id":"{reservation}""#);
        }
        let _ = write!(body, "{extra}}}}}");
        Some(Event { id, kind, locker, compartment, reservation, body })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn an_event_is_json_and_says_what_stands_in_its_body() {
        for event in Lane::new(1, 2).take(100) {
            let body: Value = serde_json::from_str(&event.body).expect("the body is JSON");
            assert_eq!(body["event_id"], event.id);
            assert_eq!(body["type"], event.kind);
            assert_eq!(body["locker_id"], event.locker);
            assert_eq!(body["payload"]["compartment_id"], event.compartment);
            assert_eq!(body["payload"]["reservation_id"].as_str(), event.reservation.as_deref());
        }
    }

    #[test]
    fn a_lane_behaves() {
        // given what a compartment allows next
        let mut free_of_parcels = HashSet::new();
        let mut last = "";
        let mut fault = String::new();
        for event in Lane::new(3, 4).take(2_000) {
            // then each event fits the one before it
            let fits = match event.kind {
                "CompartmentRegistered" => free_of_parcels.insert((event.locker.clone(), event.compartment.clone())),
                "ReservationCreated" => matches!(last, "CompartmentRegistered" | "ParcelPickedUp"),
                "ParcelDeposited" => last == "ReservationCreated",
                "ParcelPickedUp" | "ReservationExpired" => last == "ParcelDeposited",
                "FaultReported" => {
                    fault.clone_from(&event.id);
                    last == "ReservationExpired"
                }
                "FaultCleared" => last == "FaultReported" && event.body.contains(&fault),
                _ => false,
            };
            assert!(fits, "{} after {last}", event.kind);
            last = event.kind;
        }
    }

    #[test]
    fn a_steady_lane_registers_first_and_then_uses_what_there_is() {
        // given three compartments, when each is used twice and the first one a third time
        let events: Vec<_> = Lane::steady(1, 2, 3).take(3 + 6 * 26 + 1).collect();
        // then they are registered before anything else, and never again
        let (first, later) = events.split_at(3);
        assert!(first.iter().all(|event| event.kind == "CompartmentRegistered"));
        assert!(later.iter().all(|event| event.kind != "CompartmentRegistered"));
        let names = |events: &[Event]| events.iter().map(|event| event.compartment.clone()).collect::<Vec<_>>();
        assert_eq!(names(first), ["C0", "C1", "C2"]);
        let visits: Vec<_> = later.chunks(26).map(names).collect();
        for (visit, expected) in visits.iter().zip(["C0", "C1", "C2", "C0", "C1", "C2", "C0"]) {
            assert!(visit.iter().all(|name| name == expected), "{visit:?} instead of {expected}");
        }
        // and no reservation is used a second time
        let created = later.iter().filter(|event| event.kind == "ReservationCreated");
        let reservations: Vec<_> = created.map(|event| event.reservation.clone()).collect();
        assert_eq!(reservations.iter().collect::<HashSet<_>>().len(), reservations.len());
        assert_eq!(reservations.len(), 6 * 8 + 1);
    }

    #[test]
    fn lanes_share_nothing() {
        let ids = |run, lane| Lane::new(run, lane).take(1_000).map(|event| event.id).collect::<Vec<_>>();
        let all: HashSet<_> = [ids(0, 0), ids(0, 1), ids(1, 0), ids(1, 1)].concat().into_iter().collect();
        assert_eq!(all.len(), 4_000);
    }
}
