//! What is done to a server while clients send.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::torture::plan::{Cycle, Ending, Kind};
use crate::torture::round::Round;
use crate::torture::run::Run;
use crate::torture::server::Server;

/// How often is looked whether something happened.
const LOOK: Duration = Duration::from_millis(5);
/// How long the server's files are limited at most before an event is turned away: on a slow disk a
/// single client needs its time to fill the rest of a segment.
const FULL_WITHIN: Duration = Duration::from_secs(60);
/// How often the limit follows the log into its next segment.
const LIMIT_AGAIN: Duration = Duration::from_secs(1);
/// How long a server may take to go on once its files may grow again.
const ON_WITHIN: Duration = Duration::from_secs(15);

impl Run<'_> {
    /// What happens while clients send; the error says what the server did wrong.
    pub(super) async fn hurt(&mut self, server: &mut Server, cycle: &Cycle, round: &Round) -> Result<(), String> {
        if cycle.kind == Kind::FullDisk {
            self.wait(server, cycle.load / 2).await?;
            if !self.fill_disk(server, cycle, round).await? {
                self.report.full_disks_ended += 1;
                return Ok(());
            }
            self.report.full_disks_survived += 1;
        }
        self.wait(server, cycle.load).await?;
        if !self.accepts_more_than(0, server, round).await? {
            return Err("ended by itself".into());
        }
        match cycle.ending {
            Ending::Kill => {
                self.report.kills += 1;
                server.kill().await
            }
            Ending::Stop => {
                self.report.stops += 1;
                server.stop().await
            }
        }
    }

    /// Lets clients send for a while, during which the server has to stay.
    async fn wait(&self, server: &mut Server, while_: Duration) -> Result<(), String> {
        let begin = Instant::now();
        while begin.elapsed() < while_ && !self.stop.is_cancelled() {
            if let Some(status) = server.ended() {
                return Err(format!("ended by itself: {status}"));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Lets the server's files grow no more until it turns an event away, then lets them grow again.
    /// Tells whether it went on; one that ends instead is recovered by the next start.
    async fn fill_disk(&self, server: &mut Server, cycle: &Cycle, round: &Round) -> Result<bool, String> {
        let turned_away = || round.turned_away.load(Ordering::Relaxed);
        let before = turned_away();
        let begin = Instant::now();
        let (mut again, mut limit_bytes) = (Duration::ZERO, u64::MAX);
        while turned_away() == before {
            if server.ended().is_some() {
                return Ok(false);
            }
            if begin.elapsed() >= again {
                let segment_bytes = self.folder.last_segment_bytes().map_err(|error| format!("has no log: {error}"))?;
                // Never further away than it was, or slow clients would never come to it.
                limit_bytes = limit_bytes.min(segment_bytes + cycle.spare_bytes);
                server.limit_files(Some(limit_bytes))?;
                again += LIMIT_AGAIN;
            }
            if begin.elapsed() > FULL_WITHIN {
                server.limit_files(None)?;
                return Err("went on as if its files could grow".into());
            }
            sleep(LOOK).await;
        }
        sleep(cycle.load / 2).await;
        server.limit_files(None)?;
        let before = round.acknowledged.load(Ordering::Relaxed);
        self.accepts_more_than(before, server, round).await
    }

    /// Waits until the server takes in something more; false when it ends instead.
    async fn accepts_more_than(&self, before: u64, server: &mut Server, round: &Round) -> Result<bool, String> {
        let begin = Instant::now();
        while round.acknowledged.load(Ordering::Relaxed) <= before && !self.stop.is_cancelled() {
            if server.ended().is_some() {
                return Ok(false);
            }
            if begin.elapsed() > ON_WITHIN {
                return Err(format!("accepted nothing for {} s", ON_WITHIN.as_secs()));
            }
            sleep(LOOK).await;
        }
        Ok(true)
    }
}
