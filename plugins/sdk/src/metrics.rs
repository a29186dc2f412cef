//! Counters: counted here, told to the host once a batch.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::bindings::lifecycle::sluicegate::plugin::metrics;

/// The most counters of one plugin.
pub const COUNTERS_MAX: usize = 32;

static COUNTS: [AtomicU32; COUNTERS_MAX] = [const { AtomicU32::new(0) }; COUNTERS_MAX];

/// Adds one to the counter with this index in [`Plugin::COUNTERS`](crate::Plugin::COUNTERS). Costs an addition.
#[inline]
pub fn count(index: usize) {
    if let Some(count) = COUNTS.get(index) {
        count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

/// Tells the host what the first `counters` counters have counted since the last time.
pub(crate) fn flush(counters: usize) {
    for (index, count) in COUNTS.iter().enumerate().take(counters) {
        let delta = count.swap(0, Relaxed);
        if delta > 0 {
            metrics::add(index as u32, delta);
        }
    }
}
