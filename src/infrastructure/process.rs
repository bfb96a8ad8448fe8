//! What the system grants this process and those that it starts, and what it tells this one.

use std::io;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels on the first SIGTERM or Ctrl-C. A second one changes nothing: every step after it is
/// bounded.
pub fn cancel_on_signal(stop: &CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

/// Has the system answer a write past its limit of a file's length (`ulimit -f`) with an error, like
/// a full disk; it would kill the process otherwise. Holds until the process ends.
pub fn survive_long_files() -> io::Result<()> {
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

/// Has the system give this process memory in small pages. With huge ones, of which a corner is in use
/// after a busy hour, it would hold far more than it needs. For the server: a command that reads the
/// whole log and ends is faster with huge ones.
#[cfg(target_os = "linux")]
pub fn use_small_pages() {
    // A system that refuses gives what it likes, and the service works with that.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Elsewhere there is no such choice.
#[cfg(not(target_os = "linux"))]
pub fn use_small_pages() {}

/// Raises the number of file descriptors that may be open to the most that the system grants
/// without asking; returns it. `None` is no limit.
///
/// The lower limit that processes are started with protects programs that use `select`, which
/// nothing here does.
pub fn raise_descriptor_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // Some systems say that there is no limit, and have one all the same.
    if raised.is_ok() { maximum } else { current }
}

/// Has the system kill this process when the one that started it ends, in whatever way.
#[cfg(target_os = "linux")]
pub fn end_with_parent(parent: i32) -> io::Result<()> {
    use rustix::process::{getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before it was asked for.
    if getppid() == Pid::from_raw(parent) { Ok(()) } else { Err(io::Error::other("its parent has ended")) }
}

/// Other systems have no such order.
#[cfg(not(target_os = "linux"))]
pub fn end_with_parent(_parent: i32) -> io::Result<()> {
    Ok(())
}

/// Lets no file of a process that this one started grow beyond this length; `None` takes the limit
/// away again.
#[cfg(target_os = "linux")]
pub fn limit_file_size(pid: Pid, bytes: Option<u64>) -> io::Result<()> {
    // The upper limit was inherited, and only a privileged process may raise it.
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit { current: bytes.or(maximum), maximum };
    rustix::process::prlimit(Some(pid), Resource::Fsize, limit).map(|_| ()).map_err(Into::into)
}

/// Other systems cannot limit a process that runs already.
#[cfg(not(target_os = "linux"))]
pub fn limit_file_size(_pid: Pid, _bytes: Option<u64>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
