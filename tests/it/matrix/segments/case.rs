//! One segment of a log to which something happens, and what should come of it.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::matrix::layout::Layout;
use crate::matrix::outcome::{Outcome, Torn, start};
use crate::matrix::{each, entirely};
use crate::support::logs;

/// The log that it happens to.
pub fn log() -> &'static Layout {
    static SHORT: OnceLock<Layout> = OnceLock::new();
    if entirely() { Layout::get() } else { SHORT.get_or_init(|| Layout::write(200)) }
}

/// A log in its folder, of which something happens to one segment.
pub struct Case<'l> {
    pub layout: &'l Layout,
    pub log: &'l Path,
    pub segment: usize,
}

impl Case<'_> {
    pub fn name(&self, segment: usize) -> &str {
        &self.layout.segments[segment].0
    }

    pub fn bytes(&self, segment: usize) -> &[u8] {
        &self.layout.segments[segment].1
    }

    pub fn first(&self, segment: usize) -> usize {
        *self.layout.sequences(segment).start()
    }

    pub fn write(&self, segment: usize, bytes: &[u8]) {
        fs::write(self.log.join(self.name(segment)), bytes).unwrap();
    }

    pub fn remove(&self, segment: usize) {
        fs::remove_file(self.log.join(self.name(segment))).unwrap();
    }

    pub fn is_last(&self) -> bool {
        self.segment + 1 == self.layout.segments.len()
    }

    /// Loss at the beginning of a segment, which is due there with its first sequence.
    pub fn lost_from(&self, segment: usize) -> Outcome {
        Outcome::Lost {
            segment: self.name(segment).to_owned(),
            line: 1,
            offset_bytes: 0,
            sequence: self.first(segment),
        }
    }

    /// What becomes of a last segment in which nothing is sound from `offset_bytes` on.
    pub fn torn(&self, offset_bytes: usize, bytes: usize, kept: usize) -> Outcome {
        let segment = self.name(self.segment).to_owned();
        Outcome::Starts { kept, torn: Some(Torn { segment, offset_bytes, bytes }) }
    }

    /// A file whose first sequence the log has, and more, before it comes to that file.
    pub fn superfluous(&self, first: usize, before: usize) -> Outcome {
        let path = self.log.join(Layout::name(first));
        Outcome::Unreadable(format!(
            "{} cannot be read: its name says that it begins with sequence {first}, but the segments before it go on \
             to sequence {before}: if it is a copy, move it out of the folder",
            path.display()
        ))
    }
}

pub fn starts(kept: usize) -> Outcome {
    Outcome::Starts { kept, torn: None }
}

/// Does something to each segment of a whole log in turn; `harm` says what the outcome has to be.
/// Where it is a refusal, no file may be changed, and putting the segments back has to be enough.
pub fn with_each_segment(what: &str, harm: impl Fn(&Case<'_>) -> Outcome + Sync) {
    let layout = log();
    let segments: Vec<_> = (0..layout.segments.len()).collect();
    each(what, layout, &segments, |scratch, segment| {
        let log = scratch.log();
        scratch.lay(layout, layout.segments.len());
        let case = Case { layout, log: &log, segment: *segment };
        let expected = harm(&case);
        let before = logs::files(&log);

        let outcome = start(&log, &[]);

        assert_eq!(outcome, expected, "{what}: {}", case.name(*segment));
        if !matches!(outcome, Outcome::Starts { .. }) {
            assert!(logs::files(&log) == before, "{what}: {}: nothing was changed", case.name(*segment));
        }
        scratch.clear();
    });
}

/// Damage after the first `sound` lines: lost, and where the segment is the last and only the
/// remaining `bytes` are at stake, torn, if they show nothing of a later batch.
pub fn unless_last(case: &Case<'_>, sound: usize, bytes: usize) -> Outcome {
    let (first, last) = case.layout.sequences(case.segment).into_inner();
    let due = first + sound;
    let offset_bytes = if sound == 0 { 0 } else { case.layout.line(due - 1).end };
    let is_legible = fs::read(case.log.join(case.name(case.segment))).unwrap().contains(&b'{');
    let shows_later = is_legible && due <= last && case.layout.line(last).batch.0 > due;
    if case.is_last() && !shows_later {
        return case.torn(offset_bytes, bytes, due - 1);
    }
    let segment = case.name(case.segment).to_owned();
    Outcome::Lost { segment, line: sound as u64 + 1, offset_bytes, sequence: due }
}
