//! The integration tests: real processes, real HTTP, real files, real databases.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where and end")]

mod support;

mod commands;
mod concurrency;
mod crash;
mod damage;
mod faults;
mod folder;
mod golden;
mod layers;
mod lifecycle;
mod lost_history;
mod rules;
mod settings;
