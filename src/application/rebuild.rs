//! Rebuilding: a second projection is made from the log beside the first, brought to where that
//! stands, compared with it, and put in its place.
//!
//! Beside a running service the second one follows the first until it is near; then the first is
//! held still for a moment, in which the last records are taken in, the state hash of every locker
//! is compared, and both change places. Events go on being recorded in that moment, and queries
//! wait.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

use crate::application::ports::{HistoryFailure, Projection, Records, Standing, StoreError};
use crate::application::progress::Progress;
use crate::application::project::Position;
use crate::domain::hash::StateHash;
use crate::domain::ids::{LockerId, Sequence};
use crate::domain::record::Head;
use crate::domain::rows::Rows;
use crate::domain::world::{Counts, Touched, World};

/// How near the second projection comes to the first before that is held still, in events.
const NEAR_EVENTS: u64 = 1_000;
/// How often it tries to come near: a log that grows faster than it can be read ends the attempts.
const MAX_ROUNDS: usize = 100;
/// How often it looks whether the first projection is still of use.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How many lockers are named whose hashes differ; the rest are counted.
const MAX_NAMED_LOCKERS: usize = 20;

/// What a rebuild did.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
pub struct RebuildReport {
    /// The records that were folded.
    pub records: u64,
    pub lockers: u64,
    pub compartments: u64,
    pub reservations: u64,
    /// How many lockers' state hashes were compared with the old projection; null when that could
    /// not be read, or was of another log.
    pub compared_lockers: Option<u64>,
    /// How many of them differed. Only a forced rebuild ends with any.
    pub differing_lockers: u64,
    pub elapsed_ms: u64,
}

impl RebuildReport {
    /// Of a rebuild that compared nothing yet.
    #[must_use]
    pub fn of(world: &World, head: Head) -> Self {
        let Counts { lockers, compartments, reservations } = world.counts();
        Self {
            records: head.sequence.get(),
            lockers,
            compartments,
            reservations,
            compared_lockers: None,
            differing_lockers: 0,
            elapsed_ms: 0,
        }
    }

    /// The report of a rebuild that ends now.
    #[must_use]
    pub fn after(self, begin: Instant) -> Self {
        Self { elapsed_ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX), ..self }
    }
}

/// Why nothing was replaced.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("a rebuild is under way already")]
    UnderWay,
    #[error("the projection is not where it was left and is being written anew already")]
    BeingWrittenAnew,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    History(#[from] HistoryFailure),
    #[error("sequence {0}: {1}")]
    Impossible(Sequence, String),
    #[error("{0}")]
    Differs(Differences),
}

/// Lockers whose state hash in the projection is not the one that the log gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// In the order of their ids; not all of them when there are many.
    pub named: Vec<LockerId>,
    pub count: usize,
}

impl Differences {
    /// Compares what the log gives with what is stored. A locker that only one side has differs.
    #[must_use]
    pub fn between(folded: &BTreeMap<LockerId, StateHash>, stored: &BTreeMap<LockerId, StateHash>) -> Self {
        let changed = folded.iter().filter(|(id, hash)| stored.get(*id) != Some(*hash)).map(|(id, _)| id);
        let surplus = stored.keys().filter(|id| !folded.contains_key(*id));
        let mut all: Vec<_> = changed.chain(surplus).collect();
        all.sort_unstable();
        Self { named: all.iter().take(MAX_NAMED_LOCKERS).map(|id| (*id).clone()).collect(), count: all.len() }
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = self.named.iter().map(|id| format!("{:?}", id.as_str())).collect();
        write!(f, "the log gives another state than the projection holds for {} lockers: ", self.count)?;
        write!(f, "{}", named.join(", "))?;
        if self.count > named.len() {
            write!(f, " and {} more", self.count - named.len())?;
        }
        write!(
            f,
            ". Nothing was replaced. `lockstream verify` tells each difference; when it finds the log sound, somebody \
             changed the database, and `lockstream rebuild --force` takes the log's word"
        )
    }
}

/// How far a rebuild is, in events.
#[derive(Debug, Clone, Copy, Serialize, serde::Deserialize)]
pub struct RebuildProgress {
    pub read_events: u64,
    pub total_events: u64,
}

type OnProgress = Arc<dyn Fn(RebuildProgress) + Send + Sync>;
/// Begins to read the log.
pub type OpenHistory = Arc<dyn Fn() -> Result<Records, HistoryFailure> + Send + Sync>;

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
        let fold = Fold::new((self.open_history)()?);
        let successor = Arc::clone(&self.live).successor().await?;
        let mut next = Next { fold, written: Head::default(), on_progress };
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

    /// Brings the second projection to where the first stands and compares them. The first stands
    /// still as long as the answer lives.
    async fn compare(
        &self,
        second: &dyn Projection,
        next: &mut Next,
        force: bool,
    ) -> Result<(MutexGuard<'_, Option<Head>>, RebuildReport), RebuildError> {
        for _ in 0..MAX_ROUNDS {
            tokio::select! {
                advanced = next.advance(second, self.progress.projected()) => advanced?,
                () = self.wait_until_written_anew() => return Err(RebuildError::BeingWrittenAnew),
            }
            if self.progress.projected().get().saturating_sub(next.written.sequence.get()) <= NEAR_EVENTS {
                break;
            }
        }
        let position = self.position.lock().await;
        let at = position.ok_or(RebuildError::BeingWrittenAnew)?;
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
            ..RebuildReport::of(&next.fold.world, at)
        };
        Ok((position, report))
    }
}

/// The rows of everything up to a record that is known to be durable, and the head that it made.
/// Reads the whole log: the writer has forgotten what is past. The reading ends soon after this is
/// dropped.
pub(crate) async fn all_rows_at(open: &OpenHistory, until: Sequence) -> Result<(Rows, Head), RebuildError> {
    let open = Arc::clone(open);
    let waiting = Arc::new(());
    let awaited = Arc::downgrade(&waiting);
    let folding = spawn_blocking(move || {
        let mut fold = Fold::new(open()?);
        let nobody_looks: OnProgress = Arc::new(|_| {});
        fold.follow(until, &nobody_looks, &awaited)?;
        Ok((fold.world.all_rows(), fold.head))
    });
    let folded = folding.await.expect("folding does not panic");
    drop(waiting);
    folded
}

/// The second projection under construction.
struct Next {
    fold: Fold,
    /// Up to where its rows are written.
    written: Head,
    on_progress: OnProgress,
}

impl Next {
    /// Folds the log up to `until` and writes what that changed. When it is dropped the fold ends
    /// too: the end of the process would wait for it.
    async fn advance(&mut self, projection: &dyn Projection, until: Sequence) -> Result<(), RebuildError> {
        let (mut fold, on_progress) = (std::mem::take(&mut self.fold), Arc::clone(&self.on_progress));
        let waiting = Arc::new(());
        let awaited = Arc::downgrade(&waiting);
        let folding = spawn_blocking(move || {
            let folded = fold.follow(until, &on_progress, &awaited);
            (fold, folded)
        });
        let (fold, folded) = folding.await.expect("folding does not panic");
        drop(waiting);
        self.fold = fold;
        folded?;
        let rows = self.fold.take_rows();
        match projection.advance(&rows, self.written, self.fold.head).await? {
            Standing::AsLeft => self.written = self.fold.head,
            Standing::Elsewhere(_) => return Err(RebuildError::UnderWay),
        }
        Ok(())
    }
}

/// The log, folded up to somewhere.
#[derive(Default)]
struct Fold {
    records: Option<Records>,
    world: World,
    touched: Touched,
    head: Head,
}

impl Fold {
    fn new(records: Records) -> Self {
        Self { records: Some(records), ..Self::default() }
    }

    /// Reads on up to a record that is known to be durable, and never beyond: what is behind it may
    /// be half written. Ends early when nobody awaits it any more.
    fn follow(&mut self, until: Sequence, on_progress: &OnProgress, awaited: &Weak<()>) -> Result<(), RebuildError> {
        let ended = || HistoryFailure("the log ends before its durable head".into());
        while self.head.sequence < until && awaited.strong_count() > 0 {
            let (record, head) = self.records.as_mut().and_then(Iterator::next).ok_or_else(ended)??;
            self.world
                .replay(&record, &mut self.touched)
                .map_err(|error| RebuildError::Impossible(record.sequence, error.to_string()))?;
            self.head = head;
            on_progress(RebuildProgress { read_events: head.sequence.get(), total_events: until.get() });
        }
        Ok(())
    }

    fn take_rows(&mut self) -> Rows {
        self.world.rows(&std::mem::take(&mut self.touched))
    }
}
