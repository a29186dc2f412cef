//! What the view has of keys, asked of the same plugins that `run` asks.

use std::fmt::Display;

use sluicegate_core::pipeline::{Answers, Fate, KeyBatch, Pipeline, PluginFault};
use sluicegate_guest::GuestPipeline;

use crate::config::ConfigError;

/// A view.
pub(crate) struct View {
    name: String,
    /// `None`: a view without plugins.
    pipeline: Option<GuestPipeline>,
}

/// A key that the view has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) key: Vec<u8>,
    /// Its name in the view.
    pub(super) name: Vec<u8>,
}

impl View {
    pub(crate) fn new(name: &str, pipeline: Option<GuestPipeline>) -> Self {
        Self { name: name.into(), pipeline }
    }

    /// Whether plugins decide about frames without keys, and so about function libraries.
    pub(super) fn decides_frames(&self) -> bool {
        self.pipeline.as_ref().is_some_and(|pipeline| pipeline.traits().decides_frames)
    }

    /// Those of the keys that the view has.
    pub(super) fn keep(&mut self, db: u32, keys: &[Vec<u8>]) -> anyhow::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for (from, batch) in batches(db, keys) {
            for (key, name) in keys[from..].iter().zip(self.names(&batch)?) {
                kept.extend(name.map(|name| Kept { key: key.clone(), name }));
            }
        }
        Ok(kept)
    }

    /// The key that bears each of these names in the view; `None` where the view cannot have such a name.
    pub(super) fn originals(&mut self, db: u32, names: &[Vec<u8>]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        let mut originals = Vec::new();
        for (from, batch) in batches(db, names) {
            let keys = match &mut self.pipeline {
                Some(pipeline) => pipeline.originals(&batch).map_err(|fault| failed(&self.name, &fault))?,
                None => batch,
            };
            let found = self.names(&keys)?;
            for (index, (name, found)) in names[from..].iter().zip(found).enumerate() {
                originals.push((found.as_ref() == Some(name)).then(|| keys.get(index).to_vec()));
            }
        }
        Ok(originals)
    }

    /// The name of each key in the view, if it has it.
    fn names(&mut self, batch: &KeyBatch) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        let mut answers = Answers::default();
        match &mut self.pipeline {
            Some(pipeline) => pipeline.keys(batch, &mut answers).map_err(|fault| failed(&self.name, &fault))?,
            None => answers.keep_all(batch.len()),
        }
        let name = |index| match answers.get(index) {
            Fate::Keep => Some(batch.get(index).to_vec()),
            Fate::Rename(name) => Some(name.to_vec()),
            Fate::Drop => None,
        };
        Ok((0..batch.len()).map(name).collect())
    }
}

impl Display for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "view '{}'", self.name)
    }
}

fn failed(view: &str, fault: &PluginFault) -> ConfigError {
    ConfigError(format!("view '{view}' cannot say which keys it has: plugin `{}`: {}", fault.plugin, fault.what))
}

/// Keys in batches of the size that plugins are asked for, and where each begins.
fn batches(db: u32, keys: &[Vec<u8>]) -> Vec<(usize, KeyBatch)> {
    let mut batches: Vec<(usize, KeyBatch)> = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        match batches.last_mut().filter(|(_, batch)| !batch.is_full()) {
            Some((_, batch)) => drop(batch.push(key)),
            None => {
                let mut batch = KeyBatch::new(db);
                batch.push(key);
                batches.push((index, batch));
            }
        }
    }
    batches
}
