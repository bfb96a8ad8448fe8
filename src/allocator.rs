//! The allocator of the binary, and what it is told.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_long;
use std::time::Duration;

use libmimalloc_sys::{
    mi_collect, mi_free, mi_malloc, mi_malloc_aligned, mi_option_set, mi_option_t, mi_realloc, mi_realloc_aligned,
    mi_zalloc, mi_zalloc_aligned,
};
use tokio::time::sleep;

#[global_allocator]
static ALLOCATOR: Mimalloc = Mimalloc;

/// mimalloc, asked for an alignment only where that is more than what it gives anyway.
///
/// The crate `mimalloc` asks for one each time. Where the free blocks of a size are used up for the
/// moment, such a question does not look for those that were given back meanwhile, unless the size is a
/// power of two: it takes a larger block and an aligned place in it
/// (`mi_theap_malloc_zero_aligned_at_generic`).
struct Mimalloc;

/// `MI_MAX_ALIGN_SIZE` of mimalloc's `types.h`: how a block lies that is at least as large as this.
const GIVEN_ALIGNMENT: usize = 16;

/// Whether a block of this size lies right by itself: no block is smaller than a word, and one that
/// has room for the alignment is a multiple of it up to what is given.
const fn is_given(size: usize, alignment: usize) -> bool {
    alignment <= size_of::<usize>() || (alignment <= GIVEN_ALIGNMENT && alignment <= size)
}

#[expect(unsafe_code, reason = "what an allocator has to be")]
// SAFETY: mimalloc gives blocks of at least the size that is asked for, which overlap with no other, and
// `is_given` tells those that lie right without being asked for it. It may be called on any thread and
// does not unwind.
unsafe impl GlobalAlloc for Mimalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: any size will do, and the alignment of a layout is a power of two.
        unsafe { if is_given(size, alignment) { mi_malloc(size) } else { mi_malloc_aligned(size, alignment) }.cast() }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: as above.
        unsafe { if is_given(size, alignment) { mi_zalloc(size) } else { mi_zalloc_aligned(size, alignment) }.cast() }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller has the block from here.
        unsafe { mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (block, alignment) = (block.cast(), layout.align());
        // SAFETY: the caller has the block from here; otherwise as above.
        unsafe {
            if is_given(size, alignment) { mi_realloc(block, size) } else { mi_realloc_aligned(block, size, alignment) }
                .cast()
        }
    }
}

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
    use std::slice;

    use libmimalloc_sys::{mi_good_size, mi_option_get, mi_usable_size};

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the allocator is asked in no other way")]
    fn a_block_lies_as_was_asked_for_and_holds_what_it_should() {
        let of = |size, alignment| Layout::from_size_align(size, alignment).unwrap();
        for alignment in (0..=12).map(|power| 1 << power) {
            for size in (1_usize..200).chain([256, 1_000, 1_024, 5_000, 100_000]) {
                // Grown by a little and by much, and made smaller than an alignment.
                for changed in [size + 9, 3 * size, size.div_ceil(2), 1] {
                    // SAFETY: each block is given back once, with the layout that it has by then, and is
                    // touched only as far as that reaches.
                    unsafe {
                        let zeroed = Mimalloc.alloc_zeroed(of(size, alignment));
                        assert!(slice::from_raw_parts(zeroed, size).iter().all(|byte| *byte == 0));
                        let blocks = [zeroed, Mimalloc.alloc(of(size, alignment))].map(|block| {
                            assert!(block.addr().is_multiple_of(alignment), "{size} bytes at {alignment}");
                            block.write_bytes(7, size);
                            Mimalloc.realloc(block, of(size, alignment), changed)
                        });
                        for block in blocks {
                            assert!(block.addr().is_multiple_of(alignment), "{size}, then {changed} at {alignment}");
                            let kept = slice::from_raw_parts(block, size.min(changed));
                            assert!(kept.iter().all(|byte| *byte == 7));
                            Mimalloc.dealloc(block, of(changed, alignment));
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[expect(unsafe_code, reason = "the allocator is asked in no other way")]
    fn a_block_is_no_larger_than_its_size_needs() {
        let layout = Layout::new::<[u64; 12]>();
        // SAFETY: each block is given back once.
        unsafe {
            for _round in 0..3 {
                let blocks: Vec<_> = (0..5_000).map(|_| Mimalloc.alloc(layout)).collect();
                assert!(blocks.iter().all(|block| mi_usable_size(block.cast()) == mi_good_size(layout.size())));
                for block in blocks {
                    Mimalloc.dealloc(block, layout);
                }
            }
        }
    }

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
