//! The projection task: brings the rows of whatever changed into the database.
//!
//! It pulls. Whenever the log is ahead it asks the writer for the rows of everything touched since
//! it last asked, as they now are, and writes them with the checkpoint in one transaction; what
//! happens meanwhile is merged into the next one. A start after a crash is the same step: the
//! writer then begins with everything touched that the checkpoint does not cover.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::application::ingest::WriterQueue;
use crate::application::ports::{Projection, StoreError};
use crate::application::progress::Progress;
use crate::domain::record::Head;
use crate::domain::rows::Rows;

/// The first pause after a failed transaction; doubled each time up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Writes rows until its writer ends.
pub struct Projector {
    pub projection: Arc<dyn Projection>,
    pub progress: Arc<Progress>,
}

impl Projector {
    /// Follows the writer; returns when that has ended and the rows taken from it are written.
    ///
    /// May be dropped in between, but then nothing more may be written by this process: the rows
    /// it held are missing, and only the next start knows that from the checkpoint.
    pub async fn follow(&self, writer: &WriterQueue) {
        loop {
            tokio::select! {
                biased;
                () = writer.closed() => return,
                () = self.progress.wait_for_lag() => {}
            }
            let Some((rows, head)) = writer.take_rows().await else { return };
            self.write(&rows, head).await;
        }
    }

    /// Writes one set of rows, as often as it takes. Rows are never let go of before they are in:
    /// the writer has forgotten by now that they were touched.
    pub async fn write(&self, rows: &Rows, head: Head) {
        let mut pause = RETRY_MIN;
        while let Err(error) = self.projection.apply(rows, head).await {
            self.failed(&error, pause);
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        if self.progress.projection_error().is_some() {
            info!(sequence = %head.sequence, "the projection works again");
            self.progress.publish_projection_error(None);
        }
        self.progress.publish_projected(head.sequence);
    }

    fn failed(&self, error: &StoreError, pause: Duration) {
        warn!(%error, lag_events = self.progress.lag_events(), retry_ms = pause.as_millis(), "the projection is held up");
        self.progress.publish_projection_error(Some(error.to_string()));
    }
}
