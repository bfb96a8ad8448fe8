//! A clock that stands still unless the test moves it: for what a server inside the test's own process
//! does after so many milliseconds, exactly, on a machine of any speed.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};

use tokio::task::spawn_blocking;

use crate::support::{PATIENCE, block_on, eventually};

/// Lets a paused clock stand as long as the answer lives. By itself it leaps to the next timer
/// whenever nobody has anything to do, but not while something blocks. A test that hangs goes on
/// after its patience, and every time-out of the server with it.
pub fn stand_still() -> Sender<()> {
    let (held, until) = mpsc::channel::<()>();
    spawn_blocking(move || assert_eq!(until.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected)));
    held
}

/// As [`eventually`], which sleeps by a clock that goes.
pub async fn eventually_meanwhile<F>(what: &'static str, condition: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = bool> + Send,
{
    let waiting = async move { eventually(what, condition).await };
    spawn_blocking(|| block_on(waiting)).await.unwrap();
}
