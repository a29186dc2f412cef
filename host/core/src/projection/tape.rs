//! What a view holds back while the value of one of its keys is still to come.
//!
//! A *unit* is a frame, or a whole transaction, that touches such a key. From a key's first unit to its last one the replica
//! must not be seen by anyone: these bytes go out in one transaction, in which the key's value stands behind its last unit.
//! Where the spans of several keys overlap their transaction is one; where they do not, each is by itself.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::resp;
use crate::rope::Rope;

pub(super) const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
pub(super) const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// A unit's bytes on the tape.
#[derive(Debug, Clone, Copy)]
struct Unit {
    start: usize,
    end: usize,
    /// Where it begins in the upstream's history.
    upstream: u64,
    /// What replicas have selected behind it.
    db: Option<u32>,
}

/// A key whose value is known again.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) db: u32,
    /// The command that gives it, in pieces.
    pub(super) command: Vec<Bytes>,
}

impl Restored {
    fn weight(&self) -> usize {
        self.command.iter().map(Bytes::len).sum()
    }
}

/// Spans that overlap: units `first..=last`, and the keys that `last` restores.
#[derive(Debug)]
struct Group {
    first: u64,
    last: u64,
    keys: usize,
}

#[derive(Debug, Default)]
pub(super) struct Tape {
    rope: Rope,
    /// The transactions on it, without their MULTI and EXEC.
    transactions: VecDeque<(usize, usize)>,
    units: VecDeque<Unit>,
    /// The number of the first of `units`.
    base: u64,
    restored: Vec<Restored>,
    /// Bytes of the commands in `restored`.
    restored_bytes: usize,
}

impl Tape {
    pub(super) fn len(&self) -> usize {
        self.rope.len()
    }

    /// The memory that it takes: with what is noted of it, since units may be empty, and with the values that wait for others.
    pub(super) fn weight(&self) -> usize {
        let notes = self.units.len() * size_of::<Unit>() + self.transactions.len() * size_of::<(usize, usize)>();
        self.rope.len() + notes + self.restored_bytes + self.restored.len() * size_of::<Restored>()
    }

    pub(super) fn rope(&mut self) -> &mut Rope {
        &mut self.rope
    }

    /// The number that the next unit will have.
    pub(super) fn next_unit(&self) -> u64 {
        self.base + self.units.len() as u64
    }

    /// Where the first unit begins in the upstream's history.
    pub(super) fn upstream(&self) -> Option<u64> {
        self.units.front().map(|unit| unit.upstream)
    }

    /// The bytes from `start` on are a unit, which begins at `upstream`.
    pub(super) fn end_unit(&mut self, start: usize, upstream: u64, db: Option<u32>) {
        self.units.push_back(Unit { start, end: self.rope.len(), upstream, db });
    }

    /// The bytes from `start` on are a transaction.
    pub(super) fn end_transaction(&mut self, start: usize) {
        if start < self.rope.len() {
            self.transactions.push_back((start, self.rope.len()));
        }
    }

    pub(super) fn restore(&mut self, restored: Restored) {
        self.restored_bytes += restored.weight();
        self.restored.push(restored);
    }

    /// Moves to `out` all that needs no value which is still to come; `open` is the first unit that does. `true` if nothing is
    /// left.
    pub(super) fn release(&mut self, open: Option<u64>, out: &mut Rope) -> bool {
        let (groups, limit) = self.groups(open);
        let whole = self.rope.len();
        let end = limit.map_or(whole, |unit| self.unit(unit).start);
        let mut cutter = Cutter { pieces: self.rope.drain().collect(), at: 0 };
        let mut restored = core::mem::take(&mut self.restored).into_iter();
        for group in &groups {
            let (first, last) = (self.unit(group.first), self.unit(group.last));
            cutter.copy(first.start, &mut self.transactions, out);
            let alone = first.start == last.end && group.keys == 1;
            if !alone {
                out.write(MULTI);
            }
            let mut keys: Vec<Restored> = restored.by_ref().take(group.keys).collect();
            keys.sort_by_key(|key| key.last);
            // Each value at its own place: behind it the key may have been changed again.
            for keys in keys.chunk_by_mut(|one, other| one.last == other.last) {
                let place = self.unit(keys.first().map_or(group.last, |key| key.last));
                cutter.copy_bare(place.end, &mut self.transactions, out);
                give(keys, place.db, out);
            }
            if !alone {
                out.write(EXEC);
            }
        }
        cutter.copy(end, &mut self.transactions, out);
        self.restored = restored.collect();
        self.restored_bytes = self.restored.iter().map(Restored::weight).sum();
        for piece in cutter.pieces {
            self.rope.write_shared(piece);
        }
        self.forget(limit, end);
        self.rope.is_empty() && self.units.is_empty()
    }

    /// The groups that are complete, in order, and the first unit that has to wait.
    fn groups(&mut self, open: Option<u64>) -> (Vec<Group>, Option<u64>) {
        self.restored.sort_by_key(|restored| restored.first);
        let mut groups: Vec<Group> = Vec::new();
        for restored in &self.restored {
            match groups.last_mut().filter(|group| restored.first <= group.last) {
                Some(group) => {
                    group.last = group.last.max(restored.last);
                    group.keys += 1;
                }
                None => groups.push(Group { first: restored.first, last: restored.last, keys: 1 }),
            }
        }
        let ready = groups.iter().take_while(|group| open.is_none_or(|open| group.last < open)).count();
        // A group that reaches beyond the first open unit waits for it, and so does all behind.
        let waits = groups.get(ready).map(|group| group.first);
        groups.truncate(ready);
        (groups, waits.into_iter().chain(open).min())
    }

    fn unit(&self, number: u64) -> Unit {
        let index = number.checked_sub(self.base).and_then(|index| usize::try_from(index).ok());
        let end = Unit { start: self.rope.len(), end: self.rope.len(), upstream: 0, db: None };
        index.and_then(|index| self.units.get(index)).copied().unwrap_or(end)
    }

    /// The first `bytes` are gone, and with them all units before `limit`.
    fn forget(&mut self, limit: Option<u64>, bytes: usize) {
        let gone = limit.map_or(self.units.len(), |limit| limit.saturating_sub(self.base) as usize);
        self.units.drain(..gone.min(self.units.len()));
        self.base += gone as u64;
        for unit in &mut self.units {
            (unit.start, unit.end) = (unit.start - bytes, unit.end - bytes);
        }
        for (start, end) in &mut self.transactions {
            (*start, *end) = (*start - bytes, *end - bytes);
        }
    }
}

/// Writes the values of keys, and selects afterwards what was selected before.
fn give(keys: &mut [Restored], db: Option<u32>, out: &mut Rope) {
    let mut selected = db;
    for key in keys {
        if selected != Some(key.db) {
            out.write(&select(key.db));
            selected = Some(key.db);
        }
        key.command.drain(..).for_each(|piece| out.write_shared(piece));
    }
    if let Some(db) = db.filter(|&db| selected != Some(db)) {
        out.write(&select(db));
    }
}

/// The frame that selects a database.
pub(super) fn select(db: u32) -> Vec<u8> {
    let (mut digits, mut frame) = (Vec::new(), Vec::new());
    resp::write_decimal(&mut digits, u64::from(db));
    resp::write_command(&mut frame, &[b"SELECT", &digits]);
    frame
}

/// Takes bytes from the front of the tape.
struct Cutter {
    pieces: VecDeque<Bytes>,
    at: usize,
}

impl Cutter {
    /// Moves everything before `to`, each transaction between its MULTI and EXEC.
    fn copy(&mut self, to: usize, transactions: &mut VecDeque<(usize, usize)>, out: &mut Rope) {
        while let Some((start, end)) = transactions.pop_front_if(|&mut (_, end)| end <= to) {
            self.take(start, out);
            out.write(MULTI);
            self.take(end, out);
            out.write(EXEC);
        }
        self.take(to, out);
    }

    /// Moves everything before `to`: the transactions in it become part of a larger one.
    fn copy_bare(&mut self, to: usize, transactions: &mut VecDeque<(usize, usize)>, out: &mut Rope) {
        while transactions.pop_front_if(|&mut (_, end)| end <= to).is_some() {}
        self.take(to, out);
    }

    fn take(&mut self, to: usize, out: &mut Rope) {
        while self.at < to {
            let Some(mut piece) = self.pieces.pop_front() else { return };
            let mine = piece.split_to(piece.len().min(to - self.at));
            self.at += mine.len();
            out.write_shared(mine);
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
        }
    }
}
