//! The integration tests: real processes, real HTTP, real files, real databases.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where and end")]

mod support;

mod concurrency;
mod damage;
mod faults;
mod layers;
mod lost_history;
mod rules;
mod settings;
