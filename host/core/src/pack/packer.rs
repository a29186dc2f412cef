//! Bytes into a container.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Codec, Place, Sealer, write_head};
use crate::limits::CHUNK_RAW_BYTES_MAX;
use crate::pipeline::PluginFault;

/// Makes a container of bytes that come in pieces of any size. At most one chunk is held.
pub struct Packer {
    sealer: Sealer,
    chunk_bytes: usize,
    held: Vec<u8>,
    place: Place,
    /// Chunks before this one are counted, and not made.
    first: u64,
}

impl Packer {
    /// Begins a container whose chunks have `chunk_bytes` unpacked bytes (1 to [`CHUNK_RAW_BYTES_MAX`]; usually
    /// [`CHUNK_RAW_BYTES`](crate::limits::CHUNK_RAW_BYTES)); its head is appended to `out`.
    ///
    /// # Errors
    /// The codec has no proper name for its format.
    pub fn new(codec: Box<dyn Codec>, chunk_bytes: usize, out: &mut Vec<u8>) -> Result<Self, PluginFault> {
        let sealer = Sealer::new(codec)?;
        write_head(sealer.format(), out);
        Ok(Self::from(sealer, chunk_bytes, 0))
    }

    /// Makes the rest of a container for somebody who has `chunks` of its chunks: they and the head are left out. All bytes are
    /// pushed as ever, because the end tells of all of them; it is for the caller to see that there were so many chunks.
    ///
    /// # Errors
    /// The codec has no proper name for its format.
    pub fn resume_at(codec: Box<dyn Codec>, chunk_bytes: usize, chunks: u64) -> Result<Self, PluginFault> {
        Ok(Self::from(Sealer::new(codec)?, chunk_bytes, chunks))
    }

    fn from(sealer: Sealer, chunk_bytes: usize, first: u64) -> Self {
        let chunk_bytes = chunk_bytes.clamp(1, CHUNK_RAW_BYTES_MAX);
        Self { sealer, chunk_bytes, held: Vec::new(), place: Place::default(), first }
    }

    /// Takes the next bytes; appends the chunks that become complete to `out`.
    ///
    /// # Errors
    /// The codec failed or lied: the container must be given up.
    pub fn push(&mut self, mut raw: &[u8], out: &mut Vec<u8>) -> Result<(), PluginFault> {
        while !raw.is_empty() {
            let room = self.chunk_bytes.saturating_sub(self.held.len());
            let (now, rest) = raw.split_at_checked(room).unwrap_or((raw, &[]));
            raw = rest;
            if now.len() == self.chunk_bytes {
                // A whole chunk lies in one piece: no need to hold it.
                self.seal(now, out)?;
                continue;
            }
            self.held.extend_from_slice(now);
            if self.held.len() == self.chunk_bytes {
                self.seal_held(out)?;
            }
        }
        Ok(())
    }

    /// Appends the last chunk and the end to `out`; says what the container holds.
    ///
    /// # Errors
    /// The codec failed or lied: the container must be given up.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<Place, PluginFault> {
        if !self.held.is_empty() {
            self.seal_held(out)?;
        }
        for number in [0, self.place.raw, self.place.crc.sum()] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        Ok(self.place)
    }

    /// How far the chunks go that have been appended.
    pub fn place(&self) -> Place {
        self.place
    }

    fn seal_held(&mut self, out: &mut Vec<u8>) -> Result<(), PluginFault> {
        let mut held = core::mem::take(&mut self.held);
        let sealed = self.seal(&held, out);
        held.clear();
        self.held = held;
        sealed
    }

    fn seal(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), PluginFault> {
        if self.place.chunks >= self.first {
            self.sealer.seal(raw, out)?;
        }
        self.place.advance(raw);
        Ok(())
    }
}
