//! Containers of packed bytes: what goes in comes out, whatever the pieces; what is damaged is refused where it is damaged;
//! a codec that lies is found out before its bytes count.

use proptest::prelude::*;
use sluicegate_core::limits::{CHUNK_RAW_BYTES_MAX, CHUNK_SLACK_BYTES};
use sluicegate_core::pack::{Codec, Defect, PackError, Packer, Place, Sealer, Unpacker, read_head};
use sluicegate_core::pipeline::PluginFault;

/// Runs of equal bytes as (length, byte), in one of several moods.
#[derive(Clone, Copy)]
struct Runs(Mood);

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Honest,
    /// Packs everything into the same bytes.
    Forgets,
    /// Packs into nothing.
    Empty,
    /// Packs into far too much.
    Bloats,
    /// Unpacks one byte short and says nothing.
    Short,
    /// Has a name that would not fit into a line.
    Nameless,
}

impl Codec for Runs {
    fn format(&self) -> &str {
        if self.0 == Mood::Nameless { "a b\r\n" } else { "runs" }
    }

    fn plugin(&self) -> &str {
        "my-runs"
    }

    fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), PluginFault> {
        out.clear();
        match self.0 {
            Mood::Forgets => out.extend_from_slice(&[1, b'?']),
            Mood::Empty => {}
            Mood::Bloats => out.resize(raw.len() + CHUNK_SLACK_BYTES + 1, 1),
            _ => raw
                .chunk_by(|one, other| one == other)
                .flat_map(|run| run.chunks(255))
                .for_each(|run| out.extend_from_slice(&[run.len() as u8, run[0]])),
        }
        Ok(())
    }

    fn decode(&mut self, packed: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), PluginFault> {
        out.clear();
        let (runs, rest) = packed.as_chunks::<2>();
        runs.iter().for_each(|[length, byte]| out.resize(out.len() + usize::from(*length), *byte));
        if self.0 == Mood::Short {
            out.pop();
        }
        match rest.is_empty() && (out.len() == size || self.0 != Mood::Honest) {
            true => Ok(()),
            false => Err(PluginFault { plugin: "my-runs".into(), what: "no runs".into() }),
        }
    }
}

fn honest() -> Box<Runs> {
    Box::new(Runs(Mood::Honest))
}

/// A container of `raw` with chunks of `chunk` bytes, fed in pieces of `piece` bytes.
fn packed(raw: &[u8], chunk: usize, piece: usize) -> (Vec<u8>, Place) {
    let mut out = Vec::new();
    let mut packer = Packer::new(honest(), chunk, &mut out).expect("a proper name");
    raw.chunks(piece).for_each(|piece| packer.push(piece, &mut out).expect("an honest codec"));
    let place = packer.finish(&mut out).expect("an honest codec");
    (out, place)
}

/// Feeds a container in pieces of `piece` bytes: what comes out, and how many bytes lie behind its end.
fn unpacked(unpacker: &mut Unpacker, packed: &[u8], piece: usize) -> Result<(Vec<u8>, usize), PackError> {
    let (mut all, mut raw, mut left) = (Vec::new(), Vec::new(), 0);
    for mut piece in packed.chunks(piece) {
        while unpacker.push(&mut piece, &mut raw)? {
            all.extend_from_slice(&raw);
        }
        left += piece.len();
    }
    unpacker.finish()?;
    Ok((all, left))
}

fn open(packed: &[u8]) -> Result<Vec<u8>, PackError> {
    unpacked(&mut Unpacker::new(honest()), packed, usize::MAX).map(|(raw, _)| raw)
}

/// Runs that become smaller, and noise that does not.
fn mixed() -> Vec<u8> {
    let noise = (0..700_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
    [7; 900].into_iter().chain(noise).chain([9; 333]).collect()
}

#[test]
fn the_layout_is_as_it_is_written_down() {
    let (container, place) = packed(b"aaaaaaaaaaaaaaaaaaaab", 20, 3);
    let mut expected = b"SLUICEPACK1\x04runs".to_vec();
    expected.extend_from_slice(b"\x14\0\0\0\x02\0\0\0");
    expected.extend_from_slice(&sluicegate_core::rdb::Crc64::of(&[b'a'; 20]).to_le_bytes());
    expected.extend_from_slice(b"\x14a");
    expected.extend_from_slice(b"\x01\0\0\0\0\0\0\0");
    expected.extend_from_slice(&sluicegate_core::rdb::Crc64::of(b"b").to_le_bytes());
    expected.extend_from_slice(b"b\0\0\0\0\0\0\0\0\x15\0\0\0\0\0\0\0");
    expected.extend_from_slice(&place.crc.sum().to_le_bytes());
    assert_eq!(container, expected);
    assert_eq!((place.chunks, place.raw), (2, 21));
    assert_eq!(read_head(&container), Ok(Some(("runs", 16))));
    for cut in 0..16 {
        assert_eq!(read_head(&container[..cut]), Ok(None), "cut at {cut}");
    }
}

#[test]
fn nothing_packs_into_a_container_of_nothing() {
    let (container, place) = packed(b"", 100, 1);
    assert_eq!(open(&container), Ok(Vec::new()));
    assert_eq!(place, Place::default());
}

#[test]
fn what_lies_behind_the_end_is_not_touched() {
    let (mut container, _) = packed(&mixed(), 256, 100);
    container.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    let (raw, left) = unpacked(&mut Unpacker::new(honest()), &container, 61).expect("sound");
    assert_eq!((raw, left), (mixed(), 14));
}

#[test]
fn whoever_has_the_first_chunks_goes_on_with_the_next() {
    let (container, whole) = packed(&mixed(), 200, 5);
    let mut first = Unpacker::new(honest());
    let (mut rest, mut raw, mut all) = (&container[..], Vec::new(), Vec::new());
    for chunk in 1..=whole.chunks {
        assert!(first.push(&mut rest, &mut raw).expect("sound"));
        all.extend_from_slice(&raw);
        assert_eq!(first.place().chunks, chunk);
        let mut second = Unpacker::resume_at(honest(), first.place());
        let (others, left) = unpacked(&mut second, rest, 7).expect("sound");
        assert_eq!([&all[..], &others[..]].concat(), mixed());
        assert_eq!((left, second.place()), (0, whole));
    }
    // From the wrong place the chunks may be sound, and the end says that they do not belong together.
    let mut wrong = Unpacker::resume_at(honest(), Place::default());
    let error = unpacked(&mut wrong, rest, 7).expect_err("most chunks are missing");
    assert!(matches!(error.defect, Defect::Total { .. }), "{error}");
}

#[test]
fn a_container_can_be_read_again_from_anywhere() {
    let (container, whole) = packed(&mixed(), 256, 100);
    let mut unpacker = Unpacker::new(honest());
    for cut in (0..container.len()).step_by(13) {
        assert!(unpacked(&mut unpacker, &container[..cut], 50).is_err(), "it is cut at {cut}");
        unpacker.restart();
    }
    assert_eq!(unpacked(&mut unpacker, &container, 50).expect("sound"), (mixed(), 0));
    assert_eq!(unpacker.place(), whole);
}

#[test]
fn a_container_can_be_made_from_any_chunk_on() {
    let (container, whole) = packed(&mixed(), 200, 5);
    let mut first = Unpacker::new(honest());
    let (mut rest, mut raw) = (&container[..], Vec::new());
    for chunks in 1..=whole.chunks {
        assert!(first.push(&mut rest, &mut raw).expect("sound"));
        let (mut made, mut packer) = (Vec::new(), Packer::resume_at(honest(), 200, chunks).expect("a proper name"));
        mixed().chunks(77).for_each(|piece| packer.push(piece, &mut made).expect("an honest codec"));
        assert_eq!(packer.finish(&mut made).expect("an honest codec"), whole);
        assert_eq!(made, rest, "behind {chunks} chunks");
    }
}

#[test]
fn no_flipped_bit_and_no_cut_goes_unnoticed() {
    let raw = mixed();
    let (container, _) = packed(&raw, 300, 300);
    for at in 0..container.len() {
        for bit in 0..8 {
            let mut damaged = container.clone();
            damaged[at] ^= 1 << bit;
            assert!(open(&damaged).is_err(), "byte {at}, bit {bit}");
        }
        let error = open(&container[..at]).expect_err("it is cut");
        assert_eq!(error.defect, Defect::Truncated, "cut at {at}");
    }
}

#[test]
fn lengths_that_no_chunk_has_are_refused_before_anything_is_held() {
    let head = |raw: u32, packed: u32| {
        let numbers = [raw.to_le_bytes(), packed.to_le_bytes()].concat();
        [b"SLUICEPACK1\x04runs", &numbers[..], &[0; 8]].concat()
    };
    let most = CHUNK_RAW_BYTES_MAX as u32;
    let claims = |raw, packed| open(&head(raw, packed)).expect_err("refused").defect;
    assert_eq!(claims(most + 1, 5), Defect::Raw(most + 1));
    assert_eq!(claims(0, 5), Defect::Raw(0));
    let packed = 10 + CHUNK_SLACK_BYTES as u32 + 1;
    assert_eq!(claims(10, packed), Defect::Packed { packed, raw: 10 });
    assert_eq!(claims(most, most), Defect::Truncated, "at the bound it is only the bytes that are missing");
}

#[test]
fn another_format_and_no_container_at_all_are_refused_by_name() {
    let error = open(b"SLUICEPACK1\x04zstd").expect_err("another codec's");
    assert_eq!(error.to_string(), "packed bytes, chunk 0: they are in format zstd, and the codec reads runs");
    for (bytes, defect) in [
        (&b"REDIS0011"[..], Defect::Magic),
        (b"SLUICEPACK2", Defect::Magic),
        (b"SLUICEPACK1\0", Defect::Name),
        (b"SLUICEPACK1\x41", Defect::Name),
        (b"SLUICEPACK1\x03a\nb", Defect::Name),
        (b"SLUICEPACK1\x02\xff\xff", Defect::Name),
    ] {
        assert_eq!(open(bytes).expect_err("refused").defect, defect);
    }
}

#[test]
fn a_codec_that_lies_is_found_out_and_nothing_of_it_is_kept() {
    for (mood, says) in [
        (Mood::Forgets, "does not unpack to the same bytes"),
        (Mood::Empty, "packs 500 bytes into 0"),
        (Mood::Bloats, "packs 500 bytes into 66037"),
        (Mood::Short, "does not unpack to the same bytes"),
    ] {
        let mut out = Vec::new();
        let mut sealer = Sealer::new(Box::new(Runs(mood))).expect("a proper name");
        let fault = sealer.seal(&[5; 500], &mut out).expect_err("a lie");
        assert_eq!((fault.plugin.as_str(), out.len()), ("my-runs", 0));
        assert!(fault.what.contains(says), "{}", fault.what);
    }
    let Err(fault) = Sealer::new(Box::new(Runs(Mood::Nameless))) else { panic!("a name with a line's end") };
    assert!(fault.what.contains(r"'a b\r\n' is no name for a format"), "{}", fault.what);
}

#[test]
fn a_codec_that_unpacks_too_little_is_found_out() {
    let (container, _) = packed(&[5; 500], 500, 500);
    let error = unpacked(&mut Unpacker::new(Box::new(Runs(Mood::Short))), &container, 9).expect_err("a lie");
    assert_eq!(error.defect, Defect::Size { claimed: 500, came: 499 });
}

proptest! {
    #[test]
    fn whatever_goes_in_comes_out(
        runs in prop::collection::vec((any::<u8>(), 1..600_usize), 0..20),
        chunk in 1..1500_usize,
        (fed, read) in (1..2000_usize, 1..2000_usize),
    ) {
        let raw: Vec<u8> = runs.iter().flat_map(|(byte, times)| std::iter::repeat_n(*byte, *times)).collect();
        let (container, place) = packed(&raw, chunk, fed);
        prop_assert_eq!(place.chunks, raw.len().div_ceil(chunk) as u64);
        let (back, left) = unpacked(&mut Unpacker::new(honest()), &container, read).expect("sound");
        prop_assert_eq!(back, raw);
        prop_assert_eq!(left, 0);
    }

    #[test]
    fn noise_is_refused_and_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(open(&[b"SLUICEPACK1\x04runs", &noise[..]].concat()).is_err());
    }
}
