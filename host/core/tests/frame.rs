//! Stories about frames: whatever the reads, the same commands stand at the same offsets.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use sluicegate_core::command::{CommandId, Table};
use sluicegate_core::frame::{Scanned, Scanner, StreamError};
use sluicegate_core::resp::write_command;

/// Where the streams of these tests begin.
const ORIGIN: u64 = 1000;
/// A bound that no frame of most tests reaches.
const WIDE: usize = 1 << 20;

/// What a scanner made of one piece of the stream.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Frame { start: u64, bytes: Vec<u8>, args: Vec<Vec<u8>>, command: Option<CommandId>, name: Vec<u8>, key: Vec<u8> },
    Oversized { start: u64 },
}

impl Piece {
    fn start(&self) -> u64 {
        match self {
            Self::Frame { start, .. } | Self::Oversized { start } => *start,
        }
    }
}

/// Scans `stream`, handed in as chunks of the sizes that `cuts` goes through again and again.
fn scan(stream: &[u8], cuts: &[usize], bound: usize) -> (Vec<Piece>, Option<StreamError>, u64) {
    let mut scanner = Scanner::new(Arc::new(Table::builtin()), ORIGIN, bound);
    let (mut pieces, mut spans, mut at) = (Vec::new(), Vec::new(), 0);
    let mut sizes = cuts.iter().cycle();
    while at < stream.len() {
        let end = (at + sizes.next().copied().unwrap_or(stream.len()).max(1)).min(stream.len());
        scanner.push(Bytes::copy_from_slice(&stream[at..end]));
        at = end;
        loop {
            match scanner.next() {
                Ok(Some(Scanned::Frames(frames))) => {
                    for frame in frames.frames {
                        let args = frames.args(frame, &mut spans);
                        assert_eq!(args.len(), frame.argc as usize);
                        pieces.push(Piece::Frame {
                            start: frames.offset + u64::from(frame.start),
                            bytes: frames.bytes_of(frame).to_vec(),
                            args: args.iter_from(0).map(<[u8]>::to_vec).collect(),
                            command: frame.command,
                            name: frames.span(frame.name).to_vec(),
                            key: frames.span(frame.key).to_vec(),
                        });
                    }
                }
                Ok(Some(Scanned::Oversized { offset, bytes })) => {
                    assert!(bytes > bound as u64, "{bytes} bytes are within the bound");
                    pieces.push(Piece::Oversized { start: offset });
                }
                Ok(None) => break,
                Err(error) => return (pieces, Some(error), scanner.frame_end()),
            }
        }
    }
    (pieces, None, scanner.frame_end())
}

/// One frame, as a person would read it: the arguments and the bytes it takes. Empty lines have no argument.
fn read_simply(stream: &[u8]) -> Vec<(usize, Vec<Vec<u8>>)> {
    fn line(stream: &[u8], at: &mut usize) -> usize {
        let end = *at + stream[*at..].windows(2).position(|pair| pair == b"\r\n").unwrap();
        let number = std::str::from_utf8(&stream[*at + 1..end]).unwrap().parse().unwrap();
        *at = end + 2;
        number
    }
    let (mut frames, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        let start = at;
        let mut args = Vec::new();
        match stream[at] {
            b'\n' => at += 1,
            b'\r' => at += 2,
            _ => {
                for _ in 0..line(stream, &mut at) {
                    let length = line(stream, &mut at);
                    args.push(stream[at..at + length].to_vec());
                    at += length + 2;
                }
            }
        }
        frames.push((start, args));
    }
    frames
}

fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    write_command(&mut out, args);
    out
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"*1\r\n$4\r\nPING\r\n".to_vec()),
        Just(Vec::new()),
        vec(any::<u8>(), 0..40),
    ]
}

/// The bytes of one frame, or of an empty line.
fn frame_bytes() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just(&b"set"[..]),
        Just(&b"SET"[..]),
        Just(&b"XGROUP"[..]),
        Just(&b"PING"[..]),
        Just(&b"nobody-knows-me"[..]),
        Just(&b""[..]),
    ];
    let whole = (name, vec(word(), 0..6)).prop_map(|(name, words)| {
        let args: Vec<&[u8]> = std::iter::once(name).chain(words.iter().map(Vec::as_slice)).collect();
        command(&args)
    });
    prop_oneof![8 => whole, 1 => Just(b"\n".to_vec()), 1 => Just(b"\r\n".to_vec())]
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), vec(1usize..9, 1..5), vec(1usize..200, 1..5), vec(1usize..5000, 1..5)]
}

proptest! {
    #[test]
    fn every_chunking_finds_the_same_frames(frames in vec(frame_bytes(), 1..40), cuts in cuts()) {
        let stream = frames.concat();
        let (whole, error, end) = scan(&stream, &[stream.len()], WIDE);
        prop_assert_eq!(error, None);
        prop_assert_eq!(end, ORIGIN + stream.len() as u64);
        prop_assert_eq!(scan(&stream, &cuts, WIDE), (whole.clone(), None, end));
        let read: Vec<_> = read_simply(&stream);
        prop_assert_eq!(whole.len(), read.len());
        for (piece, (at, args)) in whole.iter().zip(read) {
            let Piece::Frame { start, args: found, name, key, .. } = piece else { panic!("{piece:?}") };
            prop_assert_eq!((*start, found), (ORIGIN + at as u64, &args));
            prop_assert_eq!(name, &args.first().cloned().unwrap_or_default());
            prop_assert_eq!(key, &args.get(1).cloned().unwrap_or_default());
        }
    }

    #[test]
    fn a_frame_above_the_bound_is_told_once_and_skipped(
        frames in vec((frame_bytes(), any::<bool>()), 1..12),
        large in vec(any::<u8>(), 300..900),
        cuts in cuts(),
    ) {
        const BOUND: usize = 400;
        let stream: Vec<Vec<u8>> = frames.into_iter().flat_map(|(frame, add)| {
            let big = add.then(|| command(&[b"APPEND", b"key", &large]));
            std::iter::once(frame).chain(big)
        }).collect();
        let mut at = ORIGIN;
        let mut expected = Vec::new();
        for frame in &stream {
            expected.push((at, frame.len() > BOUND));
            at += frame.len() as u64;
        }
        let stream = stream.concat();
        let (pieces, error, end) = scan(&stream, &cuts, BOUND);
        prop_assert_eq!(error, None);
        prop_assert_eq!(end, at);
        let found: Vec<_> = pieces.iter().map(|piece| (piece.start(), matches!(piece, Piece::Oversized { .. }))).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn garbage_is_told_where_it_stands(frames in vec(frame_bytes(), 0..6), cuts in cuts()) {
        let sound = frames.concat();
        let faults: [(&[u8], u64); 10] = [
            (b"PING\r\n", 0),
            (b"*0\r\n", 0),
            (b"*-1\r\n", 1),
            (b"*x", 1),
            (b"*1\r\n+OK\r\n", 4),
            (b"*1\r\n$-1\r\n", 5),
            (b"*1\r\n$1\r\nabc\r\n", 9),
            (b"*1\r \n", 3),
            (b"\rx", 1),
            (b"*99999999999999999999\r\n", 19),
        ];
        for (fault, at) in faults {
            let stream = [&sound[..], fault].concat();
            let (pieces, error, end) = scan(&stream, &cuts, WIDE);
            prop_assert_eq!(error.map(|error| error.offset), Some(ORIGIN + sound.len() as u64 + at), "{}", fault.escape_ascii());
            prop_assert_eq!(end, ORIGIN + sound.len() as u64, "what stands before it is sound");
            prop_assert_eq!(pieces.len(), read_simply(&sound).len());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_always_read_alike(
        stream in vec(prop_oneof![
            3 => Just(b'*'), 3 => Just(b'$'), 3 => Just(b'\r'), 3 => Just(b'\n'), 4 => b'0'..=b'3', 1 => any::<u8>()
        ], 1..200),
        cuts in cuts(),
    ) {
        prop_assert_eq!(scan(&stream, &[stream.len()], WIDE), scan(&stream, &cuts, WIDE));
        // With a small bound only what is read, not how much of it is told, may differ.
        let _ = scan(&stream, &cuts, 64);
    }
}

#[test]
fn a_claim_costs_nothing_until_its_bytes_come() {
    for claim in [&b"*2147483647\r\n"[..], b"*2\r\n$1000000000000\r\n", b"*1\r\n$1099511627776\r\nx"] {
        let (pieces, error, end) = scan(claim, &[1], WIDE);
        assert!(error.is_none(), "{}", claim.escape_ascii());
        assert_eq!(end, ORIGIN);
        assert!(pieces.len() <= 1, "at most the news that it is too large");
    }
}

#[test]
fn the_bound_itself_still_fits() {
    let frame = command(&[b"SET", b"k", &[b'v'; 100]]);
    for cuts in [&[1][..], &[7], &[frame.len()], &[10 * frame.len()]] {
        let stream = [&frame[..], &frame].concat();
        assert_eq!(scan(&stream, cuts, frame.len()).0.len(), 2);
        let (over, _, end) = scan(&stream, cuts, frame.len() - 1);
        let offsets = [ORIGIN, ORIGIN + frame.len() as u64];
        assert_eq!(over, offsets.map(|start| Piece::Oversized { start }), "chunks of {cuts:?}");
        assert_eq!(end, ORIGIN + stream.len() as u64);
    }
}

#[test]
fn the_end_of_frames_stays_before_one_that_is_not_whole() {
    let (first, second) = (command(&[b"SET", b"a", b"1"]), command(&[b"SET", b"b", b"2"]));
    let stream = [&first[..], &second].concat();
    for len in 0..stream.len() {
        let (_, _, end) = scan(&stream[..len], &[3], WIDE);
        let whole = if len < first.len() { 0 } else { first.len() };
        assert_eq!(end, ORIGIN + whole as u64, "{len} bytes read");
    }
}
