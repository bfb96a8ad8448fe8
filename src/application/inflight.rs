//! The memory of events under way: one budget of bytes for all of them.
//!
//! An event takes its [`Room`] as its bytes arrive, and gives it back when the writer is done with
//! it; a caller that gave up does not change that. So what bodies and the writer's queue hold
//! together has a bound in bytes, however many clients there are and however slow they are. Nobody
//! waits for room: where there is none, the caller learns it at once.
//!
//! What needs more than there is of a budget gets all of it: so everything that is allowed at all has
//! room at some time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::application::ingest::Unavailable;

/// The bytes that nobody has taken.
#[derive(Debug)]
pub(crate) struct Budget {
    all: usize,
    left: AtomicUsize,
    /// What this is a share of.
    whole: Option<Arc<Self>>,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { all: bytes, left: AtomicUsize::new(bytes), whole: None })
    }

    /// A budget that is a part of this one: what is taken of it is taken of both, and the rest of
    /// this one is for others.
    pub(crate) fn share(self: &Arc<Self>, bytes: usize) -> Arc<Self> {
        Arc::new(Self { all: bytes, left: AtomicUsize::new(bytes), whole: Some(Arc::clone(self)) })
    }

    /// Room for an event whose length is known, or not yet. Takes nothing: who only announces bytes
    /// and does not send them keeps nobody else out.
    pub(crate) fn room(self: &Arc<Self>, announced: usize) -> Result<Room, Unavailable> {
        if self.left.load(Ordering::Relaxed) < announced {
            return Err(Unavailable::InflightFull);
        }
        Ok(self.no_room())
    }

    /// Room for nothing yet.
    pub(crate) fn no_room(self: &Arc<Self>) -> Room {
        Room { budget: Arc::clone(self), bytes: 0 }
    }

    fn take(&self, bytes: usize) -> Result<(), Unavailable> {
        // A count alone: no other memory depends on the order in which it is seen.
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        taken.map_err(|_| Unavailable::InflightFull)?;
        let of_whole = self.whole.as_ref().map_or(Ok(()), |whole| whole.take(bytes));
        if of_whole.is_err() {
            self.left.fetch_add(bytes, Ordering::Relaxed);
        }
        of_whole
    }

    fn give_back(&self, bytes: usize) {
        if let Some(whole) = &self.whole {
            whole.give_back(bytes);
        }
        self.left.fetch_add(bytes, Ordering::Relaxed);
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
        let more = bytes.min(self.budget.all).saturating_sub(self.bytes);
        self.budget.take(more)?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
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

    #[test]
    fn what_needs_more_than_there_is_gets_all() {
        let budget = Budget::new(100);
        let (mut large, mut small) = (budget.no_room(), budget.no_room());
        assert_eq!(small.grow_to(1), Ok(()));
        assert_eq!(large.grow_to(1_000), Err(Unavailable::InflightFull));
        drop(small);
        assert_eq!((large.grow_to(1_000), large.grow_to(2_000)), (Ok(()), Ok(())));
        assert!(budget.room(1).is_err());
        drop(large);
        assert!(budget.room(100).is_ok());
    }

    #[test]
    fn a_share_is_taken_of_the_whole_and_leaves_the_rest() {
        let budget = Budget::new(100);
        let share = budget.share(60);
        let (mut of_share, mut second, mut of_whole) = (share.no_room(), share.no_room(), budget.no_room());
        assert_eq!(of_share.grow_to(60), Ok(()));
        assert_eq!(second.grow_to(1), Err(Unavailable::InflightFull), "the share is taken");
        assert_eq!(of_whole.grow_to(41), Err(Unavailable::InflightFull), "so is that much of the whole");
        assert_eq!(of_whole.grow_to(40), Ok(()));
        drop(of_share);
        assert_eq!(of_whole.grow_to(90), Ok(()), "others may have all");
        assert_eq!(second.grow_to(11), Err(Unavailable::InflightFull));
        drop(of_whole);
        assert_eq!(second.grow_to(1_000), Ok(()), "what was refused took nothing");
        drop(second);
        assert!(budget.room(100).is_ok());
    }
}
