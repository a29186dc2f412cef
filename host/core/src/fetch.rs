//! Values of single keys, from the primary.

use alloc::vec::Vec;

use bytes::Bytes;

/// A key whose value is wanted, by the primary's name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The database.
    pub db: u32,
    /// The key.
    pub key: Vec<u8>,
}

/// What a key held at the fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// As DUMP gives it.
    pub payload: Bytes,
    /// When it expires; Unix milliseconds.
    pub expires_ms: Option<u64>,
}
