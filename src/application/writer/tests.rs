//! Forgetting while the writer has no rest, and by whom an archive is let go.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread::ThreadId;

use chrono::{DateTime, Utc};
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::application::ingest::bulk::Chunk;
use crate::application::ports::ArchiveFailure;
use crate::domain::event::parse::ReceivedEvent;
use crate::domain::fault::Fault;
use crate::domain::ids::{EventId, ReservationId};
use crate::domain::record::Record;
use crate::domain::reservation::Reservation;
use crate::domain::world::Original;

/// Enough for every part of the world to hold some.
const EVENTS: u128 = 2_000;

/// A log that keeps nothing.
struct Nowhere;

impl EventLog for Nowhere {
    fn make_room(&mut self, _: usize, _: usize) -> Result<Result<(), NoRoom>, LogFailure> {
        Ok(Ok(()))
    }

    fn append(&mut self, batch: &[Record]) -> Result<Head, LogFailure> {
        Ok(batch.last().map_or_else(Head::default, |record| Head { sequence: record.sequence, ..Head::default() }))
    }

    fn sync(&mut self) -> Result<(), LogFailure> {
        Ok(())
    }

    fn check(&mut self) -> Result<(), NoRoom> {
        Ok(())
    }
}

struct Always;

impl Clock for Always {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }
}

/// An archive that writes down what it was asked for: what the world holds no more.
#[derive(Debug, Default)]
struct Asked(Mutex<HashSet<EventId>>);

impl Archive for Asked {
    fn original(&self, id: EventId) -> Result<Option<Original>, ArchiveFailure> {
        self.0.lock().unwrap().insert(id);
        Ok(None)
    }

    fn reservation(&self, _: &ReservationId) -> Result<Option<Reservation>, ArchiveFailure> {
        Ok(None)
    }

    fn fault(&self, _: EventId) -> Result<Option<Fault>, ArchiveFailure> {
        Ok(None)
    }
}

fn limits(batch_events: usize) -> WriterLimits {
    WriterLimits {
        queue_events: 4_096,
        batch_events,
        inflight_bytes: usize::MAX >> 1,
        batch_bytes: usize::MAX,
        lag_events: u64::MAX,
        answer_within: Duration::from_secs(60),
        bulk_wait: Duration::from_secs(60),
    }
}

fn writer(progress: Arc<Progress>, limits: WriterLimits) -> Writer {
    let mut log = Nowhere;
    Writer {
        world: World::default(),
        durable: Durable::recovered(&mut log, Head::default()).unwrap(),
        touched: Touched::default(),
        last_recorded_at: None,
        archive: None,
        archiver: Bell::new().0,
        forgetting: None,
        log: Box::new(log),
        clock: Box::new(Always),
        progress,
        limits,
        no_room: None,
        told: None,
        is_told: false,
    }
}

pub(super) fn registered(number: u128) -> ReceivedEvent {
    let id = Uuid::from_u128(number);
    let event = format!(
        r#"{{"event_id":"{id}","occurred_at":"2026-01-01T00:00:00Z","locker_id":"L","type":"CompartmentRegistered","payload":{{"compartment_id":"C{number}"}}}}"#
    );
    ReceivedEvent::parse(event.as_bytes()).unwrap()
}

/// Lets the writer record all events, hear `forgets` times that it may forget them, with `turns`
/// commands after each that leave the queue no gap, chunks of so many events, and then judge all
/// events again. Tells how many of them it asked the archive for.
fn forgotten_without_rest(forgets: usize, turns: usize, chunk_events: Option<usize>) -> usize {
    // One command a batch, in their order; or chunks of which two do not fit.
    let limits = limits(chunk_events.map_or(1, |events| 2 * events - 1));
    let progress = Arc::new(Progress::new(Head::default(), Head::default()));
    let (commands, queue) = mpsc::channel(limits.queue_events);
    let (answer_within, inflight_bytes) = (limits.answer_within, limits.inflight_bytes);
    let bulks = WriterQueue::new(commands.clone(), Arc::clone(&progress), answer_within, inflight_bytes, limits.bulk());
    let asked = Arc::new(Asked::default());
    let archived = Archived { up_to: Sequence::new(u64::MAX), archive: Arc::clone(&asked) as Arc<dyn Archive> };

    let senders = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    senders.block_on(async {
        let chunk = async |events: Vec<ReceivedEvent>| {
            let (bulks, places) = (bulks.clone(), commands.capacity());
            let chunk = Chunk { events, room: bulks.chunk_room() };
            tokio::spawn(async move { bulks.submit_chunk(chunk, &CancellationToken::new()).await });
            while commands.capacity() == places {
                yield_now().await;
            }
        };
        let single = async || {
            let (events, room, places) = (bulks.clone(), bulks.room(0).unwrap(), commands.capacity());
            tokio::spawn(async move { events.place().unwrap().submit(registered(0), room).await });
            while commands.capacity() == places {
                yield_now().await;
            }
        };
        chunk((0..EVENTS).map(registered).collect()).await;
        for _ in 0..forgets {
            commands.send(Command::Aside(Aside::Forget(archived.clone()))).await.ok().unwrap();
            for _ in 0..turns {
                match chunk_events {
                    Some(events) => chunk((0..events).map(|_| registered(0)).collect()).await,
                    None => single().await,
                }
            }
        }
        chunk((0..EVENTS).map(registered).collect()).await;
        bulks.stop().await;
    });

    writer(progress, limits).run(queue).unwrap();
    asked.0.lock().unwrap().len()
}

#[test]
fn bulks_that_leave_the_queue_no_gap_do_not_keep_the_writer_from_forgetting() {
    assert_eq!(forgotten_without_rest(1, PARTS + 2, Some(2)), EVENTS as usize);
}

#[test]
fn every_part_has_its_turn_even_if_more_is_archived_before_the_last() {
    assert_eq!(forgotten_without_rest(8, PARTS / 4, None), EVENTS as usize);
}

/// An archive that tells which thread lets it go.
#[derive(Debug)]
struct LetGo(Sender<ThreadId>);

impl Drop for LetGo {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}

impl Archive for LetGo {
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

#[test]
fn the_writer_does_not_close_the_files_of_an_archive_that_is_replaced() {
    let (by, let_go) = channel();
    let progress = Arc::new(Progress::new(Head::default(), Head::default()));
    let mut writer = writer(progress, limits(1));
    for up_to in 1..=2 {
        let archive = Arc::new(LetGo(by.clone()));
        writer.attend(Aside::Forget(Archived { up_to: Sequence::new(up_to), archive }));
    }
    let by = let_go.recv_timeout(Duration::from_secs(60)).expect("the first one is let go");
    assert_ne!(by, thread::current().id());
}
