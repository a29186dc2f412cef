//! What is asked of the primary for an order: one transaction.
//!
//! `INFO replication` is the first command in it. A DUMP of a key whose time is over deletes the key, and a Redis older than
//! 7.0 puts that into its stream at once, as `MULTI DEL …`, closed when the transaction ends: an offset that is read behind
//! the DUMP lies in the middle of it. Read first, it lies between two frames, and the values are those of that place: only
//! keys whose time is over have changed since, and those are absent in either case.

use alloc::vec::Vec;

use super::Wanted;
use crate::resp;

/// A command between MULTI and EXEC. Keys are named by their place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// INFO replication: the role, the history, the fence.
    Fence,
    /// SELECT
    Select(u32),
    /// DUMP: the value.
    Dump(usize),
    /// PEXPIRETIME: unix milliseconds; -1: never; -2: no such key.
    ExpireTime(usize),
    /// TIME, before and behind each PTTL.
    Time,
    /// PTTL: milliseconds from now, where PEXPIRETIME is unknown.
    TimeLeft(usize),
}

impl Ask {
    /// The command's name, for a person.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fence => "INFO replication",
            Self::Select(_) => "SELECT",
            Self::Dump(_) => "DUMP",
            Self::ExpireTime(_) => "PEXPIRETIME",
            Self::Time => "TIME",
            Self::TimeLeft(_) => "PTTL",
        }
    }

    /// The key that is asked for.
    pub(super) fn key(self) -> Option<usize> {
        match self {
            Self::Dump(key) | Self::ExpireTime(key) | Self::TimeLeft(key) => Some(key),
            Self::Fence | Self::Select(_) | Self::Time => None,
        }
    }
}

/// The commands of an order; `old`: the primary does not know PEXPIRETIME.
///
/// PTTL counts from a moment that only the primary knows, so TIME is asked before and behind it: where both name the same
/// millisecond, that was the moment. It is asked twice, because the clock moves on in the middle of some readings, and does
/// so in both only where the primary pauses.
pub(super) fn script(wanted: &[Wanted], old: bool) -> Vec<Ask> {
    let mut asks = Vec::with_capacity(2 + wanted.len() * if old { 6 } else { 2 });
    asks.push(Ask::Fence);
    let mut selected = None;
    for (key, Wanted { db, .. }) in wanted.iter().enumerate() {
        if selected.replace(*db) != Some(*db) {
            asks.push(Ask::Select(*db));
        }
        asks.push(Ask::Dump(key));
        if old {
            asks.extend([Ask::Time, Ask::TimeLeft(key), Ask::Time, Ask::TimeLeft(key), Ask::Time]);
        } else {
            asks.push(Ask::ExpireTime(key));
        }
    }
    asks
}

/// Writes the transaction.
pub(super) fn write(asks: &[Ask], wanted: &[Wanted], out: &mut Vec<u8>) {
    resp::write_command(out, &[b"MULTI"]);
    for ask in asks {
        let key = ask.key().and_then(|key| wanted.get(key)).map_or(&[][..], |wanted| &wanted.key);
        match ask {
            Ask::Fence => resp::write_command(out, &[b"INFO", b"replication"]),
            Ask::Select(db) => {
                let mut digits = Vec::new();
                resp::write_decimal(&mut digits, u64::from(*db));
                resp::write_command(out, &[b"SELECT", &digits]);
            }
            Ask::Dump(_) => resp::write_command(out, &[b"DUMP", key]),
            Ask::ExpireTime(_) => resp::write_command(out, &[b"PEXPIRETIME", key]),
            Ask::Time => resp::write_command(out, &[b"TIME"]),
            Ask::TimeLeft(_) => resp::write_command(out, &[b"PTTL", key]),
        }
    }
    resp::write_command(out, &[b"EXEC"]);
}
