//! The log, folded for a rebuild, and the rows that this gives.

use std::sync::{Arc, Weak};

use tokio::task::spawn_blocking;

use crate::application::ports::{HistoryFailure, Projection, Records, Standing};
use crate::application::rebuild::report::{RebuildError, RebuildProgress};
use crate::application::rebuild::{OnProgress, OpenHistory};
use crate::domain::ids::Sequence;
use crate::domain::record::Head;
use crate::domain::rows::Rows;
use crate::domain::world::{Touched, World};

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
pub(super) struct Next {
    fold: Fold,
    /// Up to where its rows are written.
    written: Head,
    on_progress: OnProgress,
}

impl Next {
    /// Nothing yet, of the log that these records come from.
    pub(super) fn new(records: Records, on_progress: OnProgress) -> Self {
        Self { fold: Fold::new(records), written: Head::default(), on_progress }
    }

    pub(super) fn world(&self) -> &World {
        &self.fold.world
    }

    /// How many events there are from what is written up to this one.
    pub(super) fn events_until(&self, sequence: Sequence) -> u64 {
        sequence.get().saturating_sub(self.written.sequence.get())
    }

    /// Folds the log up to `until` and writes what that changed. When it is dropped the fold ends
    /// too: the end of the process would wait for it.
    pub(super) async fn advance(&mut self, second: &dyn Projection, until: Sequence) -> Result<(), RebuildError> {
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
        match second.advance(&rows, self.written, self.fold.head).await? {
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
