//! How the writer judges one event after the other, before anything is written.

use tracing::warn;

use crate::application::ingest::bulk::Judged;
use crate::application::ingest::{Unavailable, Verdict};
use crate::application::ports::{ArchiveFailure, NoRoom};
use crate::application::writer::Writer;
use crate::domain::event::Event;
use crate::domain::event::parse::ReceivedEvent;
use crate::domain::ids::{EventId, Sequence};
use crate::domain::record::{Record, RecordedAt};
use crate::domain::world::Original;
use crate::domain::world::past::{Recalled, Unknown};

impl Writer {
    /// Judges the events of a chunk in their order, up to the first that gets no verdict: what its
    /// sender put behind that must not overtake it.
    pub(super) fn judge_all(
        &mut self,
        events: Vec<ReceivedEvent>,
        recorded_at: RecordedAt,
        records: &mut Vec<Record>,
    ) -> Judged {
        let mut verdicts = Vec::with_capacity(events.len());
        let mut events = events.into_iter();
        let mut stopped_by = None;
        while stopped_by.is_none() && events.len() > 0 {
            // Looked at before the event is taken in hand: its sender waits, and hands it in again.
            if self.is_behind(self.next_sequence(records), self.limits.bulk().lag_events) {
                stopped_by = Some(Unavailable::ProjectionBehind);
            } else if let Some(event) = events.next() {
                match self.judge(event, recorded_at, records) {
                    Ok(verdict) => verdicts.push(verdict),
                    Err(unavailable) => stopped_by = Some(unavailable),
                }
            }
        }
        Judged { verdicts, stopped_by, left: events.collect() }
    }

    fn next_sequence(&self, records: &[Record]) -> Sequence {
        records.last().map_or(self.durable.head().sequence, |record| record.sequence).next()
    }

    /// Whether the projection is too far behind for a record of this sequence.
    fn is_behind(&self, sequence: Sequence, lag_events: u64) -> bool {
        sequence.get() - self.progress.projected().get() > lag_events
    }

    /// Judges one event in the order that clients can observe: known id, payload, rules. What is
    /// accepted joins `records` and the world.
    pub(super) fn judge(
        &mut self,
        received: ReceivedEvent,
        recorded_at: RecordedAt,
        records: &mut Vec<Record>,
    ) -> Result<Verdict, Unavailable> {
        let ReceivedEvent { event_id, json, digest, content } = received;
        if let Some(original) = self.original(event_id)? {
            let content_matches = original.digest == digest;
            if !content_matches {
                self.progress.count_conflicting_duplicate();
            }
            let (sequence, recorded_at) = (original.sequence, original.recorded_at);
            return Ok(Verdict::Duplicate { sequence, recorded_at, content_matches });
        }
        let event = match content {
            Ok(event) => event,
            Err(problems) => return Ok(Verdict::Invalid(problems)),
        };
        let recalled = self.recall(&event)?;
        let change = match self.world.decide_with(&event, recalled.as_ref()) {
            Ok(change) => change,
            Err(violation) => return Ok(Verdict::Refused(violation)),
        };
        match self.no_room {
            None => {}
            Some(NoRoom::Full(_)) => return Err(Unavailable::LogFull),
            Some(NoRoom::Unwritable(_)) => return Err(Unavailable::LogUnwritable),
        }
        let sequence = self.next_sequence(records);
        if self.is_behind(sequence, self.limits.lag_events) {
            return Err(Unavailable::ProjectionBehind);
        }
        let batch = self.durable.head().sequence.next();
        let record = Record { sequence, batch, recorded_at, event, json, digest };
        self.world.apply(change, &record, &mut self.touched);
        records.push(record);
        Ok(Verdict::Accepted { sequence, recorded_at })
    }

    fn original(&self, event_id: EventId) -> Result<Option<Original>, Unavailable> {
        match (self.world.original(event_id), &self.archive) {
            (None, Some(archive)) => archive.original(event_id).map_err(|error| self.past_unreadable(&error)),
            (original, _) => Ok(original),
        }
    }

    /// What the rules have to know of the past to judge this event.
    fn recall(&self, event: &Event) -> Result<Option<Recalled>, Unavailable> {
        let Some((archive, unknown)) = self.archive.as_ref().zip(self.world.unknown(event)) else { return Ok(None) };
        let recalled = match unknown {
            Unknown::Reservation(id) => {
                archive.reservation(id).map(|found| found.map(|found| Recalled::Reservation(id.clone(), found)))
            }
            Unknown::Fault(id) => archive.fault(id).map(|found| found.map(|found| Recalled::Fault(id, found))),
        };
        recalled.map_err(|error| self.past_unreadable(&error))
    }

    /// Nothing is decided in ignorance: the event can be sent again when the archive is made anew.
    fn past_unreadable(&self, error: &ArchiveFailure) -> Unavailable {
        warn!(%error, "something of the past cannot be read; an event that needs it is turned away");
        if error.is_damage {
            self.archiver.doubt();
        }
        Unavailable::PastUnreadable
    }
}
