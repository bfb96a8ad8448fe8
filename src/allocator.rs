//! The allocator of the binary, and what it is told.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`.
const PURGE_DELAY: mi_option_t = 15;
/// How long memory that is free waits to be used again before the system has it back, in milliseconds.
/// By default that is a second, and the allocator looks for it only while somebody asks for memory: a
/// service that comes to rest after a busy hour would keep what it had then.
const GIVE_BACK_AFTER_MS: c_long = 20;

/// Has memory that is free given back soon.
#[expect(unsafe_code, reason = "the allocator is told in no other way")]
pub fn give_back_soon() {
    // SAFETY: sets a number in a table of the allocator, which may be done at any time.
    unsafe { mi_option_set(PURGE_DELAY, GIVE_BACK_AFTER_MS) }
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
