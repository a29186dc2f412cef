//! What the pump does that this began with, statement by statement: what a replica sees. `docs/kevy-seed.md`, 1 to 3, 7, 8,
//! 16 to 19, 24 and 25.

use sluicegate_core::contract::{Drive, Input, Level, LinkId};
use sluicegate_core::kevy::replica::Phase;

use super::replica::Replica;
use super::rig::{G, Kind, Rig, live};
use crate::support::Heard;

/// A primary with `a=1` whose next frame is number 10.
fn primary(kind: Kind) -> Rig {
    let mut rig = Rig::one(kind);
    rig.seed(0, &[("a", "1")], 10);
    rig
}

/// The same, with a replica that is up.
fn pair(kind: Kind) -> (Rig, Replica) {
    let mut rig = primary(kind);
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    assert_eq!(replica.told(), "ack, snapshot, pieces, end");
    (rig, replica)
}

#[test]
fn seed_01_without_replicas_nothing_is_sent_and_nothing_is_made() {
    let mut rig = primary(Kind::Plain);
    rig.say(0, live(10, "SET b 2"));
    rig.wait(5_000);
    let mut links = Vec::new();
    rig.told(0);
    rig.machine.links_with_output(&mut links);
    assert_eq!((links, rig.ships.len(), rig.spooled), (vec![], 0, 1));
    let mut late = rig.replica(0, 0);
    late.drain(&mut rig);
    assert_eq!(late.told(), "ack, snapshot, pieces, end, SET b", "for those who come the frames were kept");
    assert_eq!((late.keys(), rig.spooled), ("a=1 b=2".into(), 1));
}

#[test]
fn seed_02_a_turn_ends_where_the_stream_ended_when_it_began() {
    let (mut rig, mut replica) = pair(Kind::Plain);
    rig.pumps_itself = false;
    rig.say(0, [live(10, "SET b 2"), live(11, "SET c 3")].concat());
    rig.machine.pump();
    rig.say(0, live(12, "SET d 4"));
    replica.take(&mut rig, usize::MAX);
    assert_eq!(replica.keys(), "a=1 b=2 c=3");
    rig.machine.pump();
    replica.take(&mut rig, usize::MAX);
    assert_eq!(replica.keys(), "a=1 b=2 c=3 d=4");
}

#[test]
fn seed_03_a_replica_that_has_everything_gets_no_frame() {
    let (mut rig, mut replica) = pair(Kind::Plain);
    let before = replica.bytes.len();
    (0..10).for_each(|_| rig.machine.pump());
    replica.drain(&mut rig);
    assert_eq!(replica.bytes.len(), before);
    rig.wait(1_000);
    replica.drain(&mut rig);
    let (generation, next) = replica.place();
    assert_eq!(
        replica.bytes[before..],
        *format!("+PING {generation} {next}\r\n").as_bytes(),
        "a sign of life, no more"
    );
}

#[test]
fn seed_07_the_cursor_moves_when_a_frame_is_added_and_acknowledgements_are_counted_apart() {
    let (mut rig, mut replica) = pair(Kind::Plain);
    let base = replica.base();
    rig.say(0, [live(10, "APPEND a b"), live(11, "APPEND a c"), live(12, "APPEND a d")].concat());
    rig.wait(300);
    let acked = |rig: &Rig, link: LinkId| rig.attached(link).unwrap().acked - base;
    assert_eq!((acked(&rig, replica.link), rig.waiting(replica.link) > 0), (0, true), "not even written");
    replica.drain(&mut rig);
    assert_eq!((replica.keys(), acked(&rig, replica.link)), ("a=1bcd".into(), 0), "nothing was given twice");
    rig.send(replica.link, format!("REPLCONF ACK {}\r\n", base + 2));
    assert_eq!(acked(&rig, replica.link), 2);
    rig.send(replica.link, format!("REPLCONF ACK {}\r\n", base + 1));
    assert_eq!((acked(&rig, replica.link), rig.noted("ack-from-the-future")), (2, None));
    rig.send(replica.link, format!("REPLCONF ACK {}\r\n", base + 4));
    assert_eq!(acked(&rig, replica.link), 2, "beyond what was given nothing is believed");
    assert!(rig.noted("ack-from-the-future").unwrap().contains(&format!("acknowledges frame {}", base + 4)));
}

#[test]
fn seed_08_offsets_are_gapless_whatever_a_filter_drops() {
    let (mut rig, mut replica) = pair(Kind::Filter);
    let base = replica.base();
    for (offset, words) in ["SET b 2", "SET x:1 1", "SET c 3", "SET x:2 2", "DEL x:1", "DEL b"].iter().enumerate() {
        rig.say(0, live(10 + offset as u64, words));
    }
    replica.drain(&mut rig);
    assert_eq!(replica.told(), "ack, snapshot, pieces, end, SET b, SET c, DEL b");
    assert_eq!(replica.place().1, base + 3);
    rig.wait(1_000);
    replica.drain(&mut rig);
    let last = replica.heard().pop();
    assert!(matches!(last, Some(Heard::Ping(_, next)) if next == base + 3), "heartbeats count as it does: {last:?}");
}

#[test]
fn seed_16_behind_the_last_chunk_stands_the_end_marker_and_the_stream_begins() {
    let mut rig = primary(Kind::Plain);
    rig.ships_itself = false;
    let mut replica = rig.replica(0, 0);
    rig.say(0, live(10, "SET b 2"));
    let order = rig.ships[0].clone();
    let body = rig.made(&order).unwrap();
    rig.handle(Input::ShipBytes(replica.link, body.into()));
    replica.drain(&mut rig);
    assert_eq!(replica.told(), "ack, snapshot, pieces", "it is not at its end before the thread says so");
    rig.handle(Input::ShipEnded(replica.link, Ok(())));
    replica.drain(&mut rig);
    assert_eq!(replica.told(), "ack, snapshot, pieces, end, SET b");
    assert_eq!(rig.attached(replica.link).unwrap().phase, Phase::Streaming);
}

#[test]
fn seed_17_the_first_frame_has_the_offset_of_the_end_marker() {
    let (mut rig, mut replica) = pair(Kind::Plain);
    rig.say(0, live(10, "SET b 2"));
    let mut late = rig.replica(0, 0);
    for replica in [&mut replica, &mut late] {
        replica.drain(&mut rig);
        let heard = replica.heard().into_iter();
        let first = heard.into_iter().find_map(|heard| match heard {
            Heard::Frame { offset, .. } => Some(offset),
            _ => None,
        });
        assert_eq!(first, Some(replica.base()));
    }
}

#[test]
fn seed_18_between_the_markers_there_are_only_chunks() {
    let mut rig = primary(Kind::Plain);
    rig.ships_itself = false;
    let mut replica = rig.replica(0, 0);
    let order = rig.ships[0].clone();
    let body = rig.made(&order).unwrap();
    for (offset, piece) in body.chunks(5).enumerate() {
        rig.handle(Input::ShipBytes(replica.link, piece.to_vec().into()));
        rig.say(0, live(10 + offset as u64, "APPEND a x"));
        rig.send(replica.link, "REPLCONF ACK 0\r\n");
        rig.wait(1_000);
        replica.drain(&mut rig);
    }
    rig.handle(Input::ShipEnded(replica.link, Ok(())));
    replica.drain(&mut rig);
    // That no heartbeat stands there is seen to by `heard`, and that no frame does by the scanner.
    assert!(replica.told().starts_with("ack, snapshot, pieces, end, APPEND a, APPEND a"), "{}", replica.told());
    assert_eq!(replica.keys(), format!("a=1{}", "x".repeat(body.len().div_ceil(5))));
}

#[test]
fn seed_19_a_place_in_the_future_gets_a_snapshot() {
    let (mut rig, first) = pair(Kind::Plain);
    let (generation, next) = first.place();
    rig.notes.clear();
    let mut replica = rig.attach(0, 0, Some(generation), next + 1);
    replica.drain(&mut rig);
    assert_eq!((replica.told(), replica.keys()), ("ack, snapshot, pieces, end".into(), "a=1".into()));
    let text = rig.noted("replica-full-sync").unwrap();
    assert!(text.contains("10.0.0.3") && text.contains("claims frames that this history does not have"), "{text}");
    assert!(rig.closed.is_empty());
}

#[test]
fn seed_24_a_replica_that_comes_back_goes_on_at_its_frame() {
    let (mut rig, mut first) = pair(Kind::Filter);
    rig.say(0, [live(10, "SET b 2"), live(11, "SET x:1 1"), live(12, "APPEND b 3")].concat());
    first.drain(&mut rig);
    let (generation, next) = first.place();
    rig.handle(Input::Closed(first.link, "cut".into()));
    rig.say(0, [live(13, "APPEND b 4"), live(14, "SET x:1 2"), live(15, "APPEND b 5")].concat());
    rig.wait(600_000);
    rig.handle(Input::Accepted { link: LinkId(99), view: 0, port: 0, peer: "10.9.9.9:1".into() });
    let hello = format!("REPLICATE FROM {generation} {next} ID another-name");
    let mut bytes = Vec::new();
    let hello: Vec<&[u8]> = hello.split(' ').map(str::as_bytes).collect();
    sluicegate_core::resp::write_command(&mut bytes, &hello);
    rig.send(LinkId(99), bytes);
    let mut back = Replica::new(LinkId(99));
    back.drain(&mut rig);
    assert_eq!(back.told(), "ack, APPEND b, APPEND b", "ten minutes later, and under another name");
    assert_eq!(back.keys_after([("b".to_owned(), "23".to_owned())].into()), "b=2345");
    assert_eq!((rig.ships.len(), rig.machine.stats().sync_partial_ok), (1, 1));
}

#[test]
fn seed_25_the_backlog_outlives_the_replicas_that_have_read_it() {
    let (mut rig, mut first) = pair(Kind::Plain);
    let (generation, base) = first.place();
    rig.say(0, [live(10, "APPEND a b"), live(11, "APPEND a c")].concat());
    first.drain(&mut rig);
    rig.send(first.link, format!("REPLCONF ACK {}\r\n", base + 2));
    rig.wait(90_000);
    let mut back = rig.attach(0, 0, Some(generation), base);
    back.drain(&mut rig);
    assert_eq!(back.told(), "ack, APPEND a, APPEND a", "frames that all who are here have acknowledged");
    let mut late = rig.replica(0, 0);
    late.drain(&mut rig);
    assert_eq!((late.keys(), rig.spooled), ("a=1bc".into(), 1), "the primary was asked for nothing more");
    assert!(!rig.notes.iter().any(|note| note.level == Level::Error));
}

#[test]
fn a_view_says_the_generation_of_its_own_history() {
    let (_, replica) = pair(Kind::Plain);
    let (generation, base) = replica.place();
    assert!(generation != G && generation != 0 && generation < 1 << 53, "{generation}");
    assert!((1_700_000_000_000_000..1_000_000_000_000_000_000).contains(&base), "{base}: not over 18 digits");
}
