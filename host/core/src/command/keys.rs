//! Where the keys of one frame are.

use alloc::vec::Vec;
use core::fmt;

use super::{KeyAt, KeyPart, Name, Role, Row};
use crate::resp::{Args, decimal};

/// A frame of the upstream that does not have the shape of its command. The replicas would refuse it or read it otherwise
/// than we do, so a view that looks into frames has to halt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyError {
    /// The command, as the table names it.
    pub command: Name,
    /// What is wrong.
    pub shape: Shape,
}

/// What is wrong with the shape of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// It has so many arguments, the name included, where another number is due.
    Arity {
        /// As the table has it: negative is "at least".
        due: i32,
        /// How many there are.
        found: usize,
    },
    /// The number of keys is no number above 0, or the frame ends before the last of them.
    KeyCount,
    /// The last key has no value.
    OddPairs,
    /// The word STREAMS is missing, or keys and ids behind it are not equal in number.
    Streams,
    /// An option is not known, or its value is missing.
    Option,
    /// The other database is not a number from 0 to 4,294,967,295.
    Database,
    /// The expiry is not a number, or lies beyond what 63 bits of milliseconds hold.
    Expiry,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the upstream sent a {} that the command table cannot read: ", self.command)?;
        match self.shape {
            Shape::Arity { due, found } => {
                let bound = if due < 0 { "at least " } else { "" };
                write!(f, "{found} arguments instead of {bound}{}", due.unsigned_abs())
            }
            Shape::KeyCount => f.write_str("its number of keys is no number above 0 that its arguments bear out"),
            Shape::OddPairs => f.write_str("its last key has no value"),
            Shape::Streams => f.write_str("its keys and ids behind STREAMS do not pair up"),
            Shape::Option => f.write_str("an option is unknown or lacks its value"),
            Shape::Database => f.write_str("its other database is no number"),
            Shape::Expiry => f.write_str("its expiry is no number in range"),
        }
    }
}

impl core::error::Error for KeyError {}

/// Appends where the keys of a frame are, in the order of the table's parts; one key can be there twice.
///
/// # Errors
/// The frame does not have the shape of the row's command. `out` may then hold some of the keys.
pub fn keys(row: &Row, args: Args<'_>, out: &mut Vec<KeyAt>) -> Result<(), KeyError> {
    check_arity(row, args)?;
    for part in row.keys.0 {
        part_keys(part, args, out).map_err(|shape| KeyError { command: row.name, shape })?;
    }
    Ok(())
}

/// Whether the number of arguments is one that the command can have.
pub(super) fn check_arity(row: &Row, args: Args<'_>) -> Result<(), KeyError> {
    if row.fits(args.len()) {
        return Ok(());
    }
    Err(KeyError { command: row.name, shape: Shape::Arity { due: row.arity, found: args.len() } })
}

fn part_keys(part: KeyPart, args: Args<'_>, out: &mut Vec<KeyAt>) -> Result<(), Shape> {
    let len = args.len();
    match part {
        KeyPart::None => {}
        KeyPart::One { at, role } => {
            if at as usize >= len {
                return Err(Shape::KeyCount);
            }
            out.push(KeyAt { arg: at, role });
        }
        KeyPart::Range { first, spare, step, role } => {
            let count = len.saturating_sub(first as usize).saturating_sub(spare as usize);
            if !count.is_multiple_of(step as usize) {
                return Err(Shape::OddPairs);
            }
            push(out, first as usize, count / step as usize, step as usize, role);
        }
        KeyPart::Counted { count, first, step, role } => {
            let keys = counted(args, count as usize, first as usize, step as usize).ok_or(Shape::KeyCount)?;
            push(out, first as usize, keys, step as usize, role);
        }
        KeyPart::Store { from, role } => {
            if let Some(at) = last_store(args, from as usize)? {
                push(out, at, 1, 1, role);
            }
        }
        KeyPart::Streams { from, role } => {
            let word = (from as usize..len).find(|&i| args.is(i, "STREAMS")).ok_or(Shape::Streams)?;
            let rest = len - word - 1;
            if rest == 0 || !rest.is_multiple_of(2) {
                return Err(Shape::Streams);
            }
            push(out, word + 1, rest / 2, 1, role);
        }
    }
    Ok(())
}

/// Appends `count` keys from argument `first`; all of them are known to be there, so `count` is bounded by the frame.
fn push(out: &mut Vec<KeyAt>, first: usize, count: usize, step: usize, role: Role) {
    out.extend((0..count).map(|i| KeyAt { arg: (first + i * step) as u32, role }));
}

/// The number at argument `at`, if it is above 0 and the frame holds so many steps from argument `first`.
pub(super) fn counted(args: Args<'_>, at: usize, first: usize, step: usize) -> Option<usize> {
    let count = usize::try_from(decimal(args.get(at)?)?).ok()?;
    let end = first.checked_add(count.checked_mul(step)?)?;
    (count > 0 && end <= args.len()).then_some(count)
}

/// Values that belong to an option of SORT or GEORADIUS. Without them a key or pattern called `store` would be taken for
/// the option.
fn option_values(args: Args<'_>, at: usize) -> usize {
    let is = |word| args.is(at, word);
    match () {
        () if is("LIMIT") => 2,
        () if is("BY") || is("GET") || is("COUNT") || is("STORE") || is("STOREDIST") => 1,
        () => 0,
    }
}

/// Visits each option of SORT or GEORADIUS from argument `from`.
fn each_option(args: Args<'_>, from: usize, mut visit: impl FnMut(usize)) -> Result<(), Shape> {
    let mut at = from;
    while at < args.len() {
        let values = option_values(args, at);
        if at + values >= args.len() {
            return Err(Shape::Option);
        }
        visit(at);
        at += 1 + values;
    }
    Ok(())
}

/// The argument behind the last STORE or STOREDIST: servers let the last one win.
fn last_store(args: Args<'_>, from: usize) -> Result<Option<usize>, Shape> {
    let mut found = None;
    each_option(args, from, |at| {
        if args.is(at, "STORE") || args.is(at, "STOREDIST") {
            found = Some(at + 1);
        }
    })?;
    Ok(found)
}

/// Whether a SORT reads keys that nobody named: BY with a pattern that has a `*`, or GET of anything but `#` (the element
/// itself). `BY nosort`, which has no `*`, reads nothing. A frame whose options do not come out even counts as reading.
pub fn sort_reads_patterns(args: Args<'_>) -> bool {
    let mut reads = false;
    let walked = each_option(args, 2, |at| {
        let pattern = args.get(at + 1).unwrap_or(&[]);
        reads |= args.is(at, "BY") && memchr::memchr(b'*', pattern).is_some();
        reads |= args.is(at, "GET") && pattern != b"#";
    });
    reads || walked.is_err()
}

/// The database that MOVE or COPY names beside the selected one. `None` for a COPY within its database, and for every
/// other command. The number can be the selected database's own.
///
/// # Errors
/// The frame does not have the shape of its command.
pub fn other_database(row: &Row, args: Args<'_>) -> Result<Option<u32>, KeyError> {
    let fault = |shape| KeyError { command: row.name, shape };
    match &*row.name {
        "move" => {
            check_arity(row, args)?;
            database(args, 2).map(Some).map_err(fault)
        }
        "copy" => {
            check_arity(row, args)?;
            copy_database(args).map_err(fault)
        }
        _ => Ok(None),
    }
}

fn copy_database(args: Args<'_>) -> Result<Option<u32>, Shape> {
    let mut other = None;
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "REPLACE") {
            at += 1;
        } else if args.is(at, "DB") && at + 1 < args.len() {
            // A later one wins, as in the servers.
            other = Some(database(args, at + 1)?);
            at += 2;
        } else {
            return Err(Shape::Option);
        }
    }
    Ok(other)
}

fn database(args: Args<'_>, at: usize) -> Result<u32, Shape> {
    let number = args.get(at).and_then(decimal).ok_or(Shape::Database)?;
    u32::try_from(number).map_err(|_| Shape::Database)
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::super::tests::Frame;
    use super::*;
    use alloc::format;
    use alloc::string::{String, ToString};
    use proptest::prelude::*;

    /// The keys of a frame in words: `1r 5w`.
    fn places(line: &str) -> Result<String, Shape> {
        let (table, frame) = (Table::builtin(), Frame::of(line));
        let row = table.row(table.resolve(frame.args()).expect(line));
        let mut found = Vec::new();
        keys(row, frame.args(), &mut found).map_err(|fault| fault.shape)?;
        let words: Vec<_> = found
            .iter()
            .map(|key| match key.role {
                Role::Read => format!("{}r", key.arg),
                Role::Write => format!("{}w", key.arg),
                Role::ReadWrite => format!("{}rw", key.arg),
            })
            .collect();
        Ok(words.join(" "))
    }

    #[test]
    fn keys_are_where_the_command_has_them() {
        let known = [
            ("SET k v PXAT 1795374210642", "1rw"),
            ("DEL a b c", "1w 2w 3w"),
            ("MSET a 1 b 2", "1w 3w"),
            ("MSETEX 2 a 1 b 2 NX PX 100", "2w 4w"),
            ("PFMERGE d a b", "1rw 2r 3r"),
            ("PFMERGE d", "1rw"),
            ("SUNIONSTORE d a b", "1w 2r 3r"),
            ("BITOP AND d a b", "2w 3r 4r"),
            ("COPY a b DB 3", "1r 2w"),
            ("LMOVE a b LEFT RIGHT", "1rw 2rw"),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "1w 3r 4r"),
            ("LMPOP 2 a b LEFT", "2rw 3rw"),
            ("XGROUP CREATE k g $ MKSTREAM", "2rw"),
            ("XREADGROUP GROUP streams c STREAMS a b 1 2", "5rw 6rw"),
            ("BLPOP a b 0", "1rw 2rw"),
            ("PUBLISH ch m", ""),
            ("SPUBLISH ch m", ""),
            ("FUNCTION LOAD REPLACE x", ""),
            ("FLUSHALL", ""),
        ];
        for (line, expected) in known {
            assert_eq!(places(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn the_last_store_wins_and_is_not_mistaken() {
        let known = [
            ("SORT src", "1r"),
            ("SORT src BY w_* LIMIT 0 5 GET # STORE dst", "1r 10w"),
            ("SORT src store one STORE two", "1r 5w"),
            // A pattern and a destination that are called like the option.
            ("SORT src BY store GET store", "1r"),
            ("SORT src STORE store ASC", "1r 3w"),
            ("SORT src STORE by STORE dst", "1r 5w"),
            ("GEORADIUS src 15 37 200 km", "1r"),
            ("GEORADIUS src 15 37 200 km COUNT 3 ANY ASC STORE a STOREDIST b", "1r 13w"),
            ("GEORADIUSBYMEMBER src store 200 km STOREDIST dst", "1r 6w"),
        ];
        for (line, expected) in known {
            assert_eq!(places(line).as_deref(), Ok(expected), "{line}");
        }
        assert_eq!(places("SORT src STORE"), Err(Shape::Option));
        assert_eq!(places("SORT src LIMIT 0"), Err(Shape::Option));
    }

    #[test]
    fn a_frame_that_its_command_cannot_have_is_an_error() {
        let wrong = [
            ("GETDEL", Shape::Arity { due: 2, found: 1 }),
            ("MOVE a 1 2", Shape::Arity { due: 3, found: 4 }),
            ("MSET a 1 b", Shape::OddPairs),
            ("MSETEX 2 a 1 b", Shape::KeyCount),
            ("MSETEX 0 a 1", Shape::KeyCount),
            ("MSETEX -1 a 1", Shape::KeyCount),
            ("MSETEX 9999999999999999999 a 1", Shape::KeyCount),
            ("ZUNIONSTORE d 3 a b", Shape::KeyCount),
            ("ZUNIONSTORE d x a b", Shape::KeyCount),
            ("XREADGROUP GROUP g c STREAMS a b 1", Shape::Streams),
            ("XREADGROUP GROUP g c a b 1", Shape::Streams),
        ];
        for (line, shape) in wrong {
            assert_eq!(places(line), Err(shape), "{line}");
        }
    }

    #[test]
    fn an_error_names_the_command_and_what_is_wrong() {
        let (table, frame) = (Table::builtin(), Frame::of("SET k"));
        let row = table.row(table.find(b"set").unwrap());
        let fault = keys(row, frame.args(), &mut Vec::new()).expect_err("too short");
        let said = "the upstream sent a set that the command table cannot read: 2 arguments instead of at least 3";
        assert_eq!(fault.to_string(), said);
    }

    #[test]
    fn move_and_copy_tell_the_other_database() {
        let table = Table::builtin();
        let other = |line: &str| {
            let frame = Frame::of(line);
            let row = table.row(table.resolve(frame.args()).expect(line));
            other_database(row, frame.args()).map_err(|fault| fault.shape)
        };
        assert_eq!(other("MOVE k 7"), Ok(Some(7)));
        assert_eq!(other("COPY a b"), Ok(None));
        assert_eq!(other("copy a b replace db 9"), Ok(Some(9)));
        assert_eq!(other("COPY a b DB 1 DB 2 REPLACE"), Ok(Some(2)));
        assert_eq!(other("SET a b"), Ok(None));
        assert_eq!(other("MOVE k -1"), Err(Shape::Database));
        assert_eq!(other("MOVE k 4294967296"), Err(Shape::Database));
        assert_eq!(other("COPY a b DB"), Err(Shape::Option));
        assert_eq!(other("COPY a b TTL"), Err(Shape::Option));
        assert_eq!(other("MOVE k"), Err(Shape::Arity { due: 3, found: 2 }));
    }

    #[test]
    fn sort_reads_other_keys_by_pattern_alone() {
        let reads = |line: &str| sort_reads_patterns(Frame::of(line).args());
        assert!(reads("SORT l BY w_* STORE d"));
        assert!(reads("SORT l by h_*->f STORE d"));
        assert!(reads("SORT l GET # GET o_* STORE d"));
        assert!(reads("SORT l GET o STORE d"));
        assert!(reads("SORT l STORE"), "what cannot be read is not trusted");
        assert!(!reads("SORT l BY nosort LIMIT 0 3 STORE d"));
        assert!(!reads("SORT l GET # STORE d"));
        assert!(!reads("SORT l ALPHA DESC STORE get*"));
        // A destination that is called like an option.
        assert!(!reads("SORT l STORE by"));
    }

    /// Arguments that a hostile or broken upstream could send: options, counts that lie, bytes of all kinds.
    fn argument() -> impl Strategy<Value = Vec<u8>> {
        let words =
            ["STORE", "storedist", "BY", "get", "LIMIT", "COUNT", "STREAMS", "DB", "REPLACE", "FIELDS", "*", "#"];
        let expiries = ["EX", "px", "EXAT", "ABSTTL", "IFEQ", "IDLETIME", "NX"];
        let numbers = ["0", "1", "2", "3", "-1", "9999999999999999999", "18446744073709551615", "9223372036854775807"];
        let known: Vec<&'static str> = [&words[..], &expiries[..], &numbers[..]].concat();
        prop_oneof![
            3 => prop::sample::select(known).prop_map(|word| word.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..5),
        ]
    }

    proptest! {
        #[test]
        fn no_frame_panics_and_no_key_lies_outside_it(tail in prop::collection::vec(argument(), 0..12)) {
            let table = Table::builtin();
            let (mut found, mut rewritten) = (Vec::new(), Vec::new());
            for row in table.rows() {
                let mut all: Vec<Vec<u8>> = row.name.split('|').map(|word| word.as_bytes().to_vec()).collect();
                all.extend_from_slice(&tail);
                let frame = Frame::new(&all);
                found.clear();
                let read = keys(row, frame.args(), &mut found);
                prop_assert!(found.iter().all(|key| key.arg >= 1 && (key.arg as usize) < all.len()), "{}", row.name);
                prop_assert!(read.is_err() || row.fits(all.len()), "{}", row.name);
                prop_assert!(read.is_err() || row.keys == super::super::KeySpec::NONE || !found.is_empty(), "{}", row.name);
                other_database(row, frame.args()).ok();
                sort_reads_patterns(frame.args());
                rewritten.clear();
                let rewrote = super::super::absolute(row, frame.args(), 1_795_374_210_642, &mut rewritten);
                prop_assert_eq!(rewrote == Ok(true), !rewritten.is_empty(), "{}", row.name);
            }
        }
    }
}
