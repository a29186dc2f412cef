//! Replies by themselves: nested, bounded, in every split.

use proptest::prelude::*;
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::resp::reply::{Bounds, Item, Reader, Reply, ReplyError, Scanner};

use crate::support::bulk;

/// As COMMAND needs it.
const WIDE: Bounds = Bounds { depth: 8, values: 100_000, bulk_bytes: 64 * 1024, bytes: 1024 * 1024 };

fn one(bytes: &[u8], bounds: Bounds) -> Result<Option<Reply>, ReplyError> {
    let mut input = bytes;
    let reply = Reader::new(bounds).next(&mut input);
    if matches!(reply, Ok(Some(_))) {
        assert!(input.is_empty(), "{} bytes are left", input.len());
    }
    reply
}

fn simple(text: &str) -> Reply {
    Reply::Simple(text.to_owned().into())
}

fn text(text: &str) -> Reply {
    Reply::Bulk(text.to_owned().into())
}

fn write(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Simple(text) => out.extend([b"+", &text[..], b"\r\n"].concat()),
        Reply::Error(text) => out.extend([b"-", &text[..], b"\r\n"].concat()),
        Reply::Integer(number) => out.extend(format!(":{number}\r\n").bytes()),
        Reply::Bulk(bytes) => out.extend(bulk(bytes)),
        Reply::Null => out.extend(b"$-1\r\n"),
        Reply::Array(members) => {
            out.extend(format!("*{}\r\n", members.len()).bytes());
            members.iter().for_each(|member| write(member, out));
        }
    }
}

#[test]
fn every_kind_is_read() {
    for (bytes, reply) in [
        (&b"+OK\r\n"[..], simple("OK")),
        (b"-ERR no\r\n", Reply::Error("ERR no".into())),
        (b":-42\r\n", Reply::Integer(-42)),
        (b"$-1\r\n", Reply::Null),
        (b"*-1\r\n", Reply::Null),
        (b"$0\r\n\r\n", text("")),
        (b"$3\r\n\r\n\n\r\n", text("\r\n\n")),
        (b"*0\r\n", Reply::Array(vec![])),
        (b"*2\r\n*1\r\n*0\r\n:1\r\n", Reply::Array(vec![Reply::Array(vec![Reply::Array(vec![])]), Reply::Integer(1)])),
    ] {
        assert_eq!(one(bytes, WIDE), Ok(Some(reply)), "{}", bytes.escape_ascii());
    }
}

#[test]
fn what_servers_say_of_their_commands_is_read() {
    let old = one(include_bytes!("../golden/command-redis-6.2.reply"), WIDE).unwrap().unwrap();
    let new = one(include_bytes!("../golden/command-redis-8.2.reply"), WIDE).unwrap().unwrap();
    for (reply, members) in [(old, 7), (new, 10)] {
        let Reply::Array(commands) = reply else { panic!() };
        let [Reply::Array(get), Reply::Array(xadd), Reply::Null] = commands.as_slice() else { panic!("{commands:?}") };
        assert_eq!((&get[0], &get[1], &xadd[0]), (&text("get"), &Reply::Integer(2), &text("xadd")));
        assert_eq!(get.len(), members);
    }
}

#[test]
fn what_is_not_resp_is_a_fault_of_the_upstream() {
    for bytes in [
        &b"\r\n"[..],
        b"\n",
        b"OK\r\n",
        b"+OK\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"$\r\n",
        b"*1x\r\n",
        b":\r\n",
        b":1.5\r\n",
        b"_\r\n",
        b"$1\r\nab\r\n",
        b"$1\r\na\n\n",
        b"$1\r\na\rx",
        b"$99999999999999999999\r\n",
        b"%1\r\n",
    ] {
        let error = one(bytes, WIDE).unwrap_err();
        assert!(matches!(error, ReplyError::Malformed(_)), "{}: {error}", bytes.escape_ascii());
        assert_eq!(Fault::from(error).whose, Party::Upstream);
    }
    let endless = [b"+".to_vec(), vec![b'a'; 2000]].concat();
    assert!(one(&endless, WIDE).is_err(), "a line without an end is not kept");
}

#[test]
fn bounds_hold_as_soon_as_a_length_is_announced() {
    let bounds = Bounds { depth: 2, values: 4, bulk_bytes: 10, bytes: 15 };
    for (bytes, fits) in [
        (&b"$10\r\n"[..], true),
        (b"$11\r\n", false),
        (b"$9223372036854775807\r\n", false),
        (b"*4\r\n", true),
        (b"*5\r\n", false),
        (b"*4000000000\r\n", false),
        (b"*2\r\n*2\r\n", true),
        (b"*2\r\n*3\r\n", false),
        (b"*1\r\n*1\r\n:1\r\n", true),
        (b"*1\r\n*1\r\n*1\r\n", false),
        (b"*2\r\n$10\r\n0123456789\r\n$5\r\n", true),
        (b"*2\r\n$10\r\n0123456789\r\n$6\r\n", false),
        (b"*2\r\n$10\r\n0123456789\r\n+sixsix\r\n", false),
    ] {
        let read = one(bytes, bounds);
        assert_eq!(!matches!(read, Err(ReplyError::TooLarge { .. })), fits, "{}: {read:?}", bytes.escape_ascii());
    }
}

#[test]
fn a_bound_is_that_of_one_reply_and_replies_follow_each_other() {
    let mut reader = Reader::new(Bounds { depth: 1, values: 1, bulk_bytes: 4, bytes: 4 });
    let mut input = &b"*1\r\n$4\r\nabcd\r\n*1\r\n$4\r\nefgh\r\n:7\r\n"[..];
    for expected in [Reply::Array(vec![text("abcd")]), Reply::Array(vec![text("efgh")]), Reply::Integer(7)] {
        assert_eq!(reader.next(&mut input), Ok(Some(expected)));
    }
    assert_eq!(reader.next(&mut input), Ok(None));
}

#[test]
fn a_skipping_reader_keeps_no_bytes() {
    let reply = bulk(&[7; 100_000]);
    let (mut scanner, mut seen) = (Scanner::default(), 0);
    for mut piece in reply.chunks(999) {
        while let Some(item) = scanner.next(&mut piece).unwrap() {
            match item {
                Item::Bulk(length) => assert_eq!(length, 100_000),
                Item::Part(part) => seen += part.len(),
                Item::End => assert_eq!(seen, 100_000),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(seen, 100_000);
}

#[test]
fn a_large_bulk_of_many_reads_takes_no_more_memory_than_it_has_bytes() {
    let size = 5_000_001;
    let reply = bulk(&vec![b'x'; size]);
    let mut reader = Reader::new(Bounds { bulk_bytes: size, bytes: size, ..WIDE });
    let mut whole = None;
    for mut piece in reply.chunks(1_460) {
        whole = reader.next(&mut piece).unwrap();
    }
    let Some(Reply::Bulk(bytes)) = whole else { panic!() };
    let memory: Vec<u8> = bytes.into();
    assert_eq!((memory.len(), memory.capacity()), (size, size));
}

#[test]
fn the_deepest_nesting_is_read_and_dropped() {
    let bytes = [b"*1\r\n".repeat(WIDE.depth), b":1\r\n".to_vec()].concat();
    assert!(one(&bytes, WIDE).unwrap().is_some());
    assert!(one(&b"*1\r\n".repeat(1_000_000), WIDE).is_err());
}

fn replies() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        "[a-z ]{0,20}".prop_map(|text| Reply::Simple(text.into())),
        "[A-Z]{1,20}".prop_map(|text| Reply::Error(text.into())),
        (-i64::MAX..i64::MAX).prop_map(Reply::Integer),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| Reply::Bulk(bytes.into())),
        Just(Reply::Null),
    ];
    leaf.prop_recursive(6, 100, 8, |inner| prop::collection::vec(inner, 0..8).prop_map(Reply::Array))
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_any_pieces(reply in replies(), sizes in prop::collection::vec(1usize..40, 1..20)) {
        let mut bytes = Vec::new();
        write(&reply, &mut bytes);
        let mut reader = Reader::new(WIDE);
        let (mut rest, mut sizes, mut read) = (&bytes[..], sizes.into_iter().cycle(), None);
        while !rest.is_empty() {
            prop_assert_eq!(&read, &None, "nothing is told before the end");
            let (mut piece, tail) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            read = reader.next(&mut piece).unwrap();
            prop_assert!(piece.is_empty());
            rest = tail;
        }
        prop_assert_eq!(read, Some(reply));
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b':'), Just(b'\r'),
        Just(b'\n'), Just(b'1'), Just(b'-'), any::<u8>()], 0..400)) {
        let (mut reader, mut input) = (Reader::new(WIDE), &noise[..]);
        while let Ok(Some(_)) = reader.next(&mut input) {}
    }
}
