//! What is in a snapshot, key by key.

use sluicegate_core::rdb::{Part, RdbError, Sink, Walker};

/// A key of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) db: u32,
    pub(crate) name: Vec<u8>,
    /// Attributes, type and value as they stand in the snapshot.
    pub(crate) rest: Vec<u8>,
}

/// The keys of a snapshot, in their order.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    db: u32,
    attributes: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) functions: usize,
}

impl Listing {
    /// Reads a snapshot that is known to be sound.
    pub(crate) fn of(snapshot: &[u8]) -> Self {
        let mut listing = Self::default();
        let taken = Walker::new().push(snapshot, &mut listing);
        assert!(taken.is_ok(), "a snapshot that was taken in cannot be walked again: {taken:?}");
        listing
    }
}

impl Sink for Listing {
    type Error = RdbError;

    fn part(&mut self, raw: &[u8], part: Part<'_>) -> Result<(), RdbError> {
        match part {
            Part::Select(db) => self.db = db,
            Part::Attribute => self.attributes.extend_from_slice(raw),
            Part::Key { name, .. } => {
                let mut rest = std::mem::take(&mut self.attributes);
                rest.extend(raw.first());
                self.entries.push(Entry { db: self.db, name: name.to_vec(), rest });
            }
            Part::Value { .. } => self.entries.last_mut().expect("a value has a key").rest.extend_from_slice(raw),
            Part::Function { .. } => self.functions += 1,
            _ => {}
        }
        Ok(())
    }
}
