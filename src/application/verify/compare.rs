//! The comparison of the rows that the log gives with the rows that are stored.

use std::cmp::Ordering;
use std::fmt::Debug;

use crate::application::verify::Finding;
use crate::application::verify::dealt::look_through;
use crate::application::verify::fold::Fold;
use crate::domain::rows::{CompartmentRow, LockerSummary, ReservationStatus, Rows};

/// How many differing rows are named one by one; the rest are counted.
const MAX_NAMED_ROWS: usize = 20;

/// Rows of one key that are not the same: what the log gives and what is stored.
type Differing<'r, R> = (Option<&'r R>, Option<&'r R>);

/// A row with a key.
trait Row: PartialEq + Debug {
    /// What it is a row of.
    const WHAT: &'static str;

    /// The order of the keys.
    fn order(&self, other: &Self) -> Ordering;

    /// The key in words.
    fn key(&self) -> String;
}

impl Row for LockerSummary {
    const WHAT: &'static str = "locker";

    fn order(&self, other: &Self) -> Ordering {
        self.locker_id.cmp(&other.locker_id)
    }

    fn key(&self) -> String {
        format!("{:?}", self.locker_id)
    }
}

impl Row for CompartmentRow {
    const WHAT: &'static str = "compartment";

    fn order(&self, other: &Self) -> Ordering {
        let by_compartment = || self.status.compartment_id.cmp(&other.status.compartment_id);
        self.locker_id.cmp(&other.locker_id).then_with(by_compartment)
    }

    fn key(&self) -> String {
        format!("{:?}", (&self.locker_id, &self.status.compartment_id))
    }
}

impl Row for ReservationStatus {
    const WHAT: &'static str = "reservation";

    fn order(&self, other: &Self) -> Ordering {
        self.reservation_id.cmp(&other.reservation_id)
    }

    fn key(&self) -> String {
        format!("{:?}", self.reservation_id)
    }
}

/// Tells where the rows that are stored are not those of the fold.
pub fn compare(fold: &mut Fold, stored: &Rows) -> Vec<Finding> {
    let folded = fold.rows();
    let mut findings = Vec::new();
    tell(differing(&folded.lockers, &stored.lockers), &mut findings);
    tell(differing(&folded.compartments, &stored.compartments), &mut findings);
    // There are so many of these that each processor takes some.
    let (active, stored) = (fold.deal(&folded.reservations), fold.deal(&stored.reservations));
    let parts = fold.closed().parts().zip(active.parts()).zip(stored.parts());
    let differences = look_through(parts, |((closed, active), stored)| {
        differing(closed.iter().chain(active.iter().copied()), stored.iter().copied())
    });
    tell(differences.into_iter().flatten().collect(), &mut findings);
    findings
}

/// The rows that are not on both sides alike. No side has a key twice.
fn differing<'r, R: Row>(
    folded: impl IntoIterator<Item = &'r R>,
    stored: impl IntoIterator<Item = &'r R>,
) -> Vec<Differing<'r, R>> {
    let [mut folded, mut stored] = [sorted(folded), sorted(stored)].map(|rows| rows.into_iter().peekable());
    let mut differing = Vec::new();
    loop {
        let order = match (folded.peek(), stored.peek()) {
            (Some(one), Some(other)) => one.order(other),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return differing,
        };
        let pair = (if order.is_le() { folded.next() } else { None }, if order.is_ge() { stored.next() } else { None });
        if pair.0 != pair.1 {
            differing.push(pair);
        }
    }
}

fn sorted<'r, R: Row>(rows: impl IntoIterator<Item = &'r R>) -> Vec<&'r R> {
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_unstable_by(|one, other| one.order(other));
    rows
}

/// The row of a side that has one; both have the same key.
fn either<'r, R>(pair: &Differing<'r, R>) -> &'r R {
    pair.0.or(pair.1).expect("a difference has a row on one side")
}

/// Names the first differences, in the order of their keys, and counts the others.
fn tell<R: Row>(mut differing: Vec<Differing<'_, R>>, findings: &mut Vec<Finding>) {
    differing.sort_unstable_by(|one, other| either(one).order(either(other)));
    for pair in differing.iter().take(MAX_NAMED_ROWS) {
        let words = |row: Option<&R>| row.map_or_else(|| "nothing".to_owned(), |row| format!("{row:?}"));
        let (folded, stored) = (words(pair.0), words(pair.1));
        let detail =
            format!("{} {}: the log gives {folded}, the projection holds {stored}", R::WHAT, either(pair).key());
        findings.push(Finding { code: "projection-differs", detail });
    }
    if differing.len() > MAX_NAMED_ROWS {
        let detail = format!("{} more {} rows differ", differing.len() - MAX_NAMED_ROWS, R::WHAT);
        findings.push(Finding { code: "projection-differs", detail });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::ids::ReservationId;
    use crate::domain::reservation::ReservationState;
    use crate::random::Random;

    fn row(number: u64, status: ReservationState) -> ReservationStatus {
        ReservationStatus { reservation_id: ReservationId::parse(&format!("R{number:03}")).unwrap(), status }
    }

    /// Rows of some keys, in no order.
    fn some_rows(random: &mut Random) -> Vec<ReservationStatus> {
        let mut numbers: Vec<_> = (0..random.between(1, 60)).filter(|_| random.percent(70)).collect();
        random.shuffle(&mut numbers);
        numbers.into_iter().map(|number| row(number, *random.pick(&ReservationState::ALL))).collect()
    }

    #[test]
    fn what_differs_is_what_two_maps_have_different() {
        let mut random = Random::new(1);
        for _ in 0..500 {
            let [folded, stored] = [some_rows(&mut random), some_rows(&mut random)];
            let mut pairs: BTreeMap<_, Differing<'_, _>> = BTreeMap::new();
            for row in &folded {
                pairs.entry(&row.reservation_id).or_default().0 = Some(row);
            }
            for row in &stored {
                pairs.entry(&row.reservation_id).or_default().1 = Some(row);
            }
            let expected: Vec<_> = pairs.into_values().filter(|(folded, stored)| folded != stored).collect();
            assert_eq!(differing(&folded, &stored), expected);
        }
    }

    #[test]
    fn the_first_twenty_are_named_in_their_order_and_the_others_counted() {
        let stored: Vec<_> = (0..25).rev().map(|number| row(number, ReservationState::Expired)).collect();
        let findings = compare(&mut Fold::quick(), &Rows { reservations: stored, ..Rows::default() });
        let details: Vec<_> = findings.iter().map(|finding| finding.detail.as_str()).collect();
        assert_eq!(details.len(), 21);
        assert!(
            details[0].starts_with("reservation ReservationId(\"R000\"): the log gives nothing, the"),
            "{details:?}"
        );
        assert!(details[19].contains("\"R019\""), "{details:?}");
        assert_eq!(details[20], "5 more reservation rows differ");
    }
}
