//! What the service does, one file a use case, and the ports through which it reaches the outside.
//!
//! Knows no SQL, no HTTP and no file: adapters implement [`ports`], and the composition root
//! brings both together.

pub mod archive;
pub mod inflight;
pub mod ingest;
pub mod ports;
pub mod progress;
pub mod project;
pub mod queries;
pub mod rebuild;
pub mod verify;
pub mod writer;
