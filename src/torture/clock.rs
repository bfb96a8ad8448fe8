//! A clock that nobody should have: it jumps hours back and forth.

use std::cell::RefCell;

use chrono::{DateTime, TimeDelta, Utc};

use crate::application::ports::Clock;
use crate::random::Random;

/// The system's clock, off by hours, and by others every few looks.
#[derive(Debug)]
pub struct JumpingClock(RefCell<(Random, TimeDelta)>);

impl JumpingClock {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(RefCell::new((Random::new(seed), TimeDelta::zero())))
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> DateTime<Utc> {
        let (random, offset) = &mut *self.0.borrow_mut();
        if random.percent(5) {
            let seconds = random.below(24 * 3_600).cast_signed() - 12 * 3_600;
            *offset = TimeDelta::seconds(seconds);
        }
        Utc::now() + *offset
    }
}
