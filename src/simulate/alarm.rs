//! Waking up at a moment, not at the millisecond after it.
//!
//! The runtime's own timers tick once a millisecond, which is longer than a fast server needs for an
//! answer; what is counted from the moment at which an event was due would mostly be that. A timer of
//! the system's is exact, and wakes through the same door as the sockets.

use std::io;
use std::time::{Duration, Instant};

/// Wakes its owner at a moment.
#[derive(Debug)]
pub struct Alarm {
    #[cfg(target_os = "linux")]
    timer: tokio::io::unix::AsyncFd<rustix::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Alarm {
    #[expect(deprecated, reason = "an OwnedFd stays open and the same, which is what the new call has one promise")]
    pub fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer: tokio::io::unix::AsyncFd::with_interest(timer, tokio::io::Interest::READABLE)? })
    }

    /// Waits for the moment, however long ago that was.
    pub async fn wait_until(&mut self, moment: Instant) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, timerfd_settime};
        let left = moment.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Duration::ZERO.try_into().map_err(io::Error::other)?,
            it_value: left.try_into().map_err(io::Error::other)?,
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
            if let Ok(read) = read {
                return read.map(drop);
            }
        }
    }
}

/// Other systems have the runtime's timers.
#[cfg(not(target_os = "linux"))]
impl Alarm {
    pub fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    pub async fn wait_until(&mut self, moment: Instant) -> io::Result<()> {
        tokio::time::sleep_until(moment.into()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_is_woken_early_and_nobody_waits_for_what_is_past() {
        let mut alarm = Alarm::new().unwrap();
        let begin = Instant::now();
        alarm.wait_until(begin).await.unwrap();
        for micros in [300, 5_000, 1] {
            let moment = Instant::now() + Duration::from_micros(micros);
            alarm.wait_until(moment).await.unwrap();
            assert!(Instant::now() >= moment);
        }
        // One that is given up does not ring for the next.
        let far = Instant::now() + Duration::from_secs(3_600);
        let given_up = tokio::time::timeout(Duration::from_millis(1), alarm.wait_until(far)).await;
        assert!(given_up.is_err());
        let moment = Instant::now() + Duration::from_millis(2);
        alarm.wait_until(moment).await.unwrap();
        assert!((moment..far).contains(&Instant::now()));
    }
}
