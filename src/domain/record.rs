//! Records: accepted events with their place in the log, and the head that names all of history.

use std::fmt;

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};

use crate::domain::event::Event;
use crate::domain::event::json::{CompactJson, ContentDigest};
use crate::domain::hash::ChainHash;
use crate::domain::ids::Sequence;

/// An accepted event in its place.
#[derive(Debug, Clone)]
pub struct Record {
    pub sequence: Sequence,
    /// The first sequence of the batch that was synced together with this record.
    pub batch: Sequence,
    pub recorded_at: RecordedAt,
    pub event: Event,
    pub json: CompactJson,
    pub digest: ContentDigest,
}

/// When the service recorded an event: its own clock in whole microseconds, never running
/// backwards along the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordedAt(DateTime<Utc>);

impl RecordedAt {
    /// Cuts a time to whole microseconds.
    #[must_use]
    pub fn new(time: DateTime<Utc>) -> Self {
        Self(time.trunc_subsecs(6))
    }

    /// Reads the one spelling that [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let time = Self(DateTime::parse_from_rfc3339(text).ok()?.to_utc());
        (time.to_string() == text).then_some(time)
    }
}

/// RFC 3339 in UTC with six digits: `2026-11-21T08:00:00.123456Z`.
impl fmt::Display for RecordedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

/// The end of a history: the last sequence and the hash that commits to everything up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    pub sequence: Sequence,
    pub chain_hash: ChainHash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_time_has_one_spelling() {
        let text = "2026-11-21T08:00:00.123456Z";
        assert_eq!(RecordedAt::parse(text).map(|time| time.to_string()).as_deref(), Some(text));
        for other in ["2026-11-21T08:00:00Z", "2026-11-21T09:00:00.123456+01:00", "2026-11-21T08:00:00.1234567Z"] {
            assert_eq!(RecordedAt::parse(other), None, "{other}");
        }
    }
}
