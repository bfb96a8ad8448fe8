//! One connection to a database: opened when it is needed, thrown away after anything that went
//! wrong, and never waited for longer than its limit.
//!
//! Every user of the database has a line of its own and uses it for one thing at a time, so there
//! is nothing to pool. What a pool would have to find out (is this connection still good, what did
//! its last user leave open, does the other side still listen) does not arise: a connection that
//! failed, was too slow or whose user gave up in the middle is closed, and the next user gets a new
//! one. That is what heals a database that was restarted, moved or cut off.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use crate::application::ports::StoreError;
use crate::infrastructure::sql::rows::{Chunk, Keys};
use crate::infrastructure::sql::{Dialect, FileNumber, failed};

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Brings the tables up to date when it opens, and writes.
    Writer,
    Reader,
}

/// How long one may wait.
#[derive(Debug, Clone, Copy)]
pub struct LineLimits {
    /// For the connection.
    pub open: Duration,
    /// For one statement.
    pub statement: Duration,
}

impl LineLimits {
    pub const fn both(limit: Duration) -> Self {
        Self { open: limit, statement: limit }
    }
}

/// A place for one connection.
pub struct Line<D: Dialect> {
    place: Arc<D::Place>,
    role: Role,
    limits: LineLimits,
    connection: Mutex<Option<D::Connection>>,
    /// Which file the connection was opened on.
    file: std::sync::Mutex<Option<FileNumber>>,
}

impl<D: Dialect> Line<D> {
    pub fn new(place: &Arc<D::Place>, role: Role, limits: LineLimits) -> Self {
        Self { place: Arc::clone(place), role, limits, connection: Mutex::new(None), file: std::sync::Mutex::default() }
    }

    /// Whether the file that it uses has lost its place: it was removed, or another one put there.
    pub fn has_lost_its_file(&self) -> bool {
        let file = *self.file();
        file.is_some() && file != D::file(&self.place)
    }

    fn file(&self) -> std::sync::MutexGuard<'_, Option<FileNumber>> {
        self.file.lock().expect("no holder of this lock can panic")
    }

    /// Takes the connection, or opens one.
    pub async fn take(&self) -> Result<InUse<'_, D>, StoreError> {
        let mut slot = self.connection.lock().await;
        let kept = slot.take();
        let was_kept = kept.is_some();
        let connection = if let Some(connection) = kept {
            connection
        } else {
            let opening = timeout(self.limits.open, D::connect(&self.place, self.role, self.limits.statement));
            let no_answer = |_| StoreError::passing("could not be reached", NoAnswer(self.limits.open));
            let connection = opening.await.map_err(no_answer)??;
            *self.file() = D::file(&self.place);
            connection
        };
        Ok(InUse { slot, connection, was_kept, limit: self.limits.statement })
    }

    /// Fetches all rows of one statement that only reads. A connection that ended while nobody used
    /// it, because the server was restarted or somebody tidied up, is no reason to have no answer.
    pub async fn fetch(&self, statement: &'static str, keys: Option<&Keys>) -> Result<Vec<D::Row>, StoreError> {
        let mut line = self.take().await?;
        let mut fetched = line.fetch(statement, keys).await;
        if fetched.as_ref().is_err_and(|error| line.was_kept && has_ended(error)) {
            drop(line);
            line = self.take().await?;
            fetched = line.fetch(statement, keys).await;
        }
        let rows = fetched.map_err(failed("could not be read"))?;
        line.put_back();
        Ok(rows)
    }

    /// Closes the connection in order and keeps the line closed while the answer lives.
    pub async fn hold(&self) -> MutexGuard<'_, Option<D::Connection>> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.take() {
            // One that cannot be closed in order, or not in time, is closed all the same.
            let _ = timeout(self.limits.open, D::close(connection)).await;
        }
        *self.file() = None;
        slot
    }
}

/// A connection in use. Closed when it is dropped, unless it was put back.
pub struct InUse<'l, D: Dialect> {
    slot: MutexGuard<'l, Option<D::Connection>>,
    connection: D::Connection,
    was_kept: bool,
    limit: Duration,
}

impl<D: Dialect> InUse<'_, D> {
    /// Runs a statement that has no parameter and gives no rows.
    pub async fn run(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        in_time(self.limit, D::run(&mut self.connection, statement)).await
    }

    /// Writes rows, those that are there already anew.
    pub async fn write(&mut self, rows: Chunk) -> Result<(), sqlx::Error> {
        in_time(self.limit, D::write(&mut self.connection, rows)).await
    }

    /// Fetches all rows that a statement gives.
    pub async fn fetch(&mut self, statement: &'static str, keys: Option<&Keys>) -> Result<Vec<D::Row>, sqlx::Error> {
        in_time(self.limit, D::fetch(&mut self.connection, statement, keys)).await
    }

    /// Shows each row that a statement gives.
    pub async fn fetch_each(
        &mut self,
        statement: &'static str,
        show: impl FnMut(&D::Row) -> Result<(), sqlx::Error> + Send,
    ) -> Result<(), sqlx::Error> {
        in_time(self.limit, D::fetch_each(&mut self.connection, statement, show)).await
    }

    /// All went well: the next user may have the connection.
    pub fn put_back(self) {
        let Self { mut slot, connection, .. } = self;
        *slot = Some(connection);
    }
}

/// Whether the other side had hung up, and not only kept silent.
fn has_ended(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != ErrorKind::TimedOut,
        sqlx::Error::Protocol(_) => true,
        // What PostgreSQL says to a session that it ends.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(sqlx::Error::Io(NoAnswer(limit).into())))
}

/// The database was silent for too long.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} ms", .0.as_millis())]
pub(super) struct NoAnswer(pub(super) Duration);

impl From<NoAnswer> for std::io::Error {
    fn from(error: NoAnswer) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, error)
    }
}
