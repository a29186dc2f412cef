//! Which commands can stand in a replication stream, where their keys are, and how a filtered view treats them.
//!
//! The facts stand in `command/table.txt`, one row a command, for people to read (what only kevy has, in
//! `command/kevy.txt`); here they become a [`Table`] that answers in a few nanoseconds. [`keys`] tells where the keys
//! of one frame lie, [`absolute`] rewrites an expiry that counts from the moment of arrival. A command that has no row
//! is unknown: nothing may be guessed of it.

mod expiry;
mod keys;
mod parse;

use alloc::boxed::Box;
use alloc::vec::Vec;

pub use expiry::{RelativeExpiry, absolute, relative_expiry};
pub use keys::{KeyError, Shape, keys, other_database, sort_reads_patterns};

use crate::resp::Args;

/// The place of a row in its [`Table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u16);

/// What the table knows of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Lower-case name; a sub-command is written as `xgroup|create`.
    pub name: &'static str,
    /// Number of arguments, the name included; negative: at least so many.
    pub arity: i32,
    /// Where the keys are.
    pub keys: KeySpec,
    /// How a filtered view treats it.
    pub class: Class,
    /// The first versions that have it: `6.2` (or earlier), `r8.0,v9.1`.
    pub since: &'static str,
    /// A real server that the tests can run has confirmed the row.
    pub verified: bool,
    /// It stands for sub-commands that have rows of their own: see [`Table::resolve`].
    pub group: bool,
    /// The fast path: class [`Class::Single`] with exactly one key, at argument 1. A frame whose length fits the arity has
    /// that argument.
    pub first_key_only: bool,
    expiry: expiry::Form,
}

impl Row {
    /// Whether a frame of `len` arguments, the name included, fits the arity.
    #[inline]
    pub fn fits(&self, len: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { len >= least } else { len == least }
    }
}

/// How a filtered view treats a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// All effects are in the one key that it names: kept, dropped or renamed with it.
    Single,
    /// Independent keys (DEL, UNLINK): the kept subset of the keys.
    Subset,
    /// Independent pairs of key and value (MSET, MSETNX, and MSETEX with its count): the kept subset of the pairs.
    Pairs,
    /// Several keys joined: all kept passes, all dropped is nothing; if mixed, something else is right for the kept keys.
    Cross(Mixed),
    /// As [`Class::Cross`], and one of the keys can lie in another database (MOVE, COPY): see [`other_database`].
    CrossDatabase(Mixed),
    /// Empties a database or all of them (FLUSHALL, FLUSHDB).
    Flush,
    /// Exchanges two databases whole.
    SwapDb,
    /// A message; its argument 1 is a channel, not a key.
    Publish,
    /// Changes the function libraries, which belong to no database.
    Function,
    /// Changes the cached scripts (SCRIPT LOAD, SCRIPT FLUSH; sent by 6.2 only), which are no data.
    Script,
    /// Changes what kevy keeps beside the keys: its indexes, tables and views.
    Catalog,
    /// The stream's own business, which the host handles itself.
    Service(Service),
    /// Halts a view with plugins, for the reason given.
    Refuse(&'static str),
}

/// What is left of a command with several keys, of which some are dropped, for those that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mixed {
    /// For a kept key that the command writes or takes from, and that is not the target.
    pub source: Rest,
    /// For the last key that the command writes, where that is kept.
    pub target: Rest,
}

/// What is left of a command for one kept key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing: the key is as it was.
    Nothing,
    /// The key goes: DEL.
    Del,
    /// Argument 3 goes from a set: SREM.
    SetRemove,
    /// Argument 3 comes into a set: SADD.
    SetAdd,
    /// An element goes: LPOP or RPOP, by argument 3 (LEFT, RIGHT); without one, RPOP.
    Pop,
    /// The new value depends on a key that the view does not have.
    Repair,
}

/// Frames that carry the stream rather than data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Argument 1 is the database of what follows.
    Select,
    /// A transaction begins.
    Multi,
    /// The transaction ends and takes effect.
    Exec,
    /// A sign of life.
    Ping,
    /// `REPLCONF GETACK *`: the upstream wants an acknowledgement at once.
    GetAck,
}

/// What a command does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads it and leaves it as it is.
    Read,
    /// Overwrites it whole or removes it, whatever it held.
    Write,
    /// Changes it in place, or takes from it.
    ReadWrite,
}

/// Where one key of a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyAt {
    /// Its argument; the command's name is argument 0.
    pub arg: u32,
    /// What the command does to it.
    pub role: Role,
}

/// Where a command's keys are: at most two parts, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec(pub [KeyPart; 2]);

impl KeySpec {
    /// No key at all.
    pub const NONE: Self = Self([KeyPart::None; 2]);
}

/// One part of a [`KeySpec`]. Arguments are counted with the command's name as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart {
    /// Nothing.
    None,
    /// Argument `first` to the last but `spare`, every `step`-th; the steps have to come out even.
    Range {
        /// The first key.
        first: u32,
        /// Arguments at the end that are no keys.
        spare: u32,
        /// 1, or 2 where a value follows each key.
        step: u32,
        /// What is done to the keys.
        role: Role,
    },
    /// Exactly argument `at`.
    One {
        /// The key.
        at: u32,
        /// What is done to it.
        role: Role,
    },
    /// Argument `count` holds the number of keys, which start at `first`, every `step`-th.
    Counted {
        /// The argument with the number.
        count: u32,
        /// The first key.
        first: u32,
        /// 1, or 2 where a value follows each key.
        step: u32,
        /// What is done to the keys.
        role: Role,
    },
    /// The argument behind the last STORE or STOREDIST among the options, which start at `from`. May be absent.
    Store {
        /// The first option.
        from: u32,
        /// What is done to the key.
        role: Role,
    },
    /// The first half of what follows the word STREAMS, looked for from argument `from`.
    Streams {
        /// Where the search begins.
        from: u32,
        /// What is done to the keys.
        role: Role,
    },
}

/// Slots of the index, a power of two: some three times the rows, so that most names are found in their first slot.
const SLOTS: usize = 512;
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
    subs: Vec<(CommandId, &'static str, CommandId)>,
}

impl Table {
    /// The table of Redis up to 8.4 and Valkey up to 9.1.
    ///
    /// # Panics
    /// If the table that was compiled in is faulty, which a test rules out.
    pub fn builtin() -> Self {
        match parse::rows(include_str!("command/table.txt")) {
            Ok(rows) => Self::new(rows),
            Err(fault) => panic!("command/table.txt: {fault}"),
        }
    }

    /// The table of kevy 1.19 to 7.0: the rows of [`Table::builtin`], with kevy's own beside them and in their place.
    ///
    /// # Panics
    /// If a table that was compiled in is faulty, which a test rules out.
    pub fn kevy() -> Self {
        let own = match parse::rows(include_str!("command/kevy.txt")) {
            Ok(rows) => rows,
            Err(fault) => panic!("command/kevy.txt: {fault}"),
        };
        let Self { mut rows, .. } = Self::builtin();
        let group = |row: &Row| row.name.split('|').next();
        rows.retain(|row| own.iter().all(|instead| Some(instead.name) != group(row)));
        rows.extend(own);
        Self::new(rows)
    }

    fn new(rows: Vec<Row>) -> Self {
        let empty = Slot { head: 0, tail: 0, len: 0, row: EMPTY };
        let mut table = Self { rows, slots: Box::new([empty; SLOTS]), subs: Vec::new() };
        for index in 0..table.rows.len() {
            let name = table.rows[index].name;
            let id = CommandId(index as u16);
            match name.split_once('|') {
                None => table.index(name, id),
                Some((group, sub)) => {
                    let group =
                        table.find(group.as_bytes()).expect("the group's row comes first: the parser checks it");
                    table.subs.push((group, sub, id));
                }
            }
        }
        table
    }

    fn index(&mut self, name: &'static str, id: CommandId) {
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
                return None;
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
    /// [`Class::Refuse`], comes back only for a sub-command that is not.
    #[inline]
    pub fn resolve(&self, args: Args<'_>) -> Option<CommandId> {
        let id = self.find(args.get(0)?)?;
        if self.row(id).group { Some(self.sub_command(id, args)) } else { Some(id) }
    }

    fn sub_command(&self, group: CommandId, args: Args<'_>) -> CommandId {
        let known = self.subs.iter().find(|&&(of, name, _)| of == group && args.is(1, name));
        known.map_or(group, |&(_, _, id)| id)
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
    use super::*;
    use crate::resp::Span;

    /// A frame for tests: its bytes hold nothing but the arguments.
    pub(super) struct Frame {
        bytes: Vec<u8>,
        spans: Vec<Span>,
    }

    impl Frame {
        pub(super) fn new<A: AsRef<[u8]>>(args: &[A]) -> Self {
            let mut frame = Self { bytes: Vec::new(), spans: Vec::new() };
            for arg in args {
                let start = frame.bytes.len() as u32;
                frame.bytes.extend_from_slice(arg.as_ref());
                frame.spans.push(Span { start, end: frame.bytes.len() as u32 });
            }
            frame
        }

        /// Splits at spaces.
        pub(super) fn of(line: &str) -> Self {
            Self::new(&line.split(' ').collect::<Vec<_>>())
        }

        pub(super) fn args(&self) -> Args<'_> {
            Args { frame: &self.bytes, spans: &self.spans }
        }
    }

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
        let row = |line: &str| table.resolve(Frame::of(line).args()).map(|id| table.row(id).name);
        for known in table.rows() {
            let line = known.name.replace('|', " ");
            assert_eq!(row(&line.to_ascii_uppercase()), Some(known.name), "{line}");
        }
        assert_eq!(row("XGROUP CREATE k g $"), Some("xgroup"));
        assert_eq!(row("XINTERNAL.CONSUMERSEEN s g c 1"), Some("xinternal.consumerseen"));
        assert_eq!(row("SCRIPT LOAD x"), Some("script|load"), "other groups are left alone");
        assert!(!table.rows().iter().any(|row| row.name.starts_with("xgroup|")));
        for known in builtin.rows().iter().filter(|row| !row.name.contains('|')) {
            assert!(row(known.name).is_some(), "{} is gone", known.name);
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
    fn the_fast_path_is_exactly_one_key_at_argument_1() {
        let table = Table::builtin();
        let mut found = Vec::new();
        for row in table.rows().iter().filter(|row| row.first_key_only) {
            assert_eq!(row.class, Class::Single, "{}", row.name);
            let least = row.arity.unsigned_abs() as usize;
            let frame = Frame::new(&alloc::vec!["x"; least]);
            found.clear();
            keys(row, frame.args(), &mut found).expect("a frame that fits the arity");
            assert!(matches!(found[..], [KeyAt { arg: 1, .. }]), "{}", row.name);
        }
        for name in ["set", "hset", "zadd", "pexpireat", "vadd"] {
            assert!(table.row(table.find(name.as_bytes()).unwrap()).first_key_only, "{name}");
        }
        for name in ["del", "pfdebug", "move", "copy", "publish", "select"] {
            assert!(!table.row(table.find(name.as_bytes()).unwrap()).first_key_only, "{name}");
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

    #[test]
    fn arity_is_exact_or_at_least() {
        let table = Table::builtin();
        let row = |name: &str| *table.row(table.find(name.as_bytes()).unwrap());
        assert!(row("move").fits(3) && !row("move").fits(2) && !row("move").fits(4));
        assert!(row("set").fits(3) && row("set").fits(9) && !row("set").fits(2));
    }
}
