//! Values that come from the primary because the view cannot compute them.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::keyed::check_payload;
use super::taint::{Taint, Taints};
use super::tape::Restored;
use super::{Projection, Turn, printable};
use crate::fault::{Fault, Party};
use crate::fetch::{Value, Wanted};
use crate::frame::Frame;
use crate::resp;
use crate::rope::Rope;
use crate::settings::CrossKey;

impl Projection {
    /// Whether output is held back for values that are to come.
    pub fn is_holding(&self) -> bool {
        self.emitter.is_taping()
    }

    /// Bytes that are held back for values that are to come, with all that is noted of them.
    pub fn held_bytes(&self) -> usize {
        self.emitter.taped() + self.taints.weight()
    }

    /// Where in the upstream's history the first frame or transaction stands that is held back: what is before it is out.
    pub fn held_from(&self) -> Option<u64> {
        self.emitter.held_from()
    }

    /// Keys whose values are to come.
    pub fn tainted(&self) -> usize {
        self.taints.len()
    }

    /// Whether the last frame stands inside a transaction.
    pub fn in_transaction(&self) -> bool {
        self.emitter.in_transaction()
    }

    /// The keys whose values have not been asked for, at most so many. Their values must be true at a place that is not
    /// before the last frame that was projected, and be given by [`Projection::restore`] when all frames up to there are.
    pub fn ask(&mut self, most: usize) -> Vec<Wanted> {
        self.taints.ask(most)
    }

    /// What was asked for will not come, or not from the history that this view follows: ask again.
    pub fn forget_questions(&mut self) {
        self.taints.forget_questions();
    }

    /// Forgets what is held back: it will never go out.
    pub fn let_go(&mut self) {
        self.taints = Taints::default();
        self.emitter.let_go();
    }

    /// Takes the values of keys that were asked for, true behind the last frame that was projected, which is outside any
    /// transaction. Appends to `out` what need not be held back any longer.
    ///
    /// # Errors
    /// A value is of a version that the view's replicas were not promised to be given.
    pub fn restore(&mut self, values: Vec<(Wanted, Option<Value>)>, out: &mut Rope) -> Result<(), Fault> {
        let Some(mut floor) = self.floor.take() else { return self.restore_all(values, out) };
        let restored = self.restore_all(values, &mut floor.made);
        let passed = floor.pass(out).and(restored);
        self.floor = Some(floor);
        passed
    }

    fn restore_all(&mut self, values: Vec<(Wanted, Option<Value>)>, out: &mut Rope) -> Result<(), Fault> {
        for (wanted, value) in values {
            // It may have been asked again in the meantime: its database has changed places with another.
            let Some(taint) = self.taints.take(&wanted) else { continue };
            if let Some(value) = &value {
                let what = format!("the value of {}", printable(&wanted.key));
                check_payload(&what, &value.payload, self.bounds.restore_version_max)?;
            }
            let command = command(&taint, value);
            self.counts.repaired += 1;
            self.emitter.restore(Restored { first: taint.first, last: taint.last, db: wanted.db, command });
        }
        self.emitter.release(self.taints.first_unit(), out);
        Ok(())
    }

    /// From the frame under way on, the value of a kept key is unknown. `false`: the view is to halt instead.
    pub(super) fn taint(&mut self, turn: &mut Turn<'_, '_>, db: u32, key: &[u8], name: &[u8]) -> Result<bool, Fault> {
        match self.bounds.cross_key {
            CrossKey::Halt => return Ok(false),
            CrossKey::Drop => return Ok(true),
            CrossKey::Repair => {}
        }
        if self.taints.len() >= self.bounds.tainted_keys_max {
            let most = self.bounds.tainted_keys_max;
            let what = format!("more than {most} keys (limits.repair_keys) wait for their values from the primary");
            return Err(Fault::new(Party::Operator, what));
        }
        let unit = self.emitter.touch(turn.frames.bytes, turn.out, turn.upstream);
        self.taints.add(db, key, name, unit);
        Ok(true)
    }

    /// Notes that the frame under way touches a key; whether its value is unknown.
    pub(super) fn touched(&mut self, turn: &mut Turn<'_, '_>, db: u32, key: &[u8]) -> bool {
        if self.taints.is_empty() || !self.taints.has(db, key) {
            return false;
        }
        let unit = self.emitter.touch(turn.frames.bytes, turn.out, turn.upstream);
        self.taints.touch(db, key, unit)
    }

    /// A key whose value is unknown is taken for a dropped one. Its answer is number `index`.
    pub(super) fn overlay(&mut self, turn: &mut Turn<'_, '_>, db: u32, key: &[u8], index: usize) {
        if self.touched(turn, db, key) {
            self.answers.drop_key(index);
        }
    }

    /// The same for all keys of a frame.
    pub(super) fn overlay_all(&mut self, turn: &mut Turn<'_, '_>, frame: &Frame, first: usize) {
        let frames = turn.frames;
        let mut spans = core::mem::take(&mut self.spans);
        let args = frames.args(frame, &mut spans);
        for i in 0..self.places.len() {
            let at = self.places.get(i).map_or(0, |place| place.arg as usize);
            self.overlay(turn, self.db, args.get(at).unwrap_or(&[]), first + i);
        }
        self.spans = spans;
    }

    /// The frame under way empties a database, or all, or exchanges two.
    pub(super) fn touch_database(&mut self, turn: &mut Turn<'_, '_>, db: Option<u32>) {
        if self.taints.any_in(db) {
            let unit = self.emitter.touch(turn.frames.bytes, turn.out, turn.upstream);
            self.taints.touch_all(db, unit);
        }
    }

    pub(super) fn swap_databases(&mut self, turn: &mut Turn<'_, '_>, one: u32, other: u32) {
        self.touch_database(turn, Some(one));
        self.touch_database(turn, Some(other));
        if one == other || self.taints.is_empty() {
            return;
        }
        self.taints.swap(one, other);
        if self.emitter.in_transaction() {
            self.swapped.push((one, other));
        }
    }
}

/// The command that gives a replica the value: RESTORE with an absolute expiry, or DEL.
fn command(taint: &Taint, value: Option<Value>) -> Vec<Bytes> {
    let mut head = Vec::new();
    let Some(value) = value else {
        resp::write_command(&mut head, &[b"DEL", &taint.name]);
        return vec![head.into()];
    };
    let mut expires = Vec::new();
    resp::write_decimal(&mut expires, value.expires_ms.unwrap_or(0));
    resp::write_array(&mut head, 6);
    for arg in [&b"RESTORE"[..], &taint.name, &expires] {
        resp::write_bulk(&mut head, arg);
    }
    head.push(b'$');
    resp::write_decimal(&mut head, value.payload.len() as u64);
    head.extend_from_slice(b"\r\n");
    let mut tail = b"\r\n".to_vec();
    for arg in [&b"REPLACE"[..], b"ABSTTL"] {
        resp::write_bulk(&mut tail, arg);
    }
    vec![head.into(), value.payload, tail.into()]
}
