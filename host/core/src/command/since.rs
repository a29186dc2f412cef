//! Which servers know what: the first versions of commands and of their options.
//!
//! A command's first versions stand in its row; here are the options that came later than their commands, with what is left of
//! a command without them. An option is left out where the command then does the same to a replica, which was told to do it
//! because it took effect on the primary; otherwise nothing can stand for it.

use alloc::vec::Vec;

use super::{Class, Row};
use crate::rdb::{Family, ServerVersion};
use crate::resp::Args;

/// Whether `server` has what came with the versions in `since`, written as in the command table: `7.0`, `r8.0,v9.1`.
fn has(server: &ServerVersion, since: &str) -> bool {
    since.split(',').any(|first| {
        let (family, version) = match first.split_at_checked(1) {
            Some(("r", version)) => (Some(Family::Redis), version),
            Some(("v", version)) => (Some(Family::Valkey), version),
            // From before the families parted.
            _ => (None, first),
        };
        let first = ServerVersion::parse(server.family, version);
        let first = first.filter(|_| family.is_none_or(|family| family == server.family));
        first.is_some_and(|first| (server.major, server.minor) >= (first.major, first.minor))
    })
}

/// Whether `server` knows the command. What only the primary told us of nobody else is known to know.
pub fn knows(server: &ServerVersion, row: &Row) -> bool {
    !row.group && has(server, row.since)
}

/// What becomes of a command for a server that does not know it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Older {
    /// It means nothing there, and changes no data: functions and messages to shards.
    Nothing,
    /// HSETEX that gives no expiry: HSET.
    HashSet,
    /// HGETDEL: HDEL.
    HashDelete,
    /// Nothing can stand for it.
    Unfit,
}

/// What becomes of the command of `row` for servers that do not [know](knows) it.
pub fn older(row: &Row) -> Older {
    match (row.class, &*row.name) {
        (Class::Function, _) | (_, "spublish" | "function") => Older::Nothing,
        (_, "hsetex") => Older::HashSet,
        (_, "hgetdel") => Older::HashDelete,
        _ => Older::Unfit,
    }
}

/// What is left of a command without an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// The same without so many arguments, the option and what belongs to it.
    Arguments(usize),
    /// Nothing that means the same.
    Unfit,
}

/// Options that came later than their commands.
#[derive(Debug, Clone, Copy)]
struct Late {
    commands: &'static [&'static str],
    /// The argument at which they can stand first.
    from: usize,
    words: &'static [&'static str],
    since: &'static str,
    without: Without,
}

const LATE: [Late; 9] = [
    // A condition that held on the primary.
    Late {
        commands: &["expire", "expireat", "pexpire", "pexpireat"],
        from: 3,
        words: &["NX", "XX", "GT", "LT"],
        since: "7.0",
        without: Without::Arguments(1),
    },
    // GET tells the client the old value; a server before 7.0 does not take it together with NX.
    Late { commands: &["set"], from: 3, words: &["GET"], since: "7.0", without: Without::Arguments(1) },
    Late { commands: &["set"], from: 3, words: &["IFEQ"], since: "r8.4,v8.1", without: Without::Unfit },
    Late { commands: &["set"], from: 3, words: &["IFNE", "IFDEQ", "IFDNE"], since: "r8.4", without: Without::Unfit },
    Late {
        commands: &["bitop"],
        from: 1,
        words: &["DIFF", "DIFF1", "ANDOR", "ONE"],
        since: "r8.2",
        without: Without::Unfit,
    },
    Late { commands: &["geosearchstore"], from: 3, words: &["BYPOLYGON"], since: "v9.0", without: Without::Unfit },
    // Statistics of streams and groups.
    Late {
        commands: &["xgroup|create", "xgroup|setid", "xsetid"],
        from: 3,
        words: &["ENTRIESREAD", "ENTRIESADDED", "MAXDELETEDID"],
        since: "7.0",
        without: Without::Arguments(2),
    },
    // What becomes of the references that groups have to removed entries: KEEPREF is what servers without it do.
    Late {
        commands: &["xadd", "xtrim"],
        from: 2,
        words: &["DELREF", "ACKED", "IDMP", "IDMPAUTO"],
        since: "r8.2",
        without: Without::Unfit,
    },
    Late { commands: &["xadd", "xtrim"], from: 2, words: &["KEEPREF"], since: "r8.2", without: Without::Arguments(1) },
];

/// Whether `row` has options that `server` does not know.
pub fn has_late_options(server: &ServerVersion, row: &Row) -> bool {
    lacking(server, row).next().is_some()
}

fn lacking(server: &ServerVersion, row: &Row) -> impl Iterator<Item = &'static Late> {
    LATE.iter().filter(move |late| late.commands.contains(&&*row.name) && !has(server, late.since))
}

/// Finds the first option that `server` does not know, from argument `from` on: where it stands, and what is left without it.
pub fn late_option(server: &ServerVersion, row: &Row, args: Args<'_>, from: usize) -> Option<(usize, Without)> {
    let late: Vec<&Late> = lacking(server, row).collect();
    let first = late.iter().map(|late| late.from).min()?;
    let mut at = first;
    while at < args.len() {
        if at >= from
            && let Some(late) = late.iter().find(|late| late.words.iter().any(|word| args.is(at, word)))
        {
            return Some((at, late.without));
        }
        at += width(&row.name, args, at)?;
    }
    None
}

/// How many arguments the option at `at` takes; `None` where the options end.
fn width(command: &str, args: Args<'_>, at: usize) -> Option<usize> {
    let is = |words: &[&str]| words.iter().any(|word| args.is(at, word));
    match command {
        "bitop" => None,
        "set" if is(&["EX", "PX", "EXAT", "PXAT"]) => Some(2),
        "geosearchstore" if is(&["FROMMEMBER"]) => Some(2),
        "xadd" if is(&["MAXLEN", "MINID"]) => Some(if args.is(at + 1, "=") || args.is(at + 1, "~") { 3 } else { 2 }),
        "xadd" if is(&["LIMIT"]) => Some(2),
        // Behind these comes the id, and then fields that may have any name.
        "xadd" if !is(&["NOMKSTREAM", "KEEPREF", "DELREF", "ACKED"]) => None,
        _ => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::super::tests::Frame;
    use super::*;

    fn server(text: &str) -> ServerVersion {
        let (family, version) = text.split_once(' ').unwrap();
        let family = if family == "valkey" { Family::Valkey } else { Family::Redis };
        ServerVersion::parse(family, version).unwrap()
    }

    #[test]
    fn servers_know_commands_from_their_first_version_on() {
        let table = Table::builtin();
        let known = |name: &str, text: &str| knows(&server(text), table.row(table.find(name.as_bytes()).unwrap()));
        for (name, first, before) in [
            ("spublish", "redis 7.0", "redis 6.2"),
            ("hpexpireat", "redis 7.4", "redis 7.2"),
            ("hpexpireat", "valkey 9.0", "valkey 8.1"),
            ("hgetdel", "valkey 9.1", "valkey 9.0"),
            ("xackdel", "redis 8.2", "valkey 9.1"),
            ("delifeq", "valkey 9.0", "redis 8.4"),
            ("set", "redis 6.2", "redis 6.0"),
        ] {
            assert!(known(name, first), "{name} in {first}");
            assert!(!known(name, before), "{name} in {before}");
        }
        assert!(known("spublish", "valkey 7.2"), "what is older than the fork is in both");
        assert!(!known("xgroup", "redis 8.4"), "a sub-command that nobody knows");
    }

    /// Where the option stands and how it is left out.
    fn late(line: &str, text: &str) -> Option<(usize, Without)> {
        let (table, frame) = (Table::builtin(), Frame::of(line));
        let row = table.row(table.resolve(frame.args()).expect(line));
        let found = late_option(&server(text), row, frame.args(), 0);
        assert!(found.is_none() || has_late_options(&server(text), row), "{line}");
        found
    }

    #[test]
    fn options_are_found_where_options_stand_and_nowhere_else() {
        for (line, text, at, without) in [
            ("PEXPIREAT k 5 gt", "redis 6.2", 3, Without::Arguments(1)),
            ("SET k v PXAT 9 NX GET", "redis 6.2", 6, Without::Arguments(1)),
            ("SET k v IFEQ GET", "redis 8.2", 3, Without::Unfit),
            ("BITOP one d a", "redis 7.0", 1, Without::Unfit),
            ("XGROUP SETID k g 5-1 ENTRIESREAD 4", "redis 6.2", 5, Without::Arguments(2)),
            ("XSETID k 5-1 ENTRIESADDED 4 MAXDELETEDID 0-0", "redis 6.2", 3, Without::Arguments(2)),
            ("XADD k MINID = 5-1 LIMIT 7 ACKED 6-1 f v", "redis 8.0", 7, Without::Unfit),
            ("XADD k KEEPREF MAXLEN 5 6-1 f v", "valkey 9.1", 2, Without::Arguments(1)),
            ("GEOSEARCHSTORE d s FROMLONLAT 1 1 BYPOLYGON 3", "redis 8.2", 6, Without::Unfit),
        ] {
            assert_eq!(late(line, text), Some((at, without)), "{line} for {text}");
        }
        for (line, text) in [
            ("PEXPIREAT k 5 gt", "redis 7.0"),
            ("SET GET GET", "redis 6.2"),
            ("SET k v IFEQ GET", "valkey 8.1"),
            ("BITOP AND one diff", "redis 6.2"),
            ("XADD k MAXLEN = 5 6-1 ACKED IDMP", "redis 6.2"),
            ("GEOSEARCHSTORE d s FROMMEMBER BYPOLYGON BYRADIUS 1 m", "redis 6.2"),
        ] {
            assert_eq!(late(line, text), None, "{line} for {text}");
        }
    }
}
