//! What replicas say, as it was seen on the wire, and who else may come to their port.

use proptest::collection::vec;
use proptest::prelude::*;
use sluicegate_core::kevy::wire::{ACK_LINE_BYTES_MAX, write_replconf_ack, write_request};
use sluicegate_core::kevy::{AskError, Asked, Listener, Said};

const K1: &[u8] = b"*5\r\n$9\r\nREPLICATE\r\n$4\r\nFROM\r\n$1\r\n0\r\n$2\r\nID\r\n$14\r\nkevy-replica-0\r\n";
const K3: &[u8] =
    b"*6\r\n$9\r\nREPLICATE\r\n$4\r\nFROM\r\n$1\r\n0\r\n$1\r\n0\r\n$2\r\nID\r\n$19\r\nkevy-replica-7411#0\r\n";

/// All that is said in `bytes`, handed in as pieces of `size`.
fn listen(bytes: &[u8], size: usize) -> (Vec<Said>, Option<AskError>) {
    let (mut listener, mut said) = (Listener::new(), Vec::new());
    for mut piece in bytes.chunks(size) {
        loop {
            match listener.next(&mut piece) {
                Ok(Some(word)) => said.push(word),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(listener.next(&mut piece), Err(error.clone()), "an error stays");
                    return (said, Some(error));
                }
            }
        }
        assert!(piece.is_empty());
    }
    (said, None)
}

fn replicate(generation: Option<u64>, offset: u64, id: &str) -> Said {
    Said::Replicate(Asked { generation, offset, id: id.into() })
}

#[test]
fn real_replicas_are_understood_however_the_reads_fall() {
    let acks = b"REPLCONF ACK 12\r\nreplconf ack 18446744073709551615\n";
    for (request, asked) in [
        (K1, replicate(None, 0, "kevy-replica-0")),
        (K3, replicate(Some(0), 0, "kevy-replica-7411#0")),
        (b"REPLICATE FROM 0 ID x\r\n", replicate(None, 0, "x")),
        (b"replicate from 18446744073709551615 7 id  y \n", replicate(Some(u64::MAX), 7, "y")),
    ] {
        let stream = [request, acks].concat();
        let expected = vec![asked, Said::Ack(12), Said::Ack(u64::MAX)];
        for size in 1..=stream.len() {
            assert_eq!(listen(&stream, size), (expected.clone(), None), "pieces of {size}");
        }
    }
}

#[test]
fn what_we_write_as_a_replica_is_what_replicas_write() {
    let mut out = Vec::new();
    write_request(&mut out, None, 0, "kevy-replica-0");
    assert_eq!(out, K1);
    out.clear();
    write_request(&mut out, Some(0), 0, "kevy-replica-7411#0");
    assert_eq!(out, K3);
    out.clear();
    write_replconf_ack(&mut out, 12);
    assert_eq!(out, b"REPLCONF ACK 12\r\n");
}

#[test]
fn strangers_are_told_what_they_spoke() {
    let cases: &[(&[u8], &str)] = &[
        (
            b"*1\r\n$4\r\nPING\r\n",
            "it said `PING`, as Redis and Valkey replicas do, where a kevy replica says REPLICATE",
        ),
        (b"GET / HTTP/1.1\r\n", "it said `GET` where a kevy replica says REPLICATE"),
        (b"\x16\x03\x01\x02\x00", "it said `\\x16\\x03\\x01\\x02\\x00`, and no kevy replica begins like that"),
        (b"\r\n", "it said ``, and no kevy replica begins like that"),
        (b"*0\r\n", "it said `*0`, and no kevy replica begins like that"),
        (b"REPLICATE FROM 0\r\n", "REPLICATE has 5 or 6 words, and it said 3"),
        (b"REPLICATE TO 0 ID x\r\n", "REPLICATE has `TO` where FROM has to stand"),
        (b"REPLICATE FROM 0 AS x\r\n", "REPLICATE has `AS` where ID has to stand"),
        (b"REPLICATE FROM -1 ID x\r\n", "REPLICATE has `-1` where an offset has to stand"),
        (b"REPLICATE FROM +1 1 ID x\r\n", "REPLICATE has `+1` where a generation has to stand"),
        (
            b"REPLICATE FROM 18446744073709551616 ID x\r\n",
            "REPLICATE has `18446744073709551616` where an offset has to stand",
        ),
        (
            b"*5\r\n$9\r\nREPLICATE\r\n$4\r\nFROM\r\n$1\r\n0\r\n$2\r\nID\r\n$0\r\n\r\n",
            "REPLICATE names the replica ``, which is no text",
        ),
        (b"REPLICATE FROM 0 ID \xff\r\n", "REPLICATE names the replica `\\xff`, which is no text"),
    ];
    for (bytes, expected) in cases {
        let (said, error) = listen(bytes, usize::MAX);
        assert_eq!((said, error.map(|error| error.to_string())), (Vec::new(), Some((*expected).to_owned())));
        let error = listen(bytes, 1).1;
        assert!(error.is_some(), "also a byte at a time");
    }
}

#[test]
fn lines_have_their_bounds() {
    for (stream, expected) in [
        ([b"REPLICATE", &[b' '; 5000][..]].concat(), AskError::TooLong),
        ([b"*2\r\n$9\r\nREPLICATE\r\n$4090\r\n", &[b' '; 5000][..]].concat(), AskError::TooLong),
        ([b"*5\r\n", b"$1\r\nx\r\n".repeat(3).as_slice(), b"$9999\r\n"].concat(), AskError::TooLong),
        ([K1, &vec![b'x'; ACK_LINE_BYTES_MAX]].concat(), AskError::LineTooLong),
    ] {
        for size in [1, 100, 4096, usize::MAX] {
            assert_eq!(listen(&stream, size).1, Some(expected.clone()), "pieces of {size}");
        }
    }
    let stream = [K1, &vec![b'x'; ACK_LINE_BYTES_MAX - 1], b"\n"].concat();
    assert!(matches!(listen(&stream, 1000).0.last(), Some(Said::Unknown(_))));
}

#[test]
fn a_line_that_is_no_acknowledgement_is_reported_and_passed_over() {
    let stream = [K3, b"HELLO\x1b[31m\r\nREPLCONF ACK x\r\nREPLCONF ACK 3\r\n"].concat();
    let expected = vec![
        replicate(Some(0), 0, "kevy-replica-7411#0"),
        Said::Unknown("HELLO\\x1b[31m".into()),
        Said::Unknown("REPLCONF ACK x".into()),
        Said::Ack(3),
    ];
    assert_eq!(listen(&stream, usize::MAX), (expected, None));
}

proptest! {
    #[test]
    fn any_handshake_is_read_back(
        generation in any::<Option<u64>>(), offset in any::<u64>(), id in "[^\u{0}]{1,60}", size in 1..100usize,
    ) {
        let mut out = Vec::new();
        write_request(&mut out, generation, offset, &id);
        write_replconf_ack(&mut out, offset);
        let expected = vec![replicate(generation, offset, &id), Said::Ack(offset)];
        prop_assert_eq!(listen(&out, size), (expected, None));
    }

    #[test]
    fn garbage_never_hurts(
        request in any::<bool>(), bytes in vec(any::<u8>(), 0..300), place in any::<prop::sample::Index>(), size in 1..50usize,
    ) {
        let mut stream = if request { K3.to_vec() } else { b"REPLICATE FROM 0 ID x\r\n".to_vec() };
        let place = place.index(stream.len());
        stream.splice(place.., bytes);
        let (whole, _) = listen(&stream, usize::MAX);
        let (pieces, _) = listen(&stream, size);
        prop_assert_eq!(whole, pieces);
    }
}
