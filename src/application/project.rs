//! The projection task: brings the rows of whatever changed into the database.
//!
//! It pulls. Whenever the log is ahead it asks the writer for the rows of everything touched since
//! it last asked, as they now are, and writes them with the checkpoint in one transaction; what
//! happens meanwhile is merged into the next one. A start after a crash is the same step: the
//! writer then begins with everything touched that the checkpoint does not cover.
//!
//! Every transaction begins where the last one ended. A database that is found elsewhere (restored
//! from a backup, replaced by a replica that had missed something) is written anew as a whole,
//! because nobody knows any more what it misses.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use crate::application::ingest::WriterQueue;
use crate::application::ports::{HistoryFailure, Projection, Standing, StoreError};
use crate::application::progress::Progress;
use crate::application::rebuild::OpenHistory;
use crate::application::rebuild::fold::all_rows_at;
use crate::application::rebuild::report::RebuildError;
use crate::domain::record::Head;
use crate::domain::rows::Rows;

/// The first pause after a failed transaction; doubled each time up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// How long rows are gathered while nobody waits for them. What a transaction costs depends little on
/// how many events it covers, so under load a few large ones cost far less than many small ones. Longer
/// would save little more, and a query that comes just then has to wait for the larger transaction.
const GATHER: Duration = Duration::from_millis(50);

/// Where this process left the projection; `None` when what it holds is of no use. Whoever holds
/// the lock keeps the projection as it is.
pub type Position = Arc<Mutex<Option<Head>>>;

/// Writes rows until its writer ends.
pub struct Projector {
    pub projection: Arc<dyn Projection>,
    pub progress: Arc<Progress>,
    pub position: Position,
    /// For what the writer has forgotten.
    pub open_history: OpenHistory,
}

impl Projector {
    /// Follows the writer; returns when that has ended and the rows taken from it are written.
    ///
    /// May be dropped in between, but then nothing more may be written by this process: the rows
    /// it held are missing, and only the next start knows that from the checkpoint.
    pub async fn follow(&self, writer: &WriterQueue) {
        if self.position.lock().await.is_none() && !self.write_anew(writer).await {
            return;
        }
        let mut last = Instant::now();
        loop {
            let due = async {
                self.progress.wait_for_lag().await;
                // A query is not to wait for more than it needs.
                let _ = timeout_at(last + GATHER, self.progress.wait_for_reader()).await;
            };
            let rows = tokio::select! {
                biased;
                () = writer.closed() => return,
                () = due => writer.take_rows().await,
                // Nothing is written, but where the database stands is looked at.
                () = self.progress.wait_for_doubt() => self.position.lock().await.map(|head| (Rows::default(), head)),
            };
            let Some((rows, head)) = rows else { return };
            if let Standing::Elsewhere(found) = self.write(&rows, head).await {
                warn!(
                    found_sequence = %found.sequence, left_sequence = %self.progress.projected(),
                    "the database is not where it was left: everything is written anew"
                );
                if !self.write_anew(writer).await {
                    return;
                }
            }
            last = Instant::now();
        }
    }

    /// Writes one set of rows, as often as it takes. Rows are never let go of before they are in:
    /// the writer has forgotten by now that they were touched.
    pub async fn write(&self, rows: &Rows, head: Head) -> Standing {
        let mut retry = Retry::new(&self.progress);
        self.progress.publish_taken(head.sequence);
        loop {
            match self.try_to_write(rows, head).await {
                Ok(standing) => {
                    retry.succeeded();
                    if standing == Standing::AsLeft {
                        self.progress.publish_projected(head);
                    }
                    return standing;
                }
                Err(error) => retry.failed(&error).await,
            }
        }
    }

    async fn try_to_write(&self, rows: &Rows, head: Head) -> Result<Standing, StoreError> {
        let mut position = self.position.lock().await;
        let Some(from) = *position else { return Ok(Standing::Elsewhere(Head::default())) };
        self.progress.publish_attempt(head);
        let standing = self.projection.advance(rows, from, head).await?;
        *position = (standing == Standing::AsLeft).then_some(head);
        Ok(standing)
    }

    /// Writes everything there is; false when the writer has ended. What the writer counts as touched
    /// by then comes once more afterwards, as it is by then.
    async fn write_anew(&self, writer: &WriterQueue) -> bool {
        let mut retry = Retry::new(&self.progress);
        let (rows, head) = loop {
            let folded = tokio::select! {
                biased;
                () = writer.closed() => return false,
                folded = self.fold_all() => folded,
            };
            match folded {
                Ok(folded) => break folded,
                Err(error) => retry.failed(&StoreError::passing("cannot be written anew", error.to_string())).await,
            }
        };
        self.progress.publish_attempt(head);
        // No position until then: a rebuild that is under way gives up, and makes room for this.
        while let Err(error) = Arc::clone(&self.projection).reset(&rows, head).await {
            retry.failed(&error).await;
        }
        *self.position.lock().await = Some(head);
        retry.succeeded();
        self.progress.publish_projected(head);
        info!(sequence = %head.sequence, "the projection is written anew");
        true
    }
}

impl Projector {
    async fn fold_all(&self) -> Result<(Rows, Head), RebuildError> {
        let durable = self.progress.durable_head();
        let (rows, head) = all_rows_at(&self.open_history, durable.sequence).await?;
        let other = || HistoryFailure("the log is not the one that is being written".into());
        if head == durable { Ok((rows, head)) } else { Err(other().into()) }
    }
}

/// Attempts that go on until one works, with growing pauses, for all to see.
struct Retry<'p> {
    progress: &'p Progress,
    pause: Duration,
}

impl<'p> Retry<'p> {
    fn new(progress: &'p Progress) -> Self {
        Self { progress, pause: RETRY_MIN }
    }

    async fn failed(&mut self, error: &StoreError) {
        let (lag_events, retry_ms) = (self.progress.lag_events(), self.pause.as_millis());
        warn!(%error, lag_events, retry_ms, "the projection is held up");
        self.progress.publish_projection_error(Some(error.to_string()));
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(RETRY_MAX);
    }

    fn succeeded(&self) {
        if self.progress.projection_error().is_some() {
            info!("the projection works again");
            self.progress.publish_projection_error(None);
        }
    }
}
