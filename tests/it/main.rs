//! The integration tests: real processes, real HTTP, real files, real databases.
#![expect(clippy::needless_pass_by_value, reason = "helpers that take what they are given make tests short")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where and end")]

mod support;

mod allocations;
mod archive;
mod backend;
mod backup;
mod bulk;
mod cluster;
mod commands;
mod concurrency;
mod contract;
mod crash;
mod damage;
mod database;
mod documents;
mod equality;
mod faults;
mod folder;
mod full_disk;
mod fuzz;
mod golden;
mod hostile;
mod interposed;
mod layers;
mod lifecycle;
mod limits;
mod lost_history;
mod matrix;
mod model;
mod outage;
mod overload;
mod plans;
mod ports;
mod proxy;
mod rebuild;
mod rules;
mod schema;
mod settings;
mod simulate;
mod simulation;
mod state_hash;
mod statements;
mod tls;
mod torture;
