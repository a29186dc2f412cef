//! Links of replicas: old numbers, halted views, too many, the end.

use sluicegate_core::contract::{Drive, Input};
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::kevy::{Dialect, wire};

use super::replica::Replica;
use super::rig::{G, Kind, Rig, given, live, snapshot, view};
use crate::support::Heard;

#[test]
fn an_old_replica_with_a_number_of_an_earlier_history_gets_a_snapshot() {
    let mut rig = Rig::old(Dialect::K2, Kind::Plain);
    let mut replica = rig.attach(0, 0, None, 0);
    rig.say(0, (10..5_000).flat_map(|offset| live(offset, "APPEND a x")).collect::<Vec<_>>());
    replica.drain(&mut rig);
    rig.say(0, given(&snapshot(&[("b", "1")]), 0));
    assert!(rig.closed.contains(&replica.link));
    rig.say(0, (0..5_000).flat_map(|offset| live(offset, "APPEND b y")).collect::<Vec<_>>());
    let (_, next) = replica.place();
    for place in [next, next - 1, next - 4_000] {
        let mut back = rig.attach(0, 0, None, place);
        back.drain(&mut rig);
        let held = [("a".to_owned(), "what is no more".to_owned())].into();
        assert_eq!(back.keys_after(held), format!("b=1{}", "y".repeat(5_000)), "it loads a snapshot over what it has");
    }
    let mut last = rig.attach(0, 0, None, 0);
    last.drain(&mut rig);
    let mut back = rig.attach(0, 0, None, last.place().1 - 2);
    back.drain(&mut rig);
    assert_eq!(back.told(), "ack, APPEND b, APPEND b", "a number of this history is one");
}

#[test]
fn an_old_replica_whose_snapshots_break_off_is_never_taken_for_one_that_has_them() {
    let mut rig = Rig::old(Dialect::K2, Kind::Plain);
    let mut replica = rig.attach(0, 0, None, 0);
    rig.say(0, live(10, "SET b 2"));
    replica.drain(&mut rig);
    let mut place = replica.place().1;
    // The next history begins at a number as low as it can be.
    rig.set_back = 3_600_000;
    rig.say(0, given(&snapshot(&[("a", "1"), ("b", "2")]), 20));
    rig.ships_itself = false;
    for attempt in 1..5 {
        let mut back = rig.attach(0, 0, None, place);
        back.drain(&mut rig);
        assert_eq!(back.told(), "ack, FLUSHALL, snapshot", "attempt {attempt}");
        rig.handle(Input::Closed(back.link, "cut".into()));
        // It counts the frame that emptied it.
        place = back.place().1;
    }
    rig.ships_itself = true;
    let mut back = rig.attach(0, 0, None, place);
    back.drain(&mut rig);
    assert_eq!(back.keys(), "a=1 b=2");
}

#[test]
fn an_old_replica_is_told_no_heartbeat_before_it_has_acknowledged() {
    let mut rig = Rig::old(Dialect::K1, Kind::Plain);
    let mut replica = rig.attach(0, 0, None, 0);
    rig.wait(10_000);
    replica.drain(&mut rig);
    let before = replica.bytes.len();
    rig.wait(10_000);
    replica.drain(&mut rig);
    assert_eq!(replica.bytes.len(), before, "it would drop the link");
    rig.send(replica.link, format!("REPLCONF ACK {}\r\n", replica.base()));
    rig.wait(1_000);
    replica.drain(&mut rig);
    assert!(replica.bytes[before..].starts_with(b"+PING "));
}

#[test]
fn an_old_replica_that_is_silent_is_given_one_frame_to_acknowledge() {
    let mut rig = Rig::old(Dialect::K2, Kind::Plain);
    let mut silent = rig.attach(0, 0, None, 0);
    rig.wait(900);
    silent.drain(&mut rig);
    let greeted = "ack, FLUSHALL, snapshot, pieces, end";
    assert_eq!(silent.told(), greeted);
    rig.wait(100);
    silent.drain(&mut rig);
    assert_eq!(silent.told(), format!("{greeted}, PING"), "at once, and not when something is written");
    rig.wait(10_000);
    rig.say(0, live(10, "SET b 2"));
    silent.drain(&mut rig);
    assert_eq!(silent.told(), format!("{greeted}, PING, SET b"), "once, as a frame with a number of its own");

    let mut speaking = rig.attach(0, 0, None, 0);
    speaking.drain(&mut rig);
    rig.send(speaking.link, format!("REPLCONF ACK {}\r\n", speaking.place().1));
    rig.wait(10_000);
    silent.drain(&mut rig);
    assert_eq!(silent.place(), speaking.place(), "one that has acknowledged is known");
    rig.handle(Input::Closed(silent.link, "cut".into()));
    let mut back = rig.attach(0, 0, None, silent.place().1);
    rig.wait(1_000);
    back.drain(&mut rig);
    speaking.drain(&mut rig);
    assert_eq!(back.told(), "ack, PING", "another link, another question");
    assert_eq!(back.place().1, speaking.place().1, "and all who follow the stream get what is in it");
}

#[test]
fn who_does_not_follow_the_stream_yet_is_given_no_frame() {
    let mut rig = Rig::old(Dialect::K2, Kind::Plain);
    rig.ships_itself = false;
    let mute = rig.link();
    rig.handle(Input::Accepted { link: mute, view: 0, port: 0, peer: "10.1.1.1:1".into() });
    let mut replica = rig.attach(0, 0, None, 0);
    rig.wait(5_000);
    let order = rig.ships[0].clone();
    rig.ship(&order);
    replica.drain(&mut rig);
    assert_eq!(replica.told(), "ack, FLUSHALL, snapshot, pieces, end");
    rig.wait(1_000);
    replica.drain(&mut rig);
    assert_eq!(replica.told(), "ack, FLUSHALL, snapshot, pieces, end, PING");
}

#[test]
fn a_replica_older_than_the_primary_is_refused_with_a_reason() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    let replica = rig.attach(0, 0, None, 0);
    assert!(rig.closed.contains(&replica.link));
    assert!(rig.noted("replica-refused").unwrap().contains("older than the primary"));
}

#[test]
fn a_view_that_halts_closes_its_replicas_and_says_why_and_others_go_on() {
    let mut rig = Rig::new(1, vec![(Kind::Filter, view("some", 1)), (Kind::Plain, view("all", 1))]);
    rig.seed(0, &[("a", "1")], 10);
    let mut some = rig.replica(0, 0);
    let mut all = rig.replica(1, 0);
    rig.say(0, [live(10, "SET b 2"), live(11, "SET fail 1"), live(12, "SET c 3")].concat());
    some.drain(&mut rig);
    all.drain(&mut rig);
    assert!(rig.closed.contains(&some.link) && !rig.closed.contains(&all.link));
    assert_eq!(rig.noted("view-halted").unwrap(), "view 'some' halts: plugin: plugin 'rules': it was told to fail");
    assert_eq!(all.keys(), "a=1 b=2 c=3 fail=1");
    let late = rig.replica(0, 0);
    assert!(rig.closed.contains(&late.link));
    assert!(rig.noted("replica-later").unwrap().contains("it was told to fail"));
    rig.say(0, given(&snapshot(&[("d", "4")]), 20));
    let mut again = rig.replica(0, 0);
    again.drain(&mut rig);
    assert_eq!(again.keys(), "d=4", "a new history is a new chance");
}

#[test]
fn a_replica_that_talks_nonsense_is_told_about_once() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    let replica = rig.replica(0, 0);
    rig.notes.clear();
    rig.send(replica.link, "\n".repeat(1_000));
    rig.send(replica.link, "HELLO\r\n".repeat(1_000));
    assert_eq!(rig.notes.len(), 1, "each is a line for the operator, and memory until it is written");
}

#[test]
fn a_view_takes_so_many_replicas_of_a_shard_and_no_more() {
    let mut rig = Rig::tuned(Kind::Plain, |view| view.replicas_max = 2);
    rig.seed(0, &[("a", "1")], 10);
    let replicas: Vec<Replica> = (0..3).map(|_| rig.replica(0, 0)).collect();
    assert_eq!(rig.closed, [replicas[2].link].into());
    rig.handle(Input::Closed(replicas[0].link, "done".into()));
    let mut next = rig.replica(0, 0);
    next.drain(&mut rig);
    assert_eq!(next.keys(), "a=1");
}

#[test]
fn who_says_nothing_is_closed_and_who_waits_is_told_about_rightly() {
    let mut rig = Rig::one(Kind::Plain);
    let waiting = rig.replica(0, 0);
    let mute = rig.link();
    rig.handle(Input::Accepted { link: mute, view: 0, port: 0, peer: "10.1.1.1:1".into() });
    rig.wait(31_000);
    assert_eq!(rig.closed, [waiting.link, mute].into());
    let texts: Vec<&str> =
        rig.notes.iter().filter(|note| note.event == "replica-closed").map(|note| &note.text[..]).collect();
    assert!(texts[0].contains("no snapshot of the primary came in time"), "{texts:?}");
    assert!(texts[1].contains("it says nothing"), "{texts:?}");
}

#[test]
fn at_the_end_replicas_get_what_is_there_and_every_link_to_the_primary_is_hung_up() {
    let mut rig = Rig::new(3, vec![(Kind::Plain, view("all", 3))]);
    rig.seed(0, &[("a", "1")], 10);
    rig.seed(1, &[("b", "1")], 10);
    rig.connect(2);
    let links: Vec<_> = (0..3).map(|shard| rig.up(shard).unwrap()).collect();
    let mut streaming = rig.replica(0, 0);
    streaming.drain(&mut rig);
    assert!(!rig.machine.is_drained(), "everybody has everything, but nobody wants it to end");
    let waiting = rig.replica(0, 2);
    rig.ships_itself = false;
    let shipping = rig.replica(0, 1);
    for offset in 10..30 {
        rig.say(0, super::rig::large(offset, "k", 500_000));
    }
    rig.handle(Input::Shutdown);
    rig.handle(Input::Shutdown);
    assert_eq!(rig.notes.iter().filter(|note| note.event == "stopping").count(), 1);
    assert_eq!(rig.hung_up, links.into_iter().collect());
    assert_eq!(rig.closed, [waiting.link, shipping.link].into(), "who cannot be made whole is closed at once");
    assert_eq!(rig.cancelled, [shipping.link]);
    rig.pumps_itself = false;
    streaming.take(&mut rig, usize::MAX);
    assert!(!rig.machine.is_drained(), "there is more than was in its output");
    rig.pumps_itself = true;
    rig.settle();
    streaming.drain(&mut rig);
    assert!(rig.machine.is_drained());
    assert_eq!(streaming.place().1, streaming.base() + 20);
    rig.wait(20_000);
    assert!(rig.hung_up.len() == 3 && !rig.dials(), "and nobody is dialed again");
    assert!(rig.machine.next_wakeup() > rig.now, "nor is anybody waited for");
    let late = rig.link();
    rig.handle(Input::Accepted { link: late, view: 0, port: 0, peer: "10.1.1.1:1".into() });
    assert!(rig.closed.contains(&late), "{G}");
}

#[test]
fn a_replica_of_which_nothing_is_heard_is_closed_unless_it_still_takes_bytes() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    let (mut mute, mut speaking, mut slow) = (rig.replica(0, 0), rig.replica(0, 0), rig.replica(0, 0));
    mute.drain(&mut rig);
    speaking.drain(&mut rig);
    for _ in 0..61 {
        rig.wait(1_000);
        mute.drain(&mut rig);
        speaking.drain(&mut rig);
        rig.send(speaking.link, format!("REPLCONF ACK {}\r\n", speaking.place().1));
        assert_eq!(slow.take(&mut rig, 1), 1);
    }
    assert_eq!(rig.closed, [mute.link].into(), "the slow one is busy with what it was sent");
    assert!(rig.noted("replica-closed").unwrap().contains("nothing was heard of it"));
}

#[test]
fn a_replica_that_waits_for_its_snapshot_has_nothing_to_say() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    rig.ships_itself = false;
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    rig.wait(600_000);
    let order = rig.ships[0].clone();
    rig.ship(&order);
    replica.drain(&mut rig);
    rig.wait(30_000);
    replica.drain(&mut rig);
    assert_eq!((replica.keys(), rig.closed.len()), ("a=1".into(), 0), "nor is it late when it has it at last");
}

#[test]
fn the_places_of_a_view_that_halts_go_to_those_who_wait_on_another() {
    let mut rig = Rig::new(1, vec![(Kind::Filter, view("some", 1)), (Kind::Plain, view("all", 1))]);
    rig.seed(0, &[("a", "1")], 10);
    rig.ships_itself = false;
    let some: Vec<Replica> = (0..9).map(|_| rig.replica(0, 0)).collect();
    let mut all = rig.replica(1, 0);
    assert_eq!(rig.ships.len(), 8);
    rig.say(0, live(10, "SET fail 1"));
    assert_eq!(rig.closed, some.iter().map(|replica| replica.link).collect());
    let orders: Vec<_> = rig.ships.iter().skip(8).map(|order| order.link).collect();
    assert_eq!(orders, [all.link], "and not to one that is to be closed itself");
    let order = rig.ships[8].clone();
    rig.ship(&order);
    all.drain(&mut rig);
    assert_eq!(all.keys(), "a=1 fail=1");
}

#[test]
fn who_asked_first_gets_its_snapshot_first() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    rig.ships_itself = false;
    let slow = rig.link();
    rig.handle(Input::Accepted { link: slow, view: 0, port: 0, peer: "10.1.1.1:1".into() });
    let mut first: Vec<Replica> = (0..8).map(|_| rig.replica(0, 0)).collect();
    rig.wait(1_000);
    let (second, third) = (rig.replica(0, 0), rig.replica(0, 0));
    rig.wait(1_000);
    let mut hello = Vec::new();
    wire::write_request(&mut hello, Some(0), 0, "kevy-replica");
    rig.send(slow, hello);
    // A link that is lost, one that takes nothing, and a snapshot that cannot be made give their places away.
    rig.handle(Input::Closed(first[0].link, "cut".into()));
    assert_eq!(rig.ships[8..].iter().map(|order| order.link).collect::<Vec<_>>(), [second.link]);
    for replica in first.iter_mut().skip(2) {
        replica.drain(&mut rig);
    }
    let mut second = second;
    second.drain(&mut rig);
    rig.attached(third.link).unwrap();
    rig.handle(Input::ShipEnded(first[2].link, Err(Fault::new(Party::Own, "the disk is gone"))));
    assert_eq!(rig.ships[9].link, third.link);
    let mut third = third;
    third.drain(&mut rig);
    rig.machine.outbox(slow).unwrap().take();
    rig.wait(61_000);
    assert!(rig.closed.contains(&first[1].link) && !rig.closed.contains(&slow));
    assert_eq!(rig.ships[10].link, slow, "who said hello last");
}

#[test]
fn what_a_replica_acknowledges_is_counted_to_the_last_frame_and_from_where_it_goes_on() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    let mut replica = rig.replica(0, 0);
    rig.say(0, [live(10, "SET b 2"), live(11, "SET c 3")].concat());
    replica.drain(&mut rig);
    let (generation, next) = replica.place();
    rig.send(replica.link, format!("REPLCONF ACK {next}\r\n"));
    assert_eq!((rig.attached(replica.link).unwrap().acked, rig.noted("ack-from-the-future")), (next, None));
    for _ in 0..3 {
        rig.send(replica.link, format!("REPLCONF ACK {}\r\n", next + 1));
    }
    assert_eq!(rig.notes.iter().filter(|note| note.event == "ack-from-the-future").count(), 1, "told once");
    rig.notes.clear();
    let mut back = rig.attach(0, 0, Some(generation), next - 1);
    assert_eq!(rig.attached(back.link).unwrap().acked, next - 1);
    back.drain(&mut rig);
    assert!(matches!(back.heard()[1], Heard::Ping(_, ping) if ping == next), "a sign of life comes with the answer");
    // One that takes a snapshot says what it had before.
    rig.ships_itself = false;
    let other = rig.attach(0, 0, Some(G), u64::MAX / 2);
    rig.send(other.link, format!("REPLCONF ACK {}\r\n", u64::MAX / 2));
    assert_eq!(rig.noted("ack-from-the-future"), None);
    let order = rig.ships.last().unwrap().clone();
    rig.ship(&order);
    let mut other = other;
    other.drain(&mut rig);
    assert!(other.heard().iter().any(|heard| matches!(heard, Heard::Ping(..))), "and behind a snapshot");
}

#[test]
fn an_old_replica_is_answered_without_a_generation() {
    let mut rig = Rig::old(Dialect::K2, Kind::Plain);
    let mut replica = rig.attach(0, 0, None, 0);
    replica.drain(&mut rig);
    assert!(replica.bytes.starts_with(b"+ACK 0\r\n"), "it would not understand another answer");
}

#[test]
fn one_shard_that_speaks_the_newest_dialect_is_enough_to_refuse_an_old_replica() {
    let mut rig = Rig::new(2, vec![(Kind::Plain, view("all", 2))]);
    rig.seed(1, &[("a", "1")], 10);
    let replicas = [rig.attach(0, 1, None, 0), rig.attach(0, 0, None, 0)];
    assert_eq!(rig.closed, replicas.iter().map(|replica| replica.link).collect());
}

#[test]
fn each_port_has_its_own_count_of_replicas_and_who_has_not_spoken_is_none() {
    let mut pair = view("all", 2);
    pair.view.replicas_max = 1;
    let mut rig = Rig::new(2, vec![(Kind::Plain, pair)]);
    rig.seed(0, &[("a", "1")], 10);
    rig.seed(1, &[("b", "1")], 10);
    let mute = rig.link();
    rig.handle(Input::Accepted { link: mute, view: 0, port: 0, peer: "10.1.1.1:1".into() });
    let mut replicas = [rig.replica(0, 0), rig.replica(0, 1)];
    replicas.iter_mut().for_each(|replica| replica.drain(&mut rig));
    assert_eq!((replicas[0].keys(), replicas[1].keys()), ("a=1".into(), "b=1".into()));
    let beyond = rig.link();
    rig.handle(Input::Accepted { link: beyond, view: 0, port: 2, peer: "10.1.1.1:2".into() });
    assert_eq!(rig.closed, [beyond].into(), "there is no such port");
}
