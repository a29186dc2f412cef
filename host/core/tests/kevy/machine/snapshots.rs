//! Snapshots on their way to replicas: `docs/kevy-seed.md`, 9 to 15 and 20.

use bytes::Bytes;
use sluicegate_core::contract::{Drive, Input, Level, SpoolId};
use sluicegate_core::fault::{Fault, Party};

use super::replica::Replica;
use super::rig::{G, Kind, NOTHING, Rig, given, live, named, snapshot};
use crate::model::{Model, sample};

/// A primary with `a=1` whose next frame is number 10; the story makes snapshots for replicas itself.
fn primary(kind: Kind) -> Rig {
    let mut rig = Rig::one(kind);
    rig.seed(0, &[("a", "1")], 10);
    rig.ships_itself = false;
    rig
}

/// Makes the snapshot that was ordered for this replica.
fn ship(rig: &mut Rig, replica: &Replica) {
    let order = rig.ships.iter().find(|order| order.link == replica.link).expect("an order").clone();
    rig.ship(&order);
}

#[test]
fn seed_09_a_place_that_is_gone_gets_the_snapshot_marker_before_the_first_chunk() {
    let mut rig = primary(Kind::Plain);
    let mut replicas: Vec<Replica> = (0..9).map(|_| rig.attach(0, 0, Some(12345), 678)).collect();
    for replica in &mut replicas {
        replica.drain(&mut rig);
    }
    let (ninth, eight) = replicas.split_last_mut().unwrap();
    for replica in eight.iter() {
        assert_eq!(replica.told(), "ack, snapshot", "before any of it exists");
    }
    assert_eq!((rig.ships.len(), ninth.told()), (8, "ack".into()), "the ninth waits its turn");
    ship(&mut rig, &eight[3]);
    ninth.drain(&mut rig);
    assert_eq!((rig.ships.len(), ninth.told()), (9, "ack, snapshot".into()));
}

#[test]
fn seed_10_a_snapshot_ends_with_the_offset_that_it_stands_for() {
    let mut rig = primary(Kind::Plain);
    rig.say(0, live(10, "APPEND a b"));
    let mut early = rig.replica(0, 0);
    rig.say(0, live(11, "APPEND a c"));
    let mut late = rig.replica(0, 0);
    ship(&mut rig, &early);
    rig.say(0, live(12, "APPEND a d"));
    ship(&mut rig, &late);
    for replica in [&mut early, &mut late] {
        replica.drain(&mut rig);
        assert_eq!(replica.keys(), "a=1bcd", "none is lost, and none is in it twice");
        assert_eq!(replica.told(), "ack, snapshot, pieces, end, APPEND a, APPEND a, APPEND a");
    }
    assert_eq!((early.base(), rig.spooled), (late.base(), 1), "both stand where the primary's own stood");
}

#[test]
fn seed_11_a_snapshot_is_made_by_the_shell_and_the_machine_goes_on() {
    let mut rig = primary(Kind::Plain);
    let mut replica = rig.replica(0, 0);
    assert_eq!(rig.ships.len(), 1, "an order, and no bytes");
    (10..20).for_each(|offset| rig.say(0, live(offset, "APPEND a x")));
    rig.wait(5_000);
    assert!(String::from_utf8(rig.told(0)).unwrap().ends_with("REPLCONF ACK 20\r\n"), "the primary is heard meanwhile");
    ship(&mut rig, &replica);
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), "a=1xxxxxxxxxx");
}

#[test]
fn seed_12_while_one_replica_gets_a_snapshot_the_others_stream() {
    let mut rig = primary(Kind::Plain);
    let mut first = rig.replica(0, 0);
    ship(&mut rig, &first);
    let mut second = rig.replica(0, 0);
    rig.say(0, live(10, "SET b 2"));
    rig.wait(3_000);
    first.drain(&mut rig);
    second.drain(&mut rig);
    assert_eq!(first.keys(), "a=1 b=2");
    assert_eq!(second.told(), "ack, snapshot", "it is left alone");
}

#[test]
fn seed_13_a_snapshot_that_fails_closes_its_own_link() {
    let mut rig = primary(Kind::Filter);
    let mut first = rig.replica(0, 0);
    ship(&mut rig, &first);
    let second = rig.replica(0, 0);
    rig.handle(Input::ShipBytes(second.link, Bytes::from_static(b"KEVYSNAP")));
    rig.handle(Input::ShipEnded(second.link, Err(Fault::new(Party::Own, "the disk is gone"))));
    assert_eq!(rig.closed, [second.link].into());
    assert!(rig.noted("snapshot-failed").unwrap().contains("the disk is gone"));
    rig.say(0, live(10, "SET b 2"));
    first.drain(&mut rig);
    assert_eq!(first.keys(), "a=1 b=2");
    let third = rig.replica(0, 0);
    rig.handle(Input::ShipEnded(third.link, Err(Fault::new(Party::Plugin, "it trapped"))));
    assert_eq!(rig.closed, [first.link, second.link, third.link].into(), "what a plugin does ends its view");
    assert!(rig.noted("view-halted").unwrap().contains("view 'all' halts: plugin: it trapped"));
    let late = rig.replica(0, 0);
    assert!(rig.closed.contains(&late.link) && rig.noted("replica-later").unwrap().contains("it trapped"));
}

#[test]
fn seed_14_chunks_have_at_most_65536_bytes_and_none_is_added_without_room() {
    let mut rig = primary(Kind::Plain);
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    assert_eq!(rig.machine.ship_room(replica.link), 2 << 20);
    let mut sent = 0;
    while rig.machine.ship_room(replica.link) > 0 {
        let bytes = rig.machine.ship_room(replica.link).min(300_000);
        rig.handle(Input::ShipBytes(replica.link, vec![7; bytes].into()));
        sent += bytes;
    }
    assert!((2 << 20..(2 << 20) + 4_096).contains(&rig.waiting(replica.link)), "2 MiB wait, and no more is wanted");
    replica.take(&mut rig, 100_000);
    assert!((90_000..=100_000).contains(&rig.machine.ship_room(replica.link)));
    replica.drain(&mut rig);
    let pieces = replica.pieces();
    assert_eq!(pieces.iter().sum::<usize>(), sent);
    assert!(pieces.iter().all(|bytes| (1..=65_536).contains(bytes)) && pieces.contains(&65_536), "{pieces:?}");
}

#[test]
fn seed_15_the_chunks_are_the_snapshot_and_nothing_else() {
    let primarys = sample(6);
    for kind in [Kind::Plain, Kind::Filter, Kind::Rename] {
        let mut rig = Rig::one(kind);
        assert_eq!(rig.connect(0), NOTHING);
        rig.say(0, format!("+ACK {G} 0\r\n"));
        rig.say(0, given(&primarys.bytes(), 10));
        let mut replica = rig.replica(0, 0);
        replica.drain(&mut rig);
        let expected = match kind {
            Kind::Plain => primarys.bytes(),
            _ => Model { aux: None, ..primarys.viewed(|key| named(key, kind == Kind::Rename)) }.bytes(),
        };
        assert!(replica.snapshot() == expected, "{kind:?}");
    }
}

#[test]
fn seed_20_a_snapshot_that_cannot_be_begun_closes_the_link() {
    let mut rig = primary(Kind::Plain);
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    rig.handle(Input::ShipEnded(replica.link, Err(Fault::new(Party::Own, "no thread can be had"))));
    assert_eq!((replica.told(), rig.closed.contains(&replica.link)), ("ack, snapshot".into(), true));
    let note = rig.notes.iter().find(|note| note.event == "snapshot-failed").unwrap();
    assert!(note.level == Level::Error && note.text.contains("no thread can be had"), "{}", note.text);
    let mut again = rig.replica(0, 0);
    ship(&mut rig, &again);
    again.drain(&mut rig);
    assert_eq!(again.keys(), "a=1", "the next one may have more luck");
}

#[test]
fn seed_20_before_the_primarys_snapshot_is_there_a_replica_waits() {
    let mut rig = Rig::one(Kind::Plain);
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    assert_eq!((replica.told(), rig.closed.len()), (String::new(), 0));
    rig.connect(0);
    rig.say(0, format!("+ACK {G} 0\r\n"));
    let body = given(&snapshot(&[("a", "1")]), 10);
    let (some, rest) = body.split_at(body.len() / 2);
    rig.say(0, some);
    rig.wait(2_000);
    replica.drain(&mut rig);
    assert_eq!((replica.told(), rig.closed.len()), (String::new(), 0));
    rig.say(0, rest);
    rig.say(0, live(10, "SET b 2"));
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), "a=1 b=2");
}

#[test]
fn a_damaged_snapshot_is_asked_for_anew_but_not_without_end() {
    let mut rig = primary(Kind::Plain);
    let damaged = rig.kept()[0];
    rig.handle(Input::SpoolDamaged(SpoolId(damaged.0 + 1), "byte 5".into()));
    assert_eq!((rig.noted("snapshot-damaged"), rig.hung_up.len()), (None, 0));
    rig.handle(Input::SpoolDamaged(damaged, "byte 5".into()));
    assert!(rig.noted("snapshot-damaged").unwrap().contains("byte 5"));
    assert_eq!(rig.hung_up.len(), 1);
    assert!(rig.connect(0).starts_with("REPLICATE FROM 0 0 ID"));
    rig.handle(Input::SpoolDamaged(damaged, "byte 5".into()));
    assert_eq!(rig.hung_up.len(), 1);
}
