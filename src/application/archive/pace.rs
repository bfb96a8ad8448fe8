//! How the archiver shares the machine with those who wait for answers.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

/// How long it works before it rests, and how long it rests then. Nobody waits for what it does, and
/// whoever waits for an answer needs the processors and the disk: work without a break would be felt
/// as half a second of slow answers for each segment. There is no rest for one that is behind.
pub(super) const WORK: Duration = Duration::from_millis(1);
pub(super) const REST: Duration = Duration::from_millis(9);

/// Alternates work and rest.
pub(super) struct Pace {
    rested: Cell<Instant>,
    rests: bool,
}

impl Pace {
    pub(super) fn begin() -> Self {
        Self { rested: Cell::new(Instant::now()), rests: true }
    }

    /// More came while the last stretch was archived.
    pub(super) fn behind() -> Self {
        Self { rests: false, ..Self::begin() }
    }

    pub(super) fn rest_when_due(&self) {
        if self.rests && self.rested.get().elapsed() >= WORK {
            thread::sleep(REST);
            self.rested.set(Instant::now());
        }
    }
}
