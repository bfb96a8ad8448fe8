//! What a bulk waits for before it hands in more.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::*;
use crate::application::progress::Progress;
use crate::domain::record::Head;

const SECOND: Duration = Duration::from_secs(1);

fn head(sequence: u64) -> Head {
    Head { sequence: Sequence::new(sequence), ..Head::default() }
}

/// A queue that nobody reads yet, behind a log of 100 records that are all projected.
fn queue() -> (WriterQueue, mpsc::Receiver<Command>, Arc<Progress>) {
    queue_with_projection_at(100)
}

fn queue_with_projection_at(sequence: u64) -> (WriterQueue, mpsc::Receiver<Command>, Arc<Progress>) {
    let progress = Arc::new(Progress::new(head(100), head(sequence)));
    let (commands, queue) = mpsc::channel(4);
    let bulk = BulkLimits {
        chunk_events: 1,
        chunk_bytes: 1,
        inflight_bytes: 1,
        lag_events: 100,
        archive_lag_events: 30,
        wait: 60 * SECOND,
    };
    (WriterQueue::new(commands, Arc::clone(&progress), SECOND, 1, bulk), queue, progress)
}

async fn hand_in(queue: WriterQueue) {
    let chunk = Chunk { events: Vec::new(), room: queue.chunk_room() };
    queue.submit_chunk(chunk, &CancellationToken::new()).await;
}

/// Whether a chunk that was handed in by now is in the queue.
async fn has_come(queue: &mut mpsc::Receiver<Command>) -> bool {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    queue.try_recv().is_ok()
}

#[tokio::test]
async fn a_chunk_goes_on_while_the_projection_writes_what_it_has_taken() {
    let (writer, mut queue, progress) = queue_with_projection_at(74);
    let sender = tokio::spawn(hand_in(writer));
    assert!(!has_come(&mut queue).await, "more than a quarter of the lag is not taken");
    timeout(60 * SECOND, progress.wait_for_reader()).await.expect("the projection is to take it now");
    progress.publish_taken(Sequence::new(75));
    assert!(timeout(60 * SECOND, queue.recv()).await.unwrap().is_some());
    sender.await.unwrap();
}

#[tokio::test]
async fn what_is_written_was_taken() {
    let (writer, mut queue, progress) = queue_with_projection_at(0);
    let sender = tokio::spawn(hand_in(writer));
    assert!(!has_come(&mut queue).await, "nothing is taken");
    progress.publish_projected(head(100));
    assert!(timeout(60 * SECOND, queue.recv()).await.unwrap().is_some());
    sender.await.unwrap();
}

#[tokio::test]
async fn a_chunk_waits_where_three_quarters_of_the_lag_are_taken_and_not_written() {
    let (writer, mut queue, progress) = queue_with_projection_at(24);
    progress.publish_taken(Sequence::new(100));
    let sender = tokio::spawn(hand_in(writer));
    assert!(!has_come(&mut queue).await, "handed in before its time");
    progress.publish_projected(head(25));
    assert!(timeout(60 * SECOND, queue.recv()).await.unwrap().is_some());
    sender.await.unwrap();
}

#[tokio::test]
async fn a_chunk_waits_for_an_archiver_that_is_too_far_behind() {
    let (writer, mut queue, progress) = queue();
    progress.publish_archiving(Some(Sequence::new(69)));
    let sender = tokio::spawn(hand_in(writer));
    assert!(!has_come(&mut queue).await, "handed in before its time");
    progress.publish_archiving(Some(Sequence::new(70)));
    assert!(timeout(60 * SECOND, queue.recv()).await.unwrap().is_some());
    sender.await.unwrap();
}

#[tokio::test]
async fn nobody_waits_for_an_archiver_that_is_not_at_work() {
    let (_writer, _queue, progress) = queue();
    let (due, in_an_hour) = (Sequence::new(70), Instant::now() + 3_600 * SECOND);
    timeout(60 * SECOND, progress.wait_for_archiver(due, in_an_hour)).await.expect("it did not begin");
    progress.publish_archiving(Some(Sequence::ZERO));
    let waiting = tokio::spawn({
        let progress = Arc::clone(&progress);
        async move { progress.wait_for_archiver(due, in_an_hour).await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished(), "it is at work");
    progress.publish_archiving(None);
    timeout(60 * SECOND, waiting).await.expect("it gave up").unwrap();
}

#[tokio::test]
async fn time_for_the_archiver_is_not_taken_from_what_a_chunk_may_wait() {
    let (mut writer, _full, progress) = queue();
    writer.bulk.wait = SECOND / 100;
    for _ in 0..4 {
        assert!(writer.commands.try_send(Command::Stop).is_ok());
    }
    progress.publish_archiving(Some(Sequence::ZERO));
    let begun = Instant::now();
    let chunk = Chunk { events: Vec::new(), room: writer.chunk_room() };
    let outcome = writer.submit_chunk(chunk, &CancellationToken::new()).await;
    assert_eq!(outcome.stopped_by, Some(Unavailable::QueueFull));
    assert!(begun.elapsed() >= ARCHIVER_WAIT + writer.bulk.wait, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_chunk_does_not_wait_for_ever() {
    let (writer, mut queue, progress) = queue();
    progress.publish_archiving(Some(Sequence::ZERO));
    let sender = tokio::spawn(hand_in(writer));
    assert!(timeout(60 * SECOND, queue.recv()).await.unwrap().is_some());
    sender.await.unwrap();
}
