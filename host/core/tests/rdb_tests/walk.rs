//! Stories of snapshots that arrive: whole, in pieces, damaged, lying.

use crate::support::{newest, read, sample, text};
use sluicegate_core::rdb::write::{write_aux, write_end, write_magic, write_string_key};
use sluicegate_core::rdb::{Crc64, CrcKind, Defect, Family, Intake, KEY_BYTES_MAX, RdbError, Summary};
use std::collections::BTreeSet;

const FAMILIES: [Family; 2] = [Family::Redis, Family::Valkey];

/// Takes `bytes` in pieces of `chunk` bytes and, at its end, says what was in it and how many bytes it had.
fn take(bytes: &[u8], chunk: usize) -> Result<(Summary, usize), RdbError> {
    let (mut intake, mut taken) = (Intake::new(), 0);
    for piece in bytes.chunks(chunk) {
        taken += intake.push(piece)?;
        if intake.is_done() {
            break;
        }
    }
    intake.finish()?;
    Ok((intake.summary().expect("the snapshot has ended").clone(), taken))
}

fn defect(bytes: &[u8]) -> Defect {
    take(bytes, usize::MAX).expect_err("the snapshot is bad").defect
}

/// A snapshot of version 11 with `parts` after the magic, and a right checksum.
fn snapshot(parts: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_magic(&mut out, Family::Redis, 11);
    out.extend_from_slice(parts);
    write_end(&mut out);
    out
}

/// The same with its checksum computed anew.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 9);
    write_end(&mut bytes);
    bytes
}

#[test]
fn every_part_of_a_snapshot_is_counted() {
    for family in FAMILIES {
        let bytes = sample(family);
        let list = read(&bytes);
        let (summary, taken) = take(&bytes, usize::MAX).unwrap();
        assert_eq!(taken, bytes.len());
        assert_eq!(summary.keys, list.entries.len() as u64);
        assert_eq!(summary.functions, 2);
        let expires = list.entries.iter().filter(|entry| matches!(entry.rest[0], 0xfc | 0xfd)).count();
        // IDLE and FREQ stand before EXPIRETIME in none of the sample's entries, so the first byte tells.
        assert_eq!(summary.expires, expires as u64);
        assert_eq!(summary.bytes, bytes.len() as u64);
        assert_eq!((summary.family, summary.version), (family, newest(family)));
        assert_eq!(summary.server_version.as_deref(), Some("7.4.1"));
        assert_eq!(summary.repl_id, Some([b'b'; 40]));
        assert_eq!((summary.repl_offset, summary.repl_stream_db), (Some(123_456_789), Some(0)));
        assert_eq!(summary.crc, CrcKind::Checked);
        let kinds: BTreeSet<u8> = list.entries.iter().map(|entry| entry.kind).collect();
        assert_eq!(summary.kinds.types().collect::<BTreeSet<_>>(), kinds);
        assert_eq!(summary.kinds.modules, [0x0102_0304_0506_0708, 5], "of values and of data beside the keys");
        let redis = family == Family::Redis;
        assert_eq!((summary.kinds.key_metadata, summary.kinds.slot_imports), (redis, !redis));
    }
}

#[test]
fn the_size_of_the_pieces_changes_nothing_and_the_end_is_found_exactly() {
    for family in FAMILIES {
        let bytes = sample(family);
        let expected = take(&bytes, usize::MAX).unwrap();
        let followed = [&bytes[..], b"*1\r\n$4\r\nPING\r\n"].concat();
        for chunk in [1, 2, 3, 5, 7, 8, 9, 13, 64, 1000, 65536] {
            assert_eq!(take(&bytes, chunk).unwrap(), expected, "pieces of {chunk}");
            assert_eq!(take(&followed, chunk).unwrap(), expected, "pieces of {chunk}, with the stream behind them");
        }
        for cut in 0..bytes.len() {
            let mut intake = Intake::new();
            let taken = intake.push(&bytes[..cut]).unwrap();
            assert_eq!((taken, intake.is_done()), (cut, false), "all of an unfinished snapshot is taken");
            assert_eq!(intake.bytes(), cut as u64);
            assert_eq!(intake.push(&followed[cut..]).unwrap(), bytes.len() - cut, "cut at {cut}");
            assert_eq!(intake.summary(), Some(&expected.0));
            assert_eq!(intake.push(b"more"), Ok(0), "nothing is taken after the end");
        }
    }
}

#[test]
fn a_snapshot_that_stops_anywhere_is_truncated() {
    for family in FAMILIES {
        let bytes = sample(family);
        for end in 0..bytes.len() {
            for chunk in [7, usize::MAX] {
                let expected = RdbError { offset: end as u64, defect: Defect::Truncated };
                assert_eq!(take(&bytes[..end], chunk).unwrap_err(), expected, "cut at {end}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for family in FAMILIES {
        let bytes = sample(family);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(take(&damaged, usize::MAX).is_err(), "bit {} of byte {}", bit % 8, bit / 8);
        }
    }
}

#[test]
fn damage_under_a_right_checksum_never_panics() {
    for family in FAMILIES {
        let bytes = sample(family);
        for at in 9..bytes.len() - 9 {
            for byte in [bytes[at] ^ 1, [1, 0x40, 0x81, 0xc3, 0xff][at % 5]] {
                let mut damaged = bytes.clone();
                damaged[at] = byte;
                let damaged = resealed(damaged);
                let whole = take(&damaged, usize::MAX);
                assert_eq!(take(&damaged, 777), whole, "byte {at} is {byte}");
            }
        }
    }
}

#[test]
fn a_checksum_may_be_missing_but_not_wrong() {
    let mut bytes = snapshot(b"\x00\x01k\x01v");
    let sum_at = bytes.len() - 8;
    let sum = Crc64::of(&bytes[..sum_at]);
    bytes[sum_at..].fill(0);
    let (summary, _) = take(&bytes, 4).unwrap();
    assert_eq!(summary.crc, CrcKind::Absent);
    bytes[sum_at] = 1;
    for chunk in [1, usize::MAX] {
        let error = take(&bytes, chunk).unwrap_err();
        assert_eq!(error.defect, Defect::Crc { stored: 1, computed: sum });
        assert_eq!(error.offset, sum_at as u64 - 1);
    }
}

#[test]
fn lengths_that_lie_cost_nothing() {
    let longs: [&[u8]; 4] = [
        &[0x81, 0x80, 0, 0, 0, 0, 0, 0, 0],
        &[0x81, 255, 255, 255, 255, 255, 255, 255, 255],
        &[0x81, 0, 0, 0, 1, 0, 0, 0, 0],
        &[0x80, 255, 255, 255, 255],
    ];
    for long in longs {
        let value = [b"\x00\x01k", long, b"abc"].concat();
        assert!(matches!(defect(&snapshot(&value)), Defect::Truncated), "a value passes until the bytes end");
        for kind in [1, 4, 5, 14, 15, 18, 21] {
            let count = [&[kind, 1, b'k'], long].concat();
            let taken = take(&snapshot(&count), usize::MAX);
            assert!(taken.is_err(), "type {kind}: a count is believed only as far as the bytes go");
        }
        let name = [b"\x00", long, b"abc"].concat();
        assert!(matches!(defect(&snapshot(&name)), Defect::TooLong { what: "a key name", bound: KEY_BYTES_MAX, .. }));
        let aux = [b"\xfa\x01a", long].concat();
        assert!(matches!(defect(&snapshot(&aux)), Defect::TooLong { what: "an aux field", .. }));
        let function = [b"\xf5", long].concat();
        assert!(matches!(defect(&snapshot(&function)), Defect::TooLong { what: "a function library", .. }));
        let packed = [b"\x00\xc3\x04", long, b"\x00a\x20\x00"].concat();
        assert!(matches!(defect(&snapshot(&packed)), Defect::TooLong { .. }), "the unpacked length is bounded, too");
        assert!(matches!(defect(&snapshot(&[b"\xfe", long].concat())), Defect::Database(_)));
    }
}

#[test]
fn a_name_at_the_bound_passes_and_one_above_does_not() {
    let mut out = Vec::new();
    write_magic(&mut out, Family::Redis, 11);
    let start = out.len();
    write_string_key(&mut out, &vec![b'n'; KEY_BYTES_MAX], b"v");
    write_end(&mut out);
    assert_eq!(take(&out, 100_000).unwrap().0.keys, 1);
    out.truncate(start);
    write_string_key(&mut out, &vec![b'n'; KEY_BYTES_MAX + 1], b"v");
    assert!(matches!(take(&out, 100_000).unwrap_err().defect, Defect::TooLong { .. }));
}

#[test]
fn what_cannot_be_measured_is_refused_by_name() {
    let cases: [(&[u8], &str); 14] = [
        (b"RDBFILE01", "it does not begin as an RDB file"),
        (b"REDIS00x1", "it does not begin as an RDB file"),
        (b"REDIS0005", "it has format REDIS 5, and only REDIS 6 to 14 and VALKEY 80 can be read"),
        (b"REDIS0015", "it has format REDIS 15, and only REDIS 6 to 14 and VALKEY 80 can be read"),
        (b"REDIS0080", "it has format REDIS 80, and only REDIS 6 to 14 and VALKEY 80 can be read"),
        (b"VALKEY081", "it has format VALKEY 81, and only REDIS 6 to 14 and VALKEY 80 can be read"),
        (
            b"REDIS0012\x06",
            "value type 6 (module value of 4.0 release candidates) of REDIS is unknown, and what is unknown cannot be skipped",
        ),
        (
            b"REDIS0012\x16",
            "value type 22 (hash with field expiry of 7.4 release candidates) of REDIS is unknown, and what is unknown cannot be skipped",
        ),
        (
            b"VALKEY080\x18",
            "value type 24 (Redis' hash with field expiry) of VALKEY is unknown, and what is unknown cannot be skipped",
        ),
        (
            b"REDIS0014\x1d",
            "value type 29 (of Redis 8.8 or later, whose numbers were not settled) of REDIS is unknown, and what is unknown cannot be skipped",
        ),
        (b"REDIS0012\xf2", "opcode 242 (HASH_TEMPLATES) of REDIS cannot be read"),
        (b"VALKEY080\xf2", "opcode 242 (UPDATE) of VALKEY cannot be read"),
        (b"REDIS0012\xf6", "opcode 246 (FUNCTION of 7.0 release candidates) of REDIS cannot be read"),
        (b"REDIS0012\x96", "opcode 150 of REDIS cannot be read"),
    ];
    for (bytes, what) in cases {
        let error = take(bytes, usize::MAX).unwrap_err();
        let at = if bytes.len() > 9 { 9 } else { 0 };
        assert_eq!(error.to_string(), format!("the upstream's snapshot is refused: at byte {at}, {what}"));
        assert_eq!(take(bytes, 1).unwrap_err(), error, "in single bytes it is the same error");
    }
}

#[test]
fn broken_parts_are_refused() {
    let cases: [(&[u8], Defect); 12] = [
        (b"\x00\x01k\xc4", Defect::StringEncoding(0xc4)),
        (b"\x00\x82", Defect::StringEncoding(0x82)),
        (b"\x01\x01k\xc0", Defect::Length(0xc0)),
        (b"\x00\xc3\x02\x05\x00a", Defect::Lzf),
        (b"\xfe\x80\x80\x00\x00\x00", Defect::Database(1 << 31)),
        (b"\xf9\x01\xf9\x01\x00\x01k\x01v", Defect::Attribute),
        (b"\xf9\x01\xfe\x00\x00\x01k\x01v", Defect::Attribute),
        (b"\x07\x01k\x05\x06", Defect::ModuleData(6)),
        (b"\xf7\x05\x01", Defect::ModuleData(1)),
        (b"\x1c\x01k\x01\x02", Defect::Flag(2)),
        (b"\x1c\x01k\x01\x00\x00\x04", Defect::Element(4)),
        (b"\xf3\x00\xf3\x00\x00\x01k\x01v", Defect::Attribute),
    ];
    for (parts, expected) in cases {
        assert_eq!(defect(&snapshot(parts)), expected, "{}", parts.escape_ascii());
    }
    assert_eq!(defect(&snapshot(b"\xf9\x01")), Defect::Attribute, "an attribute without its key");
    assert!(take(&snapshot(b"\xfe\x80\x7f\xff\xff\xff"), 1).is_ok(), "the highest database");
}

#[test]
fn an_error_stays() {
    let mut intake = Intake::new();
    let error = intake.push(b"REDIS0011\xf6rest").unwrap_err();
    assert_eq!(intake.push(b"REDIS0011\xff"), Err(error));
    assert_eq!(intake.finish(), Err(error));
    assert!(!intake.is_done() && intake.summary().is_none());
}

#[test]
fn aux_fields_in_a_wrong_form_are_worth_nothing() {
    let mut parts = Vec::new();
    write_aux(&mut parts, b"repl-id", b"short");
    write_aux(&mut parts, b"repl-offset", b"many");
    write_aux(&mut parts, b"repl-stream-db", b"-1");
    write_aux(&mut parts, b"valkey-ver", b"\xff\xfe");
    let (summary, _) = take(&snapshot(&parts), 3).unwrap();
    assert_eq!((summary.repl_id, summary.repl_offset, summary.repl_stream_db), (None, None, None));
    assert_eq!(summary.server_version, None);
}

#[test]
fn the_snapshot_in_a_recorded_full_sync_is_read() {
    // 7.0.15, diskless, with one key; the id is made up here, so the checksum is our own.
    let mut bytes =
        b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfa\x0aredis-bits\xc0\x40\xfa\x05ctime\xc2\x1b\x3c\x03\x6b".to_vec();
    bytes.extend_from_slice(b"\xfa\x08used-mem\xc2\x98\x18\x0f\x00\xfa\x0erepl-stream-db\xc0\x00\xfa\x07repl-id");
    bytes.extend(text(&[b'c'; 40]));
    bytes
        .extend_from_slice(b"\xfa\x0brepl-offset\xc0\x00\xfa\x08aof-base\xc0\x00\xfe\x00\xfb\x01\x00\x00\x01a\xc0\x01");
    write_end(&mut bytes);
    let (summary, _) = take(&bytes, 10).unwrap();
    assert_eq!((summary.keys, summary.repl_offset, summary.repl_stream_db), (1, Some(0), Some(0)));
    assert_eq!(summary.server_version.as_deref(), Some("7.0.15"));
}
