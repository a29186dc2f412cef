//! What a view shows: once as a function on names, for the checkers, and once as a pipeline, for the proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sluicegate_core::pipeline::{Answers, FrameBatch, KeyBatch, Pipeline, PluginFault, Traits};

/// A way of seeing the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lens {
    /// Everything.
    Identity,
    /// Everything but what begins with `hid:`.
    Filter,
    /// Everything; `mv:…` is called `new:…` and the other way round.
    Rename,
    /// Both of these.
    FilterRename,
}

impl Lens {
    /// Every lens.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Filter, Self::Rename, Self::FilterRename];

    /// Whether it gives keys other names.
    pub fn renames(self) -> bool {
        matches!(self, Self::Rename | Self::FilterRename)
    }

    /// The view's name of a key; `None` if the view does not have it. It is its own inverse.
    pub fn name(self, key: &[u8]) -> Option<Vec<u8>> {
        if matches!(self, Self::Filter | Self::FilterRename) && key.starts_with(b"hid:") {
            return None;
        }
        for (from, to) in [(&b"mv:"[..], &b"new:"[..]), (b"new:", b"mv:")] {
            if let Some(rest) = key.strip_prefix(from).filter(|_| self.renames()) {
                return Some([to, rest].concat());
            }
        }
        Some(key.to_vec())
    }
}

/// A lens as a pipeline.
#[derive(Debug, Clone)]
pub struct Native {
    lens: Lens,
    /// Keys that may still be asked about before the plugin fails for good; `None`: any number.
    keys_left: Option<Arc<AtomicU64>>,
    /// A planted fault: answers change with the number of batches.
    fickle: bool,
    batches: u64,
}

impl Native {
    /// The pipeline of `lens`.
    pub fn new(lens: Lens, keys_left: Option<Arc<AtomicU64>>, fickle: bool) -> Self {
        Self { lens, keys_left, fickle, batches: 0 }
    }

    /// Whether it has failed for good.
    pub fn has_failed(&self) -> bool {
        self.keys_left.as_ref().is_some_and(|left| left.load(Ordering::Relaxed) == 0)
    }
}

impl Pipeline for Native {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        self.batches += 1;
        if let Some(left) = &self.keys_left {
            let rest = left.load(Ordering::Relaxed).saturating_sub(batch.len() as u64);
            left.store(rest, Ordering::Relaxed);
            if rest == 0 {
                return Err(PluginFault { plugin: "ailing".into(), what: "trap: unreachable".into() });
            }
        }
        answers.keep_all(batch.len());
        for index in 0..batch.len() {
            let key = batch.get(index);
            match self.lens.name(key) {
                None => answers.drop_key(index),
                Some(name) if name != key => answers.rename_key(index, &name),
                Some(_) => {}
            }
            if self.fickle && self.batches.is_multiple_of(7) && index == 0 {
                answers.drop_key(index);
            }
        }
        Ok(())
    }

    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        keep.clear();
        keep.resize(batch.commands.len(), true);
        Ok(())
    }

    fn traits(&self) -> Traits {
        Traits { db_independent: true, renames: self.lens.renames(), decides_frames: false, inexact: false }
    }
}
