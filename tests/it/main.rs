//! The integration tests: real processes, real HTTP, real files, real databases.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where and end")]

mod support;

mod contract;
mod documents;
mod hostile;
mod layers;
mod limits;
mod model;
mod rules;
mod state_hash;
