//! What the system grants this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
