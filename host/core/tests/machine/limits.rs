//! What a peer can make us hold.

use sluicegate_core::contract::{Drive, Input, Now, SpoolId};

use crate::rig::{A, Rig, frame};

#[test]
fn commands_that_no_handshake_has_are_refused() {
    for (bytes, word) in [
        (&b"*2000\r\n"[..], "arguments"),
        (b"*1\r\n$70000\r\n", "larger"),
        (b"*1\r\n$-1\r\n", "number"),
        (b"*1\r\n$99999999999999999999\r\n", "number"),
        (b"*1\r\n$1\r\nabc", "CRLF"),
        (b"*11111111111111111111111111111111111111", "end"),
        (b"*1\r\nabc\r\n", "RESP"),
    ] {
        let mut rig = Rig::relay();
        rig.attach(A, 0);
        let link = rig.accept(0);
        rig.send(link, bytes);
        let answer = String::from_utf8(rig.got(link)).unwrap();
        assert!(
            answer.starts_with("-ERR Protocol error") && answer.contains(word),
            "{}: {answer}",
            bytes.escape_ascii()
        );
        assert!(rig.closed.contains(&link));
    }
}

#[test]
fn a_flood_without_an_end_is_not_gathered() {
    let mut rig = Rig::relay();
    rig.attach(A, 0);
    let link = rig.accept(0);
    rig.send(link, [b'x'; 70_000]);
    let said = rig.machine.outbox(link).unwrap().len();
    assert!(said > 0, "it is told why");
    for _ in 0..100 {
        rig.send(link, [b'x'; 70_000]);
    }
    assert_eq!(rig.machine.outbox(link).unwrap().len(), said, "once");
    rig.got(link);
    assert!(rig.closed.contains(&link));
}

#[test]
fn who_asks_and_never_reads_is_cut_off() {
    let mut rig = Rig::relay();
    rig.attach(A, 0);
    let link = rig.accept(0);
    let mut most = 0;
    for _ in 0..200 {
        rig.send(link, frame("INFO").repeat(1000));
        most = most.max(rig.machine.outbox(link).map_or(0, |outbox| outbox.len()));
    }
    assert!(most < 2 << 20, "{most} bytes");
    assert!(rig.noted("replica-misbehaved").is_some());
    rig.wait(61_000);
    assert!(rig.closed.contains(&link), "its last answer is not waited for beyond the stall");
}

#[test]
fn the_primary_is_not_read_faster_than_the_disk_writes() {
    let mut rig = Rig::relay();
    rig.introduce("");
    let up = rig.up_link().unwrap();
    let now = Now { mono_ms: rig.now, unix_ms: 0 };
    rig.machine.handle(now, Input::Bytes(up, format!("+FULLRESYNC {A} 5\r\n$100000000\r\n").into_bytes().into()));
    assert!(rig.machine.wants_read(up));
    rig.machine.handle(now, Input::Bytes(up, vec![0; 5 << 20].into()));
    assert!(!rig.machine.wants_read(up));
    rig.machine.handle(now, Input::SpoolWritten(SpoolId(0), 2 << 20));
    assert!(rig.machine.wants_read(up));
}
