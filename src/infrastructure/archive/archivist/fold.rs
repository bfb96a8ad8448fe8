//! The fold of a stretch: what its segments add to the archive, and the present at its end.
//!
//! The present alone is held. What closes becomes an entry as it closes, and so does every event as it
//! comes; that no event id came twice is seen in the end, when all stand in their order.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::domain::ids::Sequence;
use crate::domain::record::PlacedEvent;
use crate::domain::reservation::ReservationState;
use crate::domain::world::past::Closed;
use crate::domain::world::{ReplayError, World};
use crate::infrastructure::archive::damaged;
use crate::infrastructure::archive::entry::{self, Entry, Kind};
use crate::infrastructure::archive::sealed::{FileState, MARK_BYTES, Mark, Sealed};
use crate::infrastructure::archive::snapshot::Snapshot;
use crate::infrastructure::event_log::history::History;
use crate::infrastructure::event_log::history::damage::HistoryError;
use crate::infrastructure::event_log::segments::Segment;

/// After how many records it looks whether to stop.
const LOOK_RECORDS: u64 = 1 << 7;

/// Somebody wants it to end.
pub(super) struct Stopped;

/// Some segments, folded.
pub(super) struct Stretch {
    pub segments: Vec<Sealed>,
    pub entries: Vec<Entry>,
    pub snapshot: Snapshot,
}

/// Reads the next segments of a log, after the snapshot that the ones before ended with.
pub(super) fn fold(
    log: &Path,
    snapshot: Snapshot,
    upcoming: &[(Segment, Sequence)],
    stop: &dyn Fn() -> bool,
) -> io::Result<Result<Stretch, Stopped>> {
    let Snapshot { head: begin, mut last_recorded_at, present } = snapshot;
    let mut world = World::from_present(present);
    let mut entries = Vec::new();
    let mut history = History::open_after(log, begin).map_err(in_log)?.events_only();
    let mut folded = Vec::with_capacity(upcoming.len());
    for (segment, last) in upcoming {
        // Its time of change too has to be the one that is found after a crash: the log's syncs keep
        // what is in a file, and need not keep that.
        File::open(&segment.path)?.sync_all()?;
        let mut sealed = Sealed {
            path: segment.path.clone(),
            first: segment.first,
            last: *last,
            // Before it is read: a change meanwhile is a change.
            file: FileState::of(&segment.path)?,
            before: history.head().chain_hash,
            marks: Vec::new(),
        };
        let mut offset_bytes = 0;
        while history.head().sequence < *last {
            let (PlacedEvent { sequence, recorded_at, event, .. }, _) =
                history.next().ok_or_else(|| damaged(&segment.path, "it ends too early"))?.map_err(in_log)?;
            if sealed.marks.last().is_none_or(|mark| offset_bytes - mark.offset_bytes >= MARK_BYTES) {
                sealed.marks.push(Mark { sequence: sequence.get(), offset_bytes });
            }
            entries.push(Entry {
                key: entry::key_of_event(event.id),
                kind: Kind::Original,
                first: sequence.get(),
                second: offset_bytes,
            });
            offset_bytes = history.last_segment().map_or(0, |(_, bytes)| bytes);
            let followed = world.follow(sequence, &event);
            followed.map_err(|violation| impossible(sequence, &ReplayError::Refused(Box::new(violation))))?;
            world.forget_closed_by(&event, |closed| entries.push(entry_of(closed)));
            last_recorded_at = Some(recorded_at);
            if sequence.get().is_multiple_of(LOOK_RECORDS) && stop() {
                return Ok(Err(Stopped));
            }
        }
        folded.push(sealed);
    }
    entries.sort_unstable();
    look_for_repetitions(&entries)?;
    let snapshot = Snapshot { head: history.head(), last_recorded_at, present: world.present() };
    Ok(Ok(Stretch { segments: folded, entries, snapshot }))
}

/// What there is to know of something that ended.
fn entry_of(closed: Closed<'_>) -> Entry {
    match closed {
        Closed::Reservation(id, reservation) => Entry {
            key: entry::key_of_reservation(id),
            kind: if reservation.state == ReservationState::Expired { Kind::Expired } else { Kind::PickedUp },
            first: reservation.created.get(),
            second: reservation.changed.get(),
        },
        Closed::Fault(id, fault, cleared) => Entry {
            key: entry::key_of_fault(id),
            kind: Kind::Fault,
            first: fault.reported.get(),
            second: cleared.get(),
        },
    }
}

/// The fold remembers no event ids: whether one came twice shows when all stand in their order.
fn look_for_repetitions(entries: &[Entry]) -> io::Result<()> {
    let is_repeated = |pair: &[Entry]| pair[0].key == pair[1].key && pair[1].kind == Kind::Original;
    let Some(pair) = entries.windows(2).find(|pair| is_repeated(pair)) else { return Ok(()) };
    let (first, second) = (Sequence::new(pair[0].first), Sequence::new(pair[1].first));
    Err(impossible(second, &format!("it has the event_id of sequence {first}")))
}

fn impossible(sequence: Sequence, reason: &dyn Display) -> io::Error {
    io::Error::other(format!("sequence {sequence} of the log cannot be taken in: {reason}"))
}

#[expect(clippy::needless_pass_by_value, reason = "maps an error to another")]
fn in_log(error: HistoryError) -> io::Error {
    io::Error::other(format!("the log cannot be read: {error}; see `lockstream verify`"))
}
