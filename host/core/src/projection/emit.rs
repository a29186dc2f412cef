//! Writes a view's frames: unchanged neighbours in one run, the database selected where needed, transactions held back until
//! their EXEC, and all that touches a key whose value is still to come held back on a tape.

use bytes::Bytes;

use crate::frame::Frame;
use crate::rope::Rope;

use super::tape::{self, Restored, Tape};

#[derive(Debug)]
struct Transaction {
    held: Rope,
    /// What replicas had selected before it.
    db_before: Option<u32>,
    /// Where it begins in the upstream's history.
    upstream: u64,
}

/// The writing half of a projection.
#[derive(Debug, Default)]
pub(super) struct Emitter {
    /// The database that replicas have selected, once they have been told.
    db: Option<u32>,
    transaction: Option<Transaction>,
    /// There while a value is to come.
    tape: Option<Tape>,
    /// The frame or transaction under way touches a key whose value is to come; where its bytes begin on the tape, and where
    /// it begins in the upstream's history.
    unit: Option<(usize, u64)>,
    /// Bytes of the current buffer that pass as they are and have not been written yet.
    run: (usize, usize),
}

impl Emitter {
    /// The database that replicas have selected, once they have been told.
    pub(super) fn selected(&self) -> Option<u32> {
        self.db
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Whether anything is held back for a value that is to come.
    #[inline]
    pub(super) fn is_taping(&self) -> bool {
        self.tape.is_some()
    }

    /// Bytes held back for values that are to come.
    pub(super) fn taped(&self) -> usize {
        self.tape.as_ref().map_or(0, Tape::weight)
    }

    /// Where in the upstream's history the first frame or transaction stands that is held back for a value.
    pub(super) fn held_from(&self) -> Option<u64> {
        self.tape.as_ref().and_then(Tape::upstream).or(self.unit.map(|(_, upstream)| upstream))
    }

    /// The frame under way, which begins at `upstream`, touches a key whose value is to come, before anything of it is put
    /// out: the number of its unit.
    pub(super) fn touch(&mut self, bytes: &Bytes, out: &mut Rope, upstream: u64) -> u64 {
        self.flush(bytes, out);
        let upstream = self.transaction.as_ref().map_or(upstream, |transaction| transaction.upstream);
        let tape = self.tape.get_or_insert_default();
        self.unit.get_or_insert((tape.len(), upstream));
        tape.next_unit()
    }

    /// The frame under way ends; a transaction ends with its EXEC.
    #[inline]
    pub(super) fn end_frame(&mut self, bytes: &Bytes, out: &mut Rope) {
        if self.unit.is_some() && self.transaction.is_none() {
            self.flush(bytes, out);
            self.end_unit();
        }
    }

    fn end_unit(&mut self) {
        if let (Some(tape), Some((start, upstream))) = (&mut self.tape, self.unit.take()) {
            tape.end_unit(start, upstream, self.db);
        }
    }

    /// A value has come.
    pub(super) fn restore(&mut self, restored: Restored) {
        if let Some(tape) = &mut self.tape {
            tape.restore(restored);
        }
    }

    /// Puts out all that waits for no value any more; `open` is the first unit that does.
    pub(super) fn release(&mut self, open: Option<u64>, out: &mut Rope) {
        if self.tape.as_mut().is_some_and(|tape| tape.release(open, out)) && open.is_none() {
            self.tape = None;
        }
    }

    /// Forgets all that is held back.
    pub(super) fn let_go(&mut self) {
        (self.tape, self.unit, self.transaction) = (None, None, None);
    }

    /// Bytes of a transaction held back, those of the current buffer that have not been written yet included.
    #[inline]
    pub(super) fn held(&self) -> usize {
        self.transaction.as_ref().map_or(0, |transaction| transaction.held.len() + (self.run.1 - self.run.0))
    }

    /// Writes what has gathered. Must be called before the buffer goes.
    #[inline]
    pub(super) fn flush(&mut self, bytes: &Bytes, out: &mut Rope) {
        let (from, to) = core::mem::take(&mut self.run);
        if from < to {
            self.sink(out).write_slice(bytes, from, to);
        }
    }

    /// Puts `frame` out as it is, in database `db`.
    #[inline]
    pub(super) fn keep(&mut self, bytes: &Bytes, out: &mut Rope, db: u32, frame: &Frame) {
        self.select(bytes, out, db);
        self.extend(bytes, out, frame.start as usize, frame.end as usize);
    }

    /// Puts `frame` out as it is; it means the same in every database.
    pub(super) fn keep_anywhere(&mut self, bytes: &Bytes, out: &mut Rope, frame: &Frame) {
        self.extend(bytes, out, frame.start as usize, frame.end as usize);
    }

    /// Puts `frame` out with its first argument replaced by `name`.
    #[inline]
    pub(super) fn rename(&mut self, bytes: &Bytes, out: &mut Rope, db: u32, frame: &Frame, name: &[u8]) {
        self.select(bytes, out, db);
        // The frame's head joins what passes before it, its tail what passes behind it.
        self.extend(bytes, out, frame.start as usize, frame.key_header as usize);
        self.flush(bytes, out);
        write_header(self.sink(out), name.len());
        self.sink(out).write(name);
        self.run = (frame.key.end as usize, frame.end as usize);
    }

    /// Puts out a frame made anew.
    pub(super) fn put(&mut self, bytes: &Bytes, out: &mut Rope, db: u32, frame: &[u8]) {
        self.select(bytes, out, db);
        self.put_anywhere(bytes, out, frame);
    }

    /// Puts out a frame made anew that means the same in every database.
    pub(super) fn put_anywhere(&mut self, bytes: &Bytes, out: &mut Rope, frame: &[u8]) {
        self.flush(bytes, out);
        self.sink(out).write(frame);
    }

    /// A transaction begins, at `upstream`. `false` if one has begun already.
    pub(super) fn multi(&mut self, bytes: &Bytes, out: &mut Rope, upstream: u64) -> bool {
        self.flush(bytes, out);
        if self.transaction.is_some() {
            return false;
        }
        self.transaction = Some(Transaction { held: Rope::default(), db_before: self.db, upstream });
        true
    }

    /// The transaction ends and goes out, unless nothing of it is kept. `false` if none has begun.
    pub(super) fn exec(&mut self, bytes: &Bytes, out: &mut Rope) -> bool {
        self.flush(bytes, out);
        let Some(mut transaction) = self.transaction.take() else { return false };
        if let Some(tape) = &mut self.tape {
            let start = tape.len();
            transaction.held.drain().for_each(|piece| tape.rope().write_shared(piece));
            tape.end_transaction(start);
        } else if !transaction.held.is_empty() {
            out.write(tape::MULTI);
            for piece in transaction.held.drain() {
                out.write_shared(piece);
            }
            out.write(tape::EXEC);
        }
        true
    }

    /// The transaction under way never happened.
    pub(super) fn abandon(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            self.db = transaction.db_before;
        }
        self.run = (0, 0);
        self.end_unit();
    }

    #[inline]
    fn select(&mut self, bytes: &Bytes, out: &mut Rope, db: u32) {
        if self.db != Some(db) {
            self.write_select(bytes, out, db);
        }
    }

    #[cold]
    fn write_select(&mut self, bytes: &Bytes, out: &mut Rope, db: u32) {
        self.put_anywhere(bytes, out, &tape::select(db));
        self.db = Some(db);
    }

    #[inline]
    fn extend(&mut self, bytes: &Bytes, out: &mut Rope, from: usize, to: usize) {
        if self.run.1 == from && self.run.0 < self.run.1 {
            self.run.1 = to;
        } else {
            self.flush(bytes, out);
            self.run = (from, to);
        }
    }

    #[inline]
    fn sink<'a>(&'a mut self, out: &'a mut Rope) -> &'a mut Rope {
        match (&mut self.transaction, &mut self.tape) {
            (Some(transaction), _) => &mut transaction.held,
            (None, Some(tape)) => tape.rope(),
            (None, None) => out,
        }
    }
}

/// Writes `$<len>\r\n`.
#[inline]
fn write_header(out: &mut Rope, len: usize) {
    let mut text = [0u8; 24];
    let mut at = text.len() - 2;
    text[at..].copy_from_slice(b"\r\n");
    let mut n = len;
    loop {
        at -= 1;
        text[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    at -= 1;
    text[at] = b'$';
    out.write(&text[at..]);
}
