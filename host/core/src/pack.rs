//! Packed bytes: a container of chunks, each packed by a codec and checked by a sum of its own.
//!
//! Snapshots are packed where they rest on disk and where they cross a long line between two Sluicegates.
//!
//! ```text
//! head    "SLUICEPACK1", u8 length of the format's name, the name
//! chunk   u32 bytes unpacked, u32 bytes packed (0: they follow as they are), u64 CRC-64 of the unpacked bytes, the bytes
//! end     u64 zero, u64 bytes unpacked in all, u64 CRC-64 of all of them
//! ```
//!
//! Numbers are little endian. A chunk depends on no other, so whoever has the first n and their [`Place`] can go on with the
//! next. [`Packer`] makes a container and [`Unpacker`] takes one apart, both in pieces of any size; [`Sealer`] and
//! [`ChunkHead`] do a single chunk, as a stream does that has no end.
//!
//! What a codec says is not believed: whatever it packs is unpacked again and compared before it counts as packed, because
//! the bytes that it was made of are gone when somebody notices.

mod chunk;
mod error;
mod head;
mod packer;
mod unpacker;

use alloc::vec::Vec;

use crate::pipeline::PluginFault;
use crate::rdb::Crc64;

pub use chunk::{CHUNK_HEAD_BYTES, ChunkHead, Sealer};
pub use error::{Defect, PackError};
pub use head::{is_format, read_head, write_head};
pub use packer::Packer;
pub use unpacker::Unpacker;

/// Packs and unpacks chunks of bytes, each by itself. One codec is used by one thread at a time.
pub trait Codec: Send {
    /// The name of what it makes, such as `zstd`. Whatever calls itself so can be unpacked by every codec of that name.
    fn format(&self) -> &str;

    /// The plugin that it is, as the operator calls it.
    fn plugin(&self) -> &str {
        self.format()
    }

    /// Packs `raw` into `out`, which is emptied first.
    ///
    /// # Errors
    /// The plugin failed. What is in `out` is of no use.
    fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), PluginFault>;

    /// Unpacks `packed` into `out`, which is emptied first and then holds exactly `size` bytes.
    ///
    /// # Errors
    /// The plugin failed, or the bytes are not what it packs, or do not unpack to `size` bytes. What is in `out` is of no use.
    fn decode(&mut self, packed: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), PluginFault>;
}

/// How far a container has been made or taken apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Whole chunks so far: the number of the next one.
    pub chunks: u64,
    /// Unpacked bytes in them.
    pub raw: u64,
    /// The sum of these bytes.
    pub crc: Crc64,
}

impl Place {
    /// One chunk further.
    fn advance(&mut self, raw: &[u8]) {
        self.chunks += 1;
        self.raw += raw.len() as u64;
        self.crc.update(raw);
    }
}
