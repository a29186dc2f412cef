//! One chunk: sealed with proof, opened with suspicion.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Codec, Defect, is_format};
use crate::limits::{CHUNK_RAW_BYTES_MAX, CHUNK_SLACK_BYTES};
use crate::pipeline::PluginFault;
use crate::rdb::Crc64;

/// The length of a chunk's head.
pub const CHUNK_HEAD_BYTES: usize = 16;

/// What a chunk says of itself, within its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHead {
    raw: u32,
    packed: u32,
    crc: u64,
}

impl ChunkHead {
    /// Reads the head of a chunk.
    ///
    /// # Errors
    /// It claims lengths that no chunk has.
    pub fn read(bytes: [u8; CHUNK_HEAD_BYTES]) -> Result<Self, Defect> {
        let [r0, r1, r2, r3, p0, p1, p2, p3, crc @ ..] = bytes;
        let raw = u32::from_le_bytes([r0, r1, r2, r3]);
        let packed = u32::from_le_bytes([p0, p1, p2, p3]);
        if raw == 0 || raw as usize > CHUNK_RAW_BYTES_MAX {
            return Err(Defect::Raw(raw));
        }
        if packed as usize > raw as usize + CHUNK_SLACK_BYTES {
            return Err(Defect::Packed { packed, raw });
        }
        Ok(Self { raw, packed, crc: u64::from_le_bytes(crc) })
    }

    /// Bytes that follow the head.
    pub fn body_bytes(&self) -> usize {
        if self.packed == 0 { self.raw as usize } else { self.packed as usize }
    }

    /// Bytes that come out of it.
    pub fn raw_bytes(&self) -> usize {
        self.raw as usize
    }

    /// Unpacks the chunk's body into `raw`, which is emptied first. The checksum is checked.
    ///
    /// # Errors
    /// The bytes are damaged, or the codec fails. What is in `raw` is of no use.
    pub fn open(&self, body: &[u8], codec: &mut dyn Codec, raw: &mut Vec<u8>) -> Result<(), Defect> {
        raw.clear();
        if self.packed == 0 {
            raw.extend_from_slice(body);
        } else {
            codec.decode(body, self.raw_bytes(), raw).map_err(Defect::Codec)?;
        }
        if raw.len() != self.raw_bytes() {
            return Err(Defect::Size { claimed: self.raw_bytes(), came: raw.len() });
        }
        match Crc64::of(raw) {
            computed if computed == self.crc => Ok(()),
            computed => Err(Defect::Crc { stored: self.crc, computed }),
        }
    }
}

/// Makes chunks of bytes, and proves each.
pub struct Sealer {
    codec: Box<dyn Codec>,
    packed: Vec<u8>,
    back: Vec<u8>,
}

impl Sealer {
    /// Packs with this codec.
    ///
    /// # Errors
    /// The codec has no proper name for its format.
    pub fn new(codec: Box<dyn Codec>) -> Result<Self, PluginFault> {
        let sealer = Self { codec, packed: Vec::new(), back: Vec::new() };
        match is_format(sealer.codec.format()) {
            true => Ok(sealer),
            false => Err(sealer.fault(format!("'{}' is no name for a format", sealer.codec.format().escape_debug()))),
        }
    }

    /// The codec's format.
    pub fn format(&self) -> &str {
        self.codec.format()
    }

    /// The codec itself: what packs can unpack, too.
    pub fn codec(&mut self) -> &mut dyn Codec {
        &mut *self.codec
    }

    /// Appends one chunk of `raw` to `out`: 1 to [`CHUNK_RAW_BYTES_MAX`] bytes. What does not become smaller goes as it is.
    ///
    /// # Errors
    /// The codec failed, or what it packed does not unpack to the same bytes, or is larger than a chunk may be. Nothing was
    /// appended.
    pub fn seal(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), PluginFault> {
        if raw.is_empty() || raw.len() > CHUNK_RAW_BYTES_MAX {
            return Err(self.fault(format!("asked to pack {} bytes; this is a fault of Sluicegate", raw.len())));
        }
        self.codec.encode(raw, &mut self.packed)?;
        if self.packed.is_empty() || self.packed.len() > raw.len() + CHUNK_SLACK_BYTES {
            return Err(self.fault(format!("packs {} bytes into {}", raw.len(), self.packed.len())));
        }
        self.codec.decode(&self.packed, raw.len(), &mut self.back)?;
        if self.back != raw {
            return Err(self.fault(format!("what it packs of {} bytes does not unpack to the same bytes", raw.len())));
        }
        let (packed, body) =
            if self.packed.len() < raw.len() { (self.packed.len(), &self.packed[..]) } else { (0, raw) };
        // Both are far below 4 GiB, see above.
        out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        out.extend_from_slice(&(packed as u32).to_le_bytes());
        out.extend_from_slice(&Crc64::of(raw).to_le_bytes());
        out.extend_from_slice(body);
        Ok(())
    }

    fn fault(&self, what: String) -> PluginFault {
        PluginFault { plugin: self.codec.plugin().into(), what }
    }
}
