//! How a command's row is found by its name.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{CommandId, Learned, Name, Row, parse};
use crate::resp::Args;

/// Slots of the index, a power of two: some three times the rows, so that most names are found in their first slot.
pub(super) const SLOTS: usize = 512;
/// The most commands that are learned from a primary: the ids of all fit 16 bits, and a module has a few dozen.
pub const LEARNED_MAX: usize = 1024;
/// Marks an empty slot.
const EMPTY: u16 = u16::MAX;

/// The name that leads to a row: see [`head`] and [`tail`], which with the length decide every name of up to 16 bytes.
#[derive(Debug, Clone, Copy)]
struct Slot {
    head: u64,
    tail: u64,
    len: u16,
    row: u16,
}

/// All commands that are known.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Row>,
    /// Open addressing over the names without sub-command.
    slots: Box<[Slot; SLOTS]>,
    /// The sub-commands: the row of the group, the sub-command's name, its row.
    subs: Vec<(CommandId, Name, CommandId)>,
    /// Rows that a primary told, without the sub-commands, by name. Looked at last: they must not crowd the index.
    learned: Vec<CommandId>,
}

impl Table {
    /// The table of Redis up to 8.4 and Valkey up to 9.1.
    ///
    /// # Panics
    /// If the table that was compiled in is faulty, which a test rules out.
    pub fn builtin() -> Self {
        match parse::rows(include_str!("table.txt")) {
            Ok(rows) => Self::new(rows),
            Err(fault) => panic!("command/table.txt: {fault}"),
        }
    }

    /// The table of kevy 1.19 to 7.0: the rows of [`Table::builtin`], with kevy's own beside them and in their place.
    ///
    /// # Panics
    /// If a table that was compiled in is faulty, which a test rules out.
    pub fn kevy() -> Self {
        let own = match parse::rows(include_str!("kevy.txt")) {
            Ok(rows) => rows,
            Err(fault) => panic!("command/kevy.txt: {fault}"),
        };
        let Self { mut rows, .. } = Self::builtin();
        let replaces = |instead: &Row, row: &Row| row.name.split('|').next() == Some(&*instead.name);
        rows.retain(|row| !own.iter().any(|instead| replaces(instead, row)));
        rows.extend(own);
        Self::new(rows)
    }

    fn new(rows: Vec<Row>) -> Self {
        let empty = Slot { head: 0, tail: 0, len: 0, row: EMPTY };
        let mut table = Self { rows, slots: Box::new([empty; SLOTS]), subs: Vec::new(), learned: Vec::new() };
        for index in 0..table.rows.len() {
            let name = table.rows[index].name;
            let id = CommandId(index as u16);
            match name.split_once('|') {
                None => table.index(&name, id),
                Some((group, sub)) => {
                    let group =
                        table.find(group.as_bytes()).expect("the group's row comes first: the parser checks it");
                    let sub = Name::learned(sub.as_bytes()).expect("no name of ours is too long: the parser checks it");
                    table.subs.push((group, sub, id));
                }
            }
        }
        table
    }

    fn index(&mut self, name: &str, id: CommandId) {
        let (head, tail) = (head(name.as_bytes()), tail(name.as_bytes()));
        let mut at = place(head, name.len());
        while self.slots[at].row != EMPTY {
            at = (at + 1) % SLOTS;
        }
        self.slots[at] = Slot { head, tail, len: name.len() as u16, row: id.0 };
    }

    /// The row of a command's name, without regard to case. A group's sub-commands are not looked at: see [`Table::resolve`].
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<CommandId> {
        let (head, tail) = (head(name), tail(name));
        let mut at = place(head, name.len());
        loop {
            let slot = &self.slots[at % SLOTS];
            if slot.row == EMPTY {
                return self.find_learned(name);
            }
            let same = slot.head == head && slot.tail == tail && usize::from(slot.len) == name.len();
            if same && (name.len() <= 16 || self.rows[usize::from(slot.row)].name.as_bytes().eq_ignore_ascii_case(name))
            {
                return Some(CommandId(slot.row));
            }
            at += 1;
        }
    }

    /// The row of a frame: its sub-command's where it has one that is known. The row of a group itself, which is
    /// [`Class::Refuse`](super::Class::Refuse), comes back only for a sub-command that is not.
    #[inline]
    pub fn resolve(&self, args: Args<'_>) -> Option<CommandId> {
        let id = self.find(args.get(0)?)?;
        if self.row(id).group { Some(self.sub_command(id, args)) } else { Some(id) }
    }

    fn sub_command(&self, group: CommandId, args: Args<'_>) -> CommandId {
        let known = self.subs.iter().find(|(of, name, _)| *of == group && args.is(1, name));
        known.map_or(group, |&(_, _, id)| id)
    }

    /// This table with the commands of a primary behind its own rows, which keep their places. What is known already stays
    /// as it is; above [`LEARNED_MAX`] nothing more is taken.
    pub fn with_learned(&self, learned: &[Learned]) -> Self {
        let mut table = self.clone();
        for one in learned {
            if table.rows.len() - self.rows.len() < LEARNED_MAX {
                table.learn(one);
            }
        }
        table
    }

    fn learn(&mut self, learned: &Learned) {
        let id = CommandId(self.rows.len() as u16);
        match learned.name.split_once('|') {
            Some((group, sub)) => {
                let known = |of: CommandId| self.subs.iter().any(|(group, name, _)| *group == of && *name == *sub);
                let of = self.find(group.as_bytes()).filter(|&of| self.row(of).group && !known(of));
                let (Some(of), Some(sub)) = (of, Name::learned(sub.as_bytes())) else { return };
                self.subs.push((of, sub, id));
            }
            None if self.find(learned.name.as_bytes()).is_some() => return,
            None => {
                let at = self.learned.partition_point(|&id| *self.row(id).name < *learned.name);
                self.learned.insert(at, id);
            }
        }
        self.rows.push(Row::learned(learned));
    }

    #[cold]
    fn find_learned(&self, name: &[u8]) -> Option<CommandId> {
        let small = || name.iter().map(u8::to_ascii_lowercase);
        let found = self.learned.binary_search_by(|&id| self.row(id).name.bytes().cmp(small()));
        found.ok().and_then(|at| self.learned.get(at).copied())
    }

    /// A row by its id.
    ///
    /// # Panics
    /// If `id` is not from this table.
    #[inline]
    pub fn row(&self, id: CommandId) -> &Row {
        &self.rows[usize::from(id.0)]
    }

    /// All rows, in the order of the table; a row's id is its index.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

/// Where the search for a name begins.
#[inline]
fn place(head: u64, len: usize) -> usize {
    // The multiplication carries every byte of the name into the top bits, which are taken. The factor was found by search:
    // with it no name of the table lies behind its second slot.
    let hash = (head ^ len as u64).wrapping_mul(0xa23e_de0b_56b3_26ab);
    (hash >> (u64::BITS - SLOTS.trailing_zeros())) as usize
}

/// The first eight bytes of a name in lower case, in little-endian order, zeros behind a shorter one.
#[inline]
fn head(name: &[u8]) -> u64 {
    lower_case(match *name {
        [a, b, c, d, e, f, g, h, ..] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        [a, b, c, d, ..] => {
            // Two loads that overlap: where they do, both bring the same byte.
            let last = name.last_chunk().map_or(0, |&last| u32::from_le_bytes(last));
            u64::from(u32::from_le_bytes([a, b, c, d])) | u64::from(last) << (8 * (name.len() - 4))
        }
        [a, b, c] => u64::from(u32::from_le_bytes([a, b, c, 0])),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a] => u64::from(a),
        [] => 0,
    })
}

/// The last eight bytes of a name in lower case; 0 for a name that [`head`] holds whole.
#[inline]
fn tail(name: &[u8]) -> u64 {
    match name.last_chunk() {
        Some(&last) if name.len() > 8 => lower_case(u64::from_le_bytes(last)),
        _ => 0,
    }
}

/// Turns the ASCII capitals of eight bytes into small letters, all at once.
#[inline]
fn lower_case(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low_bits = word & (ONES * 0x7f);
    // The top bit of each byte says whether it is above 'Z', and at least 'A'; nothing carries into the next byte.
    let above_z = low_bits + ONES * (0x7f - u64::from(b'Z'));
    let from_a = low_bits + ONES * (0x80 - u64::from(b'A'));
    let capital = (from_a ^ above_z) & !word & (ONES * 0x80);
    word | capital >> 2
}

#[cfg(test)]
mod tests {
    use super::super::Class;
    use super::super::tests::Frame;
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case() {
        let table = Table::builtin();
        for (index, row) in table.rows().iter().enumerate() {
            let line = row.name.replace('|', " ");
            for text in [line.to_ascii_uppercase(), line.clone()] {
                let frame = Frame::of(&text);
                assert_eq!(table.resolve(frame.args()), Some(CommandId(index as u16)), "{text}");
            }
        }
    }

    #[test]
    fn kevy_has_rows_of_its_own_and_in_the_place_of_others() {
        let (table, builtin) = (Table::kevy(), Table::builtin());
        assert!(table.rows().len() * 2 < SLOTS, "the index is more than half full");
        let row = |line: &str| table.resolve(Frame::of(line).args()).map(|id| &*table.row(id).name);
        for known in table.rows() {
            let line = known.name.replace('|', " ");
            assert_eq!(row(&line.to_ascii_uppercase()), Some(&*known.name), "{line}");
        }
        assert_eq!(row("XGROUP CREATE k g $"), Some("xgroup"));
        assert_eq!(row("XINTERNAL.CONSUMERSEEN s g c 1"), Some("xinternal.consumerseen"));
        assert_eq!(row("SCRIPT LOAD x"), Some("script|load"), "other groups are left alone");
        assert!(!table.rows().iter().any(|row| row.name.starts_with("xgroup|")));
        for known in builtin.rows().iter().filter(|row| !row.name.contains('|')) {
            assert!(row(&known.name).is_some(), "{} is gone", known.name);
        }
    }

    #[test]
    fn what_is_no_command_is_not_found() {
        let table = Table::builtin();
        for name in [
            "",
            "s",
            "se",
            "sets",
            "zremrangebyscorf",
            "zremrangxbyscore",
            "georadiusxymember",
            "xgroup|create",
            "get",
            "set\0",
            "\u{e9}",
            "{et",
            "3ET",
        ] {
            assert_eq!(table.find(name.as_bytes()), None, "{name}");
        }
        for byte in 0..=255u8 {
            let found = table.find(&[byte, b'e', b't']).is_some();
            assert_eq!(found, byte.eq_ignore_ascii_case(&b's'), "{byte}");
        }
    }

    #[test]
    fn an_unknown_sub_command_is_refused_by_its_group() {
        let table = Table::builtin();
        for line in ["XGROUP HELP", "xgroup", "cluster reset", "replconf ack 1", "script kill", "FUNCTION stats"] {
            let id = table.resolve(Frame::of(line).args()).expect("the group is known");
            assert!(table.row(id).group, "{line}");
            assert!(matches!(table.row(id).class, Class::Refuse(_)), "{line}");
        }
    }

    #[test]
    fn lower_case_touches_capitals_alone() {
        for byte in 0..=255u8 {
            let all = u64::from_le_bytes([byte; 8]);
            assert_eq!(lower_case(all), u64::from_le_bytes([byte.to_ascii_lowercase(); 8]), "{byte}");
        }
    }

    #[test]
    fn head_and_tail_hold_a_name_of_up_to_16_bytes() {
        let name = b"ZREMRANGEBYSCORE";
        for len in 0..=name.len() {
            let small = name[..len].to_ascii_lowercase();
            let (mut first, mut last) = ([0; 8], [0; 8]);
            first[..len.min(8)].copy_from_slice(&small[..len.min(8)]);
            if len > 8 {
                last.copy_from_slice(&small[len - 8..]);
            }
            assert_eq!((head(&name[..len]).to_le_bytes(), tail(&name[..len]).to_le_bytes()), (first, last), "{len}");
        }
    }
}
