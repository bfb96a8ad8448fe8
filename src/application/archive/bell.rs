//! The bell that wakes the archiver, and the signs that are put up beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Wakes the archiver. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub struct Bell {
    rings: SyncSender<()>,
    signs: Arc<Signs>,
}

/// What the archiver is told besides.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// Something of the archive could not be read.
    pub(super) doubted: AtomicBool,
    pub(super) stop: AtomicBool,
}

impl Bell {
    /// A bell and who hears it.
    #[must_use]
    pub fn new() -> (Self, Hearing) {
        // One ring that is not heard yet says as much as many.
        let (rings, heard) = sync_channel(1);
        let signs = Arc::new(Signs::default());
        (Self { rings, signs: Arc::clone(&signs) }, Hearing { heard, signs })
    }

    /// There is something to archive.
    pub fn ring(&self) {
        let _ = self.rings.try_send(());
    }

    /// The archive could not be read and has to be made anew.
    pub fn doubt(&self) {
        self.signs.doubted.store(true, Ordering::Relaxed);
        self.ring();
    }

    pub(super) fn stop(&self) {
        self.signs.stop.store(true, Ordering::Relaxed);
        self.ring();
    }
}

/// The other end of a [`Bell`].
#[derive(Debug)]
pub struct Hearing {
    pub(super) heard: Receiver<()>,
    pub(super) signs: Arc<Signs>,
}
