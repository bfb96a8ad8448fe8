//! Settings: what an operator can choose, with unit, default and bounds. Flags and environment
//! variables say the same; a flag wins. The list in `.env.example` is held against this one by a
//! test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::application::writer::WriterLimits;
use crate::infrastructure::data_folder::DataFolder;
use crate::infrastructure::event_log::LogLimits;
use crate::infrastructure::sql::SqlLimits;
use crate::infrastructure::sql::url::DatabaseUrl;
use crate::infrastructure::telemetry::{LogFormat, parse_filter};

/// Where the data is; every command needs it.
#[derive(Debug, Clone, Args)]
pub struct StorageSettings {
    /// The data folder: the log, and the SQLite projection unless `DATABASE_URL` names another place.
    #[arg(long, env = "LOCKSTREAM_DATA_DIR", value_name = "DIR", default_value = "./data", global = true)]
    pub data_dir: PathBuf,

    /// The projection's database: `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`; by
    /// default `projection.db` in the data folder.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, global = true)]
    pub database_url: Option<DatabaseUrl>,
}

impl StorageSettings {
    #[must_use]
    pub fn folder(&self) -> DataFolder {
        DataFolder::new(&self.data_dir)
    }

    /// The place of the projection.
    #[must_use]
    pub fn database(&self) -> DatabaseUrl {
        self.database_url.clone().unwrap_or_else(|| DatabaseUrl::Sqlite(self.folder().database()))
    }
}

/// How the process writes its own log lines; every command needs it.
#[derive(Debug, Clone, Args)]
pub struct LogSettings {
    /// Which log lines to write: error, warn, info, debug or trace, or finer (`info,lockstream=debug`).
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info", value_parser = filter, global = true)]
    pub log: String,

    /// How log lines look on standard error.
    #[arg(long, env = "LOCKSTREAM_LOG_FORMAT", value_name = "FORMAT", default_value = "pretty", global = true)]
    pub log_format: LogFormat,
}

/// What the server needs beyond that.
#[derive(Debug, Clone, Args)]
pub struct ServerSettings {
    /// The address and port to listen on.
    #[arg(long, env = "LOCKSTREAM_ADDR", value_name = "ADDR", default_value = "127.0.0.1:8000", global = true)]
    pub addr: SocketAddr,

    #[command(flatten)]
    pub limits: Limits,
}

/// Every limit of the running service. Times in milliseconds, sizes in bytes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// The largest request body, in bytes; a larger one is answered with 413.
    #[arg(long, env = "LOCKSTREAM_MAX_BODY_BYTES", value_name = "BYTES", default_value = "65536",
        value_parser = usize_in(1_024, 16 << 20))]
    pub max_body_bytes: usize,

    /// How long a client may take to send a body, in milliseconds; then 408.
    #[arg(long, env = "LOCKSTREAM_BODY_TIMEOUT_MS", value_name = "MS", default_value = "10000",
        value_parser = usize_in(10, 3_600_000))]
    pub body_timeout_ms: usize,

    /// How long a connection may take to send a request's head, or stay idle, in milliseconds;
    /// then it is closed.
    #[arg(long, env = "LOCKSTREAM_HEAD_TIMEOUT_MS", value_name = "MS", default_value = "30000",
        value_parser = usize_in(10, 3_600_000))]
    pub head_timeout_ms: usize,

    /// How long a client may take nothing of its answer, in milliseconds; then the connection is
    /// closed.
    #[arg(long, env = "LOCKSTREAM_WRITE_TIMEOUT_MS", value_name = "MS", default_value = "10000",
        value_parser = usize_in(10, 3_600_000))]
    pub write_timeout_ms: usize,

    /// How many connections may be open; further ones wait to be accepted. Fewer when the system
    /// gives the process too few file descriptors.
    #[arg(long, env = "LOCKSTREAM_MAX_CONNECTIONS", value_name = "COUNT", default_value = "10000",
        value_parser = usize_in(1, 1_000_000))]
    pub max_connections: usize,

    /// How many events may wait for the writer; further ones are answered with 503. A chunk of a bulk
    /// counts as one until the writer looks at it, and then waits in the memory that bulks may have.
    #[arg(long, env = "LOCKSTREAM_MAX_QUEUE_EVENTS", value_name = "EVENTS", default_value = "4096",
        value_parser = usize_in(1, 1_000_000))]
    pub max_queue_events: usize,

    /// How many bytes of events may be under way: bodies that arrive and events that wait for the
    /// writer; further ones are answered with 503. No less than `LOCKSTREAM_MAX_BODY_BYTES`. All bulks
    /// together have half of it.
    #[arg(long, env = "LOCKSTREAM_MAX_INFLIGHT_BYTES", value_name = "BYTES", default_value = "67108864",
        value_parser = usize_in(1_024, 1 << 40))]
    pub max_inflight_bytes: usize,

    /// How many events share one sync of the log at most.
    #[arg(long, env = "LOCKSTREAM_MAX_BATCH_EVENTS", value_name = "EVENTS", default_value = "1024",
        value_parser = usize_in(1, 1_000_000))]
    pub max_batch_events: usize,

    /// How many bytes of events share one sync of the log at most; a single larger event goes alone.
    #[arg(long, env = "LOCKSTREAM_MAX_BATCH_BYTES", value_name = "BYTES", default_value = "4194304",
        value_parser = usize_in(1, 1 << 30))]
    pub max_batch_bytes: usize,

    /// How far the log may be ahead of the projection, in events; then new events are answered
    /// with 503 and the service is not ready.
    #[arg(long, env = "LOCKSTREAM_MAX_LAG_EVENTS", value_name = "EVENTS", default_value = "100000",
        value_parser = usize_in(1, 1_000_000_000))]
    pub max_lag_events: usize,

    /// How long an event waits for the writer's answer, in milliseconds; then 503.
    #[arg(long, env = "LOCKSTREAM_ANSWER_TIMEOUT_MS", value_name = "MS", default_value = "10000",
        value_parser = usize_in(10, 3_600_000))]
    pub answer_timeout_ms: usize,

    /// How long a query may take, the wait for the projection included, in milliseconds; then 503.
    #[arg(long, env = "LOCKSTREAM_QUERY_TIMEOUT_MS", value_name = "MS", default_value = "2000",
        value_parser = usize_in(10, 3_600_000))]
    pub query_timeout_ms: usize,

    /// How long each step of a graceful stop may take, in milliseconds: first answering what is
    /// under way, then bringing the projection up to date.
    #[arg(long, env = "LOCKSTREAM_STOP_TIMEOUT_MS", value_name = "MS", default_value = "10000",
        value_parser = usize_in(10, 3_600_000))]
    pub stop_timeout_ms: usize,

    /// The size at which the log begins a new segment, in bytes.
    #[arg(long, env = "LOCKSTREAM_MAX_SEGMENT_BYTES", value_name = "BYTES", default_value = "67108864",
        value_parser = usize_in(1_024, 1 << 40))]
    pub max_segment_bytes: usize,

    /// How many bytes of the log's disk stay free; past that, new events are answered with 507.
    #[arg(long, env = "LOCKSTREAM_MIN_FREE_BYTES", value_name = "BYTES", default_value = "67108864",
        value_parser = usize_in(0, 1 << 40))]
    pub min_free_bytes: usize,

    /// How long opening the database, or one statement of the projection, may take, in
    /// milliseconds; then it is tried again on a new connection.
    #[arg(long, env = "LOCKSTREAM_DATABASE_TIMEOUT_MS", value_name = "MS", default_value = "10000",
        value_parser = usize_in(10, 3_600_000))]
    pub database_timeout_ms: usize,

    /// How long a start waits for a database that does not answer, in milliseconds; then it ends
    /// with an error.
    #[arg(long, env = "LOCKSTREAM_DATABASE_WAIT_MS", value_name = "MS", default_value = "30000",
        value_parser = usize_in(10, 3_600_000))]
    pub database_wait_ms: usize,

    /// How long a chunk of a bulk waits where a single event is turned away (for room, for its place,
    /// for the projection), in milliseconds; then the rest of the bulk is unavailable.
    #[arg(long, env = "LOCKSTREAM_BULK_WAIT_MS", value_name = "MS", default_value = "30000",
        value_parser = usize_in(10, 3_600_000))]
    pub bulk_wait_ms: usize,

    /// How many bulks may be under way; further ones are answered with 503.
    #[arg(long, env = "LOCKSTREAM_MAX_BULK_REQUESTS", value_name = "COUNT", default_value = "64",
        value_parser = usize_in(1, 100_000))]
    pub max_bulk_requests: usize,
}

impl Limits {
    /// Whether the limits fit together; the error is a line that names the variable.
    pub fn agree(&self) -> Result<(), String> {
        let Self { max_inflight_bytes, max_body_bytes, .. } = self;
        if max_inflight_bytes < max_body_bytes {
            return Err(format!(
                "LOCKSTREAM_MAX_INFLIGHT_BYTES (--max-inflight-bytes <BYTES>) is \"{max_inflight_bytes}\": one body of \
                 LOCKSTREAM_MAX_BODY_BYTES, {max_body_bytes}, has to have room"
            ));
        }
        Ok(())
    }

    #[must_use]
    pub fn writer(&self) -> WriterLimits {
        WriterLimits {
            queue_events: self.max_queue_events,
            inflight_bytes: self.max_inflight_bytes,
            batch_events: self.max_batch_events,
            batch_bytes: self.max_batch_bytes,
            lag_events: self.max_lag_events as u64,
            answer_within: millis(self.answer_timeout_ms),
            bulk_wait: millis(self.bulk_wait_ms),
        }
    }

    #[must_use]
    pub fn log(&self) -> LogLimits {
        LogLimits { max_segment_bytes: self.max_segment_bytes as u64, min_free_bytes: self.min_free_bytes as u64 }
    }

    #[must_use]
    pub fn sql(&self) -> SqlLimits {
        SqlLimits { statement: millis(self.database_timeout_ms), query: self.query_timeout() }
    }

    #[must_use]
    pub fn query_timeout(&self) -> Duration {
        millis(self.query_timeout_ms)
    }

    #[must_use]
    pub fn stop_timeout(&self) -> Duration {
        millis(self.stop_timeout_ms)
    }
}

/// A whole number of milliseconds as a duration.
#[must_use]
pub const fn millis(count: usize) -> Duration {
    Duration::from_millis(count as u64)
}

fn filter(directives: &str) -> Result<String, String> {
    parse_filter(directives).map(|_| directives.to_owned()).map_err(|error| error.to_string())
}

fn usize_in(min: u64, max: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(min..=max)
}
