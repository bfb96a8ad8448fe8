//! Records: accepted events with their place in the log, and the head that names all of history.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, SubsecRound, Timelike, Utc};

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

/// The same without its text, for whoever only folds it.
#[derive(Debug, Clone)]
pub struct PlacedEvent {
    pub sequence: Sequence,
    pub batch: Sequence,
    pub recorded_at: RecordedAt,
    pub event: Event,
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
        Self::parse_usual(text).or_else(|| Self::parse_any(text))
    }

    /// The times that a server's clock usually tells. Others, a leap second say, take the long way.
    fn parse_usual(text: &str) -> Option<Self> {
        let bytes: &[u8; 27] = text.as_bytes().try_into().ok()?;
        let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')];
        if separators.iter().any(|(at, byte)| bytes[*at] != *byte) {
            return None;
        }
        let number = |digits: std::ops::Range<usize>| {
            bytes[digits]
                .iter()
                .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
        };
        let date = NaiveDate::from_ymd_opt(number(0..4)?.try_into().ok()?, number(5..7)?, number(8..10)?)?;
        let second = number(17..19).filter(|second| *second < 60)?;
        let time = date.and_hms_micro_opt(number(11..13)?, number(14..16)?, second, number(20..26)?)?;
        Some(Self(time.and_utc()))
    }

    fn parse_any(text: &str) -> Option<Self> {
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
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

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

    #[test]
    fn usual_times_are_read_as_the_library_reads_them() {
        for text in ["2026-11-21T08:00:00.123456Z", "0000-02-29T23:59:59.999999Z", "9999-12-31T00:00:00.000000Z"] {
            assert!(RecordedAt::parse_usual(text).is_some(), "{text}");
            for at in 0..text.len() {
                for character in "0123456789:-+.TZt \u{e9}".chars() {
                    let other = [&text[..at], &character.to_string(), &text[at + 1..]].concat();
                    let read = RecordedAt::parse_usual(&other);
                    assert!(read.is_none() || read == RecordedAt::parse_any(&other), "{other}");
                    assert_eq!(RecordedAt::parse(&other), RecordedAt::parse_any(&other), "{other}");
                }
            }
        }
        let leap_second = "2016-12-31T23:59:60.000001Z";
        assert_eq!(RecordedAt::parse(leap_second).unwrap().to_string(), leap_second);
    }
}
