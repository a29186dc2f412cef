//! One value, written in an older or another type while it comes.
//!
//! Strings in it pass as they come, however large; what has to be understood whole (a listpack, or a field that stands before
//! what has to be written before it) is held up to a bound.

use alloc::format;
use alloc::vec::Vec;
use core::str;

use super::ziplist::{self, Ziplist};
use crate::fault::{Fault, Party};
use crate::limits::REWRITE_VALUE_BYTES_MAX;
use crate::rdb::cursor::{Cursor, Stop, StringHead};
use crate::rdb::grammar::{Walk, layout};
use crate::rdb::listpack::{self, Entry};
use crate::rdb::{Family, write};

/// An expiry that stands for none, in Valkey's hashes.
const NEVER: i64 = -1;
/// What Redis' hashes count expiries from here. Servers put the earliest one there, which is known only at the end of a value;
/// any time not behind it means the same.
const COUNTED_FROM: i64 = 1;

/// Memory that is kept from one value to the next.
const KEPT_BYTES: usize = 64 * 1024;

/// How a value is written.
#[derive(Debug, Clone, Copy, Default)]
enum Shape {
    /// As it is.
    #[default]
    Same,
    /// A listpack becomes fields and values, members and scores, or members.
    Pairs,
    Scores,
    Members,
    /// Each piece of a list becomes a ziplist.
    List,
    /// These steps of its layout are left out.
    Without(u64),
    /// Redis' expiring fields become Valkey's: from the general form, and from a listpack.
    Absolute,
    AbsolutePack,
    /// Valkey's expiring fields become Redis'.
    Relative,
}

/// The steps of a layout from `first` to `last`.
const fn steps(first: u32, last: u32) -> u64 {
    (u64::MAX >> (63 - last)) & (u64::MAX << first)
}

/// First id, largest deleted id, and count of entries ever added; the group's count of entries read.
const STREAM_2_ADDS: u64 = steps(6, 10) | steps(15, 15);
/// The time when a consumer was last active.
const STREAM_3_ADDS: u64 = steps(22, 22);
/// What is known of producers that repeat themselves.
const STREAM_4_ADDS: u64 = steps(25, 34);

fn shape(from: u8, to: u8) -> Option<Shape> {
    Some(match (from, to) {
        (16, 4) => Shape::Pairs,
        (17, 5) => Shape::Scores,
        (18, 14) => Shape::List,
        (20, 2) => Shape::Members,
        (19, 15) => Shape::Without(STREAM_2_ADDS),
        (21, 15) => Shape::Without(STREAM_2_ADDS | STREAM_3_ADDS),
        (21, 19) => Shape::Without(STREAM_3_ADDS),
        (26, 15) => Shape::Without(STREAM_2_ADDS | STREAM_3_ADDS | STREAM_4_ADDS),
        (26, 19) => Shape::Without(STREAM_3_ADDS | STREAM_4_ADDS),
        (26, 21) => Shape::Without(STREAM_4_ADDS),
        (24, 22) => Shape::Absolute,
        (25, 22) => Shape::AbsolutePack,
        (22, 24) => Shape::Relative,
        _ if from == to => Shape::Same,
        _ => return None,
    })
}

/// A value on its way from one type to another.
#[derive(Debug, Default)]
pub(super) struct Convert {
    walk: Walk,
    shape: Shape,
    /// The step of the layout that the bytes at hand belong to.
    step: usize,
    held: Vec<u8>,
    /// The last number that was read: how a piece of a list is stored, or when a field expires.
    number: u64,
    /// What expiries are counted from.
    base: i64,
    /// What stands behind the text that passes.
    close: Option<u8>,
    scratch: Vec<u8>,
}

impl Convert {
    /// Begins with a value of type `from` of `family`, to be written as type `to`.
    pub(super) fn begin(&mut self, family: Family, from: u8, to: u8) -> Result<(), Fault> {
        let (Some(layout), Some(shape)) = (layout(family, from), shape(from, to)) else {
            return Err(damaged(&format!("its type is {from}")));
        };
        self.walk.begin(layout);
        self.shape = shape;
        (self.step, self.close) = (0, None);
        self.let_go();
        Ok(())
    }

    /// Whether the value has ended.
    pub(super) fn is_done(&self) -> bool {
        self.walk.is_done()
    }

    /// Takes the next bytes of the value, which end where a step of its layout does, or inside a string or fixed field.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (step, used) = self.walk.stride(rest).map_err(broken)?;
            self.step = step.unwrap_or(self.step);
            if step.is_none() && used == 0 {
                return Err(damaged("it goes on behind its end"));
            }
            let (taken, after) = rest.split_at_checked(used).unwrap_or((rest, &[]));
            rest = after;
            self.take(taken, step.is_some(), !self.walk.owes(), out)?;
        }
        Ok(())
    }

    /// Takes bytes of the step under way: `first` and `last` say whether it begins and ends with them.
    fn take(&mut self, bytes: &[u8], first: bool, last: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self.shape {
            Shape::Pairs | Shape::Scores | Shape::Members => {
                self.hold(bytes)?;
                if last { self.unpack(out) } else { Ok(()) }
            }
            Shape::Same => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Shape::List => self.piece(bytes, first, last, out),
            Shape::Without(steps) => {
                if steps >> self.step & 1 == 0 {
                    out.extend_from_slice(bytes);
                }
                Ok(())
            }
            Shape::Absolute => self.absolute(bytes, last, out),
            Shape::AbsolutePack => {
                // The earliest expiry stands before the listpack, and in it, too.
                if self.step == 0 {
                    return Ok(());
                }
                self.hold(bytes)?;
                if last { self.unpack(out) } else { Ok(()) }
            }
            Shape::Relative => self.relative(bytes, last, out),
        }
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.held.len().saturating_add(bytes.len()) > REWRITE_VALUE_BYTES_MAX {
            return Err(too_large());
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes the elements of the listpack that is held.
    fn unpack(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let blob = text(&self.held, &mut self.scratch)?;
        let (count, mut entries) = listpack::entries(blob).map_err(|_| damaged("its listpack is broken"))?;
        let each = match self.shape {
            Shape::Members => 1,
            Shape::AbsolutePack => 3,
            _ => 2,
        };
        if count % each != 0 {
            return Err(damaged("an element of its listpack is not whole"));
        }
        write::write_len(out, (count / each) as u64);
        while let Some(entry) = entries.next() {
            write_entry(out, entry);
            match self.shape {
                Shape::Scores => {
                    let score = entries.next().and_then(score).ok_or_else(|| damaged("a score is no number"))?;
                    out.extend_from_slice(&score.to_le_bytes());
                }
                Shape::AbsolutePack => {
                    entries.next().into_iter().for_each(|value| write_entry(out, value));
                    let Some(Entry::Number(expiry)) = entries.next() else {
                        return Err(damaged("an expiry is no number"));
                    };
                    out.extend_from_slice(&if expiry == 0 { NEVER } else { expiry }.to_le_bytes());
                }
                _ => {}
            }
        }
        self.let_go();
        Ok(())
    }

    /// One piece of a list: how it is stored (1: a single element, 2: a listpack), then the bytes.
    fn piece(&mut self, bytes: &[u8], first: bool, last: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self.step {
            0 => out.extend_from_slice(bytes),
            1 => self.number = number(bytes)?,
            _ if first && self.number == 1 => self.open(bytes, out)?,
            _ if self.close.is_some() => out.extend_from_slice(bytes),
            _ => self.hold(bytes)?,
        }
        if self.step == 2 && last {
            match self.close.take() {
                Some(end) => out.push(end),
                None => self.node(out)?,
            }
        }
        Ok(())
    }

    /// A single element begins: it passes as it comes, unless it is packed.
    fn open(&mut self, head: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let StringHead::Plain(length) = Cursor::new(head, 0).string().map_err(broken)? else { return self.hold(head) };
        let (before, end) = ziplist::around(length).ok_or_else(too_large)?;
        write::write_len(out, before.len() as u64 + length + 1);
        out.extend_from_slice(&before);
        self.close = Some(end);
        Ok(())
    }

    /// Writes the held piece of a list.
    fn node(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let blob = text(&self.held, &mut self.scratch)?;
        let mut list = Ziplist::new();
        match self.number {
            1 => list.push(Entry::Text(blob)),
            2 => {
                let (_, entries) = listpack::entries(blob).map_err(|_| damaged("its listpack is broken"))?;
                entries.for_each(|entry| list.push(entry));
            }
            _ => return Err(damaged("a piece of it is stored in an unknown way")),
        }
        write::write_string(out, &list.finish().ok_or_else(too_large)?);
        self.let_go();
        Ok(())
    }

    /// Earliest expiry; then for each field its distance to it, its name, its value. Becomes: name, value, expiry.
    fn absolute(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self.step {
            0 => {
                self.hold(bytes)?;
                if last {
                    self.base = self.time()?;
                }
            }
            2 => self.number = number(bytes)?,
            _ => out.extend_from_slice(bytes),
        }
        if self.step == 4 && last {
            let expiry = match i64::try_from(self.number) {
                Ok(0) => Some(NEVER),
                Ok(distance) => self.base.checked_add(distance - 1).filter(|expiry| *expiry >= 0),
                Err(_) => None,
            };
            out.extend_from_slice(&expiry.ok_or_else(|| damaged("an expiry is out of range"))?.to_le_bytes());
        }
        Ok(())
    }

    /// For each field its name, its value, its expiry. Becomes: what expiries are counted from, then expiry, name, value.
    fn relative(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self.step {
            0 => {
                out.extend_from_slice(&COUNTED_FROM.to_le_bytes());
                out.extend_from_slice(bytes);
                return Ok(());
            }
            _ => self.hold(bytes)?,
        }
        if self.step == 3 && last {
            let element = self.held.len().checked_sub(8).ok_or_else(|| damaged("a field is not whole"))?;
            let expiry = self.held.split_off(element);
            let distance = match expiry.first_chunk().map(|bytes| i64::from_le_bytes(*bytes)) {
                Some(NEVER) => 0,
                // 0 would stand for "never", and the two are long past both.
                Some(expiry @ 0..) => expiry.max(COUNTED_FROM).cast_unsigned(),
                _ => return Err(damaged("an expiry is out of range")),
            };
            write::write_len(out, distance);
            out.extend_from_slice(&self.held);
            self.let_go();
        }
        Ok(())
    }

    /// The held eight bytes.
    fn time(&mut self) -> Result<i64, Fault> {
        let time = self.held.first_chunk().map(|bytes| i64::from_le_bytes(*bytes));
        self.held.clear();
        time.ok_or_else(|| damaged("an expiry is cut off"))
    }

    /// Forgets what is held, and gives back what a large value took.
    fn let_go(&mut self) {
        self.held.clear();
        self.held.shrink_to(KEPT_BYTES);
        self.scratch.shrink_to(KEPT_BYTES);
    }
}

/// The whole string in `held`, unpacked into `scratch` if it has to be.
fn text<'a>(held: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Fault> {
    let text = Cursor::new(held, 0).held("a value that is rewritten", REWRITE_VALUE_BYTES_MAX);
    text.and_then(|text| text.decode(scratch)).map_err(broken)
}

fn number(bytes: &[u8]) -> Result<u64, Fault> {
    Cursor::new(bytes, 0).length().map_err(broken)
}

fn write_entry(out: &mut Vec<u8>, entry: Entry<'_>) {
    match entry {
        Entry::Text(text) => write::write_string(out, text),
        Entry::Number(number) => write::write_string(out, format!("{number}").as_bytes()),
    }
}

/// A score as servers write it into a listpack.
fn score(entry: Entry<'_>) -> Option<f64> {
    match entry {
        Entry::Number(number) => Some(number as f64),
        Entry::Text(text) => str::from_utf8(text).ok()?.parse().ok().filter(|score: &f64| !score.is_nan()),
    }
}

fn broken(stop: Stop) -> Fault {
    match stop {
        Stop::Short(_) => damaged("it ends too early"),
        Stop::Bad(_, defect) => damaged(&format!("{defect}")),
    }
}

fn damaged(what: &str) -> Fault {
    Fault::new(Party::Upstream, format!("a value cannot be rewritten for an older or another server: {what}"))
}

fn too_large() -> Fault {
    let what = "a value cannot be rewritten for an older or another server: a piece of it is too large";
    Fault::new(Party::Upstream, format!("{what} (the bound is {REWRITE_VALUE_BYTES_MAX} bytes)"))
}
