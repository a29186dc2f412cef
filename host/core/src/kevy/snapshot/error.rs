//! What can be wrong with a snapshot. It is always the upstream's doing, and always ends the snapshot.

use super::VERSIONS;
use crate::rdb;
use crate::rdb::cursor;
use core::fmt;

/// A snapshot that cannot be used: what is wrong, and where. Nothing of it may reach a replica: replicas load as much of a
/// broken snapshot as they can read, and take it for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotError {
    /// Where, in bytes from the start of the snapshot.
    pub offset: u64,
    /// What is wrong there.
    pub defect: Defect,
}

/// What is wrong with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// It does not begin with `KEVYSNAP`.
    Magic,
    /// A version that this build does not read.
    Version(u8),
    /// A record that this version does not have.
    Record {
        /// The version of the snapshot.
        version: u8,
        /// What the record begins with.
        code: u8,
    },
    /// Something behind the records that is no part of a trailer.
    Trailer(u8),
    /// A reference to a file in the primary's data directory: its rows are not in the snapshot.
    Segment,
    /// What can be wrong with any snapshot.
    Common(rdb::Defect),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the upstream's snapshot is refused: at byte {}, {}", self.offset, self.defect)
    }
}

impl core::error::Error for SnapshotError {}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Magic => write!(f, "it does not begin as a snapshot of kevy"),
            Self::Version(version) => {
                let (from, to) = VERSIONS.into_inner();
                write!(f, "it has version {version}, and only {from} to {to} can be read")
            }
            Self::Record { version, code } => {
                write!(f, "record {code} of version {version} is unknown, and what is unknown cannot be skipped")
            }
            Self::Trailer(code) => {
                write!(f, "record {code} behind the end is unknown, and what is unknown cannot be skipped")
            }
            Self::Segment => {
                write!(f, "a row lies in a file of the primary (a row segment), which no snapshot brings along")
            }
            Self::Common(defect) => defect.fmt(f),
        }
    }
}

/// Why a read gave nothing.
pub(super) enum Stop {
    /// With at least so many bytes it gets further.
    Short(usize),
    /// The bytes are wrong, at this place in the window.
    Bad(usize, Defect),
}

impl From<cursor::Stop> for Stop {
    fn from(stop: cursor::Stop) -> Self {
        match stop {
            cursor::Stop::Short(need) => Self::Short(need),
            cursor::Stop::Bad(at, defect) => Self::Bad(at, Defect::Common(defect)),
        }
    }
}
