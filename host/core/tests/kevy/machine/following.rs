//! The link to a shard: cuts, snapshots that do not arrive, silence.

use sluicegate_core::contract::{Drive, Input};
use sluicegate_core::kevy::Dialect;
use sluicegate_core::kevy::settings::Upstream;

use super::rig::{G, Kind, NOTHING, Rig, given, large, live, snapshot, view};

#[test]
fn after_a_cut_the_stream_goes_on_at_its_frame() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    let mut replica = rig.replica(0, 0);
    for at in 0..20 {
        let (frame, next) = (live(10 + at, "APPEND a x"), live(11 + at, "APPEND a y"));
        // The cut is somewhere in the second frame.
        let part = &next[..(at as usize * 3).min(next.len() - 1)];
        rig.say(0, [&frame[..], part].concat());
        rig.cut(0);
        assert_eq!(rig.connect(0), format!("REPLICATE FROM {G} {} ID sluicegate#0", 11 + at));
        rig.say(0, format!("+ACK {G} {}\r\n", 11 + at));
        rig.wait(2_100);
    }
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), format!("a=1{}", "x".repeat(20)));
    assert_eq!((rig.spooled, rig.closed.len(), rig.machine.stats().upstream_partial_syncs), (1, 0, 20));
}

#[test]
fn a_link_that_ends_before_the_snapshot_or_in_it_leaves_nothing_to_go_on_from() {
    let body = given(&snapshot(&[("a", "2")]), 20);
    // Behind the answer, behind the marker, in a piece, before the end marker.
    for said in [0, 11, 40, body.len() - 5] {
        let mut rig = Rig::one(Kind::Plain);
        rig.seed(0, &[("a", "1")], 10);
        rig.say(0, live(12, "SET b 2"));
        assert_eq!(rig.connect(0), NOTHING);
        rig.say(0, [format!("+ACK {G} 0\r\n").as_bytes(), &body[..said]].concat());
        rig.cut(0);
        assert_eq!(rig.connect(0), NOTHING, "behind {said} bytes");
        rig.say(0, format!("+ACK {G} 0\r\n"));
        rig.say(0, &body);
        let mut replica = rig.replica(0, 0);
        replica.drain(&mut rig);
        assert_eq!(replica.keys(), "a=2");
    }
}

#[test]
fn a_link_that_ends_before_the_snapshot_gives_a_view_nothing_twice() {
    let mut rig = Rig::one(Kind::Plain);
    rig.connect(0);
    rig.say(0, format!("+ACK {G} 0\r\n+PING {G} 0\r\n"));
    rig.say(0, live(0, "APPEND a x"));
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    rig.say(0, live(5, "APPEND a z"));
    assert_eq!(rig.connect(0), NOTHING);
    rig.say(0, format!("+ACK {G} 0\r\n"));
    rig.cut(0);
    rig.connect(0);
    rig.say(0, format!("+ACK {G} 0\r\n"));
    rig.say(0, [live(0, "APPEND a x"), live(1, "APPEND a y")].concat());
    let mut again = rig.attach(0, 0, Some(replica.place().0), replica.place().1);
    replica.drain(&mut rig);
    again.drain(&mut rig);
    assert_eq!((replica.keys(), again.keys()), ("a=x".into(), "a=xy".into()));
}

#[test]
fn an_answer_of_another_generation_is_no_continuation() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    let mut replica = rig.replica(0, 0);
    rig.cut(0);
    rig.connect(0);
    rig.say(0, "+ACK 78 10\r\n");
    rig.say(0, live(10, "SET b 2"));
    replica.drain(&mut rig);
    assert_eq!((replica.keys(), rig.hung_up.len()), ("a=1".into(), 1), "although the number fits");
    assert_eq!(rig.connect(0), NOTHING);
}

#[test]
fn while_a_snapshot_is_looked_at_nothing_is_read_and_nothing_is_missed() {
    let upstream = Upstream::new("primary", 6004, 1);
    let mut rig = Rig::with(upstream, vec![(Kind::Plain, view("all", 1))]);
    rig.verifies_itself = false;
    rig.connect(0);
    let link = rig.up(0).unwrap();
    rig.say(0, format!("+ACK {G} 0\r\n"));
    assert!(rig.machine.wants_read(link));
    // The same read holds the end of the snapshot and what is behind it.
    rig.say(0, [given(&snapshot(&[("a", "1")]), 10), live(10, "SET b 2"), b"+PING 78 11\r\n".to_vec()].concat());
    assert!(!rig.machine.wants_read(link));
    rig.wait(100_000);
    rig.verify();
    rig.wait(1_000);
    assert!(rig.machine.wants_read(link) && rig.hung_up.is_empty(), "it was we who did not listen");
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), "a=1 b=2");
    rig.cut(0);
    assert_eq!(rig.connect(0), "REPLICATE FROM 78 11 ID sluicegate#0");
}

#[test]
fn a_primary_that_falls_silent_is_left_and_asked_again() {
    let upstream = Upstream::new("primary", 6004, 1);
    let mut rig = Rig::with(upstream, vec![(Kind::Plain, view("all", 1))]);
    rig.seed(0, &[("a", "1")], 10);
    for _ in 0..100 {
        rig.wait(1_000);
        rig.say(0, format!("+PING {G} 10\r\n"));
    }
    rig.wait(59_000);
    assert!(rig.hung_up.is_empty());
    rig.wait(2_000);
    assert_eq!(rig.hung_up.len(), 1);
    assert!(rig.noted("upstream-lost").unwrap().contains("it says nothing any more"));
    assert_eq!(rig.connect(0), "REPLICATE FROM 77 10 ID sluicegate#0");
}

#[test]
fn attempts_come_more_and_more_seldom_while_they_fail() {
    let mut rig = Rig::one(Kind::Plain);
    let mut waited = Vec::new();
    for _ in 0..8 {
        waited.push(rig.dialed(0));
        rig.handle(Input::DialFailed(0, "refused".into()));
    }
    assert_eq!(waited, [0, 200, 400, 800, 1_600, 3_200, 6_400, 10_000]);
    rig.seed(0, &[], 0);
    rig.wait(3_000);
    rig.cut(0);
    assert_eq!(rig.dialed(0), 200, "and soon again when a link was a good one");
    rig.handle(Input::DialFailed(0, "refused".into()));
    rig.dialed(0);
    rig.wait(5_000);
    assert!(rig.notes.iter().any(|note| note.text.contains("no answer")), "one that hangs is given up");
}

#[test]
fn a_primary_that_falls_silent_in_a_snapshot_is_left() {
    let mut rig = Rig::with(Upstream::new("primary", 6004, 1), vec![(Kind::Plain, view("all", 1))]);
    rig.connect(0);
    rig.say(0, format!("+ACK {G} 0\r\n+SNAPSHOT\r\n"));
    rig.wait(59_000);
    assert_eq!((rig.hung_up.len(), rig.arriving()), (0, 1));
    rig.wait(2_000);
    assert_eq!((rig.hung_up.len(), rig.arriving()), (1, 0), "what has come of it is not kept");
    assert_eq!(rig.connect(0), NOTHING);
}

#[test]
fn a_primary_without_heartbeats_may_be_silent_for_ever() {
    let upstream = Upstream { dialect: Some(Dialect::K1), ..Upstream::new("primary", 6004, 1) };
    let mut rig = Rig::with(upstream, vec![(Kind::Plain, view("all", 1))]);
    rig.connect(0);
    rig.say(0, "+ACK 0\r\n");
    rig.say(0, given(&snapshot(&[("a", "1")]), 10));
    rig.wait(600_000);
    rig.say(0, live(10, "SET b 2"));
    let mut replica = rig.attach(0, 0, None, 0);
    replica.drain(&mut rig);
    assert_eq!((rig.hung_up.len(), replica.keys()), (0, "a=1 b=2".into()));
}

#[test]
fn an_attempt_that_was_given_up_says_nothing_of_the_next() {
    let mut rig = Rig::one(Kind::Plain);
    rig.dialed(0);
    rig.wait(5_000);
    rig.seed(0, &[("a", "1")], 10);
    rig.handle(Input::DialFailed(0, "refused at last".into()));
    rig.say(0, live(10, "SET b 2"));
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), "a=1 b=2");
    let late = rig.link();
    rig.handle(Input::Connected(0, late));
    assert_eq!(rig.hung_up, [late].into(), "one link to a shard is enough");
}

#[test]
fn nothing_is_taken_of_a_link_that_was_given_up() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    let mut replica = rig.replica(0, 0);
    rig.say(0, [b"+PING 78 10\r\n".to_vec(), live(10, "SET of another-history")].concat());
    replica.drain(&mut rig);
    assert_eq!((rig.hung_up.len(), replica.keys()), (1, "a=1".into()), "although it came in the same read");
}

#[test]
fn a_snapshot_that_comes_faster_than_the_disk_takes_it_is_not_read() {
    let mut rig = Rig::one(Kind::Plain);
    rig.writes_itself = false;
    let body = given(&snapshot(&[("a", &"x".repeat(5 << 20))]), 10);
    let (most, rest) = body.split_at(body.len() - 100_000);
    let begins = |rig: &mut Rig| {
        assert_eq!(rig.connect(0), NOTHING);
        rig.say(0, format!("+ACK {G} 0\r\n"));
        rig.say(0, &most[..3 << 20]);
        assert!(rig.machine.wants_read(rig.up(0).unwrap()));
        rig.say(0, &most[3 << 20..]);
        assert!(!rig.machine.wants_read(rig.up(0).unwrap()), "more than four mebibytes wait for the disk");
    };
    begins(&mut rig);
    rig.cut(0);
    begins(&mut rig);
    rig.write_spools();
    assert!(rig.machine.wants_read(rig.up(0).unwrap()), "the disk has taken them");
    // The last of it is told to be written after the whole was found good.
    rig.say(0, rest);
    assert!(rig.machine.wants_read(rig.up(0).unwrap()));
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    assert_eq!(replica.keys().len(), 2 + (5 << 20));
    rig.say(0, &body);
    assert!(rig.machine.wants_read(rig.up(0).unwrap()), "what was found good is on disk, whatever was told of it");
}

#[test]
fn a_frame_may_be_as_large_as_the_most_generous_view_takes_it() {
    let bounded = |name: &str, bytes| {
        let mut view = view(name, 1);
        view.view.frame_bytes_max = bytes;
        (Kind::Plain, view)
    };
    let mut rig = Rig::new(1, vec![bounded("large", 4 << 20), bounded("small", 1 << 20)]);
    rig.seed(0, &[], 10);
    rig.say(0, super::rig::large(10, "k", 2 << 20));
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    assert_eq!((rig.hung_up.len(), replica.keys().len()), (0, 2 + (2 << 20)));
}

#[test]
fn nonsense_between_the_pieces_of_a_snapshot_leaves_nothing_of_it() {
    let mut rig = Rig::one(Kind::Plain);
    rig.connect(0);
    rig.say(0, format!("+ACK {G} 0\r\n"));
    rig.say(0, &given(&snapshot(&[("a", "1")]), 10)[..11]);
    assert_eq!(rig.arriving(), 1);
    rig.say(0, "$0\r\n\r\n");
    assert_eq!((rig.hung_up.len(), rig.arriving()), (1, 0));
    rig.seed(0, &[("a", "1")], 10);
}

#[test]
fn a_primary_that_has_to_be_asked_anew_is_asked_at_once() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    rig.wait(3_000);
    rig.say(0, "+PING 78 10\r\n");
    assert_eq!((rig.hung_up.len(), rig.dialed(0)), (1, 0));
    rig.handle(Input::DialFailed(0, "refused".into()));
    assert_eq!(rig.dialed(0), 200, "it was no failed attempt");
}

#[test]
fn a_connection_that_comes_up_when_it_was_given_up_is_taken_where_there_is_no_other() {
    let mut rig = Rig::one(Kind::Plain);
    // The first of two addresses swallows every attempt: the second one's turn comes when the first one's time is over.
    rig.dialed(0);
    rig.wait(5_000);
    assert!(rig.noted("upstream-unreachable").unwrap().contains("no answer"));
    assert_eq!(rig.arrives(0), NOTHING);
    rig.say(0, format!("+ACK {G} 0\r\n"));
    rig.say(0, given(&snapshot(&[("a", "1")]), 10));
    let second = rig.link();
    rig.handle(Input::Connected(0, second));
    assert_eq!(rig.hung_up, [second].into(), "one link is enough");
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), "a=1");
}

#[test]
fn a_snapshot_settles_what_was_owed_before_it() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    rig.verifies_itself = false;
    // It was ahead of us, as busy primaries are, and then had to give a snapshot, which takes its time.
    rig.say(0, format!("+PING {G} 12\r\n"));
    rig.say(0, given(&snapshot(&[("a", "2")]), 20));
    rig.wait(10_000);
    rig.verify();
    rig.wait(1_000);
    rig.say(0, format!("+PING {G} 21\r\n"));
    rig.wait(1_000);
    rig.say(0, live(20, "SET b 2"));
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    assert_eq!((replica.keys(), rig.hung_up.len(), rig.spooled), ("a=2 b=2".into(), 0, 2), "one is enough");
}

#[test]
fn a_frame_that_takes_long_to_come_is_not_one_that_is_held_back() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    rig.say(0, format!("+PING {G} 11\r\n"));
    let frame = large(10, "k", 1_000_000);
    for piece in frame.chunks(100_000) {
        rig.say(0, piece);
        rig.wait(1_000);
    }
    rig.say(0, format!("+PING {G} 11\r\n"));
    rig.wait(5_000);
    assert_eq!((rig.hung_up.len(), rig.spooled), (0, 1));
}

#[test]
fn a_primary_that_reads_nothing_is_not_answered_without_end() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    let link = rig.up(0).unwrap();
    for _ in 0..100 {
        rig.say(0, format!("+PING {G} 10\r\n").repeat(100));
    }
    let waiting = rig.machine.outbox(link).unwrap().len();
    assert!((1..10_000).contains(&waiting), "{waiting} bytes wait");
    rig.told(0);
    rig.say(0, format!("+PING {G} 10\r\n"));
    assert_eq!(rig.told(0), b"REPLCONF ACK 10\r\n");
}

#[test]
fn a_primary_that_makes_us_ask_anew_is_not_asked_without_end() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    rig.wait(3_000);
    rig.say(0, format!("+PING {G} 9\r\n"));
    let mut waited = Vec::new();
    for _ in 0..5 {
        waited.push(rig.dialed(0));
        rig.arrives(0);
        rig.say(0, format!("+ACK {G} 0\r\n"));
        rig.say(0, given(&snapshot(&[("a", "1")]), 10));
        rig.say(0, format!("+PING {G} 9\r\n"));
    }
    assert_eq!(waited, [0, 200, 400, 800, 1_600], "each costs it a snapshot, and every replica, too");
}
