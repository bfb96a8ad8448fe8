//! The disk by itself: what one sync of a few appended bytes takes in the folder that the servers use.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::statfs;

use crate::Failure;

const TMPFS: u64 = 0x0102_1994;

/// Refuses a folder in memory: syncs cost nothing there.
pub fn require_disk(folder: &Path) -> Result<(), Failure> {
    let found = statfs(folder).map_err(|error| format!("{} cannot be looked at: {error}", folder.display()))?;
    if u64::try_from(found.f_type) == Ok(TMPFS) {
        return Err(format!("{} lies in memory; --data has to name a folder on a disk", folder.display()).into());
    }
    Ok(())
}

/// Appends 4 KiB and syncs, again and again, and gives the time of each sync.
pub fn syncs(folder: &Path, time: Duration) -> Result<Vec<Duration>, Failure> {
    appended(folder, time, |_| {}, |_, written| written)
}

/// The same at a steady pace, each counted from when it was due: whoever asks only when the last answer
/// is there does not see how many would have waited for it ("coordinated omission").
///
/// `None` when it cannot keep the pace: the wait would then grow with the time, and say nothing.
pub fn syncs_when_due(folder: &Path, every: Duration, time: Duration) -> Result<Option<Vec<Duration>>, Failure> {
    let begin = Instant::now();
    let due = |number| begin + every * number;
    let pause = |number| thread::sleep(due(number).saturating_duration_since(Instant::now()));
    let syncs = appended(folder, time, pause, |number, _| due(number))?;
    let kept_pace = syncs.len() as f64 >= time.as_secs_f64() / every.as_secs_f64() * 0.95;
    Ok(kept_pace.then_some(syncs))
}

/// Appends and syncs for a while, each after its `pause`. `since` says from when on it counts, given its
/// number and when it was written.
fn appended(
    folder: &Path,
    time: Duration,
    pause: impl Fn(u32),
    since: impl Fn(u32, Instant) -> Instant,
) -> Result<Vec<Duration>, Failure> {
    let path = folder.join("sync-probe");
    let mut file = File::create(&path)?;
    let mut syncs = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < time {
        let number = u32::try_from(syncs.len())?;
        pause(number);
        file.write_all(&[b'x'; 4096])?;
        let written = Instant::now();
        file.sync_data()?;
        syncs.push(since(number, written).elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(syncs)
}
