//! The ordered plugins of a view, asked batch by batch.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use sluicegate_core::pipeline::{Answers, FrameBatch, KeyBatch, Pipeline, PluginFault, Traits};

use crate::columns::{Columns, View};
use crate::error::LoadError;
use crate::member::{Answer, Member};
use crate::plugin::Plugin;
use crate::spec::OnError;
use crate::stats::StatsHandle;
use crate::wire::{Edits, Frames};

/// The plugins of one view with an instance each. Not shared: every thread that asks has its own.
pub struct GuestPipeline {
    members: Vec<Member>,
    traits: Traits,
    stats: StatsHandle,
    work: Work,
}

/// What is left of a batch, and what it is called by now. Buffers are reused: in steady state nothing is allocated.
#[derive(Default)]
struct Work {
    /// Whether `now` holds keys that differ from the batch, in number or in name.
    moved: bool,
    now: Columns,
    /// Index in the batch of each key of `now`; empty: the same index.
    origin: Vec<u32>,
    /// 1 for each key of `now` that has another name than in the batch; empty: none.
    renamed: Vec<u8>,
    /// For what is made of `now` and `origin`, before it takes their places.
    next: Columns,
    next_origin: Vec<u32>,
    /// Keys that a plugin with prefixes is asked about, and their indexes in `now`.
    asked: Columns,
    picked: Vec<u32>,
}

impl GuestPipeline {
    pub(crate) fn new(plugins: &[Arc<Plugin>]) -> Result<Self, LoadError> {
        if let Some(codec) = plugins.iter().find(|plugin| !plugin.decides()) {
            let what = format!("it is a codec ({}) and has no say in a view", codec.worlds().join(", "));
            return Err(LoadError::new(codec.name(), what, "take it out of the pipeline"));
        }
        let members = plugins.iter().map(|plugin| Member::new(plugin).map_err(|fault| plugin.unfit(fault)));
        let members = members.collect::<Result<Vec<_>, _>>()?;
        let traits = Traits {
            db_independent: plugins.iter().all(|plugin| plugin.descriptor().db_independent),
            decides_frames: plugins.iter().any(|plugin| plugin.exports().has_frame_filter()),
            renames: plugins.iter().any(|plugin| plugin.exports().has_transform()),
            inexact: plugins.iter().any(|plugin| plugin.spec().on_error != OnError::Halt),
        };
        let stats = StatsHandle { cells: members.iter().map(|member| Arc::clone(&member.cell)).collect() };
        Ok(Self { members, traits, stats, work: Work::default() })
    }

    /// What the keys would be called at the primary if the view had them under these names. Whether it has is for
    /// [`Pipeline::keys`] to say: a name that no key gets has an original, too.
    ///
    /// # Errors
    /// A plugin failed.
    pub fn originals(&mut self, names: &KeyBatch) -> Result<KeyBatch, PluginFault> {
        let mut now = names.clone();
        for member in self.members.iter_mut().rev().filter(|member| member.plugin.exports().has_transform()) {
            if let Answer::Plugin(edits) = member.original(now.db, View::of(&now))? {
                let mut next = Columns::default();
                next.edit(View::of(&now), &edits).map_err(|what| member.halt(what))?;
                now = KeyBatch { db: now.db, offsets: next.offsets, keys: next.keys };
            }
        }
        Ok(now)
    }

    /// A handle on the counters, which stays good when the pipeline is given away.
    pub fn stats(&self) -> StatsHandle {
        self.stats.clone()
    }
}

impl Pipeline for GuestPipeline {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        answers.keep_all(batch.len());
        self.work.begin();
        let last = self.members.len().saturating_sub(1);
        for (place, member) in self.members.iter_mut().enumerate() {
            let exports = member.plugin.exports();
            let (filters, transforms) = (exports.has_filter(), exports.has_transform());
            if filters {
                self.work.filter(member, batch, answers, transforms || place < last)?;
            }
            if transforms {
                self.work.transform(member, batch, answers)?;
            }
        }
        self.work.name(answers);
        Ok(())
    }

    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        keep.clear();
        keep.resize(batch.commands.len(), true);
        for member in self.members.iter_mut().filter(|member| member.plugin.exports().has_frame_filter()) {
            // Frames without keys are rare and come in small batches, so every plugin is shown all of them.
            let frames = Frames {
                db: batch.db,
                commands: &batch.commands,
                subject_offsets: &batch.subject_offsets,
                subjects: &batch.subjects,
                sizes: &batch.sizes,
            };
            match member.filter_frames(frames)? {
                Answer::KeepAll => {}
                Answer::DropAll => keep.fill(false),
                Answer::Plugin(verdicts) => {
                    for (keep, _) in keep.iter_mut().zip(&verdicts).filter(|(_, verdict)| **verdict == 1) {
                        *keep = false;
                        member.cell.dropped.fetch_add(1, Relaxed);
                    }
                }
            }
        }
        Ok(())
    }

    fn traits(&self) -> Traits {
        self.traits
    }
}

impl Work {
    fn begin(&mut self) {
        self.moved = false;
        self.origin.clear();
        self.renamed.clear();
    }

    /// Asks a filter; drops what it drops. `more`: another stage will want to see the rest.
    fn filter(
        &mut self,
        member: &mut Member,
        batch: &KeyBatch,
        answers: &mut Answers,
        more: bool,
    ) -> Result<(), PluginFault> {
        let partial = self.pick(&member.plugin.descriptor().prefixes, batch);
        let asked = self.asked(batch, partial);
        if asked.len() == 0 {
            return Ok(());
        }
        let mut verdicts = match member.filter(batch.db, asked)? {
            Answer::Plugin(verdicts) => verdicts,
            Answer::KeepAll => return Ok(()),
            Answer::DropAll => vec![1; asked.len()],
        };
        if verdicts.is_empty() {
            return Ok(());
        }
        if partial {
            verdicts = self.spread(&verdicts, self.current(batch).len());
        }
        let dropped = self.drop_keys(&verdicts, answers);
        member.cell.dropped.fetch_add(dropped, Relaxed);
        // A name of a dropped key must not come back when the names are told.
        if more || !self.renamed.is_empty() {
            self.keep_rest(&verdicts, batch);
        }
        Ok(())
    }

    /// Asks a transform, and proves its answer: taking all the names back must give exactly the keys.
    fn transform(&mut self, member: &mut Member, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        let partial = self.pick(&member.plugin.descriptor().prefixes, batch);
        let asked = self.asked(batch, partial);
        let mut edits = match asked.len() {
            0 => Edits::default(),
            _ => match member.rename(batch.db, asked)? {
                Answer::Plugin(edits) => edits,
                Answer::KeepAll => return Ok(()),
                Answer::DropAll => {
                    self.drop_asked(partial, batch, answers);
                    return Ok(());
                }
            },
        };
        if partial {
            edits.indexes.iter_mut().for_each(|index| *index = self.picked[*index as usize]);
        }
        let mut next = std::mem::take(&mut self.next);
        let keys = self.current(batch);
        if keys.len() == 0 {
            return Ok(());
        }
        next.edit(keys, &edits).map_err(|what| member.halt(what))?;
        let back = match member.original(batch.db, next.view())? {
            Answer::Plugin(back) => back,
            Answer::KeepAll => return Ok(()),
            Answer::DropAll => {
                self.drop_asked(false, batch, answers);
                return Ok(());
            }
        };
        if let Some(wrong) = disproof(keys, next.view(), &edits, &back) {
            return Err(member.halt(wrong));
        }
        self.take_names(next, &edits, batch);
        member.cell.renamed.fetch_add(edits.indexes.len() as u64, Relaxed);
        Ok(())
    }

    /// Tells the core the names that differ from the batch's.
    fn name(&self, answers: &mut Answers) {
        if self.renamed.is_empty() {
            return;
        }
        let renamed = self.renamed.iter().enumerate().filter(|(_, renamed)| **renamed == 1);
        answers.rename_keys(&self.now.keys, renamed.map(|(index, _)| (self.in_batch(index), self.now.span(index))));
    }

    fn current<'a>(&'a self, batch: &'a KeyBatch) -> View<'a> {
        if self.moved { self.now.view() } else { View::of(batch) }
    }

    fn asked<'a>(&'a self, batch: &'a KeyBatch, partial: bool) -> View<'a> {
        if partial { self.asked.view() } else { self.current(batch) }
    }

    #[inline]
    fn in_batch(&self, index: usize) -> usize {
        self.origin.get(index).map_or(index, |origin| *origin as usize)
    }

    /// Packs the keys that the plugin wants to be asked about. `false`: it wants all.
    fn pick(&mut self, prefixes: &[Vec<u8>], batch: &KeyBatch) -> bool {
        if prefixes.is_empty() {
            return false;
        }
        let mut picked = std::mem::take(&mut self.picked);
        let mut asked = std::mem::take(&mut self.asked);
        let keys = self.current(batch);
        picked.clear();
        let wanted = |index: &u32| prefixes.iter().any(|prefix| keys.get(*index as usize).starts_with(prefix));
        picked.extend((0..keys.len() as u32).filter(wanted));
        let partial = picked.len() < keys.len();
        if partial {
            asked.pick(keys, picked.iter().map(|index| *index as usize));
        }
        (self.picked, self.asked) = (picked, asked);
        partial
    }

    /// Verdicts on the picked keys as verdicts on `keys` keys.
    fn spread(&self, verdicts: &[u8], keys: usize) -> Vec<u8> {
        let mut all = vec![0; keys];
        for (index, verdict) in self.picked.iter().zip(verdicts) {
            all[*index as usize] = *verdict;
        }
        all
    }

    fn drop_keys(&self, verdicts: &[u8], answers: &mut Answers) -> u64 {
        let mut dropped = 0;
        for (index, _) in verdicts.iter().enumerate().filter(|(_, verdict)| **verdict == 1) {
            answers.drop_key(self.in_batch(index));
            dropped += 1;
        }
        dropped
    }

    /// The policy of a transform: what it was asked about is dropped.
    fn drop_asked(&mut self, partial: bool, batch: &KeyBatch, answers: &mut Answers) {
        let keys = self.current(batch).len();
        let verdicts = if partial { self.spread(&vec![1; self.picked.len()], keys) } else { vec![1; keys] };
        self.drop_keys(&verdicts, answers);
        self.keep_rest(&verdicts, batch);
    }

    /// Goes on with the keys that were not dropped.
    fn keep_rest(&mut self, verdicts: &[u8], batch: &KeyBatch) {
        let kept = || verdicts.iter().enumerate().filter(|(_, verdict)| **verdict == 0).map(|(index, _)| index);
        let mut next = std::mem::take(&mut self.next);
        next.pick(self.current(batch), kept());
        let mut origin = std::mem::take(&mut self.next_origin);
        origin.clear();
        origin.extend(kept().map(|index| self.in_batch(index) as u32));
        self.next_origin = std::mem::replace(&mut self.origin, origin);
        if !self.renamed.is_empty() {
            self.renamed = kept().map(|index| self.renamed[index]).collect();
        }
        self.next = std::mem::replace(&mut self.now, next);
        self.moved = true;
    }

    /// Goes on with the keys under their new names.
    fn take_names(&mut self, next: Columns, edits: &Edits, batch: &KeyBatch) {
        let keys = self.current(batch).len();
        self.renamed.resize(keys, 0);
        for index in &edits.indexes {
            self.renamed[*index as usize] = 1;
        }
        self.next = std::mem::replace(&mut self.now, next);
        self.moved = true;
    }
}

/// Which key breaks the proof, in words: either two keys share a name, or `original` is wrong. A key that neither call
/// edits bears its own name, and that name is its own original.
fn disproof(keys: View<'_>, names: View<'_>, edits: &Edits, back: &Edits) -> Option<String> {
    let taken_back = back.iter().find(|(index, original)| *original != keys.get(*index));
    if let Some((index, original)) = taken_back {
        return Some(clash(keys, names, index, original));
    }
    if edits.indexes == back.indexes {
        return None;
    }
    let left = edits.indexes.iter().filter(|index| back.indexes.binary_search(index).is_err());
    let wrong = left.map(|index| *index as usize).find(|index| names.get(*index) != keys.get(*index))?;
    Some(clash(keys, names, wrong, names.get(wrong)))
}

fn clash(keys: View<'_>, names: View<'_>, index: usize, original: &[u8]) -> String {
    let show = |bytes: &[u8]| bytes[..bytes.len().min(256)].escape_ascii().to_string();
    let (key, name, other) = (show(keys.get(index)), show(names.get(index)), show(original));
    format!(
        "key `{key}` would be called `{name}`, but the original of `{name}` is `{other}`: the keys `{key}` and `{other}` \
         clash, or the plugin's `original` is not the inverse of its `rename`"
    )
}
