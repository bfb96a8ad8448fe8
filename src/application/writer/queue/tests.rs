//! Who goes first, and that nobody is left behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, yield_now};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::application::ingest::bulk::{Chunk, Outcome};
use crate::application::ingest::{Answer, Unavailable, WriterQueue};
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
