//! Replicas that follow: what they get, what they say, and how it ends.

use sluicegate_core::contract::{Drive, Input, Now};
use sluicegate_core::settings::ViewSettings;

use crate::rig::{A, Filter, Rig, frame, frames};

#[test]
fn a_relaying_view_forwards_every_byte() {
    let mut rig = Rig::relay();
    rig.attach(A, 100);
    let replica = rig.synced(0);
    rig.got(replica);
    let stream = [
        &b"\n\r\n"[..],
        &frames("SELECT 3 | SET a 1 | MULTI | EXEC | PUBLISH __sentinel__:hello x | REPLCONF GETACK * | UNKNOWN"),
    ]
    .concat();
    for chunk in stream.chunks(11) {
        rig.up(chunk);
    }
    assert_eq!(rig.got(replica), stream);
    assert_eq!(rig.info("master_repl_offset"), format!("{}", 100 + stream.len()));
    rig.wait(30_000);
    assert_eq!(rig.got(replica), b"", "a silent primary is silent here too");
}

#[test]
fn a_view_of_its_own_pings_when_the_primary_is_silent() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    let replica = rig.synced(0);
    rig.got(replica);
    for _ in 0..25 {
        rig.wait(1000);
        rig.send(replica, frame("REPLCONF ACK 0"));
    }
    assert_eq!(rig.got(replica), frames("PING | PING"));
    assert_eq!(rig.info("master_repl_offset"), "28", "they count");
}

#[test]
fn acknowledgements_are_believed_as_far_as_they_can_be_true() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    let replica = rig.synced(0);
    rig.got(replica);
    rig.up(frame("SET a 1"));
    let end = rig.got(replica).len() as u64;
    let acked = |rig: &Rig| rig.machine.replicas().find(|(id, _)| **id == replica).unwrap().1.acked;
    rig.send(replica, frame(&format!("REPLCONF ACK {}", end + 1)));
    assert_eq!(acked(&rig), 0);
    assert!(rig.noted("ack-from-the-future").is_some());
    rig.send(replica, frame(&format!("replconf ack {end} FACK {end}")));
    assert_eq!(acked(&rig), end);
    for odd in [
        "REPLCONF ACK 3",
        "REPLCONF ACK -1",
        "REPLCONF ACK x",
        "REPLCONF ACK 18446744073709551616",
        "REPLCONF ACK",
        "REPLCONF",
    ] {
        rig.send(replica, frame(odd));
        assert_eq!(acked(&rig), end, "{odd}");
    }
    assert_eq!(rig.got(replica), b"", "nothing is answered");
}

#[test]
fn a_replica_is_never_answered_anything_but_its_stream() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    let replica = rig.synced(0);
    rig.got(replica);
    rig.send(replica, frames("PING | SET a 1 | PSYNC ? -1 | INFO | QUIT | AUTH x"));
    assert_eq!(rig.got(replica), b"");
    assert!(!rig.closed.contains(&replica));
    // In the middle of a frame, garbage closes the link, and not a byte of ours gets into that frame.
    for garbage in [&b"*1\r\n+x\r\n"[..], b"*2000\r\n", &[b'x'; 70_000]] {
        let replica = rig.synced(0);
        rig.up(frame("SET a 1"));
        rig.send(replica, garbage);
        assert_eq!(rig.got(replica), b"", "the link is gone with all that waited");
        assert!(rig.closed.contains(&replica));
        assert!(rig.noted("replica-misbehaved").is_some());
    }
    rig.ships_itself = false;
    let (replica, _) = rig.replica(0);
    rig.send(replica, "*1\r\n+x\r\n");
    assert_eq!(rig.cancelled, [replica], "a snapshot under way is given up with it");
}

#[test]
fn silence_of_a_replica_ends_its_link() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    let (silent, lively) = (rig.synced(0), rig.synced(0));
    for _ in 0..62 {
        rig.wait(1000);
        rig.up(frame("PING"));
        rig.got(silent);
        rig.got(lively);
        rig.send(lively, "\n");
    }
    assert!(rig.closed.contains(&silent));
    assert!(!rig.closed.contains(&lively), "a newline is a sign of life");
}

#[test]
fn one_that_never_reads_delays_no_other_and_is_closed_in_time() {
    let mut settings = ViewSettings::new("some");
    settings.backlog_bytes = 256 << 20;
    let cap = settings.replica_output_bytes;
    let mut rig = Rig::new(vec![settings], vec![Some(Box::new(Filter))]);
    rig.attach(A, 100);
    let (stuck, swift) = (rig.synced(0), rig.synced(0));
    rig.got(swift);
    rig.got(stuck);
    let large = frame(&format!("SET a {}", "v".repeat(1 << 20)));
    let mut sent = 0;
    for second in 0..62 {
        rig.up(&large);
        let got = rig.got(swift).len();
        sent += got;
        assert!(got >= large.len(), "second {second}");
        assert!(rig.machine.outbox(stuck).is_none_or(|outbox| outbox.len() <= cap));
        rig.wait(1000);
        rig.send(swift, "\n");
        rig.send(stuck, "\n");
    }
    assert!(sent >= 62 * large.len());
    assert!(rig.closed.contains(&stuck), "{:?}", rig.notes);
    assert!(!rig.closed.contains(&swift));
}

#[test]
fn one_turn_gives_each_replica_a_bounded_piece() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    let replicas = [rig.synced(0), rig.synced(0), rig.synced(0)];
    replicas.iter().for_each(|link| drop(rig.got(*link)));
    rig.handle(Input::Tick);
    let large = frame(&format!("SET a {}", "v".repeat(3 << 20)));
    let now = Now { mono_ms: rig.now, unix_ms: 0 };
    let up = rig.up_link().unwrap();
    rig.machine.handle(now, Input::Bytes(up, large.into()));
    for turn in 1..=6 {
        rig.machine.pump();
        for link in replicas {
            let waits = rig.machine.outbox(link).unwrap().len();
            assert!(waits <= turn * 256 * 1024 && waits > (turn - 1) * 256 * 1024, "turn {turn}: {waits}");
        }
    }
}

#[test]
fn one_that_is_slower_than_the_stream_is_sent_for_a_snapshot() {
    let mut settings = ViewSettings::new("all");
    (settings.backlog_bytes, settings.backlog_disk_bytes) = (8 << 20, 0);
    let mut rig = Rig::new(vec![settings], vec![None]);
    rig.attach(A, 100);
    let slow = rig.synced(0);
    for _ in 0..20 {
        rig.up(frame(&format!("SET a {}", "v".repeat(1 << 20))));
    }
    assert!(rig.closed.contains(&slow));
    assert!(rig.noted("replica-behind").is_some());
    // The snapshot that we have no longer joins the stream that we have: the primary is asked, once, and the stream goes on.
    let link = rig.accept(0);
    assert!(rig.ask(link, "PSYNC ? -1").starts_with("-NOMASTERLINK"));
    rig.wait(100);
    rig.introduce_refresh();
    let other = rig.accept(0);
    assert!(rig.ask(other, "PSYNC ? -1").starts_with("-NOMASTERLINK"));
    let behind = rig.accept(0);
    let held = rig.info("master_repl_offset").parse::<u64>().unwrap() + 1;
    assert!(rig.ask(behind, &format!("PSYNC {A} {held}")).starts_with("+CONTINUE"), "who needs nothing goes on");
    assert!(rig.up_link().is_some() && !rig.closed.contains(&behind));
}

#[test]
fn the_end_gives_streaming_replicas_what_is_there() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    let streaming = rig.synced(0);
    rig.got(streaming);
    rig.ships_itself = false;
    let (shipping, _) = rig.replica(0);
    let talking = rig.accept(0);
    let large = frame(&format!("SET a {}", "v".repeat(3 << 20)));
    rig.up(&large);
    rig.told_up();
    rig.handle(Input::Shutdown);
    assert_eq!(rig.told_up(), frame(&format!("REPLCONF ACK {}", 100 + large.len())));
    assert!(rig.closed.contains(&shipping) && rig.closed.contains(&talking));
    assert!(!rig.machine.is_drained());
    let mut got = Vec::new();
    while !rig.machine.is_drained() {
        let bytes = rig.machine.outbox(streaming).unwrap().take();
        got.extend(bytes);
        let done = got.len() == large.len() + frame("SELECT 0").len();
        assert!(done || !rig.machine.is_drained(), "{} bytes are out", got.len());
        rig.machine.pump();
    }
    assert!(got.ends_with(&large[large.len() - 100..]));
    let late = rig.accept(0);
    assert!(rig.closed.contains(&late));
}
