//! Rebuilding: a second projection is made from the log beside the first, brought to where that
//! stands, compared with it, and put in its place.
//!
//! Beside a running service the second one follows the first until it is near; then the first is
//! held still for a moment, in which the last records are taken in, the state hash of every locker
//! is compared, and both change places. Events go on being recorded in that moment, and queries
//! wait.

pub(crate) mod fold;
pub mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;
use tracing::warn;

use crate::application::ports::{HistoryFailure, Projection, Records};
use crate::application::progress::Progress;
use crate::application::project::Position;
use crate::application::rebuild::fold::Next;
use crate::application::rebuild::report::{Differences, RebuildError, RebuildProgress, RebuildReport};
use crate::domain::record::Head;

/// How near the second projection is to the first when that is held still, in events.
const NEAR_EVENTS: u64 = 1_000;
/// How often it tries to come near: a log that grows faster than it can be read ends the attempts,
/// and the first one is held still for longer.
const MAX_ROUNDS: usize = 100;
/// How often it looks whether the first projection is still of use.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

type OnProgress = Arc<dyn Fn(RebuildProgress) + Send + Sync>;
/// Begins to read the log.
pub type OpenHistory = Arc<dyn Fn() -> Result<Records, HistoryFailure> + Send + Sync>;

/// The first projection stands still as long as this lives.
struct Still<'a> {
    at: Head,
    since: Instant,
    _position: MutexGuard<'a, Option<Head>>,
}

/// Rebuilds the projection of a running service.
pub struct Rebuilder {
    live: Arc<dyn Projection>,
    position: Position,
    progress: Arc<Progress>,
    open_history: OpenHistory,
    under_way: Mutex<()>,
}

impl Rebuilder {
    pub fn new(
        live: Arc<dyn Projection>,
        position: Position,
        progress: Arc<Progress>,
        open_history: OpenHistory,
    ) -> Self {
        Self { live, position, progress, open_history, under_way: Mutex::new(()) }
    }

    /// Rebuilds; with `force` also where the old projection differs from what the log gives.
    pub async fn rebuild(&self, force: bool, on_progress: OnProgress) -> Result<RebuildReport, RebuildError> {
        let _alone = self.under_way.try_lock().map_err(|_| RebuildError::UnderWay)?;
        let begin = Instant::now();
        let records = (self.open_history)()?;
        let successor = Arc::clone(&self.live).successor().await?;
        let mut next = Next::new(records, on_progress);
        let (still, report) = match self.compare(successor.projection(), &mut next, force).await {
            Ok(compared) => compared,
            Err(error) => {
                if let Err(left) = successor.abandon().await {
                    warn!(error = %left, "what there is of the second projection stays until the next rebuild");
                }
                return Err(error);
            }
        };
        let removal = match successor.take_over().await {
            Ok(removal) => removal,
            Err(error) => {
                self.progress.doubt_projection();
                return Err(error.into());
            }
        };
        let report = report.held_since(still.since);
        // Whoever still reads the replaced one may hold up its removal, and nothing else.
        drop(still);
        removal.await;
        Ok(report.after(begin))
    }

    /// Waits until the first projection is found to be of no use: what is to be written in its place
    /// waits for this rebuild to end.
    async fn wait_until_written_anew(&self) {
        loop {
            sleep(LOOK_PAUSE).await;
            if self.position.lock().await.is_none() {
                return;
            }
        }
    }

    /// Brings the second projection near to where the first stands, and holds that still.
    async fn come_near(&self, second: &dyn Projection, next: &mut Next) -> Result<Still<'_>, RebuildError> {
        let mut rounds_left = MAX_ROUNDS;
        loop {
            rounds_left -= 1;
            tokio::select! {
                advanced = next.advance(second, self.progress.projected()) => advanced?,
                () = self.wait_until_written_anew() => return Err(RebuildError::BeingWrittenAnew),
            }
            // A transaction of the first one may have been under way, so only now it is known how near it is.
            let position = self.position.lock().await;
            let at = position.ok_or(RebuildError::BeingWrittenAnew)?;
            if next.events_until(at.sequence) <= NEAR_EVENTS || rounds_left == 0 {
                return Ok(Still { at, since: Instant::now(), _position: position });
            }
        }
    }

    /// Brings the second projection to where the first stands and compares them.
    async fn compare(
        &self,
        second: &dyn Projection,
        next: &mut Next,
        force: bool,
    ) -> Result<(Still<'_>, RebuildReport), RebuildError> {
        let still = self.come_near(second, next).await?;
        let at = still.at;
        let held_events = next.events_until(at.sequence);
        next.advance(second, at.sequence).await?;
        let (live_at, stored) = self.live.state_hashes().await.inspect_err(|_| self.progress.doubt_projection())?;
        let (second_at, folded) = second.state_hashes().await?;
        if live_at != at || second_at != at {
            self.progress.doubt_projection();
            return Err(RebuildError::BeingWrittenAnew);
        }
        let differences = Differences::between(&folded, &stored);
        if differences.count > 0 && !force {
            return Err(RebuildError::Differs(differences));
        }
        let report = RebuildReport {
            compared_lockers: Some(stored.len() as u64),
            differing_lockers: differences.count as u64,
            held_events,
            ..RebuildReport::of(next.world(), at)
        };
        Ok((still, report))
    }
}
