//! Lockstream: takes in the facts of parcel-locker networks, refuses the impossible ones, keeps
//! the rest for ever, answers what is and what was.
//!
//! Start at `docs/architecture.md`. The layers, inside out: [`domain`] knows the rules,
//! [`application`] the use cases, [`infrastructure`] files and databases, [`web`] HTTP;
//! [`composition`] alone brings them together.

pub mod application;
pub mod cli;
pub mod composition;
pub mod config;
pub mod domain;
pub mod infrastructure;
pub mod lifecycle;
pub mod random;
pub mod simulate;
pub mod torture;
pub mod web;
