//! Doubts, stretches and rests, with archivists that do only what a test needs.

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

#[test]
fn each_failure_after_another_is_followed_by_twice_the_pause_up_to_ten_minutes() {
    let failures = std::iter::successors(Some(Failed::after(None)), |failed| Some(Failed::after(Some(failed))));
    let pauses_seconds: Vec<_> = failures.take(9).map(|failed| failed.pause.as_secs()).collect();
    assert_eq!(pauses_seconds, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
}
