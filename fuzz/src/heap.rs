//! How much memory a piece of work takes: an allocator that counts what its thread holds.
//!
//! A length that a peer claims must never become memory before its bytes are there. A test of that has to see allocations, and
//! the only place where all of them pass is the global allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts for each thread.
struct Counted;

#[global_allocator]
static COUNTED: Counted = Counted;

thread_local! {
    /// Bytes that this thread has taken and not given back. Below zero where it freed another thread's.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// The most that `LIVE` has been since it was last set to it.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Runs `work` and tells the most bytes that it held at a time, beyond what was held before.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get().saturating_sub(before).unsigned_abs())
}

fn count(bytes: isize) {
    let live = LIVE.get().wrapping_add(bytes);
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

// SAFETY: every call goes to the system's allocator as it came; the counters are plain cells that allocate nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While the bytes are moved both places may be held.
        count(size.cast_signed());
        count(-layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_was_held_is_told_and_not_the_last() {
        let held = vec![0u8; 1000];
        let (length, bytes) = peak(|| {
            drop(vec![0u8; 5000]);
            vec![0u8; 300].len()
        });
        assert_eq!((length, held.len()), (300, 1000));
        assert_eq!(bytes, 5000);
    }
}
