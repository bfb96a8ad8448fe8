//! Records: accepted events with their place in the log, and the head that names all of history.

use std::fmt;

use chrono::{DateTime, Datelike, SecondsFormat, SubsecRound, Timelike, Utc};

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
///
/// Written by hand: every record has one, and the general way costs as much as hashing its line.
impl fmt::Display for RecordedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.timestamp_subsec_micros();
        // More than a million of them are a leap second.
        let (Ok(year @ 0..=9999), 0..1_000_000) = (u32::try_from(self.0.year()), micros) else {
            return f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true));
        };
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let parts = [
            (0..4, year),
            (5..7, self.0.month()),
            (8..10, self.0.day()),
            (11..13, self.0.hour()),
            (14..16, self.0.minute()),
            (17..19, self.0.second()),
            (20..26, micros),
        ];
        for (place, mut number) in parts {
            for digit in text[place].iter_mut().rev() {
                *digit = b'0' + u8::try_from(number % 10).expect("a digit");
                number /= 10;
            }
        }
        f.write_str(str::from_utf8(&text).expect("digits are ASCII"))
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Over a range that leaves the years of four digits on both sides; a leap second too.
        #[test]
        fn a_recorded_time_is_written_as_chrono_writes_it(
            seconds in -70_000_000_000_i64..260_000_000_000, nanos in 0_u32..2_000_000_000,
        ) {
            let time = DateTime::from_timestamp(seconds, nanos).or(DateTime::from_timestamp(seconds, 0)).unwrap();
            let expected = time.trunc_subsecs(6).to_rfc3339_opts(SecondsFormat::Micros, true);
            prop_assert_eq!(RecordedAt::new(time).to_string(), expected);
        }
    }

    #[test]
    fn a_recorded_time_has_one_spelling() {
        let text = "2026-11-21T08:00:00.123456Z";
        assert_eq!(RecordedAt::parse(text).map(|time| time.to_string()).as_deref(), Some(text));
        for other in ["2026-11-21T08:00:00Z", "2026-11-21T09:00:00.123456+01:00", "2026-11-21T08:00:00.1234567Z"] {
            assert_eq!(RecordedAt::parse(other), None, "{other}");
        }
    }
}
