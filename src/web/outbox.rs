//! The answer to a request that is still being read: bytes that wait until the connection takes
//! them.
//!
//! A client may send for a while before it reads. Up to [`Outbox::is_full`] that holds up nothing;
//! from there on whoever fills the outbox has to wait, as the connection's write timeout bounds.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::Notify;

/// How many bytes may wait. As many again are on their way to the client.
const FULL_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    taken: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Nothing more will come.
    ended: bool,
    /// Nobody reads any more.
    gone: bool,
    reader: Option<Waker>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock can panic")
    }
}

/// The end that is written to. Dropping it ends the body.
#[derive(Debug)]
pub struct Outbox(Arc<Shared>);

/// The client went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// The end that the connection reads.
#[derive(Debug)]
pub struct OutboxBody(Arc<Shared>);

/// An outbox and the body that it fills.
#[must_use]
pub fn outbox() -> (Outbox, OutboxBody) {
    let shared = Arc::new(Shared::default());
    (Outbox(Arc::clone(&shared)), OutboxBody(shared))
}

impl Outbox {
    /// Adds bytes, also where it is full.
    pub fn push(&self, bytes: &[u8]) -> Result<(), Gone> {
        let mut state = self.0.state();
        if state.gone {
            return Err(Gone);
        }
        state.waiting.extend_from_slice(bytes);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.state().waiting.len() >= FULL_BYTES
    }

    /// Waits until it is no longer full.
    pub async fn room(&self) -> Result<(), Gone> {
        loop {
            // Before the look, so that nothing is missed between the two.
            let taken = self.0.taken.notified();
            if self.0.state().gone {
                return Err(Gone);
            }
            if !self.is_full() {
                return Ok(());
            }
            taken.await;
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

impl Body for OutboxBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.0.state();
        if !state.waiting.is_empty() {
            let bytes = std::mem::take(&mut state.waiting);
            drop(state);
            self.0.taken.notify_waiters();
            return Poll::Ready(Some(Ok(Frame::data(bytes.into()))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for OutboxBody {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.gone = true;
        state.waiting = Vec::new();
        drop(state);
        self.0.taken.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_and_the_end_is_seen() {
        let (outbox, mut body) = outbox();
        outbox.push(b"a").expect("somebody reads");
        outbox.push(b"b").expect("somebody reads");
        let frame = body.frame().await.expect("there is one").expect("it cannot fail");
        assert_eq!(frame.into_data().expect("data"), "ab");
        drop(outbox);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn who_fills_it_waits_for_the_reader_or_its_end() {
        let (outbox, mut body) = outbox();
        outbox.push(&vec![0; FULL_BYTES]).expect("somebody reads");
        let (room, _) = tokio::join!(outbox.room(), body.frame());
        assert_eq!(room, Ok(()));
        outbox.push(&vec![0; FULL_BYTES]).expect("somebody reads");
        let (room, ()) = tokio::join!(outbox.room(), async { drop(body) });
        assert_eq!((room, outbox.push(b"x")), (Err(Gone), Err(Gone)));
    }
}
