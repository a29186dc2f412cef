//! Pack snapshots as Zstandard frames: more work than LZ4, and fewer bytes.
//!
//! | setting | meaning |
//! |---|---|
//! | `level` | 1 (fast) to 19 (small); 3 if it is not given |
//!
//! A block is one frame, as every Zstandard reads it; the level is of no matter for that. The tables
//! that a frame is made with are kept for the next one, and nothing else is: frames do not depend on each other.

use std::cell::RefCell;

use sluicegate_plugin::{BlockCodec, Error, Plugin, Settings, export};
use structured_zstd::decoding::FrameDecoder;
use structured_zstd::encoding::{CompressionLevel, FrameCompressor};

/// Where most who are asked would set it.
const LEVEL: i32 = 3;
/// Above 19 the tables grow beyond what an instance is given, for blocks that are much smaller.
const LEVELS: std::ops::RangeInclusive<i32> = 1..=19;

struct Zstd {
    level: CompressionLevel,
}

thread_local! {
    // Not in `Zstd`: a plugin must be able to change threads, and these are not.
    static PACKS: RefCell<FrameCompressor> = RefCell::new(FrameCompressor::new(CompressionLevel::Default));
    static UNPACKS: RefCell<FrameDecoder> = RefCell::new(FrameDecoder::new());
}

impl Plugin for Zstd {
    fn init(settings: &Settings) -> Result<Self, String> {
        settings.only(&["level"])?;
        let level =
            match settings.get("level") {
                None => LEVEL,
                Some(text) => text.parse().ok().filter(|level| LEVELS.contains(level)).ok_or_else(|| {
                    format!("level `{text}`: write a number from {} to {}", LEVELS.start(), LEVELS.end())
                })?,
            };
        Ok(Self { level: CompressionLevel::from_level(level) })
    }
}

impl BlockCodec for Zstd {
    const FORMAT: &'static str = "zstd";

    fn encode(&self, raw: &[u8]) -> Result<Vec<u8>, Error> {
        let mut packed = Vec::with_capacity(raw.len() / 2);
        PACKS.with_borrow_mut(|packs| {
            packs.set_compression_level(self.level);
            packs.compress_independent_frame_into(raw, &mut packed);
        });
        Ok(packed)
    }

    fn decode(&self, packed: &[u8], size: usize) -> Result<Vec<u8>, Error> {
        let mut raw = vec![0; size];
        match UNPACKS.with_borrow_mut(|unpacks| unpacks.decode_all(packed, &mut raw)) {
            Ok(length) if length == size => Ok(raw),
            Ok(length) => Err(Error::Rejected(format!("the block has {length} bytes, not {size}"))),
            Err(error) => Err(Error::Rejected(error.to_string())),
        }
    }
}

export!(Zstd: block_codec);

#[cfg(test)]
mod tests {
    use super::*;

    fn zstd(level: &str) -> Result<Zstd, String> {
        Zstd::init(&Settings::new([("level", level)]))
    }

    #[test]
    fn levels_are_checked() {
        for level in ["1", "19"] {
            assert!(zstd(level).is_ok());
        }
        for level in ["0", "20", "-1", "fast", ""] {
            assert!(zstd(level).is_err_and(|error| error.contains("from 1 to 19")), "{level}");
        }
        assert!(Zstd::init(&Settings::new([("lvl", "3")])).is_err());
    }

    #[test]
    fn blocks_come_back_and_damaged_ones_are_rejected() {
        let raw = b"user:1 user:2 user:3 user:4 user:5 user:6 ".repeat(100);
        let codec = zstd("3").expect("a level");
        let packed = codec.encode(&raw).expect("packs");
        assert!(packed.len() * 10 < raw.len());
        assert_eq!(codec.decode(&packed, raw.len()).expect("unpacks"), raw);
        for size in [0, raw.len() - 1, raw.len() + 1] {
            assert!(matches!(codec.decode(&packed, size), Err(Error::Rejected(_))), "{size} bytes");
        }
        for cut in 0..packed.len() {
            assert!(matches!(codec.decode(&packed[..cut], raw.len()), Err(Error::Rejected(_))), "cut at {cut}");
        }
        assert_eq!(codec.decode(&packed, raw.len()).expect("unpacks after all that"), raw);
    }
}
