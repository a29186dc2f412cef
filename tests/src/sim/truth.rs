//! What really happened on the primary: for every history the bytes, the places between commands, and what was held there.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::data::Dataset;

/// A history's name, as it stands on the wire.
pub type Id = String;

/// One history, from its first byte.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Offset before the first byte.
    pub base: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What was held at each place where that changed.
    pub commits: BTreeMap<u64, Rc<Dataset>>,
    /// Places behind a whole command outside any transaction.
    pub places: BTreeSet<u64>,
    /// The longest unit of commands. Bytes.
    pub longest: usize,
    /// Commands that some view cannot show: the place behind each, its database and arguments.
    pub poison: BTreeMap<u64, (u32, Vec<Vec<u8>>)>,
}

impl History {
    /// A history that begins with `data` at `base`.
    pub fn new(base: u64, data: Dataset) -> Self {
        let mut history = Self { base, ..Self::default() };
        history.commits.insert(base, Rc::new(data));
        history.places.insert(base);
        history
    }

    /// Offset behind the last byte.
    pub fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// The bytes behind `offset`.
    pub fn behind(&self, offset: u64) -> &[u8] {
        &self.bytes[(offset - self.base) as usize..]
    }

    /// What was held at `offset`, and since where.
    pub fn at(&self, offset: u64) -> Option<(u64, &Rc<Dataset>)> {
        self.commits.range(..=offset).next_back().map(|(place, data)| (*place, data))
    }

    /// The history as a server knows it that only has the bytes up to `limit`.
    pub fn cut(&self, limit: u64) -> Self {
        let mut cut = self.clone();
        cut.bytes.truncate((limit - self.base) as usize);
        cut.commits.retain(|place, _| *place <= limit);
        cut.places.retain(|place| *place <= limit);
        cut.poison.retain(|place, _| *place <= limit);
        cut
    }
}

/// Every history that ever was.
#[derive(Debug, Default)]
pub struct Truth {
    /// By name.
    pub histories: BTreeMap<Id, History>,
}

impl Truth {
    /// The history of that name.
    pub fn of(&self, id: &str) -> Result<&History, String> {
        self.histories.get(id).ok_or_else(|| format!("history {id} never was one of the primary's"))
    }

    /// Whether both histories are the same up to `offset`.
    pub fn agree(&self, one: &str, other: &str, offset: u64) -> bool {
        let (Ok(one), Ok(other)) = (self.of(one), self.of(other)) else { return false };
        let reach = |history: &History| history.base <= offset && offset <= history.end();
        if one.base != other.base || !reach(one) || !reach(other) {
            return false;
        }
        let length = (offset - one.base) as usize;
        one.bytes[..length] == other.bytes[..length]
    }
}
