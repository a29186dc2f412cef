//! What a view shows: said once as a function on datasets, for the checkers, and once as a pipeline, for the proxy.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sluicegate_core::pipeline::{Answers, FrameBatch, KeyBatch, Pipeline, PluginFault, Traits};

use super::data::Dataset;

/// Keys, values, channels and libraries that a filter hides hold this word.
pub const CANARY: &[u8] = b"CANARY";
/// What hidden keys, channels and libraries begin with.
pub const HIDDEN: &[u8] = b"hid";
/// Databases that [`Lens::Databases`] shows: those below.
const SHOWN_DATABASES: u32 = 2;

/// A way of seeing the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lens {
    /// Everything, in the primary's own history.
    Relay,
    /// Everything, in a history of its own: the upstream is so old that its expiries are relative.
    Whole,
    /// Everything but what is hidden.
    Filter,
    /// Everything; `mv:…` is called `new:…` and the other way round.
    Rename,
    /// Both of these.
    FilterRename,
    /// The first databases only.
    Databases,
}

impl Lens {
    /// Every lens that an operator can choose.
    pub const ALL: [Self; 5] = [Self::Relay, Self::Filter, Self::Rename, Self::FilterRename, Self::Databases];

    /// Whether plugins make the view.
    pub fn has_plugins(self) -> bool {
        !matches!(self, Self::Relay | Self::Whole)
    }

    /// Whether the view has bytes of its own.
    pub fn has_own_history(self) -> bool {
        self != Self::Relay
    }

    /// Whether a canary in the view's bytes is a leak.
    pub fn hides_canaries(self) -> bool {
        matches!(self, Self::Filter | Self::FilterRename)
    }

    /// The view's name of a key; `None` if the view does not have it.
    pub fn name(self, db: u32, key: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Filter | Self::FilterRename if key.starts_with(HIDDEN) => None,
            Self::Databases if db >= SHOWN_DATABASES => None,
            Self::Rename | Self::FilterRename => Some(renamed(key)),
            _ => Some(key.to_vec()),
        }
    }

    fn shows_subject(self, subject: &[u8]) -> bool {
        !self.hides_canaries() || !subject.starts_with(HIDDEN)
    }

    /// The dataset as the view shows it.
    pub fn see(self, data: &Dataset) -> Dataset {
        if !self.has_plugins() {
            return data.clone();
        }
        let mut seen = Dataset::default();
        for (db, keys) in &data.dbs {
            for (key, entry) in keys {
                if let Some(name) = self.name(*db, key) {
                    seen.set(*db, &name, Some(Rc::clone(entry)));
                }
            }
        }
        let shown = data.functions.iter().filter(|(name, _)| self.shows_subject(name));
        seen.functions = shown.map(|(name, source)| (name.clone(), source.clone())).collect();
        seen
    }

    /// Whether the view must halt: no frame can be right for it, or none without a value of the primary, which a view that
    /// does not repair never asks for.
    pub fn must_halt(self, db: u32, args: &[Vec<u8>], repairs: bool) -> bool {
        if !self.has_plugins() {
            return false;
        }
        let has = |db: u32, key: &[u8]| self.name(db, key).is_some();
        let number = |text: &[u8]| String::from_utf8_lossy(text).parse().unwrap_or(0);
        match &args[0].to_ascii_lowercase()[..] {
            name if name.starts_with(b"x.") => true,
            b"swapdb" => self == Self::Databases,
            _ if repairs => false,
            b"rename" | b"lmove" | b"rpoplpush" => !has(db, &args[1]) && has(db, &args[2]),
            b"copy" => {
                let to = if args.len() > 4 { number(&args[4]) } else { db };
                !has(db, &args[1]) && has(to, &args[2])
            }
            b"move" => !has(db, &args[1]) && has(number(&args[2]), &args[1]),
            b"sunionstore" | b"sinterstore" | b"sdiffstore" => {
                has(db, &args[1]) && args[2..].iter().any(|key| !has(db, key))
            }
            _ => false,
        }
    }
}

fn renamed(key: &[u8]) -> Vec<u8> {
    for (from, to) in [(&b"mv:"[..], &b"new:"[..]), (b"new:", b"mv:")] {
        if let Some(rest) = key.strip_prefix(from) {
            return [to, rest].concat();
        }
    }
    key.to_vec()
}

/// What goes wrong in a view's plugins.
#[derive(Debug, Clone, Default)]
pub struct Ailment {
    /// Keys that may still be asked about before the plugin fails for good; `None`: any number.
    pub keys_left: Option<Arc<AtomicU64>>,
    /// Every so manieth batch traps once and is asked again.
    pub retried_every: u64,
    /// A planted fault: answers change with the number of batches.
    pub fickle: bool,
}

/// A lens as a pipeline.
#[derive(Debug, Clone)]
pub struct Native {
    lens: Lens,
    ailment: Ailment,
    batches: u64,
}

impl Native {
    /// The pipeline of `lens`, with what is wrong with it.
    pub fn new(lens: Lens, ailment: Ailment) -> Self {
        Self { lens, ailment, batches: 0 }
    }

    /// Whether the plugin has failed for good.
    pub fn has_failed(ailment: &Ailment) -> bool {
        ailment.keys_left.as_ref().is_some_and(|left| left.load(Ordering::Relaxed) == 0)
    }

    fn spend(&self, keys: usize) -> Result<(), PluginFault> {
        let Some(left) = &self.ailment.keys_left else { return Ok(()) };
        let before = left.load(Ordering::Relaxed);
        left.store(before.saturating_sub(keys as u64), Ordering::Relaxed);
        if before > keys as u64 {
            return Ok(());
        }
        left.store(0, Ordering::Relaxed);
        Err(PluginFault { plugin: "ailing".into(), what: "trap: unreachable".into() })
    }

    fn answer(&self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        answers.keep_all(batch.len());
        for index in 0..batch.len() {
            let key = batch.get(index);
            match self.lens.name(batch.db, key) {
                None => answers.drop_key(index),
                Some(name) if name != key => {
                    if renamed(&name) != key {
                        return Err(PluginFault { plugin: "rename".into(), what: "a name without a way back".into() });
                    }
                    answers.rename_key(index, &name);
                }
                Some(_) => {}
            }
            if self.ailment.fickle && self.batches.is_multiple_of(7) && index == 0 {
                answers.drop_key(index);
            }
        }
        Ok(())
    }
}

impl Pipeline for Native {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        self.batches += 1;
        self.spend(batch.len())?;
        if self.ailment.retried_every > 0 && self.batches.is_multiple_of(self.ailment.retried_every) {
            // The instance that trapped had written a part of its answers.
            answers.keep_all(batch.len() / 2);
        }
        self.answer(batch, answers)
    }

    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        keep.clear();
        for window in batch.subject_offsets.windows(2) {
            let subject = batch.subjects.get(window[0] as usize..window[1] as usize).unwrap_or(&[]);
            keep.push(self.lens.shows_subject(subject));
        }
        Ok(())
    }

    fn traits(&self) -> Traits {
        Traits {
            db_independent: self.lens != Lens::Databases,
            renames: true,
            decides_frames: self.lens.hides_canaries(),
            inexact: false,
        }
    }
}
