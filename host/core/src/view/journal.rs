//! What is in a view's stream and not in the upstream's: the record of values that were fetched. In memory, for as long as a
//! segment lasts.

use alloc::collections::VecDeque;

/// Entries that are kept.
const ENTRIES_MAX: usize = 1024;

/// Values that came at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repaired {
    /// The fence: the upstream's offset at which they were true.
    pub fence: u64,
    /// How many keys they were.
    pub keys: usize,
    /// The view's offset behind which they were put out, or held back with what overlaps them.
    pub view: u64,
}

/// The latest entries, in order.
#[derive(Debug, Default)]
pub(super) struct Journal(VecDeque<Repaired>);

impl Journal {
    pub(super) fn record(&mut self, repaired: Repaired) {
        if self.0.len() >= ENTRIES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(repaired);
    }

    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = Repaired> + '_ {
        self.0.iter().copied()
    }
}
