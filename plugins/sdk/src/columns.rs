//! Batches as the host packs them, and answers as it wants them.

use crate::bindings::lifecycle::sluicegate::plugin::types;
use crate::{Edits, glue};

/// Keys (or names) of one database.
#[derive(Debug)]
pub struct Keys {
    batch: types::KeyBatch,
}

impl Keys {
    pub(crate) fn new(batch: types::KeyBatch) -> Self {
        Self { batch }
    }

    /// A batch of these keys, for tests of plugins.
    pub fn of(db: u32, keys: &[&[u8]]) -> Self {
        let mut end = 0;
        let ends = keys.iter().map(|key| {
            end += key.len() as u32;
            end
        });
        let offsets = std::iter::once(0).chain(ends).collect();
        Self::new(types::KeyBatch { db, offsets, keys: keys.concat() })
    }

    /// The database of all the keys.
    pub fn db(&self) -> u32 {
        self.batch.db
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.batch.offsets.len().saturating_sub(1)
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys, in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        slices(&self.batch.offsets, &self.batch.keys)
    }

    /// One verdict byte for each key: 0 where `keep` holds, 1 elsewhere. Empty if all are kept.
    #[inline]
    pub fn verdicts(&self, mut keep: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        let mut dropped = 0;
        let verdicts = self.iter().map(|key| {
            let verdict = u8::from(!keep(key));
            dropped |= verdict;
            verdict
        });
        let verdicts: Vec<u8> = verdicts.collect();
        if dropped == 0 { Vec::new() } else { verdicts }
    }

    /// The edits that `rename` makes: it appends a name and returns `true`, or returns `false`.
    #[inline]
    pub fn edits(&self, mut rename: impl FnMut(&[u8], &mut Vec<u8>) -> bool) -> Edits {
        // Room for names somewhat longer than the keys: a buffer that never moves.
        let mut edits = EditsBuilder::with_capacity(self.len(), self.batch.keys.len() + 8 * self.len());
        for (index, key) in self.iter().enumerate() {
            edits.edit(index, |data| rename(key, data));
        }
        edits.finish()
    }
}

/// Frames that no key decides.
#[derive(Debug)]
pub struct Frames {
    batch: types::FrameBatch,
}

impl Frames {
    pub(crate) fn new(batch: types::FrameBatch) -> Self {
        Self { batch }
    }

    /// The database that is selected where the frames stand.
    pub fn db(&self) -> u32 {
        self.batch.db
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.batch.commands.len()
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.batch.commands.is_empty()
    }

    /// One verdict byte for each frame: 0 where `pass(command, subject, size)` holds, 1 elsewhere.
    pub fn verdicts(&self, pass: impl Fn(&str, &[u8], u32) -> bool) -> Vec<u8> {
        let subjects = slices(&self.batch.subject_offsets, &self.batch.subjects);
        let frames = self.batch.commands.iter().zip(subjects).zip(&self.batch.sizes);
        frames.map(|((command, subject), size)| u8::from(!pass(glue::command(*command), subject, *size))).collect()
    }
}

#[inline]
fn slices<'b>(offsets: &'b [u32], arena: &'b [u8]) -> impl ExactSizeIterator<Item = &'b [u8]> {
    offsets.windows(2).map(|pair| match *pair {
        [from, to] => arena.get(from as usize..to as usize).unwrap_or(&[]),
        _ => &[],
    })
}

/// Replacements in the making.
#[derive(Debug)]
pub struct EditsBuilder {
    edits: Edits,
}

impl EditsBuilder {
    /// Room for `edits` replacements of `bytes` bytes in all.
    pub fn with_capacity(edits: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(edits + 1);
        offsets.push(0);
        Self { edits: Edits { indexes: Vec::with_capacity(edits), offsets, data: Vec::with_capacity(bytes) } }
    }

    /// Replaces item `index` by what `write` appends, unless it returns `false`. Indexes must ascend.
    #[inline]
    pub fn edit(&mut self, index: usize, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        let from = self.edits.data.len();
        if write(&mut self.edits.data) {
            self.edits.indexes.push(index as u32);
            self.edits.offsets.push(self.edits.data.len() as u32);
        } else {
            self.edits.data.truncate(from);
        }
    }

    /// The edits; three empty columns if there is none.
    pub fn finish(self) -> Edits {
        if self.edits.indexes.is_empty() {
            return Edits { indexes: Vec::new(), offsets: Vec::new(), data: Vec::new() };
        }
        self.edits
    }
}
