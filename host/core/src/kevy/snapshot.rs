//! Snapshots: the KEVYSNAP format, walked and rewritten as the bytes come.
//!
//! * [`Intake`] verifies the upstream's snapshot while it arrives and says what is in it.
//! * [`Rewriter`] makes a view's snapshot of the upstream's: it asks a pipeline about every key and passes, renames or drops
//!   the record, and what belongs to the key elsewhere in the snapshot with it. A value is never held, however large.
//! * [`Walker`] is what both stand on.
//!
//! A snapshot has a head, records, and a mark behind them; the newest servers add a trailer. It has neither a length nor a
//! checksum, and behind the mark more may follow: where it ends is said by the link alone, so all of the above have a
//! `finish`. Read are the versions 4 to 7, which are all that were ever on a link. Whatever is not known in these is refused: what cannot be measured cannot be
//! skipped.

use crate::rdb::grammar::Op::{self, Blob, Fixed, Maybe, Repeat};

mod error;
mod intake;
mod rewriter;
mod walker;

use alloc::vec::Vec;

pub use error::{Defect, SnapshotError};
pub use intake::{Intake, Summary};
pub use rewriter::{Extent, RewriteError, RewriteStats, Rewriter};
pub use walker::{Part, Sink, Walker};

/// The versions that are read. Their records are the same, but for those that a later version adds, so that records of
/// several can stand in one snapshot of the latest of them. Older ones were in files alone; 2 says of an expiry how much of
/// it is left, which is wrong as soon as the snapshot has lain somewhere.
pub const VERSIONS: core::ops::RangeInclusive<u8> = 4..=7;
/// The longest key name that is taken, in bytes: names have to be held whole while a plugin decides about them. It is what
/// servers take in one argument.
pub const KEY_BYTES_MAX: usize = 512 * 1024 * 1024;

/// What a snapshot begins with.
const MAGIC: &[u8; 8] = b"KEVYSNAP";
/// From here on the head holds a generation and an offset, for those who start from a file. On a link they are 0.
const VERSION_CURSOR: u8 = 5;
/// The generation and the offset.
const CURSOR_BYTES: usize = 16;

/// The first bytes of what stands in a snapshot.
mod code {
    pub(super) const END: u8 = 0;
    pub(super) const SEGMENT: u8 = 8;
    pub(super) const AUX: u8 = 9;
}

/// A record that belongs to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Record {
    /// A string.
    Text,
    /// A hash.
    Hash,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set.
    Sorted,
    /// A stream with its consumer groups.
    Stream,
    /// From version 6 on: the expiry of one field of a hash. The hash need not be in the snapshot.
    FieldExpiry,
    /// In the trailer: what a consumer group of a stream has read.
    GroupReads,
}

impl Record {
    /// Whether it is a key and its value, rather than something that is said about a key.
    pub fn is_key(self) -> bool {
        !matches!(self, Self::FieldExpiry | Self::GroupReads)
    }

    /// The record that `code` begins, in the trailer or before it.
    fn of(code: u8, version: u8, in_trailer: bool) -> Option<Self> {
        Some(match code {
            10 if in_trailer => Self::GroupReads,
            _ if in_trailer => return None,
            1 => Self::Text,
            2 => Self::Hash,
            3 => Self::List,
            4 => Self::Set,
            5 => Self::Sorted,
            6 => Self::Stream,
            7 if version >= 6 => Self::FieldExpiry,
            _ => return None,
        })
    }

    /// What follows the key's name.
    fn layout(self) -> &'static [Op] {
        match self {
            Self::Text => &[Blob],
            Self::Hash => &[Repeat(2), Blob, Blob],
            Self::List | Self::Set => &[Repeat(1), Blob],
            Self::Sorted => &[Repeat(2), Blob, Fixed(8)],
            Self::Stream => STREAM,
            Self::FieldExpiry => &[Blob, Fixed(8)],
            // The group; how many entries it has read, if that is known; consumers and when they were last active; entries
            // that were delivered more often than a stream's own record can say.
            Self::GroupReads => &[Blob, Maybe(8), Repeat(2), Blob, Fixed(8), Repeat(1), Fixed(24)],
        }
    }
}

/// A stream: last id, largest deleted id and the count of all entries ever added; entries, each with its id and fields; then
/// groups, each with its name, last id, consumers (name, when last seen) and pending entries (id, consumer, time and count of
/// deliveries).
const STREAM: &[Op] = &[
    Fixed(40),
    Repeat(4),
    Fixed(16),
    Repeat(2),
    Blob,
    Blob,
    Repeat(9),
    Blob,
    Fixed(16),
    Repeat(2),
    Blob,
    Fixed(8),
    Repeat(3),
    Fixed(16),
    Blob,
    Fixed(12),
];
/// A command of the server's own, in the trailer.
const AUX: &[Op] = &[Repeat(1), Blob];

/// Appends what a snapshot of this version begins with.
pub fn write_head(out: &mut Vec<u8>, version: u8) {
    out.extend_from_slice(MAGIC);
    out.push(version);
    if version >= VERSION_CURSOR {
        out.extend_from_slice(&[0; CURSOR_BYTES]);
    }
}

/// Appends the mark behind the records.
pub fn write_end(out: &mut Vec<u8>) {
    out.push(code::END);
}

/// Every layout there is, for the test that proves them well formed.
#[cfg(test)]
pub(crate) fn layouts() -> impl Iterator<Item = &'static [Op]> {
    let records = (0..=255).flat_map(|code| [(code, false), (code, true)]);
    let known = records.filter_map(|(code, trailer)| Record::of(code, *VERSIONS.end(), trailer));
    known.map(Record::layout).chain([AUX])
}
