//! The library that packs in the plugin, against the reference in C: each reads what the other makes, at every level that the
//! plugin has, and neither makes much more of ordinary data.

use structured_zstd::decoding::FrameDecoder;
use structured_zstd::encoding::{CompressionLevel, compress_slice_to_vec};

/// What a snapshot of ordinary data looks like.
fn ordinary(bytes: usize) -> Vec<u8> {
    let entry = |n: u64| {
        let (user, score) = (n * 7919 % 100_003, n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
        format!("\0\x0fuser:{user:010}\x40{{\"name\":\"user {user}\",\"score\":{score},\"tags\":[\"a\",\"b\"]}}")
    };
    (0..).flat_map(|n| entry(n).into_bytes()).take(bytes).collect()
}

/// What no codec makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let step = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((*state >> 56) as u8)
    };
    std::iter::repeat_n((), bytes).scan(1, |state, ()| step(state)).collect()
}

fn ours(raw: &[u8], level: i32) -> Vec<u8> {
    compress_slice_to_vec(raw, CompressionLevel::from_level(level))
}

fn theirs(raw: &[u8], level: i32) -> Vec<u8> {
    zstd::bulk::compress(raw, level).expect("the reference packs")
}

#[test]
fn each_reads_what_the_other_makes() {
    for level in 1..=19 {
        for bytes in [1, 100, 4096, 65_537, 256 * 1024] {
            for raw in [ordinary(bytes), noise(bytes), vec![0; bytes]] {
                let made = zstd::bulk::decompress(&ours(&raw, level), bytes).expect("the reference reads ours");
                assert!(made == raw, "level {level}, {bytes} bytes");
                let mut back = vec![0; bytes];
                let length = FrameDecoder::new().decode_all(&theirs(&raw, level), &mut back).expect("we read theirs");
                assert!(length == bytes && back == raw, "level {level}, {bytes} bytes");
            }
        }
    }
}

#[test]
fn ordinary_data_becomes_about_as_small() {
    let raw = ordinary(256 * 1024);
    for level in 1..=19 {
        let (ours, theirs) = (ours(&raw, level).len(), theirs(&raw, level).len());
        assert!(ours * 10 < theirs * 12 && ours * 2 < raw.len(), "level {level}: {ours} and {theirs}");
    }
}
