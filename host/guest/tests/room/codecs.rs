//! Codecs: the built-in ones against the same code built natively, in both directions; the hostile ones found out. What the
//! C library of Zstandard says of that code is in `plugins/zstd/tests`.

use std::sync::Arc;

use sluicegate_core::limits::{CHUNK_RAW_BYTES, CHUNK_RAW_BYTES_MAX};
use sluicegate_core::pack::{Codec, Packer, Sealer, Unpacker};
use sluicegate_core::pipeline::PluginFault;
use sluicegate_guest::{GuestCodec, LoadError, OnError, PluginSpec};
use structured_zstd::decoding::FrameDecoder;
use structured_zstd::encoding::{CompressionLevel, compress_slice_to_vec};

use crate::support::{ROOM, hostile, pipeline};

fn codec(spec: PluginSpec) -> Result<GuestCodec, LoadError> {
    ROOM.codec(&Arc::new(ROOM.load(spec)?))
}

fn lz4() -> GuestCodec {
    codec(PluginSpec::new("lz4", sluicegate_bundle::LZ4)).expect("loads")
}

fn zstd(level: u32) -> GuestCodec {
    codec(PluginSpec::new("zstd", sluicegate_bundle::ZSTD).set("level", level.to_string())).expect("loads")
}

fn stream(mode: &str) -> PluginSpec {
    PluginSpec::new("stream", sluicegate_bundle::HOSTILE_STREAM).set("mode", mode)
}

fn packed(codec: &mut GuestCodec, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec.encode(raw, &mut out).expect("packs");
    out
}

fn unpacked(codec: &mut GuestCodec, packed: &[u8], size: usize) -> Result<Vec<u8>, PluginFault> {
    let mut out = Vec::new();
    codec.decode(packed, size, &mut out).map(|()| out)
}

/// What a snapshot of ordinary data looks like.
fn ordinary(bytes: usize) -> Vec<u8> {
    let entry = |n: u64| {
        let (user, score) = (n * 7919 % 100_003, n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
        format!("\0\x0fuser:{user:010}\x40{{\"name\":\"user {user}\",\"score\":{score},\"tags\":[\"a\",\"b\"]}}")
    };
    let mut raw: Vec<u8> = (0..).flat_map(|n| entry(n).into_bytes()).take(bytes).collect();
    raw.truncate(bytes);
    raw
}

/// What no codec makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn blocks() -> Vec<Vec<u8>> {
    let sizes = [1, 2, 100, 4096, 65_536, 65_537, CHUNK_RAW_BYTES, CHUNK_RAW_BYTES_MAX];
    sizes.iter().flat_map(|&bytes| [ordinary(bytes), noise(bytes), vec![0; bytes]]).collect()
}

#[test]
fn lz4_and_its_native_relative_read_each_other() {
    let mut ours = lz4();
    assert_eq!(ours.format(), "lz4");
    for raw in blocks() {
        let made = packed(&mut ours, &raw);
        assert_eq!(lz4_flex::block::decompress(&made, raw.len()).expect("a block"), raw);
        let native = lz4_flex::block::compress(&raw);
        assert_eq!(unpacked(&mut ours, &native, raw.len()).expect("a block"), raw);
        assert_eq!(unpacked(&mut ours, &made, raw.len()).expect("a block"), raw);
    }
}

#[test]
fn zstd_and_its_native_relative_make_the_same_bytes() {
    for level in [1, 3, 9, 19] {
        let mut ours = zstd(level);
        assert_eq!(ours.format(), "zstd");
        for raw in blocks().iter().filter(|raw| level < 12 || raw.len() <= CHUNK_RAW_BYTES) {
            let made = packed(&mut ours, raw);
            let native = compress_slice_to_vec(raw, CompressionLevel::from_level(level as i32));
            assert!(made == native, "level {level}, {} bytes: {} and {}", raw.len(), made.len(), native.len());
            let mut back = vec![0; raw.len()];
            assert_eq!(FrameDecoder::new().decode_all(&made, &mut back).expect("a frame"), raw.len());
            assert!(&back == raw && &unpacked(&mut ours, &made, raw.len()).expect("a frame") == raw, "level {level}");
        }
        let stats = ours.stats().read();
        assert!(stats.iter().all(|stats| stats.traps == 0), "{stats:?}");
    }
}

#[test]
fn blocks_of_any_make_come_back() {
    let (mut lz4, mut zstd) = (lz4(), zstd(3));
    let noise = noise(40_000);
    for (round, seed) in noise.chunks(40).enumerate() {
        // Runs, copies and noise by turns, as the seed says.
        let mut raw = Vec::new();
        for pair in seed.as_chunks::<2>().0 {
            match pair {
                [kind @ 0..80, length] => raw.resize(raw.len() + usize::from(*length), *kind),
                [kind @ 80..170, length] if !raw.is_empty() => {
                    let from = raw.len() * usize::from(*kind - 80) / 90;
                    raw.extend_from_within(from..raw.len().min(from + usize::from(*length)));
                }
                [kind, length] => raw.extend_from_slice(&noise[usize::from(*kind) * 20..][..usize::from(*length)]),
            }
        }
        for codec in [&mut lz4, &mut zstd].into_iter().filter(|_| !raw.is_empty()) {
            let made = packed(codec, &raw);
            assert!(unpacked(codec, &made, raw.len()).expect("what it packed") == raw, "round {round}");
        }
    }
}

/// Damage is found by the codec, or makes other bytes, which the container's checksum finds. It never costs an instance.
#[test]
fn damaged_blocks_never_harm_a_codec() {
    let raw = ordinary(3000);
    for codec in [&mut lz4(), &mut zstd(3)] {
        let made = packed(codec, &raw);
        let mut rejected = 0;
        for at in 0..made.len() {
            let mut damaged = made.clone();
            damaged[at] ^= 1 << (at % 8);
            match unpacked(codec, &damaged, raw.len()) {
                Ok(other) => assert_eq!(other.len(), raw.len()),
                Err(fault) => {
                    assert!(fault.what.contains("rejected"), "{}", fault.what);
                    rejected += 1;
                }
            }
            assert!(unpacked(codec, &made[..at], raw.len()).is_err(), "cut at {at}");
        }
        assert!(rejected > 0);
        for size in [0, raw.len() - 1, raw.len() + 1, CHUNK_RAW_BYTES_MAX] {
            assert!(unpacked(codec, &made, size).is_err_and(|fault| fault.what.contains("rejected")), "{size} bytes");
        }
        let stats = codec.stats().read();
        assert!(stats.iter().all(|stats| (stats.traps, stats.restarts) == (0, 0)), "{stats:?}");
        assert_eq!(unpacked(codec, &made, raw.len()).expect("it still unpacks"), raw);
    }
}

#[test]
fn a_small_frame_that_claims_to_become_huge_takes_no_memory() {
    let bomb = compress_slice_to_vec(&vec![0; 64 << 20], CompressionLevel::Fastest);
    assert!(bomb.len() < CHUNK_RAW_BYTES_MAX);
    let mut ours = zstd(3);
    let fault = unpacked(&mut ours, &bomb, CHUNK_RAW_BYTES_MAX).expect_err("more than was asked for");
    assert!(fault.what.contains("rejected"), "{}", fault.what);
    assert!(ours.stats().read().iter().all(|stats| stats.memory_bytes <= 16 << 20 && stats.traps == 0));
}

#[test]
fn containers_of_every_codec_come_back() {
    let raw = [ordinary(700_000), noise(300_000), vec![7; 500_000]].concat();
    for codec in [lz4 as fn() -> GuestCodec, || zstd(3), || codec(stream("well-behaved")).expect("loads")] {
        let (mut container, mut back, mut chunk) = (Vec::new(), Vec::new(), Vec::new());
        let mut packer = Packer::new(Box::new(codec()), CHUNK_RAW_BYTES, &mut container).expect("a proper name");
        raw.chunks(100_000).for_each(|piece| packer.push(piece, &mut container).expect("packs"));
        packer.finish(&mut container).expect("packs");
        let mut unpacker = Unpacker::new(Box::new(codec()));
        for mut piece in container.chunks(77_777) {
            while unpacker.push(&mut piece, &mut chunk).expect("unpacks") {
                back.extend_from_slice(&chunk);
            }
        }
        assert!(unpacker.is_done() && back == raw);
    }
}

/// Each mode, and what its fault must say.
#[test]
fn a_hostile_codec_is_found_out_and_nothing_of_it_is_kept() {
    for (mode, says) in [
        ("encode-trap", "unreachable"),
        ("encode-panic", "the message of the panic"),
        ("encode-memory", "memory limit of 16777216 bytes"),
        ("encode-rejected", "rejected: will not pack"),
        ("encode-internal", "internal error: cannot go on"),
        ("encode-nothing", "packs 5000 bytes into 0"),
        ("encode-huge", "answered 70537 bytes where 70536 are allowed"),
        ("encode-enormous", "fuel allocated for hostcalls"),
        ("encode-forgets", "rejected: not 5000 bytes"),
        ("encode-remembers", "does not unpack to the same bytes"),
        ("decode-trap", "unreachable"),
        ("decode-lies", "does not unpack to the same bytes"),
        ("decode-short", "unpacks into 4999 bytes where 5000 were asked for"),
        ("decode-long", "answered 5001 bytes where 5000 are allowed"),
    ] {
        let mut out = Vec::new();
        let mut sealer = Sealer::new(Box::new(codec(hostile(mode)).expect(mode))).expect(mode);
        let fault = sealer.seal(&ordinary(5000), &mut out).expect_err(mode);
        assert_eq!((fault.plugin.as_str(), out.len()), ("hostile", 0), "{mode}");
        assert!(fault.what.contains(says), "{mode}: {}", fault.what);
    }
}

#[test]
fn a_hostile_codec_in_pieces_is_found_out_too() {
    let raw = ordinary(200_000);
    for (mode, says) in [
        ("open-rejected", "rejected: not today"),
        ("push-rejected", "rejected: not this"),
        ("push-panic", "a panic in push"),
        ("push-huge", "more than the 265536 bytes"),
        ("finish-panic", "a panic in finish"),
        ("finish-huge", "where 265536 are allowed"),
    ] {
        let mut codec = codec(stream(mode)).expect(mode);
        let fault = codec.encode(&raw, &mut Vec::new()).expect_err(mode);
        assert!(fault.what.contains(says), "{mode}: {}", fault.what);
        let stats = &codec.stats().read()[0];
        assert_eq!(stats.traps, if says.contains("rejected") { 0 } else { 2 }, "{mode}");
    }
}

#[test]
fn streams_that_are_refused_leave_nothing_behind() {
    let mut codec = codec(stream("well-behaved")).expect("loads");
    let made = packed(&mut codec, &ordinary(100_000));
    for _ in 0..2_000 {
        assert!(unpacked(&mut codec, b"no bracket", 10).is_err_and(|fault| fault.what.contains("rejected")));
        assert!(unpacked(&mut codec, &made[..70_000], 100_000).is_err_and(|fault| fault.what.contains("rejected")));
    }
    assert_eq!(unpacked(&mut codec, &made, 100_000).expect("it still unpacks"), ordinary(100_000));
    let stats = &codec.stats().read()[1];
    assert!(stats.traps == 0 && stats.recycled == 0 && stats.memory_bytes < 4 << 20, "{stats:?}");
}

#[test]
fn an_endless_loop_ends_and_is_not_asked_again() {
    for mode in ["encode-loop", "decode-loop"] {
        let mut sealer = Sealer::new(Box::new(codec(hostile(mode)).expect(mode))).expect(mode);
        let fault = sealer.seal(&[1; 100], &mut Vec::new()).expect_err("never answers");
        assert!(fault.what.contains("no answer within 3005 ms of processor time"), "{}", fault.what);
    }
}

#[test]
fn codecs_and_plugins_that_decide_are_not_taken_for_each_other() {
    let lz4 = || PluginSpec::new("fast", sluicegate_bundle::LZ4);
    let plugin = ROOM.load(lz4()).expect("loads");
    assert_eq!(
        (plugin.worlds().as_slice(), plugin.format(), plugin.decides()),
        (&["block-codec"][..], Some("lz4"), false)
    );
    let error = pipeline([lz4()]).err().expect("a codec decides nothing").to_string();
    assert!(error.contains("plugin `fast`: it is a codec (block-codec) and has no say in a view"), "{error}");
    let filter = PluginSpec::new("filter", sluicegate_bundle::KEY_FILTER);
    let error = codec(filter).err().expect("a filter packs nothing").to_string();
    assert!(error.contains("plugin `filter`: it is no codec: it exports key-filter"), "{error}");
    let mut lenient = lz4();
    lenient.on_error = OnError::Pass;
    let error = codec(lenient).err().expect("nothing can be passed").to_string();
    assert!(error.contains("can neither be dropped nor passed"), "{error}");
    for (spec, says) in [
        (lz4().set("level", "3"), "unknown setting `level`"),
        (PluginSpec::new("zstd", sluicegate_bundle::ZSTD).set("level", "20"), "write a number from 1 to 19"),
    ] {
        let error = ROOM.load(spec).expect_err("refused").to_string();
        assert!(error.contains(says), "{error}");
    }
}
