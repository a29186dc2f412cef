//! Pack snapshots as LZ4 blocks: little work, a third to a half of the bytes of ordinary data.
//!
//! It has no settings. A block is what the LZ4 block format calls one, without a frame around it: the length and the
//! checksum of what it unpacks to are kept by the host, which asks for exactly that many bytes.

use lz4_flex::block;
use sluicegate_plugin::{BlockCodec, Error, Plugin, Settings, export};

struct Lz4;

impl Plugin for Lz4 {
    fn init(settings: &Settings) -> Result<Self, String> {
        settings.only(&[])?;
        Ok(Self)
    }
}

impl BlockCodec for Lz4 {
    const FORMAT: &'static str = "lz4";

    fn encode(&self, raw: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(block::compress(raw))
    }

    fn decode(&self, packed: &[u8], size: usize) -> Result<Vec<u8>, Error> {
        let mut raw = vec![0; size];
        match block::decompress_into(packed, &mut raw) {
            Ok(length) if length == size => Ok(raw),
            Ok(length) => Err(Error::Rejected(format!("the block has {length} bytes, not {size}"))),
            Err(error) => Err(Error::Rejected(error.to_string())),
        }
    }
}

export!(Lz4: block_codec);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_refused() {
        assert!(Lz4::init(&Settings::new([("level", "3")])).is_err());
    }

    #[test]
    fn blocks_come_back_and_damaged_ones_are_rejected() {
        let raw = b"user:1 user:2 user:3 user:4 user:5 user:6 ".repeat(100);
        let packed = Lz4.encode(&raw).expect("packs");
        assert!(packed.len() * 10 < raw.len());
        assert_eq!(Lz4.decode(&packed, raw.len()).expect("unpacks"), raw);
        for size in [0, raw.len() - 1, raw.len() + 1] {
            assert!(matches!(Lz4.decode(&packed, size), Err(Error::Rejected(_))), "{size} bytes");
        }
        for cut in 0..packed.len() {
            assert!(matches!(Lz4.decode(&packed[..cut], raw.len()), Err(Error::Rejected(_))), "cut at {cut}");
        }
    }
}
