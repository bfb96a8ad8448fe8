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
                    let pause = failed.map_or(PAUSE_MIN, |failed| (failed.pause * 2).min(PAUSE_MAX));
                    failed = Some(Failed { at: Instant::now(), pause });
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
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::application::ingest::bulk::BulkLimits;
    use crate::application::ingest::{Aside, Command};
    use crate::application::ports::Archive;
    use crate::domain::fault::Fault;
    use crate::domain::ids::{EventId, ReservationId};
    use crate::domain::record::Head;
    use crate::domain::reservation::Reservation;
    use crate::domain::world::Original;

    #[derive(Debug)]
    struct Empty;

    impl Archive for Empty {
        fn original(&self, _: EventId) -> Result<Option<Original>, ArchiveFailure> {
            Ok(None)
        }

        fn reservation(&self, _: &ReservationId) -> Result<Option<Reservation>, ArchiveFailure> {
            Ok(None)
        }

        fn fault(&self, _: EventId) -> Result<Option<Fault>, ArchiveFailure> {
            Ok(None)
        }
    }

    /// While it archives its only stretch, somebody doubts what was archived before.
    struct Doubted {
        bell: Bell,
        archived: bool,
        begun_anew: Sender<()>,
    }

    impl Archivist for Doubted {
        fn archive_more(&mut self, _: &dyn Fn() -> bool) -> Result<Option<Archived>, ArchiveFailure> {
            if std::mem::replace(&mut self.archived, true) {
                return Ok(None);
            }
            self.bell.doubt();
            Ok(Some(Archived { up_to: Sequence::new(1), archive: Arc::new(Empty) }))
        }

        fn begin_anew(&mut self) -> Result<(), ArchiveFailure> {
            let _ = self.begun_anew.send(());
            Ok(())
        }
    }

    /// The queue of a writer, its other end, and what both tell.
    fn writer() -> (WriterQueue, mpsc::Receiver<Command>, Arc<Progress>) {
        let (commands, queue) = mpsc::channel(4);
        let progress = Arc::new(Progress::new(Head::default(), Head::default()));
        let wait = Duration::from_secs(1);
        let bulk = BulkLimits {
            chunk_events: 1,
            chunk_bytes: 1,
            inflight_bytes: 1,
            lag_events: 1,
            archive_lag_events: 1_000,
            wait,
        };
        (WriterQueue::new(commands, Arc::clone(&progress), wait, 1, bulk), queue, progress)
    }

    #[test]
    fn a_doubt_that_comes_while_a_stretch_is_archived_is_not_lost() {
        let (bell, hearing) = Bell::new();
        let (begun_anew, heard) = channel();
        let archivist = Doubted { bell: bell.clone(), archived: false, begun_anew };
        let (writer, _queue, progress) = writer();
        let _thread = start(Box::new(archivist), (bell, hearing), Sequence::ZERO, writer, progress).unwrap();
        heard.recv_timeout(Duration::from_secs(60)).expect("the archive is made anew");
    }

    /// Makes the archive anew, and is not done before it is told so.
    struct Anew {
        at_work: Sender<()>,
        done: Receiver<()>,
    }

    impl Archivist for Anew {
        fn archive_more(&mut self, _: &dyn Fn() -> bool) -> Result<Option<Archived>, ArchiveFailure> {
            self.at_work.send(()).unwrap();
            let _ = self.done.recv();
            Ok(None)
        }

        fn begin_anew(&mut self) -> Result<(), ArchiveFailure> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_an_archive_that_is_made_anew() {
        let ((bell, hearing), (writer, _queue, progress)) = (Bell::new(), writer());
        let ((at_work, heard), (_done, done)) = (channel(), channel());
        bell.doubt();
        let archivist = Box::new(Anew { at_work, done });
        let _thread = start(archivist, (bell, hearing), Sequence::ZERO, writer, Arc::clone(&progress)).unwrap();
        heard.recv_timeout(Duration::from_secs(60)).expect("it works");
        let in_an_hour = tokio::time::Instant::now() + Duration::from_secs(3_600);
        let waiting = progress.wait_for_archiver(Sequence::new(1), in_an_hour);
        timeout(Duration::from_secs(10), waiting).await.expect("it relieves nobody yet");
    }

    /// So many stretches of one record each.
    struct Behind {
        archived: u64,
        stretches: u64,
    }

    impl Archivist for Behind {
        fn archive_more(&mut self, _: &dyn Fn() -> bool) -> Result<Option<Archived>, ArchiveFailure> {
            if self.archived == self.stretches {
                return Ok(None);
            }
            self.archived += 1;
            Ok(Some(Archived { up_to: Sequence::new(self.archived), archive: Arc::new(Empty) }))
        }

        fn begin_anew(&mut self) -> Result<(), ArchiveFailure> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_writer_and_the_bulks_hear_of_every_stretch_and_of_the_end() {
        const PATIENCE: Duration = Duration::from_secs(60);
        let (writer, mut queue, progress) = writer();
        let archivist = Box::new(Behind { archived: 0, stretches: 3 });
        let thread = start(archivist, Bell::new(), Sequence::ZERO, writer, Arc::clone(&progress)).unwrap();
        for up_to in [1, 2, 3] {
            let told = timeout(PATIENCE, queue.recv()).await.expect("the writer is told");
            let Some(Command::Aside(Aside::Forget(archived))) = told else { panic!("it may forget") };
            assert_eq!(archived.up_to, Sequence::new(up_to));
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        progress.wait_for_archiver(Sequence::new(4), deadline).await;
        assert!(tokio::time::Instant::now() < deadline, "it still counts as being at work");
        drop(thread);
        assert!(timeout(PATIENCE, queue.recv()).await.expect("the thread ends").is_none(), "no more is told");
    }

    /// Works for a second on its only stretch, and tells in how many of a hundred looks it was made to
    /// rest.
    struct Watched(Option<Sender<usize>>);

    impl Archivist for Watched {
        fn archive_more(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Archived>, ArchiveFailure> {
            let Some(rests) = self.0.take() else { return Ok(None) };
            let rested = |_: &u32| {
                let begun = Instant::now();
                while begun.elapsed() < pace::WORK {}
                let asked = Instant::now();
                stop();
                asked.elapsed() >= pace::REST
            };
            rests.send((0..100).filter(rested).count()).unwrap();
            Ok(None)
        }

        fn begin_anew(&mut self) -> Result<(), ArchiveFailure> {
            Ok(())
        }
    }

    /// How often an archiver rests, of a hundred times, with the log so far ahead of it.
    fn rests_behind(lag_events: u64) -> usize {
        let (rests, heard) = channel();
        let (writer, _queue, progress) = writer();
        progress.publish_durable(Head { sequence: Sequence::new(lag_events), ..Head::default() });
        let _thread = start(Box::new(Watched(Some(rests))), Bell::new(), Sequence::ZERO, writer, progress).unwrap();
        heard.recv_timeout(Duration::from_secs(60)).expect("it ends")
    }

    #[test]
    fn an_archiver_that_bulks_are_about_to_wait_for_does_not_rest() {
        assert_eq!(rests_behind(500), 100);
        // A busy machine may interrupt it now and then.
        assert!(rests_behind(501) < 50);
    }
}
