//! The memory of events under way: one budget of bytes for all of them.
//!
//! An event takes its [`Room`] as its bytes arrive, and gives it back when the writer is done with
//! it; a caller that gave up does not change that. So what bodies and the writer's queue hold
//! together has a bound in bytes, however many clients there are and however slow they are. Nobody
//! waits for room: where there is none, the caller learns it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::application::ingest::Unavailable;

/// The bytes that nobody has taken.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    /// Room for an event whose length is known, or not yet. Takes nothing: who only announces bytes
    /// and does not send them keeps nobody else out.
    pub(crate) fn room(self: &Arc<Self>, announced: usize) -> Result<Room, Unavailable> {
        if self.left.load(Ordering::Relaxed) < announced {
            return Err(Unavailable::InflightFull);
        }
        Ok(Room { budget: Arc::clone(self), bytes: 0 })
    }
}

/// The part of the budget that one event has. Given back when dropped.
#[derive(Debug)]
pub struct Room {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Room {
    /// Takes as much as is missing to `bytes`, or nothing.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Unavailable> {
        let more = bytes.saturating_sub(self.bytes);
        let take = |left: usize| left.checked_sub(more);
        // A count alone: no other memory depends on the order in which it is seen.
        let taken = self.budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map_err(|_| Unavailable::InflightFull)?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_as_it_grows_and_given_back_at_the_end() {
        let budget = Budget::new(100);
        let mut first = budget.room(60).expect("there is room");
        let mut second = budget.room(60).expect("announced is not taken");
        assert_eq!(first.grow_to(60), Ok(()));
        assert_eq!(second.grow_to(60), Err(Unavailable::InflightFull));
        assert_eq!(second.grow_to(40), Ok(()), "what was refused took nothing");
        assert_eq!(first.grow_to(10), Ok(()), "it has that already");
        assert!(budget.room(1).is_err() && budget.room(0).is_ok());
        drop(first);
        assert_eq!(second.grow_to(100), Ok(()));
        drop(second);
        assert!(budget.room(100).is_ok() && budget.room(101).is_err());
    }
}
