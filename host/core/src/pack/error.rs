//! What can be wrong with packed bytes. Whose fault it is knows who holds them: the peer that sent them, or our own disk.

use alloc::string::String;
use core::fmt;

use crate::limits;
use crate::pipeline::PluginFault;

/// Packed bytes that cannot be unpacked: where, and why. Nothing from this chunk on may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackError {
    /// The number of the chunk, from 0; the head counts as part of the first, the end as the chunk behind the last.
    pub chunk: u64,
    /// What is wrong there.
    pub defect: Defect,
}

/// What is wrong with packed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Defect {
    /// They do not begin as a container.
    Magic,
    /// The name of the format is empty, too long or not made of lower-case letters, digits and `-._`.
    Name,
    /// They are of another format than the codec's.
    Format {
        /// Their format.
        found: String,
        /// The codec's.
        expected: String,
    },
    /// A chunk claims more unpacked bytes than a chunk may have, or none.
    Raw(u32),
    /// A chunk claims more packed bytes than its unpacked ones allow.
    Packed {
        /// Bytes packed.
        packed: u32,
        /// Bytes unpacked.
        raw: u32,
    },
    /// The codec cannot unpack the chunk: the bytes are damaged, or the codec is.
    Codec(PluginFault),
    /// The codec made another number of bytes than the chunk claims, and said that all was well.
    Size {
        /// What the chunk claims.
        claimed: usize,
        /// What came out.
        came: usize,
    },
    /// The checksum of a chunk does not fit its bytes.
    Crc {
        /// The checksum in the chunk.
        stored: u64,
        /// The checksum of the bytes that came out.
        computed: u64,
    },
    /// The end does not fit what came before it: chunks are missing, or were put together from two containers.
    Total {
        /// What the end says of bytes and of their checksum.
        stored: (u64, u64),
        /// What came.
        came: (u64, u64),
    },
    /// The bytes end before the end.
    Truncated,
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packed bytes, chunk {}: {}", self.chunk, self.defect)
    }
}

impl core::error::Error for PackError {}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => write!(f, "they do not begin as packed bytes do"),
            Self::Name => write!(f, "the name of their format is none"),
            Self::Format { found, expected } => write!(f, "they are in format {found}, and the codec reads {expected}"),
            Self::Raw(raw) => {
                write!(f, "{raw} unpacked bytes, where 1 to {} are allowed", limits::CHUNK_RAW_BYTES_MAX)
            }
            Self::Packed { packed, raw } => write!(f, "{packed} packed bytes for {raw} unpacked ones"),
            Self::Codec(fault) => write!(f, "plugin '{}' cannot unpack it: {}", fault.plugin, fault.what),
            Self::Size { claimed, came } => write!(f, "it unpacks to {came} bytes, and claims {claimed}"),
            Self::Crc { stored, computed } => {
                write!(f, "its checksum is {stored:016x}, but its bytes sum to {computed:016x}")
            }
            Self::Total { stored, came } => write!(
                f,
                "the end tells of {} bytes with the sum {:016x}, but {} bytes with the sum {:016x} came",
                stored.0, stored.1, came.0, came.1
            ),
            Self::Truncated => write!(f, "they end too early"),
        }
    }
}
