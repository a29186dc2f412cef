//! What packing costs: the built-in codecs in the plugin room against the same code built natively, over chunks as a snapshot
//! is cut into, and what is left of the bytes.
//!
//! `cargo run --release -p sluicegate-guest --example pack [FILE]`: of a file, or of data that looks like a snapshot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lz4_flex::block;
use sluicegate_core::limits::CHUNK_RAW_BYTES;
use sluicegate_core::pack::{Codec, Sealer};
use sluicegate_core::pipeline::PluginFault;
use sluicegate_guest::{GuestCodec, PluginSpec, Room, RoomSettings};
use structured_zstd::decoding::FrameDecoder;
use structured_zstd::encoding::{CompressionLevel, FrameCompressor};

/// Bytes of made-up data.
const BYTES: usize = 16 << 20;
const ROUNDS: usize = 3;

/// The codecs without a room.
enum Native {
    Lz4,
    Zstd(Box<FrameCompressor>, Box<FrameDecoder>),
}

impl Native {
    fn zstd(level: i32) -> Self {
        let packs = FrameCompressor::new(CompressionLevel::from_level(level));
        Self::Zstd(Box::new(packs), Box::new(FrameDecoder::new()))
    }

    fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::Lz4 => out.extend_from_slice(&block::compress(raw)),
            Self::Zstd(packs, _) => packs.compress_independent_frame_into(raw, out),
        }
    }

    fn decode(&mut self, packed: &[u8], size: usize, out: &mut Vec<u8>) {
        out.clear();
        out.resize(size, 0);
        match self {
            Self::Lz4 => drop(block::decompress_into(packed, out).expect("what it packed")),
            Self::Zstd(_, unpacks) => drop(unpacks.decode_all(packed, out).expect("what it packed")),
        }
    }
}

/// The best of several rounds over all chunks, in MB/s of unpacked bytes.
fn measure(bytes: usize, mut round: impl FnMut()) -> f64 {
    let mut once = || {
        let begun = Instant::now();
        round();
        begun.elapsed()
    };
    let best = (0..ROUNDS).map(|_| once()).min().unwrap_or(Duration::MAX);
    bytes as f64 / 1e6 / best.as_secs_f64()
}

fn native(mut codec: Native, chunks: &[&[u8]], bytes: usize) -> (f64, f64) {
    let (mut packed, mut raw) = (vec![Vec::new(); chunks.len()], Vec::new());
    let packs = measure(bytes, || chunks.iter().zip(&mut packed).for_each(|(chunk, out)| codec.encode(chunk, out)));
    let unpacks = measure(bytes, || {
        chunks.iter().zip(&packed).for_each(|(chunk, packed)| codec.decode(packed, chunk.len(), &mut raw));
    });
    (packs, unpacks)
}

/// Packing, unpacking, packing as it is done (with its proof), and what is left of the bytes.
fn plugin(codec: impl Fn() -> GuestCodec, chunks: &[&[u8]], bytes: usize) -> Result<(f64, f64, f64, f64), PluginFault> {
    let (mut guest, mut packed, mut raw) = (codec(), vec![Vec::new(); chunks.len()], Vec::new());
    let mut failed = None;
    let mut note = |outcome: Result<(), PluginFault>| failed = outcome.err().or(failed.take());
    let packs = measure(bytes, || {
        chunks.iter().zip(&mut packed).for_each(|(chunk, out)| note(guest.encode(chunk, out)));
    });
    let unpacks = measure(bytes, || {
        chunks.iter().zip(&packed).for_each(|(chunk, packed)| note(guest.decode(packed, chunk.len(), &mut raw)));
    });
    let (mut sealer, mut sealed) = (Sealer::new(Box::new(codec()))?, Vec::new());
    let proved = measure(bytes, || {
        sealed.clear();
        chunks.iter().for_each(|chunk| note(sealer.seal(chunk, &mut sealed)));
    });
    failed.map_or(Ok((packs, unpacks, proved, sealed.len() as f64 / bytes as f64)), Err)
}

fn made_up() -> Vec<u8> {
    let entry = |n: u64| {
        let (user, score) = (n * 7919 % 100_003, n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
        format!("\0\x0fuser:{user:010}\x40{{\"name\":\"user {user}\",\"score\":{score},\"tags\":[\"a\",\"b\"]}}")
    };
    (0..).flat_map(|n| entry(n).into_bytes()).take(BYTES).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = std::env::args().nth(1).map_or_else(|| Ok(made_up()), std::fs::read)?;
    let chunks: Vec<&[u8]> = data.chunks(CHUNK_RAW_BYTES).collect();
    let room = Room::new(RoomSettings::default())?;
    println!("{} MB in chunks of {} KiB; MB/s of unpacked bytes", data.len() / 1_000_000, CHUNK_RAW_BYTES >> 10);
    println!(
        "{:10} {:>9} {:>9} {:>6} {:>9} {:>9} {:>6} {:>9} {:>6}",
        "", "packs", "native", "%", "unpacks", "native", "%", "proved", "left"
    );
    for (name, level) in [("lz4", None), ("zstd 1", Some(1)), ("zstd 3", Some(3)), ("zstd 9", Some(9))] {
        let (spec, relative) = match level {
            None => (PluginSpec::new("lz4", sluicegate_bundle::LZ4), Native::Lz4),
            Some(level) => {
                let spec = PluginSpec::new("zstd", sluicegate_bundle::ZSTD);
                (spec.set("level", level.to_string()), Native::zstd(level))
            }
        };
        let loaded = Arc::new(room.load(spec)?);
        let codec = || room.codec(&loaded).expect("it started once");
        let (packs, unpacks, proved, left) = plugin(codec, &chunks, data.len()).map_err(|fault| fault.what)?;
        let (packs_native, unpacks_native) = native(relative, &chunks, data.len());
        let percent = |ours: f64, theirs: f64| 100.0 * ours / theirs;
        println!(
            "{name:10} {packs:9.0} {packs_native:9.0} {:5.0}% {unpacks:9.0} {unpacks_native:9.0} {:5.0}% {proved:9.0} {:5.1}%",
            percent(packs, packs_native),
            percent(unpacks, unpacks_native),
            100.0 * left,
        );
    }
    Ok(())
}
