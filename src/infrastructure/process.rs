//! What the system grants this process, and those that it starts.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

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
pub fn end_with_parent(parent: i32) -> std::io::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before it was asked for.
    if getppid() == Pid::from_raw(parent) { Ok(()) } else { Err(std::io::Error::other("its parent has ended")) }
}

/// Other systems have no such order.
#[cfg(not(target_os = "linux"))]
pub fn end_with_parent(_parent: i32) -> std::io::Result<()> {
    Ok(())
}

/// Lets no file of a process that this one started grow beyond this length; `None` takes the limit
/// away again.
#[cfg(target_os = "linux")]
pub fn limit_file_size(pid: Pid, bytes: Option<u64>) -> std::io::Result<()> {
    // The upper limit was inherited, and only a privileged process may raise it.
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit { current: bytes.or(maximum), maximum };
    rustix::process::prlimit(Some(pid), Resource::Fsize, limit).map(|_| ()).map_err(Into::into)
}

/// Other systems cannot limit a process that runs already.
#[cfg(not(target_os = "linux"))]
pub fn limit_file_size(_pid: Pid, _bytes: Option<u64>) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
