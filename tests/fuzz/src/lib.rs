//! What is fuzzed: functions that take any bytes, give them to a reader of the service, and hold
//! what it says to properties that must hold for all bytes.
//!
//! The test command runs them on mutated seeds (`tests/it/fuzz.rs`). Being plain functions of the
//! library and nothing else, they fit whatever other fuzzer. A target panics when a property does
//! not hold.

mod event;
mod good;
mod line;
mod manifest;
mod mark;
mod recovery;
mod reference;
mod url;

pub use event::event;
pub use line::line;
pub use manifest::manifest;
pub use mark::mark;
pub use recovery::recovery;
pub use url::url;

use tempfile::TempDir;

/// A folder of its own; in memory where the system has such a place, for there are many syncs.
fn folder() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("the system has room for a temporary folder")
}
