//! The allocator of the binary, and what it is told.

use std::ffi::c_long;
use std::time::Duration;

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};
use tokio::time::sleep;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`.
const PURGE_DELAY: mi_option_t = 15;
/// How long memory that is free waits to be used again before the system may have it back, in
/// milliseconds. The default is a second.
const GIVE_BACK_AFTER_MS: c_long = 20;
/// How often it is given back while nobody asks for memory.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The variable by which whoever runs the service tells the allocator the same.
const VARIABLE: &str = "MIMALLOC_PURGE_DELAY";

/// Has memory that is free given back soon. To be called before there are other threads.
#[expect(unsafe_code, reason = "the allocator is told in no other way")]
pub fn give_back_soon() {
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: sets a number in a table of the allocator, and no other thread reads it yet.
        unsafe { mi_option_set(PURGE_DELAY, GIVE_BACK_AFTER_MS) }
    }
}

/// Gives back again and again what is free by then, for a service that rests after a busy hour: the
/// allocator itself looks only while somebody asks for memory or frees some. What other threads hold in
/// pages that are used in part stays with them.
pub async fn give_back_also_at_rest() {
    loop {
        sleep(LOOK_EVERY).await;
        #[expect(unsafe_code, reason = "the allocator is asked in no other way")]
        // SAFETY: frees nothing that is in use, and may be called on any thread.
        unsafe {
            mi_collect(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the allocator is asked in no other way")]
    fn what_is_set_is_the_delay() {
        // SAFETY: reads a number of the allocator's table.
        let delay_ms = || unsafe { mi_option_get(PURGE_DELAY) };
        // No other option has this default; a version that counts its options otherwise is found here.
        assert_eq!(delay_ms(), 1_000);
        give_back_soon();
        assert_eq!(delay_ms(), GIVE_BACK_AFTER_MS);
    }
}
