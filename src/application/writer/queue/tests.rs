//! Who goes first, and that nobody is left behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::application::ingest::bulk::{Chunk, Outcome};
use crate::application::ingest::{Answer, Aside, Unavailable, WriterQueue};
use crate::application::progress::Progress;
use crate::application::writer::batch::Work;
use crate::application::writer::tests::registered;
use crate::domain::record::Head;

const fn limits(batch_events: usize, batch_bytes: usize) -> WriterLimits {
    WriterLimits {
        queue_events: 100,
        batch_events,
        inflight_bytes: usize::MAX >> 1,
        batch_bytes,
        lag_events: u64::MAX,
        answer_within: Duration::from_secs(60),
        bulk_wait: Duration::from_secs(60),
    }
}

/// Senders that wait for their answers, and what they send to.
struct Senders {
    runtime: Runtime,
    commands: mpsc::Sender<Command>,
    queue: WriterQueue,
    singles: Vec<JoinHandle<Result<Answer, Unavailable>>>,
    chunks: Vec<JoinHandle<Outcome>>,
}

impl Senders {
    fn new(limits: WriterLimits) -> (Self, Queue) {
        let (commands, received) = mpsc::channel(limits.queue_events);
        let progress = Arc::new(Progress::new(Head::default(), Head::default()));
        let (answer_within, inflight_bytes) = (limits.answer_within, limits.inflight_bytes);
        let queue = WriterQueue::new(commands.clone(), progress, answer_within, inflight_bytes, limits.bulk());
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        (Self { runtime, commands, queue, singles: Vec::new(), chunks: Vec::new() }, Queue::new(received))
    }

    /// Lets somebody send, until it is in the queue.
    fn sent<T: Send + 'static>(&self, sending: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let before = self.commands.capacity();
        let sender = self.runtime.spawn(sending);
        self.runtime.block_on(async {
            while self.commands.capacity() == before {
                assert!(!sender.is_finished(), "it takes a place");
                yield_now().await;
            }
        });
        sender
    }

    fn chunk(&mut self, events: u128) {
        let queue = self.queue.clone();
        let chunk = Chunk { events: (0..events).map(registered).collect(), room: queue.chunk_room() };
        let sender = self.sent(async move { queue.submit_chunk(chunk, &CancellationToken::new()).await });
        self.chunks.push(sender);
    }

    fn single(&mut self) {
        let (queue, room) = (self.queue.clone(), self.queue.room(1).unwrap());
        let sender = self.sent(async move { queue.place()?.submit(registered(0), room).await });
        self.singles.push(sender);
    }

    /// Lets whoever sent the last chunk give up.
    fn give_up(&mut self) {
        let sender = self.chunks.pop().expect("one was sent");
        sender.abort();
        assert!(self.runtime.block_on(sender).unwrap_err().is_cancelled());
    }

    fn aside(&self) {
        let (reply, _) = oneshot::channel();
        self.runtime.block_on(self.commands.send(Command::Aside(Aside::CheckLog(reply)))).ok().unwrap();
    }

    fn stop(&self) {
        self.runtime.block_on(self.queue.stop());
    }

    /// All have been told that the log failed.
    fn have_heard(self) {
        let Self { runtime, singles, chunks, .. } = self;
        for chunk in chunks {
            assert_eq!(runtime.block_on(chunk).unwrap().stopped_by, Some(Unavailable::LogFailed));
        }
        for single in singles {
            assert_eq!(runtime.block_on(single).unwrap().err(), Some(Unavailable::LogFailed));
        }
    }
}

/// What the next batch has: 1 for a single event, the number of its events for a chunk.
fn batch(queue: &mut Queue, limits: &WriterLimits) -> Vec<usize> {
    let events = |work: Work| match work {
        Work::One(_) => 1,
        Work::Many(chunk) => chunk.events.len(),
    };
    queue.take_batch(limits).batch.into_iter().map(events).collect()
}

#[test]
fn single_events_go_before_chunks_that_came_first() {
    let limits = limits(10, usize::MAX);
    let (mut senders, mut queue) = Senders::new(limits);
    (0..3).for_each(|_| senders.chunk(8));
    senders.single();
    senders.single();
    assert_eq!(batch(&mut queue, &limits), [1, 1, 8]);
    senders.single();
    assert_eq!(batch(&mut queue, &limits), [1, 8]);
    assert_eq!(batch(&mut queue, &limits), [8]);
    assert_eq!(batch(&mut queue, &limits), [0; 0]);
}

#[test]
fn a_chunk_that_a_batch_went_by_without_goes_first_in_the_next_one() {
    let limits = limits(10, usize::MAX);
    let (mut senders, mut queue) = Senders::new(limits);
    senders.chunk(7);
    senders.chunk(8);
    (0..25).for_each(|_| senders.single());
    assert_eq!(batch(&mut queue, &limits), [1; 10]);
    assert_eq!(batch(&mut queue, &limits), [7, 1, 1, 1]);
    assert_eq!(batch(&mut queue, &limits), [1; 10]);
    assert_eq!(batch(&mut queue, &limits), [8, 1, 1]);
}

#[test]
fn chunks_that_fit_share_a_batch_and_stay_in_their_order() {
    let limits = limits(10, usize::MAX);
    let (mut senders, mut queue) = Senders::new(limits);
    for events in [2, 3, 6, 1] {
        senders.chunk(events);
    }
    // The last one would fit, and goes by nobody.
    assert_eq!(batch(&mut queue, &limits), [2, 3]);
    assert_eq!(batch(&mut queue, &limits), [6, 1]);
}

#[test]
fn what_is_larger_than_a_batch_may_be_has_one_for_itself() {
    let limits = limits(10, 100);
    let (mut senders, mut queue) = Senders::new(limits);
    senders.chunk(2);
    senders.single();
    senders.chunk(3);
    assert_eq!(batch(&mut queue, &limits), [1]);
    assert_eq!(batch(&mut queue, &limits), [2]);
    assert_eq!(batch(&mut queue, &limits), [3]);
    assert_eq!(queue.look(), Err(TryRecvError::Empty));
}

#[test]
fn nothing_goes_before_a_chunk_whose_sender_gave_up() {
    let limits = limits(10, usize::MAX);
    let (mut senders, mut queue) = Senders::new(limits);
    senders.chunk(7);
    senders.chunk(8);
    senders.single();
    senders.give_up();
    senders.single();
    // The two chunks, and then who may have sent again what the second one has.
    assert_eq!(batch(&mut queue, &limits), [7]);
    assert_eq!(batch(&mut queue, &limits), [8]);
    assert_eq!(batch(&mut queue, &limits), [1, 1]);
}

#[test]
fn a_chunk_that_is_given_up_while_it_waits_is_overtaken_no_more() {
    let limits = limits(10, usize::MAX);
    let (mut senders, mut queue) = Senders::new(limits);
    senders.chunk(8);
    (0..4).for_each(|_| senders.single());
    assert_eq!(batch(&mut queue, &limits), [1; 4]);
    senders.chunk(8);
    senders.give_up();
    (0..4).for_each(|_| senders.single());
    assert_eq!(batch(&mut queue, &limits), [8]);
    assert_eq!(batch(&mut queue, &limits), [8]);
    assert_eq!(batch(&mut queue, &limits), [1; 4]);
}

#[test]
fn what_is_done_between_batches_waits_for_no_more_than_a_chunk() {
    let limits = limits(4, usize::MAX);
    let (mut senders, mut queue) = Senders::new(limits);
    (0..3).for_each(|_| senders.chunk(4));
    senders.single();
    (0..5).for_each(|_| senders.aside());
    let mut next = || {
        let drained = queue.take_batch(&limits);
        (drained.batch_events, drained.asides.len())
    };
    assert_eq!([next(), next(), next(), next()], [(1, 3), (4, 0), (4, 2), (4, 0)]);
}

#[test]
fn batches_of_one_event_take_turns() {
    let limits = limits(1, usize::MAX);
    let (mut senders, mut queue) = Senders::new(limits);
    (0..2).for_each(|_| senders.chunk(1));
    (0..2).for_each(|_| senders.single());
    let mut next = || queue.take_batch(&limits).has_chunks;
    assert_eq!([next(), next(), next(), next()], [false, true, false, true]);
}

#[test]
fn chunks_that_wait_are_still_taken_after_a_stop() {
    let limits = limits(10, usize::MAX);
    let (mut senders, mut queue) = Senders::new(limits);
    (0..2).for_each(|_| senders.chunk(8));
    senders.stop();
    assert!(queue.wait());
    let drained = queue.take_batch(&limits);
    assert!(drained.stop && drained.batch.len() == 1);
    queue.close();
    assert!(queue.wait(), "one chunk waits");
    assert_eq!(batch(&mut queue, &limits), [8]);
    assert_eq!(queue.look(), Err(TryRecvError::Disconnected));
    assert!(!queue.wait());
}

#[test]
fn whoever_waits_for_a_writer_that_ends_without_a_stop_is_told() {
    let limits = limits(10, usize::MAX);
    let (mut senders, mut queue) = Senders::new(limits);
    (0..3).for_each(|_| senders.chunk(8));
    assert_eq!(batch(&mut queue, &limits), [8], "two wait aside");
    senders.single();
    senders.chunk(8);

    drop(queue);

    senders.have_heard();
}

#[test]
fn whoever_had_a_place_and_comes_when_the_writer_has_ended_is_told_too() {
    let (mut senders, queue) = Senders::new(limits(10, usize::MAX));
    let (writer_queue, room) = (senders.queue.clone(), senders.queue.room(1).unwrap());
    let (told, may_submit) = oneshot::channel::<()>();
    let sender = senders.sent(async move {
        let place = writer_queue.place()?;
        may_submit.await.unwrap();
        place.submit(registered(0), room).await
    });
    senders.singles.push(sender);
    let ended = std::thread::spawn(|| drop(queue));
    senders.runtime.block_on(senders.commands.closed());
    told.send(()).unwrap();
    senders.have_heard();
    ended.join().unwrap();
}
