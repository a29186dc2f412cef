//! Every damage to a snapshot on its way here, at every byte of a small one, in both framings.
//!
//! After each of them: the fault has a name and a party, no byte of what came is given to anyone, not even to a replica that
//! asked in the middle of it, and the next whole snapshot is taken and served as it is.

use sluicegate_core::contract::LinkId;
use sluicegate_core::rdb::{Crc64, Family, write};
use sluicegate_core::settings::ViewSettings;
use sluicegate_core::view::State;

use crate::rig::{A, B, Filter, Rig, frame, snapshot};

const MARK: &str = "0123456789012345678901234567890123456789";
const OFFSET: u64 = 9;

/// A key whose value is the mark: whoever searches for the end finds it here.
const BAIT: &[u8] = b"bait";

/// A part of each kind that a walk takes in another way, without the checksum.
fn body() -> Vec<u8> {
    let mut out = Vec::new();
    write::write_magic(&mut out, Family::Redis, 11);
    write::write_aux(&mut out, b"redis-ver", b"7.2.4");
    write::write_aux(&mut out, b"repl-stream-db", b"0");
    write::write_function(&mut out, b"#!lua name=one\nreturn 1");
    write::write_select(&mut out, 0);
    out.extend_from_slice(&[0xfb, 4, 1]);
    write::write_expiry(&mut out, 1_900_000_000_000);
    write::write_string_key(&mut out, b"a", b"1");
    write::write_string_key(&mut out, BAIT, MARK.as_bytes());
    // A list of two, a set in one piece, a name and a value that are packed.
    out.extend_from_slice(b"\x01\x01l\x02\x01x\x02yy\x14\x01s\x041234");
    out.extend_from_slice(b"\x00\xc3\x04\x05\x00k\x40\x00\xc2\x07\x07\x07\x07");
    // A stream without entries or groups.
    out.extend_from_slice(b"\xfe\x02\x0f\x01t\x00\x00\x00\x00\x00");
    out
}

fn whole() -> Vec<u8> {
    let mut out = body();
    write::write_end(&mut out);
    out
}

/// With the checksum that stands for "not computed".
fn unsummed() -> Vec<u8> {
    [&body(), &[0xff][..], &[0; 8]].concat()
}

/// How the primary says where the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framed {
    Length,
    Mark,
}

const FRAMINGS: [Framed; 2] = [Framed::Length, Framed::Mark];

impl Framed {
    /// The header, the snapshot, and what stands behind it. What is damaged has kept its length.
    fn bytes(self, rdb: &[u8]) -> Vec<u8> {
        match self {
            Self::Length => [format!("${}\r\n", rdb.len()).as_bytes(), rdb].concat(),
            Self::Mark => [format!("$EOF:{MARK}\r\n").as_bytes(), rdb, MARK.as_bytes()].concat(),
        }
    }
}

/// What became of what the primary sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is the snapshot that new replicas get.
    Taken,
    /// It was refused as it came.
    Refused,
    /// It was waited for until the link was lost.
    Lost,
}

/// A machine with a relaying and a filtering view, whose primary has promised a snapshot.
fn promised() -> Rig {
    let views = vec![ViewSettings::new("all"), ViewSettings::new("some")];
    let mut rig = Rig::new(views, vec![None, Some(Box::new(Filter))]);
    rig.introduce("");
    rig.up(format!("+FULLRESYNC {A} {OFFSET}\r\n"));
    rig.told_up();
    rig
}

/// Gives `bytes` in pieces of `size` to a machine that was promised a snapshot, then cuts the link unless that is closed or the
/// snapshot was taken; checks all that must hold.
fn play(what: &str, bytes: &[u8], size: usize) -> End {
    let mut rig = promised();
    let early = ask(&mut rig, what);
    for piece in bytes.chunks(size) {
        if rig.up_link().is_some() {
            rig.up(piece);
        }
    }
    let live = rig.machine.views()[0].state() == &State::Live;
    let end = match (live, rig.up_link()) {
        (true, _) => End::Taken,
        (false, None) => End::Refused,
        (false, Some(_)) => End::Lost,
    };
    match end {
        End::Taken => {
            assert!(rig.told_up().starts_with(&frame(&format!("REPLCONF ACK {OFFSET}"))), "{what}");
            served(&mut rig, what, bytes);
        }
        End::Refused => named(&mut rig, what),
        End::Lost => {
            assert_eq!(rig.told_up(), b"", "{what}: nothing was acknowledged");
            rig.cut();
            assert!(rig.noted("upstream-lost").is_some(), "{what}");
        }
    }
    if end != End::Taken {
        for view in rig.machine.views() {
            assert_eq!(view.state(), &State::Waiting, "{what}");
        }
        ask(&mut rig, what);
        recover(&mut rig, what);
    }
    assert!(rig.closed.contains(&early[0]) && rig.closed.contains(&early[1]), "{what}: who was refused is sent away");
    end
}

/// Whose fault it is was told, and that something follows.
fn named(rig: &mut Rig, what: &str) {
    let failed = rig.noted("upstream-failed").unwrap_or_else(|| panic!("{what}: no fault was told"));
    assert!(failed.starts_with("upstream: ") && failed.contains("next attempt in"), "{what}: {failed}");
    assert_eq!(rig.told_up(), b"", "{what}: nothing was acknowledged");
}

/// A replica of the relaying view gets the snapshot out of `bytes`, whole and as it came.
fn served(rig: &mut Rig, what: &str, bytes: &[u8]) {
    let (_, got) = rig.replica(0);
    let Some(got) = got.strip_prefix(format!("+FULLRESYNC {A} {OFFSET}\r\n$").as_bytes()) else {
        // A damaged version makes the primary look old: then every view has a history of its own.
        assert!(!rig.machine.views()[0].relays() && got.starts_with(b"+FULLRESYNC"), "{what}: {}", got.escape_ascii());
        return;
    };
    let behind_line = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (got, sent) = (&got[behind_line(got)..], &bytes[behind_line(bytes)..]);
    assert!(got == sent.strip_suffix(MARK.as_bytes()).unwrap_or(sent), "{what}: {}", got.escape_ascii());
}

/// A replica asks each view, and is given nothing.
fn ask(rig: &mut Rig, what: &str) -> [LinkId; 2] {
    let asked = [0, 1].map(|view| {
        let (link, got) = rig.replica(view);
        assert!(got.starts_with(b"-NOMASTERLINK"), "{what}: {}", got.escape_ascii());
        link
    });
    assert!(rig.ships.is_empty(), "{what}: {:?}", rig.ships);
    asked
}

/// The primary comes back with a whole snapshot of another history: that is what replicas get, and nothing else.
fn recover(rig: &mut Rig, what: &str) {
    rig.attach(B, 70);
    let (_, got) = rig.replica(0);
    let good = snapshot("7.2.4");
    let expected = [format!("+FULLRESYNC {B} 70\r\n${}\r\n", good.len()).as_bytes(), &good].concat();
    assert_eq!(got, expected, "{what}");
    let (_, got) = rig.replica(1);
    assert!(got.starts_with(b"+FULLRESYNC"), "{what}");
}

/// Plays it in one read and in small ones: that makes no difference.
fn damaged(what: &str, bytes: &[u8]) -> End {
    let [whole, pieces] = [usize::MAX, 7].map(|size| play(what, bytes, size));
    assert_eq!(whole, pieces, "{what}: it depends on the reads");
    whole
}

#[test]
fn what_is_whole_is_taken() {
    for framed in FRAMINGS {
        for rdb in [whole(), unsummed()] {
            for size in 1..40 {
                assert_eq!(play("whole", &framed.bytes(&rdb), size), End::Taken, "{framed:?}");
            }
        }
    }
}

#[test]
fn a_snapshot_that_is_cut_off_anywhere_is_not_taken() {
    for framed in FRAMINGS {
        let bytes = framed.bytes(&whole());
        for end in 0..bytes.len() {
            assert_eq!(damaged(&format!("{framed:?}, cut at {end}"), &bytes[..end]), End::Lost);
        }
    }
}

#[test]
fn a_bit_that_is_flipped_anywhere_is_seen() {
    for framed in FRAMINGS {
        let (good, mut refused) = (whole(), 0);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let end = damaged(&format!("{framed:?}, bit {bit}"), &framed.bytes(&bad));
            assert_ne!(end, End::Taken, "{framed:?}, bit {bit}");
            // A string that has become longer than all that is left is waited for, where no length says that nothing comes.
            assert!(end == End::Refused || framed == Framed::Mark, "{framed:?}, bit {bit}");
            refused += usize::from(end == End::Refused);
        }
        assert!(refused > good.len() * 7, "{framed:?}: {refused} of {} are refused at once", good.len() * 8);
    }
}

#[test]
fn a_byte_that_is_any_other_is_seen() {
    let good = whole();
    for at in 0..good.len() {
        // Zero, the end's opcode, a length in eight bytes, a packed string: what means most in most places.
        for byte in [0x00, 0xff, 0x81, 0xc3] {
            let mut bad = good.clone();
            bad[at] = byte;
            let end = play(&format!("byte {at} is {byte}"), &Framed::Length.bytes(&bad), usize::MAX);
            assert_eq!(end == End::Taken, bad == good, "byte {at} is {byte}");
        }
    }
}

#[test]
fn any_wrong_checksum_is_refused_and_none_is_none() {
    let (body, good) = (body(), whole());
    let right = Crc64::of(&good[..good.len() - 8]);
    assert_eq!(right.to_le_bytes(), good[good.len() - 8..]);
    for wrong in [1, u64::MAX, !right, right.swap_bytes(), right.rotate_left(8), Crc64::of(&body)] {
        let bad = [&good[..good.len() - 8], &wrong.to_le_bytes()].concat();
        for framed in FRAMINGS {
            assert_eq!(damaged(&format!("{framed:?}, checksum {wrong:x}"), &framed.bytes(&bad)), End::Refused);
        }
    }
}

/// Without a checksum only the shape can be wrong. What is taken then is served to the byte; what is not, not at all.
#[test]
fn without_a_checksum_a_broken_shape_is_still_seen() {
    let good = unsummed();
    for framed in FRAMINGS {
        let mut ends = [0; 3];
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let end = damaged(&format!("{framed:?}, no checksum, bit {bit}"), &framed.bytes(&bad));
            ends[end as usize] += 1;
            // The checksum itself is no longer the one that stands for none.
            assert!(end == End::Refused || bit / 8 < good.len() - 8, "{framed:?}, no checksum, bit {bit}");
        }
        assert!(ends[End::Refused as usize] > good.len(), "{framed:?}: {ends:?}");
        assert!(ends[End::Taken as usize] > good.len(), "{framed:?}: {ends:?}");
    }
}

#[test]
fn a_length_that_is_too_short_is_refused_wherever_it_ends() {
    let good = whole();
    for length in 1..good.len() {
        let bytes = [format!("${length}\r\n").as_bytes(), &good].concat();
        assert_eq!(damaged(&format!("a length of {length}"), &bytes), End::Refused);
    }
}

#[test]
fn a_length_that_is_too_long_is_refused_as_soon_as_more_comes() {
    let good = whole();
    let ping = frame("PING");
    let mut length = good.len() as u64 + 1;
    while length < u64::MAX / 3 {
        let header = format!("${length}\r\n");
        // The stream follows, or nothing does: the snapshot is at its end, and more is promised.
        let bytes = [header.as_bytes(), &good, &ping].concat();
        assert_eq!(damaged(&format!("a length of {length}, a stream"), &bytes), End::Refused);
        assert_eq!(damaged(&format!("a length of {length}"), &bytes[..bytes.len() - ping.len()]), End::Lost);
        length = length * 3 / 2 + 1;
    }
}

#[test]
fn a_header_that_says_nothing_is_refused() {
    let lengths = [
        "",
        "0",
        "-1",
        "-5",
        "+5",
        " 5",
        "5 ",
        "1e3",
        "0x20",
        "abc",
        "18446744073709551616",
        "99999999999999999999999",
    ];
    let marks = [MARK[1..].to_owned(), format!("{MARK}0"), String::new(), format!(" {}", &MARK[1..])];
    let headers = lengths.iter().map(|length| format!("${length}"));
    let headers = headers.chain(marks[..3].iter().map(|mark| format!("$EOF:{mark}")));
    let headers = headers
        .chain(["*1", "+OK", ":5", "-ERR no memory for a child", "$EOF", "$eof:x", "REDIS0011"].map(String::from));
    let good = whole();
    for header in headers {
        let bytes = [format!("{header}\r\n").as_bytes(), &good].concat();
        assert_eq!(damaged(&format!("the header {header:?}"), &bytes), End::Refused);
    }
    // A mark may be any forty bytes, and then those have to follow.
    let odd = [format!("$EOF:{}\r\n", marks[3]).as_bytes(), &good, MARK.as_bytes()].concat();
    assert_eq!(damaged("another mark in the header", &odd), End::Refused);
}

#[test]
fn a_mark_with_any_other_byte_is_refused() {
    let bytes = Framed::Mark.bytes(&whole());
    for at in bytes.len() - MARK.len()..bytes.len() {
        for byte in [b'x', bytes[at] ^ 1, 0, b'*'] {
            let mut bad = bytes.clone();
            bad[at] = byte;
            assert_eq!(damaged(&format!("byte {at} of the mark is {byte}"), &bad), End::Refused);
        }
    }
}

#[test]
fn anything_between_or_behind_snapshot_and_mark_is_refused() {
    let good = whole();
    for extra in [&b"\n"[..], b"x", b"*1\r\n$4\r\nPING\r\n", &good, MARK.as_bytes(), &[0; 300]] {
        let what = format!("{} bytes", extra.len());
        let sized = [format!("${}\r\n", good.len() + extra.len()).as_bytes(), &good, extra].concat();
        assert_eq!(damaged(&format!("{what} within the length"), &sized), End::Refused);
        let behind = [&Framed::Mark.bytes(&good), extra].concat();
        let end = play(&format!("{what} behind the mark"), &behind, usize::MAX);
        assert_eq!(
            end,
            End::Refused,
            "{what} behind the mark: a primary is silent there until it hears that all has come"
        );
        // Two marks are one and something behind it.
        if extra != MARK.as_bytes() {
            let between = [format!("$EOF:{MARK}\r\n").as_bytes(), &good, extra, MARK.as_bytes()].concat();
            assert_eq!(damaged(&format!("{what} before the mark"), &between), End::Refused);
        }
    }
}

#[test]
fn a_mark_inside_a_value_ends_nothing() {
    let good = whole();
    let bait = good.windows(MARK.len()).position(|window| window == MARK.as_bytes()).expect("the bait") + MARK.len();
    let bytes = [format!("$EOF:{MARK}\r\n").as_bytes(), &good].concat();
    let header = bytes.len() - good.len();
    // Whoever searched would be at the end now, and would take what follows for the stream, or for nothing.
    assert_eq!(damaged("cut behind the bait", &bytes[..header + bait]), End::Lost);
    let streamed = [&bytes[..header + bait], &frame("SET a 1")].concat();
    assert_ne!(damaged("a stream behind the bait", &streamed), End::Taken);
    let mut rig = promised();
    rig.up(Framed::Mark.bytes(&good));
    let (_, got) = rig.replica(0);
    assert!(got.ends_with(&good), "{}", got.escape_ascii());
}

/// The child that writes the snapshot dies: the primary says nothing, newlines or an error for a while, and closes the link.
#[test]
fn a_primary_whose_child_dies_leaves_nothing_behind() {
    for said in ["", "\n", "\n\n\n\n\n", "\n\n$", "\n\n$1", "\n$EOF:", "$50\r\nREDIS0011"] {
        assert_eq!(damaged(&format!("{said:?}, then nothing"), said.as_bytes()), End::Lost);
    }
    assert_eq!(damaged("newlines, then an error", b"\n\n-ERR BGSAVE failed\r\n"), End::Refused);
}

/// It neither goes on nor closes the link.
#[test]
fn a_snapshot_that_stops_anywhere_is_given_up_after_a_while() {
    let good = whole();
    for framed in FRAMINGS {
        let bytes = framed.bytes(&good);
        for end in (0..bytes.len()).step_by(29).chain([bytes.len() - 1]) {
            let (what, mut rig) = (format!("{framed:?}, stops at {end}"), promised());
            rig.up(&bytes[..end]);
            ask(&mut rig, &what);
            rig.notes.clear();
            rig.told_up();
            rig.wait(61_000);
            let failed = rig.noted("upstream-failed").unwrap_or_else(|| panic!("{what}: it is waited for"));
            assert!(failed.starts_with("upstream: ") && failed.contains("silent"), "{what}: {failed}");
            ask(&mut rig, &what);
            recover(&mut rig, &what);
        }
    }
}

/// What came before is over when the primary says so; a broken snapshot does not bring it back, and is not mixed with it.
#[test]
fn a_broken_snapshot_after_a_good_one_serves_neither() {
    let good = whole();
    for at in (0..good.len()).step_by(3) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        let (what, mut rig) = (format!("byte {at}"), promised());
        rig.up(Framed::Length.bytes(&good));
        let replica = rig.synced(0);
        rig.up(frame("SET a 2"));
        assert!(rig.got(replica).ends_with(&frame("SET a 2")));
        rig.cut();
        rig.introduce("");
        rig.up(format!("+FULLRESYNC {B} 33\r\n"));
        assert!(rig.closed.contains(&replica), "{what}: its history has ended");
        rig.ships.clear();
        ask(&mut rig, &what);
        rig.up(Framed::Length.bytes(&bad));
        named(&mut rig, &what);
        ask(&mut rig, &what);
        recover(&mut rig, &what);
    }
}
