//! Archiving: a thread that moves the past out of the writer's memory.
//!
//! It works whenever the bell rings: the log has sealed a segment, or the writer could not read what
//! it needs. It is a reader of the log like every other; the writer only hears, in its queue, that it
//! may forget, and never waits. When the archive cannot be written, the service goes on with all that
//! is not archived in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::application::ingest::WriterQueue;
use crate::application::ports::{ArchiveFailure, Archived, Archivist};
use crate::domain::ids::Sequence;

/// After a failure it is tried again when so long has passed.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// With much to catch up on, the writer hears of it after so many stretches: each time it forgets, it
/// looks through all that it holds.
const HAND_OVER_STRETCHES: usize = 16;

/// Wakes the archiver. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub struct Bell {
    rings: SyncSender<()>,
    signs: Arc<Signs>,
}

#[derive(Debug, Default)]
struct Signs {
    /// Something of the archive could not be read.
    doubted: AtomicBool,
    stop: AtomicBool,
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

    fn stop(&self) {
        self.signs.stop.store(true, Ordering::Relaxed);
        self.ring();
    }
}

/// The other end of a [`Bell`].
#[derive(Debug)]
pub struct Hearing {
    heard: Receiver<()>,
    signs: Arc<Signs>,
}

/// The running thread, seen from outside. Told to stop when dropped.
#[derive(Debug)]
pub struct ArchiverThread {
    bell: Bell,
    end: Option<oneshot::Receiver<()>>,
}

impl ArchiverThread {
    /// Ends the thread soon and waits for that: nothing is written after it.
    pub async fn stop(mut self) {
        self.bell.stop();
        if let Some(end) = self.end.take() {
            // A thread that panicked has ended too.
            let _ = end.await;
        }
    }
}

impl Drop for ArchiverThread {
    fn drop(&mut self) {
        self.bell.stop();
    }
}

/// Starts the archiver. The writer has forgotten everything up to `forgotten`.
pub fn start(
    archivist: Box<dyn Archivist>,
    (bell, hearing): (Bell, Hearing),
    forgotten: Sequence,
    writer: WriterQueue,
) -> std::io::Result<ArchiverThread> {
    let (report, end) = oneshot::channel();
    let archiver = Archiver { archivist, signs: Arc::clone(&hearing.signs), forgotten, writer };
    // What was sealed before this process began rings no bell.
    bell.ring();
    thread::Builder::new().name("archiver".into()).spawn(move || {
        archiver.run(&hearing.heard);
        let _ = report.send(());
    })?;
    Ok(ArchiverThread { bell, end: Some(end) })
}

struct Archiver {
    archivist: Box<dyn Archivist>,
    signs: Arc<Signs>,
    /// An archive that knows less is not handed over.
    forgotten: Sequence,
    writer: WriterQueue,
}

/// The writer takes nothing more.
struct WriterEnded;

impl Archiver {
    fn run(mut self, heard: &Receiver<()>) {
        let mut failed_at = None;
        loop {
            let woken = if failed_at.is_some() {
                heard.recv_timeout(TRY_AGAIN_AFTER)
            } else {
                heard.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            if woken == Err(RecvTimeoutError::Disconnected) || self.has_to_stop() {
                return;
            }
            // Rings do not hasten it: what cannot be written or read asks for patience.
            if failed_at.is_some_and(|failed: Instant| failed.elapsed() < TRY_AGAIN_AFTER) {
                continue;
            }
            match self.work() {
                Ok(Ok(())) => {
                    if failed_at.take().is_some() {
                        info!("the past is archived again");
                    }
                }
                Ok(Err(WriterEnded)) => return,
                Err(error) => {
                    // Told once, as long as it lasts.
                    if failed_at.replace(Instant::now()).is_none() {
                        warn!(%error, "the past cannot be archived and stays in memory; it is tried again");
                    }
                }
            }
        }
    }

    /// Archives all that there is.
    fn work(&mut self) -> Result<Result<(), WriterEnded>, ArchiveFailure> {
        let signs = Arc::clone(&self.signs);
        if signs.doubted.swap(false, Ordering::Relaxed) {
            warn!("the archive is damaged; it is made anew from the log");
            self.archivist.begin_anew()?;
        }
        let stop = || signs.stop.load(Ordering::Relaxed);
        let (mut pending, mut waiting) = (None, 0);
        loop {
            let outcome = self.archivist.archive_more(&stop);
            let goes_on = matches!(outcome, Ok(Some(_))) && !stop();
            if let Ok(Some(archived)) = &outcome {
                pending = Some(archived.clone());
                waiting += 1;
            }
            if (waiting == HAND_OVER_STRETCHES || !goes_on)
                && let Some(archived) = pending.take()
            {
                waiting = 0;
                if let Err(ended) = self.hand_over(archived) {
                    return Ok(Err(ended));
                }
            }
            if !goes_on {
                return outcome.map(|_| Ok(()));
            }
        }
    }

    /// Tells the writer, unless it has forgotten more than this archive knows by now.
    fn hand_over(&mut self, archived: Archived) -> Result<(), WriterEnded> {
        let up_to = archived.up_to;
        if up_to < self.forgotten {
            return Ok(());
        }
        if !self.writer.forget(archived) {
            return Err(WriterEnded);
        }
        self.forgotten = up_to;
        // What was doubted is replaced by now.
        self.signs.doubted.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn has_to_stop(&self) -> bool {
        self.signs.stop.load(Ordering::Relaxed)
    }
}
