//! Which commands can stand in a replication stream, where their keys are, and how a filtered view treats them.
//!
//! The facts stand in `command/table.txt`, one row a command, for people to read (what only kevy has, in
//! `command/kevy.txt`); here they become a [`Table`] that answers in a few nanoseconds. [`keys`] tells where the keys
//! of one frame lie, [`absolute`] rewrites an expiry that counts from the moment of arrival. A command that has no row
//! is unknown: nothing may be guessed of it.

mod expiry;
mod keys;
pub mod learned;
mod name;
mod parse;
mod row;
pub mod since;
mod table;

pub use expiry::{RelativeExpiry, absolute, relative_expiry};
pub use keys::{KeyError, Shape, keys, other_database, sort_reads_patterns};
pub use learned::Learned;
pub use name::{NAME_BYTES_MAX, Name};
pub use row::{Class, CommandId, KeyAt, KeyPart, KeySpec, Mixed, Rest, Role, Row, Service};
pub use table::{LEARNED_MAX, Table};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Args, Span};
    use alloc::vec::Vec;

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
}
