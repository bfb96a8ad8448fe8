//! Archiving: a thread that moves the past out of the writer's memory.
//!
//! It works whenever the bell rings: the log has sealed a segment, or the writer could not read what
//! it needs. It is a reader of the log like every other; the writer only hears, in its queue, that it
//! may forget, and never waits. When the archive cannot be written, the service goes on with all that
//! is not archived in memory.

pub mod bell;
mod pace;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::application::archive::bell::{Bell, Hearing, Signs};
use crate::application::archive::pace::Pace;
use crate::application::ingest::WriterQueue;
use crate::application::ports::{ArchiveFailure, Archived, Archivist};
use crate::application::progress::Progress;
use crate::domain::ids::Sequence;

/// The pause after a failure; doubled each time up to [`PAUSE_MAX`], for an attempt may read the whole
/// log.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(600);

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
    progress: Arc<Progress>,
) -> std::io::Result<ArchiverThread> {
    let (report, end) = oneshot::channel();
    let archiver =
        Archiver { archivist, signs: Arc::clone(&hearing.signs), forgotten, is_anew: false, writer, progress };
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
    /// The next archive that is handed over shares nothing with the one that the writer has.
    is_anew: bool,
    writer: WriterQueue,
    progress: Arc<Progress>,
}

/// Tells everybody that the archiver is at work, until it is dropped.
struct AtWork<'p>(&'p Progress);

impl<'p> AtWork<'p> {
    /// It has got so far; `None` where nothing is gained by waiting for it.
    fn begin(progress: &'p Progress, archived: Option<Sequence>) -> Self {
        progress.publish_archiving(archived);
        Self(progress)
    }

    fn has_come_to(&self, archived: Option<Sequence>) {
        self.0.publish_archiving(archived);
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.publish_archiving(None);
    }
}

/// The writer takes nothing more.
struct WriterEnded;

/// An attempt that failed, and how long the next one waits.
struct Failed {
    at: Instant,
    pause: Duration,
}

impl Failed {
    /// A failure now. Its pause is twice that of the one before it.
    fn after(before: Option<&Self>) -> Self {
        let pause = before.map_or(PAUSE_MIN, |failed| (failed.pause * 2).min(PAUSE_MAX));
        Self { at: Instant::now(), pause }
    }

    fn left(&self) -> Duration {
        self.pause.saturating_sub(self.at.elapsed())
    }
}

impl Archiver {
    fn run(mut self, heard: &Receiver<()>) {
        let mut failed: Option<Failed> = None;
        loop {
            let woken = match &failed {
                Some(failed) => heard.recv_timeout(failed.left()),
                None => heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            if woken == Err(RecvTimeoutError::Disconnected) || self.has_to_stop() {
                return;
            }
            // Rings do not hasten it: what cannot be written or read asks for patience.
            if failed.as_ref().is_some_and(|failed| !failed.left().is_zero()) {
                continue;
            }
            match self.work() {
                Ok(Ok(())) => {
                    if failed.take().is_some() {
                        info!("the past is archived again");
                    }
                }
                Ok(Err(WriterEnded)) => return,
                Err(error) => {
                    if error.is_damage {
                        self.signs.doubted.store(true, Ordering::Relaxed);
                    }
                    // Told once, as long as it lasts.
                    if failed.is_none() {
                        warn!(%error, "the past cannot be archived and stays in memory; it is tried again");
                    }
                    failed = Some(Failed::after(failed.as_ref()));
                }
            }
        }
    }

    /// Archives all that there is.
    fn work(&mut self) -> Result<Result<(), WriterEnded>, ArchiveFailure> {
        let signs = Arc::clone(&self.signs);
        if signs.doubted.load(Ordering::Relaxed) {
            warn!("the archive is damaged; it is made anew from the log");
            self.archivist.begin_anew()?;
            signs.doubted.store(false, Ordering::Relaxed);
            self.is_anew = true;
        }
        let progress = Arc::clone(&self.progress);
        let at_work = AtWork::begin(&progress, self.gained());
        // Bulks wait for it at twice that.
        let enough_events = self.writer.bulk_limits().archive_lag_events / 2;
        let mut pace = Pace::begin();
        loop {
            let archived = self.forgotten.get();
            let stop = || {
                if progress.durable().get().saturating_sub(archived) <= enough_events {
                    pace.rest_when_due();
                }
                signs.stop.load(Ordering::Relaxed)
            };
            let Some(archived) = self.archivist.archive_more(&stop)? else { return Ok(Ok(())) };
            if let Err(ended) = self.hand_over(archived) {
                return Ok(Err(ended));
            }
            at_work.has_come_to(self.gained());
            if self.has_to_stop() {
                return Ok(Ok(()));
            }
            pace = Pace::behind();
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
        // What was doubted meanwhile is replaced by now, unless this archive goes on from it.
        if std::mem::take(&mut self.is_anew) {
            self.signs.doubted.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Up to where the writer was relieved. Not told while an archive is made anew: until that has come
    /// as far as the one before, it relieves nobody.
    fn gained(&self) -> Option<Sequence> {
        (!self.is_anew).then_some(self.forgotten)
    }

    fn has_to_stop(&self) -> bool {
        self.signs.stop.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
