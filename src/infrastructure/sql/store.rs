//! A projection in a SQL database, whichever it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Error;
use tokio::sync::{Mutex, MutexGuard};

use crate::application::ports::{Projection, Standing, StoreError, Successor};
use crate::domain::hash::StateHash;
use crate::domain::ids::LockerId;
use crate::domain::record::Head;
use crate::domain::rows::Rows;
use crate::infrastructure::sql::line::{InUse, Line, LineLimits, Role};
use crate::infrastructure::sql::rows::{
    Cells, Read, chunks, read_checkpoint, read_compartment, read_locker, read_reservation, read_state_hash,
};
use crate::infrastructure::sql::statements::{
    SELECT_CHECKPOINT, SELECT_COMPARTMENTS, SELECT_LOCKERS, SELECT_RESERVATIONS, SELECT_STATE_HASHES,
};
use crate::infrastructure::sql::{Dialect, SqlLimits, failed};

/// How long one statement that reads a whole table may take.
const WHOLE_TABLE_LIMIT: Duration = Duration::from_secs(600);

const READING: &str = "could not be read";
const WRITING: &str = "could not be written";

/// A projection: its place, and a line for everyone who uses it.
pub struct SqlStore<D: Dialect> {
    pub(super) place: Arc<D::Place>,
    pub(super) limits: SqlLimits,
    pub(super) writer: Line<D>,
    checks: Line<D>,
    pub(super) lockers: Line<D>,
    pub(super) compartments: Line<D>,
    pub(super) reservations: Line<D>,
    /// There is one name for a successor; whoever has one holds this.
    pub(super) succession: Arc<Mutex<()>>,
}

impl<D: Dialect> SqlStore<D> {
    /// Connects to nothing yet.
    pub fn new(place: D::Place, limits: SqlLimits) -> Arc<Self> {
        let place = Arc::new(place);
        let reader = |limit| Line::new(&place, Role::Reader, LineLimits::both(limit));
        Arc::new(Self {
            writer: Line::new(&place, Role::Writer, LineLimits::both(limits.statement)),
            checks: reader(limits.statement),
            lockers: reader(limits.query),
            compartments: reader(limits.query),
            reservations: reader(limits.query),
            succession: Arc::default(),
            limits,
            place,
        })
    }

    /// Closes all connections in order, the writer's last, and keeps everybody waiting who wants
    /// one while the answer lives.
    pub(super) async fn hold(&self) -> [MutexGuard<'_, Option<D::Connection>>; 5] {
        [
            self.lockers.hold().await,
            self.compartments.hold().await,
            self.reservations.hold().await,
            self.checks.hold().await,
            self.writer.hold().await,
        ]
    }

    /// Everything that is stored. Tells the checkpoint before the rest is read, each time that the
    /// reading begins.
    pub(super) async fn contents_begun(&self, begun: &dyn Fn(Head)) -> Result<(Head, Rows), StoreError> {
        self.in_one_moment(WHOLE_TABLE_LIMIT, async |line| {
            let head = stored_checkpoint(line).await?;
            begun(head);
            Ok((head, stored_rows(line).await?))
        })
        .await
    }

    async fn write(&self, rows: &Rows, from: Head, to: Head) -> Result<Standing, StoreError> {
        if self.writer.has_lost_its_file() {
            // All together: a file that is closed takes the companions away that it knows by name.
            drop(self.hold().await);
        }
        let mut line = self.writer.take().await?;
        let standing = self.write_from(&mut line, rows, from, to).await.map_err(failed(WRITING))?;
        line.put_back();
        Ok(standing)
    }

    async fn write_from(&self, line: &mut InUse<'_, D>, rows: &Rows, from: Head, to: Head) -> Result<Standing, Error> {
        line.run(D::BEGIN_WRITING).await?;
        let found = checkpoint_by(line, D::SELECT_CHECKPOINT_TO_WRITE).await?;
        let standing = match found {
            // An attempt before this one was committed, and its answer was lost.
            found if found == to => Standing::AsLeft,
            found if found == from => {
                write_all(line, rows, to).await?;
                Standing::AsLeft
            }
            found => Standing::Elsewhere(found),
        };
        let events = to.sequence.get().saturating_sub(from.sequence.get());
        for statement in D::committing(&self.place, events) {
            line.run(statement).await?;
        }
        Ok(standing)
    }

    /// Runs `read` in one transaction, on a connection of its own with a limit of its own.
    async fn in_one_moment<T>(
        &self,
        statement: Duration,
        read: impl AsyncFn(&mut InUse<'_, D>) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        let limits = LineLimits { open: self.limits.statement, statement };
        let line = Line::<D>::new(&self.place, Role::Reader, limits);
        let mut used = line.take().await?;
        let result = async {
            loop {
                used.run(D::BEGIN_READING).await?;
                let before = tables(&mut used).await?;
                let value = read(&mut used).await?;
                let after = tables(&mut used).await?;
                used.run("COMMIT").await?;
                if before == after {
                    return Ok(value);
                }
                // A rebuild switched in between.
            }
        };
        let value = result.await.map_err(failed(READING))?;
        used.put_back();
        drop(line.hold().await);
        Ok(value)
    }
}

/// Which tables the names stand for now.
async fn tables<D: Dialect>(line: &mut InUse<'_, D>) -> Result<i64, Error> {
    let Some(statement) = D::SELECT_TABLES else { return Ok(0) };
    line.fetch(statement, None).await?.first().map_or(Ok(0), |row| row.integer("tables"))
}

async fn stored_checkpoint<D: Dialect>(line: &mut InUse<'_, D>) -> Result<Head, Error> {
    checkpoint_by(line, SELECT_CHECKPOINT).await
}

async fn checkpoint_by<D: Dialect>(line: &mut InUse<'_, D>, statement: &'static str) -> Result<Head, Error> {
    let rows = line.fetch(statement, None).await?;
    rows.first().map_or_else(|| Ok(Head::default()), read_checkpoint)
}

async fn stored_rows<D: Dialect>(line: &mut InUse<'_, D>) -> Result<Rows, Error> {
    Ok(Rows {
        lockers: read_table(line, SELECT_LOCKERS, read_locker).await?,
        compartments: read_table(line, SELECT_COMPARTMENTS, read_compartment).await?,
        reservations: read_table(line, SELECT_RESERVATIONS, read_reservation).await?,
    })
}

async fn read_table<D: Dialect, T: Send>(
    line: &mut InUse<'_, D>,
    statement: &'static str,
    read: fn(&D::Row) -> Read<T>,
) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    let show = |row: &D::Row| {
        all.push(read(row)?);
        Ok(())
    };
    line.fetch_each(statement, show).await?;
    Ok(all)
}

async fn write_all<D: Dialect>(line: &mut InUse<'_, D>, rows: &Rows, head: Head) -> Result<(), Error> {
    for chunk in chunks(rows, head) {
        line.write(chunk).await?;
    }
    Ok(())
}

#[async_trait]
impl<D: Dialect> Projection for SqlStore<D> {
    async fn open(&self) -> Result<(), StoreError> {
        self.writer.take().await?.put_back();
        Ok(())
    }

    async fn checkpoint(&self) -> Result<Head, StoreError> {
        if self.writer.has_lost_its_file() {
            return Err(StoreError::new(READING, "its file was removed, or another one put in its place"));
        }
        let rows = self.checks.fetch(SELECT_CHECKPOINT, None).await?;
        rows.first().map_or_else(|| Ok(Head::default()), read_checkpoint).map_err(failed(READING))
    }

    async fn advance(&self, rows: &Rows, from: Head, to: Head) -> Result<Standing, StoreError> {
        self.write(rows, from, to).await
    }

    async fn reset(self: Arc<Self>, rows: &Rows, head: Head) -> Result<(), StoreError> {
        let successor = D::successor(&self).await?;
        match successor.projection().advance(rows, Head::default(), head).await? {
            Standing::AsLeft => {}
            Standing::Elsewhere(_) => {
                return Err(StoreError::new("cannot be replaced", "somebody else writes the new one"));
            }
        }
        successor.take_over().await?.await;
        Ok(())
    }

    async fn contents(&self) -> Result<(Head, Rows), StoreError> {
        let read = async |line: &mut InUse<'_, D>| Ok((stored_checkpoint(line).await?, stored_rows(line).await?));
        self.in_one_moment(WHOLE_TABLE_LIMIT, read).await
    }

    async fn state_hashes(&self) -> Result<(Head, BTreeMap<LockerId, StateHash>), StoreError> {
        self.in_one_moment(self.limits.statement, async |line| {
            let head = stored_checkpoint(line).await?;
            let hashes: Vec<_> = read_table(line, SELECT_STATE_HASHES, read_state_hash).await?;
            Ok((head, hashes.into_iter().collect()))
        })
        .await
    }

    async fn successor(self: Arc<Self>) -> Result<Box<dyn Successor>, StoreError> {
        D::successor(&self).await
    }

    async fn close(&self) {
        drop(self.hold().await);
    }
}
