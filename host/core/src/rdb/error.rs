//! What can be wrong with a snapshot. It is always the upstream's doing, and always ends the snapshot.

use super::{Family, kinds};
use core::fmt;

/// A snapshot that cannot be used: what is wrong, and where. The snapshot is refused; nothing of it may reach a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RdbError {
    /// Where, in bytes from the start of the snapshot (or of the function dump).
    pub offset: u64,
    /// What is wrong there.
    pub defect: Defect,
}

/// What is wrong with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// It begins with neither `REDIS` and four digits nor `VALKEY` and three.
    Magic,
    /// A format version that this build does not read.
    Version {
        /// The family in the magic.
        family: Family,
        /// The version in the magic.
        version: u32,
    },
    /// A value type that cannot be skipped because its layout is unknown, or is another one in this family.
    Type {
        /// The family of the snapshot.
        family: Family,
        /// The type byte.
        kind: u8,
    },
    /// An opcode that cannot be skipped because its layout is unknown, or is another one in this family.
    Opcode {
        /// The family of the snapshot.
        family: Family,
        /// The opcode byte.
        code: u8,
    },
    /// A byte that begins no length.
    Length(u8),
    /// A byte that begins neither a length nor a known string encoding.
    StringEncoding(u8),
    /// A byte that should be 0 or 1 and is not.
    Flag(u8),
    /// An element of an array that is none of the known things.
    Element(u64),
    /// Something that has to be held in memory claims to be larger than its bound.
    TooLong {
        /// What it is: "a key name", "an aux field", "a function library".
        what: &'static str,
        /// The claimed length in bytes.
        bytes: u64,
        /// The bound in bytes.
        bound: usize,
    },
    /// Packed bytes do not unpack to the length they claim.
    Lzf,
    /// A database number that no server has.
    Database(u64),
    /// An expiry, idle time or frequency that comes twice, or is followed by something else than its key.
    Attribute,
    /// An opcode of module-encoded data that does not exist.
    ModuleData(u64),
    /// A function library whose first line does not name it.
    Unnamed,
    /// The checksum does not fit the bytes.
    Crc {
        /// The checksum in the file.
        stored: u64,
        /// The checksum of the bytes that came.
        computed: u64,
    },
    /// The bytes end before the snapshot does.
    Truncated,
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the upstream's snapshot is refused: at byte {}, {}", self.offset, self.defect)
    }
}

impl core::error::Error for RdbError {}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Magic => write!(f, "it does not begin as an RDB file"),
            Self::Version { family, version } => {
                write!(f, "it has format {family} {version}, and only REDIS 6 to 14 and VALKEY 80 can be read")
            }
            Self::Type { family, kind } => {
                let name = kinds::refused(family, kind);
                write!(f, "value type {kind}{name} of {family} is unknown, and what is unknown cannot be skipped")
            }
            Self::Opcode { family, code } => {
                write!(f, "opcode {code}{} of {family} cannot be read", opcode_name(family, code))
            }
            Self::Length(byte) => write!(f, "byte 0x{byte:02x} stands where a length should begin"),
            Self::StringEncoding(byte) => write!(f, "byte 0x{byte:02x} is no known encoding of a string"),
            Self::Flag(byte) => write!(f, "byte 0x{byte:02x} stands where 0 or 1 should"),
            Self::Element(tag) => write!(f, "an element of an array is of the unknown sort {tag}"),
            Self::TooLong { what, bytes, bound } => write!(f, "{what} of {bytes} bytes is above the bound of {bound}"),
            Self::Lzf => write!(f, "LZF-packed bytes do not unpack to the length they claim"),
            Self::Database(number) => write!(f, "database number {number} is out of range"),
            Self::Attribute => write!(f, "an expiry, idle time or frequency is repeated or belongs to no key"),
            Self::ModuleData(code) => write!(f, "module data has the unknown opcode {code}"),
            Self::Unnamed => write!(f, "a function library does not say its name in its first line"),
            Self::Crc { stored, computed } => {
                write!(f, "the checksum is {stored:016x}, but the bytes sum to {computed:016x}")
            }
            Self::Truncated => write!(f, "it ends too early"),
        }
    }
}

/// The name of an opcode that is refused knowingly, in parentheses.
fn opcode_name(family: Family, code: u8) -> &'static str {
    match (family, code) {
        (Family::Redis, 242) => " (HASH_TEMPLATES)",
        (Family::Valkey, 242) => " (UPDATE)",
        (_, 246) => " (FUNCTION of 7.0 release candidates)",
        _ => "",
    }
}
