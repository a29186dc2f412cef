//! What plugins did and cost: counted with relaxed atomics by the thread that asks, read by whoever wants to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What one plugin of one pipeline did so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginStats {
    /// The plugin's name in the configuration.
    pub plugin: String,
    /// Calls into the plugin.
    pub calls: u64,
    /// Keys and frames that it was asked about.
    pub keys: u64,
    /// Keys and frames that it dropped.
    pub dropped: u64,
    /// Keys that it gave another name.
    pub renamed: u64,
    /// Instances lost to traps, broken answers and exceeded limits.
    pub traps: u64,
    /// Fresh instances after such a loss.
    pub restarts: u64,
    /// Instances replaced because their memory had grown.
    pub recycled: u64,
    /// Batches that the operator's policy decided because the plugin could not.
    pub by_policy: u64,
    /// The instance's linear memory. Bytes.
    pub memory_bytes: u64,
    /// Time spent in calls. Nanoseconds.
    pub nanoseconds: u64,
    /// The plugin's own counters, by name.
    pub counters: Vec<(String, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Cell {
    plugin: String,
    pub(crate) calls: AtomicU64,
    pub(crate) keys: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) renamed: AtomicU64,
    pub(crate) traps: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) recycled: AtomicU64,
    pub(crate) by_policy: AtomicU64,
    pub(crate) memory_bytes: AtomicU64,
    pub(crate) nanoseconds: AtomicU64,
    counters: Vec<(String, AtomicU64)>,
}

impl Cell {
    pub(crate) fn new(plugin: &str, counters: &[String]) -> Self {
        let counters = counters.iter().map(|name| (name.clone(), AtomicU64::new(0))).collect();
        Self { plugin: plugin.into(), counters, ..Self::default() }
    }

    /// Counts for the plugin. An index that it did not declare is ignored: it harms nobody.
    pub(crate) fn count(&self, index: u32, delta: u32) {
        if let Some((_, counter)) = self.counters.get(index as usize) {
            counter.fetch_add(u64::from(delta), Relaxed);
        }
    }

    fn read(&self) -> PluginStats {
        PluginStats {
            plugin: self.plugin.clone(),
            calls: self.calls.load(Relaxed),
            keys: self.keys.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            renamed: self.renamed.load(Relaxed),
            traps: self.traps.load(Relaxed),
            restarts: self.restarts.load(Relaxed),
            recycled: self.recycled.load(Relaxed),
            by_policy: self.by_policy.load(Relaxed),
            memory_bytes: self.memory_bytes.load(Relaxed),
            nanoseconds: self.nanoseconds.load(Relaxed),
            counters: self.counters.iter().map(|(name, count)| (name.clone(), count.load(Relaxed))).collect(),
        }
    }
}

/// Reads the counters of a pipeline, from any thread, also while it is asked.
#[derive(Debug, Clone)]
pub struct StatsHandle {
    pub(crate) cells: Arc<[Arc<Cell>]>,
}

impl StatsHandle {
    /// The counters as they are now, in the order of the pipeline.
    pub fn read(&self) -> Vec<PluginStats> {
        self.cells.iter().map(|cell| cell.read()).collect()
    }
}
