//! One clock for all senders of a thread, which wakes each of them when its event is due.
//!
//! A timer for each sender would wake the process for each event, however fast they come: at a high rate
//! a third of what an event costs. Here those that are due within the same step are woken together, and
//! one that is due alone is woken at its moment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::mem;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::simulate::alarm::Alarm;

/// Its rings are this far apart at least, so it adds no more to a latency.
const STEP: Duration = Duration::from_micros(250);

#[derive(Debug, Default)]
pub struct Clock {
    waiting: RefCell<Waiting>,
    /// Somebody is to be woken sooner than the first one until now.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By when they are to be woken; those of one moment by when they came.
    all: BTreeMap<(Instant, u64), oneshot::Sender<()>>,
    came: u64,
}

impl Clock {
    /// Waits for a moment, however long ago that was, while [`Self::run`] runs.
    pub async fn wait_until(&self, moment: Instant) {
        if moment <= Instant::now() {
            return;
        }
        let rung = self.waiting.borrow_mut().insert(moment);
        if self.waiting.borrow().first() == Some(moment) {
            self.sooner.notify_one();
        }
        // It is woken or given up: the clock drops nobody who waits.
        let _ = rung.await;
    }

    /// Wakes who waits. Ends only when the system has no timers.
    pub async fn run(&self) -> io::Result<Infallible> {
        let mut alarm = Alarm::new()?;
        let mut next = Instant::now();
        loop {
            let first = self.waiting.borrow().first();
            let Some(first) = first else {
                self.sooner.notified().await;
                continue;
            };
            let moment = first.max(next);
            tokio::select! {
                rung = alarm.wait_until(moment) => rung?,
                () = self.sooner.notified() => continue,
            }
            self.waiting.borrow_mut().wake(Instant::now());
            next = moment + STEP;
        }
    }
}

impl Waiting {
    fn insert(&mut self, moment: Instant) -> oneshot::Receiver<()> {
        let (ring, rung) = oneshot::channel();
        self.came += 1;
        self.all.insert((moment, self.came), ring);
        rung
    }

    fn first(&self) -> Option<Instant> {
        self.all.first_key_value().map(|((moment, _), _)| *moment)
    }

    fn wake(&mut self, now: Instant) {
        let later = self.all.split_off(&(now, u64::MAX));
        for ring in mem::replace(&mut self.all, later).into_values() {
            // Nobody listens any more where the simulation stopped.
            let _ = ring.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::task::LocalSet;
    use tokio::time::timeout;

    use super::*;

    /// Far longer than any of this takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// Runs beside a running clock.
    async fn beside<T>(work: impl AsyncFnOnce(Rc<Clock>) -> T) -> T {
        let clock = Rc::new(Clock::default());
        let (running, local) = (Rc::clone(&clock), LocalSet::new());
        tokio::select! {
            stopped = running.run() => panic!("it runs for ever: {stopped:?}"),
            done = timeout(PATIENCE, local.run_until(work(clock))) => done.expect("the clock rings"),
        }
    }

    #[tokio::test]
    async fn nobody_is_woken_early_in_whatever_order_they_come() {
        beside(async |clock| {
            let begin = Instant::now();
            clock.wait_until(begin).await;
            let senders = [9_000, 3_000, 100, 3_400, 6_000, 3_000, 50, 6_700].map(|after| {
                let (clock, moment) = (Rc::clone(&clock), begin + micros(after));
                tokio::task::spawn_local(async move {
                    clock.wait_until(moment).await;
                    (Instant::now() >= moment, after)
                })
            });
            for sender in senders {
                let (in_time, after) = sender.await.unwrap();
                assert!(in_time, "the one after {after} µs");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn one_that_comes_later_and_is_due_sooner_does_not_wait_for_the_first() {
        beside(async |clock| {
            let far = Instant::now() + Duration::from_secs(3_600);
            let first = tokio::task::spawn_local({
                let clock = Rc::clone(&clock);
                async move { clock.wait_until(far).await }
            });
            tokio::task::yield_now().await;
            clock.wait_until(Instant::now() + micros(500)).await;
            // And one that gave up is nothing to the next.
            first.abort();
            clock.wait_until(Instant::now() + micros(500)).await;
        })
        .await;
    }

    #[tokio::test]
    async fn it_rings_once_a_step_at_most() {
        beside(async |clock| {
            let begin = Instant::now();
            for _ in 0..21 {
                clock.wait_until(Instant::now() + micros(100)).await;
            }
            assert!(begin.elapsed() >= 20 * STEP, "{:?}", begin.elapsed());
        })
        .await;
    }
}
