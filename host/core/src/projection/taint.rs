//! Keys of the view whose value is unknown until the primary has told it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::fetch::Wanted;

/// One of them.
#[derive(Debug)]
pub(super) struct Taint {
    /// What the view calls it.
    pub(super) name: Vec<u8>,
    /// The first unit of the tape that touches it.
    pub(super) first: u64,
    /// The last unit that touches it.
    pub(super) last: u64,
    /// Its value is on its way, true at a place that nothing which has been seen so far lies behind.
    asked: bool,
}

/// All of them, by database and by the primary's name.
#[derive(Debug, Default)]
pub(super) struct Taints {
    dbs: BTreeMap<u32, BTreeMap<Vec<u8>, Taint>>,
    len: usize,
    /// Databases that have changed places in the transaction under way.
    swapped: Vec<(u32, u32)>,
}

impl Taints {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn has(&self, db: u32, key: &[u8]) -> bool {
        self.dbs.get(&db).is_some_and(|keys| keys.contains_key(key))
    }

    /// Whether there is one in a database, or in any.
    pub(super) fn any_in(&self, db: Option<u32>) -> bool {
        db.map_or(self.len > 0, |db| self.dbs.get(&db).is_some_and(|keys| !keys.is_empty()))
    }

    /// Unit number `unit` touches this key. `false` if its value is known.
    pub(super) fn touch(&mut self, db: u32, key: &[u8], unit: u64) -> bool {
        let taint = self.dbs.get_mut(&db).and_then(|keys| keys.get_mut(key));
        taint.is_some_and(|taint| {
            taint.last = unit;
            true
        })
    }

    /// Unit number `unit` touches every key of a database, or of all.
    pub(super) fn touch_all(&mut self, db: Option<u32>, unit: u64) {
        for (_, keys) in self.dbs.iter_mut().filter(|&(&of, _)| db.is_none_or(|db| db == of)) {
            keys.values_mut().for_each(|taint| taint.last = unit);
        }
    }

    /// Since unit number `unit` the value of this key is unknown.
    pub(super) fn add(&mut self, db: u32, key: &[u8], name: &[u8], unit: u64) {
        if self.touch(db, key, unit) {
            return;
        }
        let taint = Taint { name: name.to_vec(), first: unit, last: unit, asked: false };
        self.dbs.entry(db).or_default().insert(key.to_vec(), taint);
        self.len += 1;
    }

    /// Two databases change places. What is on its way was asked of the wrong one.
    pub(super) fn swap(&mut self, one: u32, other: u32) {
        let (first, second) = (self.dbs.remove(&one), self.dbs.remove(&other));
        self.dbs.extend(first.map(|keys| (other, keys)));
        self.dbs.extend(second.map(|keys| (one, keys)));
        self.forget_questions();
    }

    /// The same in a transaction, which may turn out never to have happened.
    pub(super) fn swap_for_now(&mut self, one: u32, other: u32) {
        self.swap(one, other);
        self.swapped.push((one, other));
    }

    /// The transaction has ended.
    pub(super) fn end_transaction(&mut self) {
        self.swapped.clear();
    }

    /// The transaction under way never happened: what changed places in it is back. Keys that became unknown in it stay so, and
    /// are given the value that they have had all the time.
    pub(super) fn abandon_transaction(&mut self) {
        while let Some((one, other)) = self.swapped.pop() {
            self.swap(one, other);
        }
    }

    /// Takes a key whose value has come; `None` if that was not asked for here.
    pub(super) fn take(&mut self, wanted: &Wanted) -> Option<Taint> {
        let keys = self.dbs.get_mut(&wanted.db)?;
        if !keys.get(&wanted.key)?.asked {
            return None;
        }
        let taint = keys.remove(&wanted.key);
        if keys.is_empty() {
            self.dbs.remove(&wanted.db);
        }
        self.len -= usize::from(taint.is_some());
        taint
    }

    /// The keys whose values are not on their way. From now on they are.
    pub(super) fn ask(&mut self) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for (&db, keys) in &mut self.dbs {
            for (key, taint) in keys.iter_mut().filter(|(_, taint)| !taint.asked) {
                taint.asked = true;
                wanted.push(Wanted { db, key: key.clone() });
            }
        }
        wanted
    }

    /// No value is on its way any more.
    pub(super) fn forget_questions(&mut self) {
        self.dbs.values_mut().flat_map(BTreeMap::values_mut).for_each(|taint| taint.asked = false);
    }

    /// The first unit that touches any of them.
    pub(super) fn first_unit(&self) -> Option<u64> {
        self.dbs.values().flat_map(BTreeMap::values).map(|taint| taint.first).min()
    }
}
