//! Columns of keys in the making: what is left of a batch between two plugins, under its present names.

use sluicegate_core::pipeline::KeyBatch;

use crate::wire::Edits;

/// Keys as an arena and its offsets.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) offsets: Vec<u32>,
    pub(crate) keys: Vec<u8>,
}

/// Borrowed columns: of the core's batch, or of our own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) offsets: &'a [u32],
    pub(crate) keys: &'a [u8],
}

impl<'a> View<'a> {
    pub(crate) fn of(batch: &'a KeyBatch) -> Self {
        Self { offsets: &batch.offsets, keys: &batch.keys }
    }

    pub(crate) fn len(self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    #[inline]
    pub(crate) fn get(self, index: usize) -> &'a [u8] {
        self.range(index, index + 1)
    }

    /// The bytes of the keys `from..to`, one after the other.
    #[inline]
    fn range(self, from: usize, to: usize) -> &'a [u8] {
        match (self.offsets.get(from), self.offsets.get(to)) {
            (Some(&from), Some(&to)) => self.keys.get(from as usize..to as usize).unwrap_or(&[]),
            _ => &[],
        }
    }
}

impl Columns {
    pub(crate) fn view(&self) -> View<'_> {
        View { offsets: &self.offsets, keys: &self.keys }
    }

    /// Where key `index` lies in the arena.
    #[inline]
    pub(crate) fn span(&self, index: usize) -> (u32, u32) {
        match (self.offsets.get(index), self.offsets.get(index + 1)) {
            (Some(&from), Some(&to)) => (from, to),
            _ => (0, 0),
        }
    }

    fn reset(&mut self) {
        self.keys.clear();
        self.offsets.clear();
        self.offsets.push(0);
    }

    /// Holds just the keys of `from` with these indexes.
    pub(crate) fn pick(&mut self, from: View<'_>, indexes: impl Iterator<Item = usize>) {
        self.reset();
        self.keys.reserve(from.keys.len());
        self.offsets.reserve(from.len());
        for index in indexes {
            self.keys.extend_from_slice(from.get(index));
            self.offsets.push(self.keys.len() as u32);
        }
    }

    /// Holds the keys of `from` with `edits` done to them, which have been checked. Keys between two edits are copied as
    /// one piece. Fails if the names together pass what offsets can express.
    pub(crate) fn edit(&mut self, from: View<'_>, edits: &Edits) -> Result<(), String> {
        self.reset();
        self.keys.reserve(from.keys.len() + edits.data.len());
        if u32::try_from(from.keys.len() + edits.data.len()).is_err() {
            return Err("the names together are longer than 4 GiB".into());
        }
        let mut next = 0;
        self.offsets.reserve(from.len());
        for (index, name) in edits.iter() {
            self.copy(from, next, index);
            self.keys.extend_from_slice(name);
            self.offsets.push(self.keys.len() as u32);
            next = index + 1;
        }
        self.copy(from, next, from.len());
        Ok(())
    }

    #[inline]
    fn copy(&mut self, from: View<'_>, first: usize, end: usize) {
        if first == end {
            return;
        }
        let moved = (self.keys.len() as u32).wrapping_sub(from.offsets[first]);
        self.keys.extend_from_slice(from.range(first, end));
        self.offsets.extend(from.offsets[first + 1..=end].iter().map(|offset| offset.wrapping_add(moved)));
    }
}
