//! What is known of one command.

use super::expiry::Form;
use super::{Learned, Name};

/// The place of a row in its [`Table`](super::Table).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u16);

/// What the table knows of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Lower-case name; a sub-command is written as `xgroup|create`.
    pub name: Name,
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
    /// It stands for sub-commands that have rows of their own: see [`Table::resolve`](super::Table::resolve).
    pub group: bool,
    /// The fast path: class [`Class::Single`] with exactly one key, at argument 1. A frame whose length fits the arity has
    /// that argument.
    pub first_key_only: bool,
    pub(super) expiry: Form,
}

impl Row {
    pub(super) fn learned(learned: &Learned) -> Self {
        let Learned { name, arity, keys, class, group } = *learned;
        let first_key_only = class == Class::Single && matches!(keys.0, [KeyPart::One { at: 1, .. }, KeyPart::None]);
        let (since, expiry) = ("told by the primary", Form::None);
        Self { name, arity, keys, class, since, verified: false, group, first_key_only, expiry }
    }

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
    /// As [`Class::Cross`], and one of the keys can lie in another database (MOVE, COPY): see
    /// [`other_database`](super::other_database).
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

#[cfg(test)]
mod tests {
    use super::super::Table;

    #[test]
    fn arity_is_exact_or_at_least() {
        let table = Table::builtin();
        let row = |name: &str| *table.row(table.find(name.as_bytes()).unwrap());
        assert!(row("move").fits(3) && !row("move").fits(2) && !row("move").fits(4));
        assert!(row("set").fits(3) && row("set").fits(9) && !row("set").fits(2));
    }
}
