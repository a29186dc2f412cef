//! The layout of every value type, and a machine that walks a value without holding it.
//!
//! A layout is a short row of [`Op`]s. Only lengths, string heads and fixed fields are looked at; the blobs inside (listpacks,
//! ziplists and the like) stay closed. The machine stops wherever the bytes end and goes on where it stopped. kevy's snapshots
//! are walked by it, too: they write their lengths in another way, and have layouts of their own.

use super::Family;
use super::cursor::{Cursor, Stop};
use super::error::Defect;

/// One step of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// A string in any encoding.
    Text,
    /// A length, or a number written as one.
    Number,
    /// This many bytes.
    Fixed(u8),
    /// A score in text: a byte of length and as many characters; 253, 254 and 255 stand for NaN and the infinities.
    Score,
    /// A length: the next so many steps are taken that often.
    Times(u8),
    /// The number 2: module data calls what follows an unsigned number.
    Unsigned,
    /// Module-encoded data up to its end mark.
    Module,
    /// An array's head: a count, a flag and, if that is set, the index of the next insertion; the next so many steps are taken
    /// as often as the count says.
    Array(u8),
    /// An array's element: what it is, then eight bytes or a string.
    Element,
    /// kevy: a string behind its length in four bytes.
    Blob,
    /// kevy: as [`Op::Times`], with the number in four bytes.
    Repeat(u8),
    /// kevy: a flag, and this many bytes if it is set.
    Maybe(u8),
}

use Op::{Array, Blob, Element, Fixed, Maybe, Module, Number, Repeat, Score, Text, Times, Unsigned};

/// A string, or any type that is one blob.
const BLOB: &[Op] = &[Text];
const LIST: &[Op] = &[Times(1), Text];
const SCORES: &[Op] = &[Times(2), Text, Score];
const BINARY_SCORES: &[Op] = &[Times(2), Text, Fixed(8)];
const HASH: &[Op] = &[Times(2), Text, Text];
/// Nodes: how the node is stored, and the node.
const QUICKLIST_2: &[Op] = &[Times(2), Number, Text];
/// Valkey 9: field, value, expiry in absolute milliseconds or -1.
const HASH_2: &[Op] = &[Times(3), Text, Text, Fixed(8)];
/// Redis 7.4: the smallest expiry, then for each field its expiry relative to it, field, value.
const HASH_EXPIRY: &[Op] = &[Fixed(8), Times(3), Number, Text, Text];
const HASH_EXPIRY_BLOB: &[Op] = &[Fixed(8), Text];
/// Redis 8.8: for each element its index, then what it is.
const ARRAY: &[Op] = &[Array(2), Number, Element];
/// The module's data, behind the module's id.
const MODULE_2: &[Op] = &[Module];
/// Behind the module's id: when to load it (before or after the keys), then its data.
pub(super) const MODULE_AUX: &[Op] = &[Unsigned, Number, Module];
/// Redis 8.6: for each module that keeps something of the key its class, then its data.
pub(super) const KEY_META: &[Op] = &[Times(2), Fixed(4), Module];
/// The name of the job, then the first and last slot of each range.
pub(super) const SLOT_IMPORT: &[Op] = &[Text, Times(2), Number, Number];

/// Steps that are taken as often as a length says.
const fn each(steps: &[Op]) -> Op {
    Times(steps.len() as u8)
}

const fn total(parts: &[&[Op]]) -> usize {
    let (mut total, mut part) = (0, 0);
    while part < parts.len() {
        total += parts[part].len();
        part += 1;
    }
    total
}

const fn joined<const STEPS: usize>(parts: &[&[Op]]) -> [Op; STEPS] {
    let (mut steps, mut at, mut part) = ([Text; STEPS], 0, 0);
    while part < parts.len() {
        let mut step = 0;
        while step < parts[part].len() {
            steps[at] = parts[part][step];
            (at, step) = (at + 1, step + 1);
        }
        part += 1;
    }
    steps
}

/// A layout of parts, one behind the other.
macro_rules! parts {
    ($($part:expr),+ $(,)?) => {{
        const PARTS: &[&[Op]] = &[$($part),+];
        &joined::<{ total(PARTS) }>(PARTS)
    }};
}

/// A stream: nodes; length and last id; then groups.
const STREAM: &[Op] = parts![STREAM_NODES, &[Number; 3], &[each(GROUP)], GROUP];
/// Adds first id, largest deleted id and the count of all entries ever added.
const STREAM_2: &[Op] = parts![STREAM_NODES, &[Number; 8], &[each(GROUP_2)], GROUP_2];
const STREAM_3: &[Op] = parts![STREAM_NODES, &[Number; 8], &[each(GROUP_3)], GROUP_3];
const STREAM_4: &[Op] = parts![STREAM_3, PRODUCERS];
const STREAM_5: &[Op] = parts![STREAM_NODES, &[Number; 8], &[each(GROUP_5)], GROUP_5, PRODUCERS];

const STREAM_NODES: &[Op] = &[Times(2), Text, Text];
/// A group: its name and last id, its pending entries, its consumers.
const GROUP: &[Op] = parts![&[Text, Number, Number], PENDING, &[each(CONSUMER)], CONSUMER];
/// Adds the count of entries read.
const GROUP_2: &[Op] = parts![&[Text, Number, Number, Number], PENDING, &[each(CONSUMER)], CONSUMER];
/// Adds to a consumer the time when it was last active.
const GROUP_3: &[Op] = parts![&[Text, Number, Number, Number], PENDING, &[each(CONSUMER_3)], CONSUMER_3];
/// Adds the ids that consumers gave back.
const GROUP_5: &[Op] = parts![GROUP_3, &[Times(1), Fixed(16)]];
/// For each pending entry its id and time of delivery, and how often it was delivered.
const PENDING: &[Op] = &[Times(2), Fixed(24), Number];
/// A consumer: its name, the time last seen, the ids pending.
const CONSUMER: &[Op] = &[Text, Fixed(8), Times(1), Fixed(16)];
const CONSUMER_3: &[Op] = &[Text, Fixed(8), Fixed(8), Times(1), Fixed(16)];
/// What is known of producers that repeat themselves: for how long and how many ids are kept, for each producer its name and
/// the ids of its entries; and two counts.
const PRODUCERS: &[Op] = &[Number, Number, Times(5), Text, Times(3), Text, Number, Number, Number, Number];

/// The layout of value type `kind`, or `None` if the type is unknown in `family`.
#[inline]
pub(super) fn layout(family: Family, kind: u8) -> Option<&'static [Op]> {
    Some(match kind {
        0 | 9..=13 | 16 | 17 | 20 => BLOB,
        1 | 2 | 14 => LIST,
        3 => SCORES,
        4 => HASH,
        5 => BINARY_SCORES,
        7 => MODULE_2,
        15 => STREAM,
        18 => QUICKLIST_2,
        19 => STREAM_2,
        21 => STREAM_3,
        26 if family == Family::Redis => STREAM_4,
        27 if family == Family::Redis => STREAM_5,
        28 if family == Family::Redis => ARRAY,
        22 if family == Family::Valkey => HASH_2,
        24 if family == Family::Redis => HASH_EXPIRY,
        25 if family == Family::Redis => HASH_EXPIRY_BLOB,
        _ => return None,
    })
}

/// How deep [`Op::Times`] is nested at most: the ids pending for the consumers of the groups of a stream.
const DEPTH: usize = 3;

/// A repetition that is under way.
#[derive(Debug, Clone, Copy, Default)]
struct Loop {
    /// How often the steps are still to be taken, the time under way included.
    left: u64,
    first: usize,
    end: usize,
}

/// A walk through one value at a time, which can stop after any byte.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    layout: &'static [Op],
    /// The next step.
    next: usize,
    /// Bytes of a string or fixed field that are still to pass.
    owed: u64,
    loops: [Loop; DEPTH],
    depth: usize,
}

impl Walk {
    /// Begins with a value of this layout. What is left of the value before it is forgotten.
    #[inline]
    pub(crate) fn begin(&mut self, layout: &'static [Op]) {
        (self.layout, self.next, self.owed, self.depth) = (layout, 0, 0, 0);
    }

    /// Whether the value has ended.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.owed == 0 && self.next >= self.layout.len()
    }

    /// Walks on and returns how many bytes of `window` belong to the value. Stops short only if not one byte passed.
    pub(crate) fn go(&mut self, window: &[u8]) -> Result<usize, Stop> {
        let mut at = 0;
        loop {
            if self.owed > 0 {
                let here = usize::try_from(self.owed).unwrap_or(usize::MAX).min(window.len() - at);
                at += here;
                self.owed -= here as u64;
                if self.owed > 0 {
                    return if at > 0 { Ok(at) } else { Err(Stop::Short(1)) };
                }
            }
            let Some(&op) = self.layout.get(self.next) else { return Ok(at) };
            let mut cursor = Cursor::new(window, at);
            match self.step(op, &mut cursor) {
                Ok(()) => at = cursor.at(),
                Err(Stop::Short(_)) if at > 0 => return Ok(at),
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Takes one step, or passes what it owes: the step, if it is a new one, and how many bytes of `window` it took. For those
    /// who look into a value; [`Walk::go`] is for those who only pass it on.
    pub(super) fn stride(&mut self, window: &[u8]) -> Result<(Option<usize>, usize), Stop> {
        if self.owed > 0 {
            let here = usize::try_from(self.owed).unwrap_or(usize::MAX).min(window.len());
            self.owed -= here as u64;
            return if here > 0 { Ok((None, here)) } else { Err(Stop::Short(1)) };
        }
        let Some(&op) = self.layout.get(self.next) else { return Ok((None, 0)) };
        let mut cursor = Cursor::new(window, 0);
        let at = self.next;
        self.step(op, &mut cursor)?;
        Ok((Some(at), cursor.at()))
    }

    /// Whether bytes of the step taken last are still to pass.
    pub(super) fn owes(&self) -> bool {
        self.owed > 0
    }

    /// Takes one step. A step that stops has changed nothing.
    #[inline]
    fn step(&mut self, op: Op, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        match op {
            Text => self.owed = cursor.string()?.tail(),
            Number => _ = cursor.length()?,
            Fixed(bytes) => self.owed = u64::from(bytes),
            Score => self.owed = u64::from(Some(cursor.byte()?).filter(|&length| length < 253).unwrap_or(0)),
            Times(steps) => {
                let left = cursor.length()?;
                self.repeat(left, usize::from(steps));
                return Ok(());
            }
            Repeat(steps) => {
                let left = cursor.le_u32()?;
                self.repeat(u64::from(left), usize::from(steps));
                return Ok(());
            }
            Blob => self.owed = u64::from(cursor.le_u32()?),
            Maybe(bytes) => self.owed = if cursor.flag()? { u64::from(bytes) } else { 0 },
            Unsigned => match cursor.length()? {
                2 => {}
                other => return Err(cursor.bad(Defect::ModuleData(other))),
            },
            Module => match cursor.length()? {
                0 => {}
                more => return self.module_item(more, cursor),
            },
            Array(steps) => {
                let left = cursor.length()?;
                if long_flag(cursor)? {
                    cursor.length()?;
                }
                self.repeat(left, usize::from(steps));
                return Ok(());
            }
            Element => match cursor.length()? {
                0 | 3 => self.owed = cursor.string()?.tail(),
                1 | 2 => self.owed = 8,
                other => return Err(cursor.bad(Defect::Element(other))),
            },
        }
        self.next += 1;
        self.close_loops();
        Ok(())
    }

    /// One item of module-encoded data; the step that reads such items stays where it is.
    fn module_item(&mut self, code: u64, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        match code {
            1 | 2 => _ = cursor.length()?,
            3 => self.owed = 4,
            4 => self.owed = 8,
            5 => self.owed = cursor.string()?.tail(),
            other => return Err(cursor.bad(Defect::ModuleData(other))),
        }
        Ok(())
    }

    /// Begins a repetition of the `steps` behind the current one.
    #[inline]
    fn repeat(&mut self, left: u64, steps: usize) {
        let first = self.next + 1;
        let end = first + steps;
        if left == 0 {
            self.next = end;
            self.close_loops();
        } else if let Some(place) = self.loops.get_mut(self.depth) {
            *place = Loop { left, first, end };
            self.depth += 1;
            self.next = first;
        }
    }

    /// Goes back to the first step of a repetition at its end, or leaves it, and then perhaps the one around it.
    #[inline]
    fn close_loops(&mut self) {
        while let Some(inner) = self.depth.checked_sub(1).and_then(|inner| self.loops.get_mut(inner)) {
            if self.next != inner.end {
                return;
            }
            inner.left -= 1;
            if inner.left > 0 {
                self.next = inner.first;
                return;
            }
            self.depth -= 1;
        }
    }
}

/// A flag that is written as a length.
fn long_flag(cursor: &mut Cursor<'_>) -> Result<bool, Stop> {
    match cursor.length()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(cursor.bad(Defect::Flag(other as u8))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every repetition must end inside its layout and inside the one around it, no deeper than the machine's stack.
    #[test]
    fn every_layout_is_well_nested() {
        let layouts = (0..=255).flat_map(|kind| [Family::Redis, Family::Valkey].map(|family| layout(family, kind)));
        let kevy = crate::kevy::snapshot::layouts();
        for layout in layouts.flatten().chain([MODULE_AUX, SLOT_IMPORT, KEY_META]).chain(kevy) {
            let mut ends = alloc::vec::Vec::new();
            for (at, op) in layout.iter().enumerate() {
                while ends.last() == Some(&at) {
                    ends.pop();
                }
                if let Times(steps) | Repeat(steps) | Array(steps) = op {
                    let end = at + 1 + usize::from(*steps);
                    assert!(end <= *ends.last().unwrap_or(&layout.len()), "{layout:?}");
                    ends.push(end);
                    assert!(ends.len() <= DEPTH, "{layout:?}");
                }
            }
        }
    }

    #[test]
    fn types_that_differ_between_the_families_are_known_in_one_only() {
        assert!(layout(Family::Redis, 22).is_none() && layout(Family::Valkey, 22).is_some());
        for kind in [24, 25, 26, 27, 28] {
            assert!(layout(Family::Redis, kind).is_some() && layout(Family::Valkey, kind).is_none());
        }
        for kind in [6, 8, 23, 29, 33, 150] {
            assert!(layout(Family::Redis, kind).is_none() && layout(Family::Valkey, kind).is_none());
        }
    }
}
