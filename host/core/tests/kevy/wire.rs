//! What primaries say, as it was seen on the wire, however the reads cut it.

use crate::support::{Heard, WIDE, frame, hear};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use sluicegate_core::command::Table;
use sluicegate_core::kevy::wire::*;
use sluicegate_core::kevy::{Event, Scanner, Wrong};
use sluicegate_core::resp::write_command;
use std::sync::Arc;

/// kevy 1.19 to a replica that holds the first frames of a link.
const OLD: &[u8] = b"+ACK 0\r\n*2\r\n:0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n\
    *2\r\n:1\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n\
    *2\r\n:2\r\n*6\r\n$4\r\nHSET\r\n$1\r\nh\r\n$2\r\nf1\r\n$2\r\nv1\r\n$2\r\nf2\r\n$2\r\nv2\r\n";

/// kevy 7.0: what a replica missed while it was away, then a sign of life, then FLUSHALL, then a new history.
const NEW: &[u8] = b"+ACK 6044966812509414 11\r\n*2\r\n:11\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$10\r\nwhile-down\r\n\
    +PING 6044966812509414 12\r\n*2\r\n:12\r\n*1\r\n$4\r\nPING\r\n+SNAPSHOT\r\n+PING 812 0\r\n$10\r\nKEVYSNAP\x04\x00\r\n\
    +PING 812 0\r\n$3\r\n\r\n$\r\n+SNAPSHOT_END 0\r\n+PING 812 0\r\n\
    *2\r\n:0\r\n*5\r\n$4\r\nXADD\r\n$2\r\nst\r\n$15\r\n1795374959231-0\r\n$1\r\nf\r\n$1\r\nv\r\n";

/// kevy 1.19: the whole exchange for a small shard.
const SHIPPED: &[u8] = b"+ACK 0\r\n+SNAPSHOT\r\n$102\r\nKEVYSNAP\x04\
    \x03\x00\x01\x00\x00\x00l\x02\x00\x00\x00\x01\x00\x00\x00a\x01\x00\x00\x00b\
    \x04\x00\x03\x00\x00\x00set\x02\x00\x00\x00\x02\x00\x00\x00m1\x02\x00\x00\x00m2\
    \x01\x00\x03\x00\x00\x00int\x05\x00\x00\x0012345\
    \x01\x01\x78\x8b\xad\x04\xa2\x01\x00\x00\x02\x00\x00\x00s2\x08\x00\x00\x00with-ttl\
    \x00\r\n+SNAPSHOT_END 188\r\n";

fn told() -> Vec<(&'static [u8], Vec<Heard>)> {
    let old = vec![
        Heard::Ack(None, 0),
        frame(0, &[b"SET", b"a", b"1"]),
        frame(1, &[b"INCR", b"n"]),
        frame(2, &[b"HSET", b"h", b"f1", b"v1", b"f2", b"v2"]),
    ];
    let new = vec![
        Heard::Ack(Some(6_044_966_812_509_414), 11),
        frame(11, &[b"SET", b"a", b"while-down"]),
        Heard::Ping(6_044_966_812_509_414, 12),
        frame(12, &[b"PING"]),
        Heard::Begin,
        Heard::Ping(812, 0),
        Heard::Snapshot(b"KEVYSNAP\x04\x00".to_vec()),
        Heard::Ping(812, 0),
        Heard::Snapshot(b"\r\n$".to_vec()),
        Heard::End(0),
        Heard::Ping(812, 0),
        frame(0, &[b"XADD", b"st", b"1795374959231-0", b"f", b"v"]),
    ];
    let body = SHIPPED[25..25 + 102].to_vec();
    let shipped = vec![Heard::Ack(None, 0), Heard::Begin, Heard::Snapshot(body), Heard::End(188)];
    vec![(OLD, old), (NEW, new), (SHIPPED, shipped)]
}

#[test]
fn what_was_seen_on_the_wire_is_understood_however_it_is_cut() {
    for (stream, expected) in told() {
        assert_eq!(hear(stream, &[usize::MAX], WIDE), (expected.clone(), None));
        for size in [1, 2, 3, 5, 7, 16] {
            assert_eq!(hear(stream, &[size], WIDE), (expected.clone(), None), "reads of {size}");
        }
        for cut in 1..stream.len() {
            assert_eq!(hear(stream, &[cut, usize::MAX], WIDE), (expected.clone(), None), "cut at {cut}");
        }
    }
}

#[test]
fn what_was_seen_on_the_wire_is_what_we_write() {
    let mut out = Vec::new();
    write_ack(&mut out, Some(6_044_966_812_509_414), 11);
    write_envelope(&mut out, 11);
    write_command(&mut out, &[b"SET", b"a", b"while-down"]);
    write_ping(&mut out, 6_044_966_812_509_414, 12);
    write_envelope(&mut out, 12);
    out.extend_from_slice(PLACEHOLDER);
    write_snapshot_begin(&mut out);
    write_ping(&mut out, 812, 0);
    for (piece, ping) in [(&b"KEVYSNAP\x04\x00"[..], true), (b"\r\n$", false)] {
        write_chunk_header(&mut out, piece.len());
        out.extend_from_slice(piece);
        out.extend_from_slice(CHUNK_END);
        if ping {
            write_ping(&mut out, 812, 0);
        }
    }
    write_snapshot_end(&mut out, 0);
    write_ping(&mut out, 812, 0);
    write_envelope(&mut out, 0);
    write_command(&mut out, &[b"XADD", b"st", b"1795374959231-0", b"f", b"v"]);
    assert_eq!(out.escape_ascii().to_string(), NEW.escape_ascii().to_string());
    out.clear();
    write_ack(&mut out, None, 0);
    assert_eq!(out, b"+ACK 0\r\n");
}

#[test]
fn only_what_belongs_there_is_taken() {
    let cases: &[(&[u8], u64, Wrong)] = &[
        (b"-ERR unknown command", 0, Wrong::Greeting),
        (b"+OK\r\n", 0, Wrong::Greeting),
        (b"+PING 1 2\r\n", 0, Wrong::Greeting),
        (b"*2\r\n:0\r\n", 0, Wrong::Greeting),
        (b"+ACK 1 2 3\r\n", 0, Wrong::Greeting),
        (b"+ACK\r\n", 0, Wrong::Greeting),
        (b"+ACK x\r\n", 0, Wrong::Greeting),
        (b"+ACK +1\r\n", 0, Wrong::Greeting),
        (b"+ACK 18446744073709551616\r\n", 0, Wrong::Greeting),
        (b"+ACK 1\n", 0, Wrong::Greeting),
        (b"+ACK 1\r\n+ACK 1\r\n", 8, Wrong::Line),
        (b"+ACK 1\r\n-LOADING\r\n", 8, Wrong::Line),
        (b"+ACK 1\r\n\r\n", 8, Wrong::Line),
        (b"+ACK 1\r\n$3\r\nabc\r\n", 8, Wrong::Line),
        (b"+ACK 1\r\n+SNAPSHOT_END 3\r\n", 8, Wrong::Line),
        (b"+ACK 1\r\n+SNAPSHOT\r\n+SNAPSHOT\r\n", 19, Wrong::Line),
        (b"+ACK 1\r\n+SNAPSHOT\r\n*2\r\n:0\r\n", 19, Wrong::FrameInSnapshot),
        (b"+ACK 1\r\n+SNAPSHOT\r\n$0\r\n\r\n", 19, Wrong::ChunkLength),
        (b"+ACK 1\r\n+SNAPSHOT\r\n$65537\r\n", 19, Wrong::ChunkLength),
        (b"+ACK 1\r\n+SNAPSHOT\r\n$-1\r\n", 19, Wrong::ChunkLength),
        (b"+ACK 1\r\n+SNAPSHOT\r\n$3\r\nabcd\r\n", 26, Wrong::ChunkEnd),
        (b"+ACK 1\r\n+SNAPSHOT\r\n$3\r\nabc\rd\r\n", 27, Wrong::ChunkEnd),
        (b"+ACK 1\r\n*3\r\n:0\r\n", 8, Wrong::Frame("it does not begin as an array of an offset and a command")),
        (b"+ACK 1\r\n*2\r\n:0\r\n+OK\r\n", 16, Wrong::Frame("a command that is no array")),
        (b"+ACK 1\r\n*2\r\n:0\r\n\r\n", 16, Wrong::Frame("a command that is no array")),
        (b"+ACK 1\r\n*2\r\n:0\r\n*0\r\n", 16, Wrong::Frame("an empty array")),
        (b"+ACK 1\r\n*2\r\n:0\r\n*1\r\n:5\r\n", 20, Wrong::Frame("an argument that is no bulk string")),
        (b"+ACK 1\r\n*2\r\n:-1\r\n", 8, Wrong::Frame("its offset is no number of 18 digits at most")),
        (b"+ACK 1\r\n*2\r\n:1000000000000000000\r\n", 8, Wrong::Frame("its offset is no number of 18 digits at most")),
    ];
    for (stream, at, wrong) in cases {
        for size in [usize::MAX, 1, 3] {
            let (_, error) = hear(stream, &[size], WIDE);
            let error = error.unwrap_or_else(|| panic!("{} is taken", stream.escape_ascii()));
            assert_eq!((error.at, error.wrong), (*at, *wrong), "{} in reads of {size}", stream.escape_ascii());
        }
    }
    let (_, error) = hear(b"-ERR unknown command 'REPLICATE'\r\n", &[usize::MAX], WIDE);
    assert_eq!(
        error.unwrap().to_string(),
        "at byte 0 of the link the primary said `-ERR unknown command \\'REPLICATE\\'`: a kevy primary answers `+ACK`"
    );
}

#[test]
fn a_line_has_its_bound() {
    let stream = [b"+ACK 1\r\n+", &[b'x'; 400][..]].concat();
    for size in [usize::MAX, 1, 100, 256] {
        let (heard, error) = hear(&stream, &[size], WIDE);
        assert_eq!(heard, [Heard::Ack(None, 1)]);
        assert_eq!(error.map(|error| (error.at, error.wrong)), Some((8, Wrong::LineTooLong)), "reads of {size}");
    }
}

#[test]
fn a_frame_above_the_bound_is_refused_before_it_is_gathered() {
    let mut stream = b"+ACK 0\r\n".to_vec();
    for (offset, size) in [(0, 70), (1, 71)] {
        write_envelope(&mut stream, offset);
        write_command(&mut stream, &[b"SET", b"k", &vec![b'v'; size]]);
    }
    for size in [usize::MAX, 1, 10, 150] {
        let (heard, error) = hear(&stream, &[size], 97);
        assert_eq!(heard.len(), 2, "the frame of 97 bytes is taken");
        assert!(matches!(error.unwrap().wrong, Wrong::FrameTooLarge { bytes: 98, bound: 97 }), "reads of {size}");
    }
    let claim = b"+ACK 0\r\n*2\r\n:0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000000\r\n";
    let (_, error) = hear(claim, &[usize::MAX], WIDE);
    assert!(matches!(error.unwrap().wrong, Wrong::FrameTooLarge { .. }), "of a mere claim");
}

#[test]
fn frames_stay_where_they_were_read_and_come_in_batches_without_a_gap() {
    let mut stream = Vec::new();
    for offset in (0..1000).chain(1001..1003) {
        write_envelope(&mut stream, offset);
        write_command(&mut stream, &[b"SET", b"key", b"value"]);
    }
    let mut scanner = Scanner::new(Arc::new(Table::builtin()), WIDE);
    scanner.push(Bytes::from_static(b"+ACK 0\r\n"));
    assert!(matches!(scanner.next(), Ok(Some(Event::Ack { generation: None, offset: 0 }))));
    let chunk = Bytes::from(stream);
    scanner.push(chunk.clone());
    let mut batches = Vec::new();
    while let Some(event) = scanner.next().unwrap() {
        let Event::Frames { first, frames } = event else { panic!("{event:?}") };
        assert_eq!(frames.bytes.as_ptr(), chunk.as_ptr(), "nothing was copied");
        batches.push((first, frames.frames.len()));
    }
    assert_eq!(batches, [(0, 512), (512, 488), (1001, 2)]);
}

#[test]
fn pieces_of_a_snapshot_are_not_copied() {
    let mut scanner = Scanner::new(Arc::new(Table::builtin()), WIDE);
    let mut stream = b"+ACK 0\r\n+SNAPSHOT\r\n$65536\r\n".to_vec();
    let head = stream.len();
    stream.extend_from_slice(&[7; 60_000]);
    let chunk = Bytes::from(stream);
    scanner.push(chunk.clone());
    assert!(matches!(scanner.next(), Ok(Some(Event::Ack { .. }))));
    assert!(matches!(scanner.next(), Ok(Some(Event::SnapshotBegin))));
    let Ok(Some(Event::Snapshot(piece))) = scanner.next() else { panic!("a piece") };
    assert_eq!((piece.as_ptr(), piece.len()), (chunk[head..].as_ptr(), 60_000));
    assert!(scanner.next().unwrap().is_none() && scanner.in_snapshot());
}

#[test]
fn one_wrong_byte_is_found_at_the_same_place_whatever_the_reads() {
    for (stream, _) in told() {
        for place in 0..stream.len() {
            for flaw in [0, b'\r', b'\n', b' ', b'$', b'*', b'+', b'0', b'9', 0xff] {
                let mut broken = stream.to_vec();
                broken[place] = flaw;
                let (whole, error) = hear(&broken, &[usize::MAX], 4096);
                let (pieces, error_in_pieces) = hear(&broken, &[3], 4096);
                assert_eq!(whole, pieces, "byte {place} made {flaw}");
                let places = [error, error_in_pieces].map(|error| error.map(|error| (error.at, error.wrong)));
                // How large a refused frame is, is known only as far as it has been read.
                let bare = places.map(|place| place.map(|(at, wrong)| (at, std::mem::discriminant(&wrong))));
                assert_eq!(bare[0], bare[1], "byte {place} made {flaw}");
            }
        }
    }
}

/// What a primary might say next.
#[derive(Debug, Clone)]
enum Saying {
    Ping(u64, u64),
    Frames(Vec<Vec<Vec<u8>>>),
    Snapshot(Vec<(Vec<u8>, bool)>, u64),
}

fn sayings() -> impl Strategy<Value = Vec<Saying>> {
    let command = vec(vec(any::<u8>(), 0..40), 1..12);
    vec(
        prop_oneof![
            (any::<u64>(), any::<u64>()).prop_map(|(generation, next)| Saying::Ping(generation, next)),
            vec(command, 1..30).prop_map(Saying::Frames),
            (vec((vec(any::<u8>(), 1..300), any::<bool>()), 0..6), 0..1_000_000u64)
                .prop_map(|(pieces, next)| Saying::Snapshot(pieces, next)),
        ],
        0..12,
    )
}

/// The bytes of what is said, and what should be heard.
fn conversation(sayings: &[Saying]) -> (Vec<u8>, Vec<Heard>) {
    let (mut out, mut heard, mut next) = (Vec::new(), vec![Heard::Ack(Some(3), 9)], 9u64);
    write_ack(&mut out, Some(3), 9);
    for saying in sayings {
        match saying {
            Saying::Ping(generation, next) => {
                write_ping(&mut out, *generation, *next);
                heard.push(Heard::Ping(*generation, *next));
            }
            Saying::Frames(commands) => {
                for words in commands {
                    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                    write_envelope(&mut out, next);
                    write_command(&mut out, &words);
                    heard.push(frame(next, &words));
                    next += 1;
                }
            }
            Saying::Snapshot(pieces, end) => {
                write_snapshot_begin(&mut out);
                heard.push(Heard::Begin);
                for (piece, ping) in pieces {
                    if *ping {
                        write_ping(&mut out, 1, *end);
                        heard.push(Heard::Ping(1, *end));
                    }
                    write_chunk_header(&mut out, piece.len());
                    out.extend_from_slice(piece);
                    out.extend_from_slice(CHUNK_END);
                    match heard.last_mut() {
                        Some(Heard::Snapshot(bytes)) => bytes.extend_from_slice(piece),
                        _ => heard.push(Heard::Snapshot(piece.clone())),
                    }
                }
                write_snapshot_end(&mut out, *end);
                heard.push(Heard::End(*end));
                next = *end;
            }
        }
    }
    (out, heard)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_said_is_heard(sayings in sayings(), cuts in vec(1..200usize, 1..8)) {
        let (stream, expected) = conversation(&sayings);
        prop_assert_eq!(hear(&stream, &cuts, WIDE), (expected, None));
    }

    #[test]
    fn a_flaw_is_found_alike_however_the_reads_fall(
        sayings in sayings(), place in any::<prop::sample::Index>(), byte in any::<u8>(), size in 1..50usize,
    ) {
        let (mut stream, _) = conversation(&sayings);
        let place = place.index(stream.len());
        stream[place] = byte;
        let (heard, error) = hear(&stream, &[usize::MAX], 4096);
        let (heard_in_pieces, error_in_pieces) = hear(&stream, &[size], 4096);
        prop_assert_eq!(heard, heard_in_pieces);
        prop_assert_eq!(error.map(|error| error.at), error_in_pieces.map(|error| error.at));
    }

    #[test]
    fn garbage_is_refused_or_waited_for(bytes in vec(any::<u8>(), 0..400), size in 1..50usize) {
        let stream = [b"+ACK 0\r\n", &bytes[..]].concat();
        let whole = hear(&stream, &[usize::MAX], 4096);
        let pieces = hear(&stream, &[size], 4096);
        prop_assert_eq!(whole.0, pieces.0);
        prop_assert_eq!(whole.1.is_some(), pieces.1.is_some());
    }
}
