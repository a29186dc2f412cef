//! A template for every row of the command table: what a client sends so that this row, or what the primary makes of it,
//! gets into the stream. A template gives one line or several; the last is the command of the row, those before it set the
//! stage.
//!
//! Left out by name, being faults of the servers, where a direct replica diverges as well:
//! - `BITFIELD … OVERFLOW FAIL` on a missing key, or one that is too short: the primary makes it longer and sends nothing.
//!   Here the key is made long enough before;
//! - a consumer that `XREADGROUP`, `XCLAIM` or `XAUTOCLAIM` makes while it yields nothing: the primary has it and sends
//!   nothing. Here consumers are made by `XGROUP CREATECONSUMER` before;
//! - what `XREADGROUP` of an id (not of `>`) counts as a delivery, of which the primary sends nothing;
//! - `BYLEX` among members of different scores, which servers leave open, and which turns out as chance has built the tree.
//!   Here such keys have members of one score only;
//! - `SORT … ALPHA BY pattern` of a set or sorted set: members whose weights are the same come in the order of the server's
//!   own table;
//! - `VADD` of an element that is there already: the primary changes it and sends nothing. Here it is removed before;
//! - what `XADD` and `XTRIM` with `ACKED` cut off (Redis 8.2): a replica does not know every reference that its primary has;
//! - `HPERSIST` of a field whose time passes before a replica hears of it (Redis 8.2): the replica ignores it. Here fields
//!   that live for moments have names of their own;
//! - `HDEL`, `HGETDEL`, `HPERSIST`, `HEXPIRE` on fields that have expired and are not yet reclaimed (Valkey 9). There,
//!   fields live long.

mod blocking;
mod hashes;
mod keys;
mod lists;
mod others;
mod sets;
mod sorted;
mod streams;
mod strings;

use super::draw::Draw;

/// Gives the lines of one invocation.
pub(crate) type Template = fn(&mut Draw) -> String;

/// A row's name with its template.
pub(crate) type Entry = (&'static str, Template);

pub(crate) use blocking::served;
pub(crate) use others::SCRIPT;

/// The templates of all rows, in the order of the table.
pub(crate) fn all() -> impl Iterator<Item = Entry> {
    let parts: [&[Entry]; 8] = [
        keys::TEMPLATES,
        strings::TEMPLATES,
        lists::TEMPLATES,
        sets::TEMPLATES,
        sorted::TEMPLATES,
        hashes::TEMPLATES,
        streams::TEMPLATES,
        others::TEMPLATES,
    ];
    parts.into_iter().flatten().copied()
}
