//! Snapshots: the RDB format of Redis and Valkey, walked and rewritten as the bytes come.
//!
//! * [`Intake`] verifies the upstream's snapshot while it arrives and says what is in it.
//! * [`Rewriter`] makes a view's snapshot of the upstream's: it asks a pipeline about every key and passes, renames or drops
//!   the entry. A value is never held, however large.
//! * [`Walker`] is what both stand on: it knows the layout of every part, and so finds the end of each without a search.
//! * [`mod@write`] builds snapshots, [`functions`] reads and builds function dumps, [`can_load`] knows which server reads what.
//! * [`mod@down`] writes what a server cannot load in the format of an older or another server, where nothing is lost; [`fit`]
//!   says where that is. [`mod@listpack`] reads what it has to look into.
//!
//! Read are the formats REDIS 6 to 14 (servers 2.6 to 8.8, Valkey to 8.1) and VALKEY 80 (Valkey 9.0 and 9.1). Whatever is
//! not known in these is refused: what cannot be measured cannot be skipped.

mod crc;
pub(crate) mod cursor;
pub mod down;
mod error;
pub mod functions;
pub(crate) mod grammar;
mod intake;
mod kinds;
pub mod listpack;
mod lzf;
pub(crate) mod rewriter;
mod versions;
mod walker;
pub mod write;

pub use crate::rewrite::HELD_BYTES;
pub use crc::Crc64;
pub use error::{Defect, RdbError};
pub use intake::{Intake, Summary};
pub use kinds::{Kinds, MODULES_NOTED_MAX};
pub use rewriter::{Head, RewriteError, RewriteStats, Rewriter};
pub use versions::{Family, ServerVersion, Target, can_load, fit};
pub use walker::{Part, Sink, Walker};

/// The longest key name that is taken, in bytes: names have to be held whole while a plugin decides about them.
pub const KEY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest name or value of an aux field, in bytes. Old servers put whole scripts there.
pub const AUX_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest source of a function library, in bytes: its name has to be found before it passes.
pub const FUNCTION_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most that modules may keep of one key besides its value, in bytes: it is held until the key's name is known.
pub const KEY_META_BYTES_MAX: usize = 1024 * 1024;
/// Database numbers are below this: servers keep them in a signed 32-bit number.
pub const DATABASES_MAX: u64 = 1 << 31;

/// What the checksum at the end of a snapshot was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrcKind {
    /// It was there and fits every byte.
    Checked,
    /// It was zero: the upstream did not compute one.
    Absent,
}

/// The opcodes: bytes that stand where a value type would.
pub(crate) mod code {
    /// Valkey's.
    pub(crate) const SLOT_IMPORT: u8 = 243;
    /// Redis', under the same number.
    pub(crate) const KEY_META: u8 = 243;
    pub(crate) const SLOT_INFO: u8 = 244;
    pub(crate) const FUNCTION2: u8 = 245;
    pub(crate) const MODULE_AUX: u8 = 247;
    pub(crate) const IDLE: u8 = 248;
    pub(crate) const FREQ: u8 = 249;
    pub(crate) const AUX: u8 = 250;
    pub(crate) const RESIZEDB: u8 = 251;
    pub(crate) const EXPIRETIME_MS: u8 = 252;
    pub(crate) const EXPIRETIME: u8 = 253;
    pub(crate) const SELECTDB: u8 = 254;
    pub(crate) const EOF: u8 = 255;
}
