//! What the clients of one server share.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::random::Random;
use crate::torture::event::Prepared;
use crate::torture::journal::Journal;
use crate::torture::plan::Mix;

/// How many acknowledged events are kept to be repeated.
const MAX_RECENT: usize = 512;

/// What all clients share while one server runs.
#[derive(Debug)]
pub struct Round {
    pub cycle: u64,
    pub addr: SocketAddr,
    pub mix: Mix,
    pub journal: Arc<Journal>,
    pub recent: Arc<Recent>,
    /// Nothing new is to be sent.
    pub over: AtomicBool,
    /// How many answers were 202.
    pub acknowledged: AtomicU64,
    /// How many answers said "not now".
    pub turned_away: AtomicU64,
}

impl Round {
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Events that were acknowledged of late, by anybody.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Prepared>>);

impl Recent {
    pub fn add(&self, event: Prepared) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= MAX_RECENT {
            events.pop_front();
        }
        events.push_back(event);
    }

    pub fn pick(&self, random: &mut Random) -> Option<Prepared> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!events.is_empty()).then(|| events[random.index(events.len())].clone())
    }
}
