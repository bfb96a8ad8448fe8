//! The adapters: files, databases, the clock, the log output of the process.

pub mod admin_socket;
pub mod archive;
pub mod backup;
pub mod clock;
pub mod data_folder;
pub mod event_log;
pub mod process;
pub mod sql;
pub mod telemetry;
