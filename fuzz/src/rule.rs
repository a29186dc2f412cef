//! The view that fuzzed snapshots are made for: a rule without a plugin.

use sluicegate_core::pipeline::{Answers, FrameBatch, KeyBatch, Pipeline, PluginFault, Traits};

/// Drops a third of all names, renames another third, and keeps the rest; hides libraries with an odd name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thirds;

impl Thirds {
    /// What the view calls `name` of database `db`, if it has it.
    pub(crate) fn name(db: u32, name: &[u8]) -> Option<Vec<u8>> {
        match sum(name) % 3 {
            0 => None,
            1 => Some([&[b'0' + (db % 10) as u8, b':'][..], name].concat()),
            _ => Some(name.to_vec()),
        }
    }
}

fn sum(name: &[u8]) -> u32 {
    name.iter().fold(0, |sum, byte| sum + u32::from(*byte))
}

impl Pipeline for Thirds {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        answers.keep_all(batch.len());
        for index in 0..batch.len() {
            match Self::name(batch.db, batch.get(index)) {
                None => answers.drop_key(index),
                Some(name) if name != batch.get(index) => answers.rename_key(index, &name),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        keep.clear();
        keep.push(sum(&batch.subjects).is_multiple_of(2));
        Ok(())
    }

    fn traits(&self) -> Traits {
        Traits { db_independent: false, decides_frames: true, renames: true, inexact: false }
    }
}
