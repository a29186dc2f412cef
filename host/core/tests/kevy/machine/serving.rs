//! Links of replicas: old numbers, halted views, too many, the end.

use sluicegate_core::contract::{Drive, Input};
use sluicegate_core::kevy::Dialect;

use super::replica::Replica;
use super::rig::{G, Kind, Rig, given, live, snapshot, view};

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
    let waiting = rig.replica(0, 2);
    rig.ships_itself = false;
    let shipping = rig.replica(0, 1);
    for offset in 10..30 {
        rig.say(0, super::rig::large(offset, "k", 500_000));
    }
    rig.handle(Input::Shutdown);
    assert_eq!(rig.hung_up, links.into_iter().collect());
    assert_eq!(rig.closed, [waiting.link, shipping.link].into(), "who cannot be made whole is closed at once");
    assert_eq!(rig.cancelled, [shipping.link]);
    assert!(!rig.machine.is_drained());
    streaming.drain(&mut rig);
    assert!(rig.machine.is_drained());
    assert_eq!(streaming.place().1, streaming.base() + 20);
    rig.wait(20_000);
    assert_eq!(rig.hung_up.len(), 3, "and nobody is dialed again");
    let late = rig.link();
    rig.handle(Input::Accepted { link: late, view: 0, port: 0, peer: "10.1.1.1:1".into() });
    assert!(rig.closed.contains(&late), "{G}");
}
