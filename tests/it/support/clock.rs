//! A clock that stands still unless the test moves it: for what a server inside the test's own process
//! does after so many milliseconds, exactly, on a machine of any speed.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use crate::support::PATIENCE;

/// Lets a paused clock stand as long as the answer lives. By itself it leaps to the next timer
/// whenever nobody has anything to do, but not while something blocks. A test that hangs goes on
/// after its patience, and every time-out of the server with it.
pub fn stand_still() -> Sender<()> {
    let (held, until) = mpsc::channel::<()>();
    spawn_blocking(move || assert_eq!(until.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected)));
    held
}

/// As [`eventually`](crate::support::eventually), by a clock that goes.
pub async fn eventually_meanwhile<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let begin = Instant::now();
    while !condition().await {
        assert!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        spawn_blocking(|| std::thread::sleep(Duration::from_millis(5))).await.unwrap();
    }
}
