//! What a primary speaks is found out, and its history is known by what that dialect says of it.

use sluicegate_core::contract::Drive;
use sluicegate_core::kevy::Dialect;
use sluicegate_core::kevy::settings::Upstream;

use super::rig::{G, Kind, NOTHING, Rig, given, live, snapshot, view};

const FIVE_WORDS: &str = "REPLICATE FROM 0 ID sluicegate#0";

/// What is acknowledged to the primary when it has said this.
fn acknowledged(rig: &mut Rig, said: impl AsRef<[u8]>) -> String {
    rig.told(0);
    rig.say(0, said);
    String::from_utf8(rig.told(0)).unwrap()
}

#[test]
fn the_newest_dialect_is_tried_first_and_then_that_of_five_words() {
    let mut rig = Rig::one(Kind::Plain);
    assert_eq!(rig.connect(0), NOTHING);
    rig.cut(0);
    assert_eq!(rig.connect(0), FIVE_WORDS, "one that closes without a word may be older");
    rig.cut(0);
    assert_eq!(rig.connect(0), NOTHING, "or was just being started");
    rig.cut(0);
    assert_eq!(rig.connect(0), FIVE_WORDS);
    rig.say(0, "+ACK 0\r\n");
    assert_eq!(acknowledged(&mut rig, given(&snapshot(&[("a", "1")]), 10)), "", "K1: it does not listen");
    rig.wait(5_000);
    assert_eq!(acknowledged(&mut rig, live(10, "SET b 2")), "");
    assert_eq!(acknowledged(&mut rig, format!("+PING {G} 11\r\n")), "REPLCONF ACK 11\r\n", "a heartbeat makes it K2");
    rig.wait(1_000);
    assert_eq!(rig.told(0), b"REPLCONF ACK 11\r\n");
    let mut replica = rig.attach(0, 0, None, 0);
    replica.drain(&mut rig);
    assert_eq!((replica.keys(), rig.spooled), ("a=1 b=2".into(), 1));
}

#[test]
fn a_primary_of_the_newest_dialect_is_known_by_its_generation() {
    let mut rig = Rig::one(Kind::Plain);
    rig.connect(0);
    rig.say(0, format!("+ACK {G} 0\r\n"));
    assert_eq!(
        acknowledged(&mut rig, given(&snapshot(&[("a", "1")]), 10)),
        "REPLCONF ACK 10\r\n",
        "as soon as it is safe"
    );
    assert_eq!(acknowledged(&mut rig, format!("+PING {G} 10\r\n")), "REPLCONF ACK 10\r\n");
    rig.cut(0);
    assert_eq!(rig.connect(0), "REPLICATE FROM 77 10 ID sluicegate#0");
}

#[test]
fn a_configured_dialect_is_the_only_one() {
    for (dialect, hello) in [(Dialect::K1, FIVE_WORDS), (Dialect::K2, FIVE_WORDS), (Dialect::K3, NOTHING)] {
        let upstream = Upstream { dialect: Some(dialect), ..Upstream::new("primary", 6004, 1) };
        let mut rig = Rig::with(upstream, vec![(Kind::Plain, view("all", 1))]);
        for _ in 0..3 {
            assert_eq!(rig.connect(0), hello);
            rig.cut(0);
        }
        assert!(rig.noted("upstream-lost").unwrap().contains("a dialect that it does not speak"));
    }
}

#[test]
fn a_primary_that_was_replaced_by_another_version_is_found_out_again() {
    let mut rig = Rig::one(Kind::Plain);
    rig.connect(0);
    rig.cut(0);
    rig.connect(0);
    rig.say(0, "+ACK 0\r\n");
    rig.say(0, given(&snapshot(&[("a", "1")]), 10));
    rig.say(0, "+PING 5 10\r\n");
    let old = rig.attach(0, 0, None, 0);
    for _ in 0..3 {
        rig.cut(0);
        assert_eq!(rig.connect(0), FIVE_WORDS, "a network closes links without a word, too");
    }
    rig.cut(0);
    // Were it asked to go on, replicas that are older than it would go on, too, and it may.
    assert_eq!(rig.connect(0), NOTHING);
    rig.say(0, "+ACK 5 0\r\n");
    rig.say(0, given(&snapshot(&[("a", "2")]), 10));
    rig.say(0, live(10, "SET b 2"));
    assert!(rig.closed.contains(&old.link));
    rig.attach(0, 0, None, 0);
    assert!(rig.noted("replica-refused").unwrap().contains("older than the primary"));
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), "a=2 b=2");
    rig.cut(0);
    assert_eq!(rig.connect(0), "REPLICATE FROM 5 11 ID sluicegate#0");
}

#[test]
fn the_heartbeat_behind_a_snapshot_names_the_generation_that_goes_on() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    // FLUSHALL: the stream goes on with a snapshot of nothing, in another history.
    rig.say(0, given(&snapshot(&[]), 0));
    rig.say(0, [live(0, "SET b 2"), b"+PING 78 1\r\n".to_vec(), live(1, "SET c 3")].concat());
    assert_eq!((rig.hung_up.len(), rig.spooled), (0, 2), "it may be named only then");
    rig.cut(0);
    assert_eq!(rig.connect(0), "REPLICATE FROM 78 2 ID sluicegate#0");
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), "b=2 c=3");
    rig.say(0, "+ACK 78 2\r\n+PING 79 2\r\n");
    assert_eq!(rig.hung_up.len(), 1, "without a snapshot before it, it means that ours has ended");
    assert_eq!(rig.connect(0), NOTHING);
}

#[test]
fn an_old_primary_whose_heartbeat_names_an_empty_new_history_begins_anew() {
    let mut rig = Rig::old(Dialect::K2, Kind::Plain);
    let mut replica = rig.attach(0, 0, None, 0);
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), "a=1");
    // On a link that is up, and on the next one.
    rig.say(0, "+PING 78 0\r\n");
    assert_eq!((rig.hung_up.len(), rig.connect(0)), (1, FIVE_WORDS.into()));
    assert!(!rig.closed.contains(&replica.link), "until something is known");
    rig.say(0, "+ACK 0\r\n+PING 78 0\r\n");
    assert!(rig.closed.contains(&replica.link));
    let mut again = rig.attach(0, 0, None, replica.place().1);
    rig.say(0, live(0, "SET b 2"));
    again.drain(&mut rig);
    assert_eq!((again.keys(), rig.spooled), ("b=2".into(), 1), "no snapshot of the primary's, and nothing of before");
}

#[test]
fn an_old_primary_that_was_killed_does_not_empty_a_view() {
    for dialect in [Dialect::K1, Dialect::K2] {
        let mut rig = Rig::old(dialect, Kind::Plain);
        let mut replica = rig.attach(0, 0, None, 0);
        replica.drain(&mut rig);
        rig.cut(0);
        // It has loaded `a=1`, and counts from 0 as if there were nothing (3.17.3 and 1.19.0 do, killed with an AOF).
        let heartbeat = |next: u64| if dialect == Dialect::K2 { format!("+PING 78 {next}\r\n") } else { String::new() };
        assert_eq!(rig.connect(0), FIVE_WORDS);
        rig.say(0, format!("+ACK 0\r\n{}", heartbeat(0)));
        rig.wait(6_000);
        assert!(rig.noted("upstream-unsaid").unwrap().contains("write to it"), "{dialect:?}");
        rig.told(0);
        rig.say(0, [live(0, "SET b 2"), heartbeat(1).into_bytes(), live(1, "SET b 3")].concat());
        let acknowledged = String::from_utf8(rig.told(0)).unwrap();
        assert_eq!(
            acknowledged.ends_with("REPLCONF ACK 2\r\n"),
            dialect == Dialect::K2,
            "that is what frees its backlog"
        );
        assert_eq!((rig.closed.len(), rig.hung_up.len()), (0, 0), "replicas keep what they have");
        rig.wait(600);
        // Without its first frames it has nothing to give but a snapshot.
        assert_eq!((rig.hung_up.len(), rig.connect(0)), (1, FIVE_WORDS.into()));
        rig.say(0, "+ACK 0\r\n");
        rig.say(0, given(&snapshot(&[("a", "1"), ("b", "3")]), 2));
        let mut back = rig.attach(0, 0, None, replica.place().1);
        back.drain(&mut rig);
        assert_eq!(back.keys(), "a=1 b=3", "{dialect:?}");
    }
}

#[test]
fn an_old_primary_that_keeps_all_its_frames_is_believed_in_the_end() {
    let mut rig = Rig::old(Dialect::K2, Kind::Plain);
    rig.cut(0);
    for attempt in 0..2 {
        rig.connect(0);
        rig.say(0, [b"+ACK 0\r\n".to_vec(), live(0, "SET b 2"), b"+PING 78 1\r\n".to_vec()].concat());
        rig.wait(1_000);
        assert_eq!(rig.hung_up.len(), 1, "attempt {attempt}");
    }
    assert!(rig.noted("upstream-unsaid").unwrap().contains("not in the views"));
    let mut replica = rig.attach(0, 0, None, 0);
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), "b=2");
}

#[test]
fn an_old_primary_is_never_asked_to_go_on() {
    for dialect in [Dialect::K1, Dialect::K2] {
        let mut rig = Rig::old(dialect, Kind::Plain);
        let mut replica = rig.attach(0, 0, None, 0);
        rig.cut(0);
        // It was started anew. Had it been asked for frame 10, it would have kept silent and then given that one, as if the
        // ten before it were ours.
        assert_eq!(rig.connect(0), FIVE_WORDS, "{dialect:?}");
        rig.say(0, "+ACK 0\r\n");
        rig.say(0, live(10, "SET z 1"));
        replica.drain(&mut rig);
        assert_eq!((replica.keys(), rig.hung_up.len()), ("a=1".into(), 1), "{dialect:?}");
        assert_eq!(rig.connect(0), FIVE_WORDS);
        rig.say(0, "+ACK 0\r\n");
        rig.say(0, given(&snapshot(&[("b", "2")]), 11));
        let mut back = rig.attach(0, 0, None, replica.place().1);
        back.drain(&mut rig);
        assert_eq!(back.keys(), "b=2", "{dialect:?}");
    }
}

#[test]
fn an_empty_primary_has_no_snapshot_to_give() {
    let mut rig = Rig::one(Kind::Rename);
    rig.connect(0);
    rig.say(0, format!("+ACK {G} 0\r\n"));
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    assert_eq!(replica.told(), "");
    rig.say(0, format!("+PING {G} 0\r\n"));
    rig.say(0, live(0, "SET r:b 2"));
    replica.drain(&mut rig);
    assert_eq!((replica.keys(), rig.spooled), ("moved:b=2".into(), 0));
    let mut links = Vec::new();
    rig.told(0);
    rig.machine.links_with_output(&mut links);
    assert_eq!(links, []);
}

#[test]
fn a_heartbeat_between_the_pieces_says_of_which_history_the_snapshot_is() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    let body = given(&snapshot(&[("b", "2")]), 3);
    rig.say(0, [&body[..11], b"+PING 78 3\r\n", &body[11..], b"+PING 78 3\r\n"].concat());
    rig.cut(0);
    assert_eq!(rig.connect(0), "REPLICATE FROM 78 3 ID sluicegate#0");
    rig.say(0, "+ACK 78 3\r\n");
    rig.say(0, [&body[..11], b"+PING 79 3\r\n", &body[11..], b"+PING 80 3\r\n"].concat());
    assert_eq!(rig.hung_up.len(), 1, "what follows a snapshot is of the same history");
    assert_eq!(rig.connect(0), NOTHING);
}

#[test]
fn a_heartbeat_that_names_no_generation_is_no_sign_of_another_history() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    let body = given(&snapshot(&[("b", "2")]), 3);
    rig.say(0, "+PING 10\r\n");
    rig.say(0, [&body[..11], b"+PING 3\r\n", &body[11..], b"+PING 3\r\n"].concat());
    rig.say(0, live(3, "SET c 3"));
    assert_eq!(rig.hung_up.len(), 0);
    rig.cut(0);
    assert_eq!(rig.connect(0), format!("REPLICATE FROM {G} 4 ID sluicegate#0"));
}

#[test]
fn a_heartbeat_before_the_snapshot_is_not_taken_for_its_absence() {
    let mut rig = Rig::one(Kind::Plain);
    let mut replica = rig.replica(0, 0);
    rig.connect(0);
    rig.say(0, format!("+ACK {G} 0\r\n+PING {G} 10\r\n"));
    rig.wait(6_000);
    replica.drain(&mut rig);
    assert_eq!(
        (replica.told(), rig.noted("upstream-unsaid")),
        (String::new(), None),
        "it makes one, and says how far it is"
    );
    rig.say(0, given(&snapshot(&[("a", "1")]), 10));
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), "a=1");
}

#[test]
fn a_primary_that_was_replaced_by_an_older_one_feeds_older_replicas() {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    for _ in 0..3 {
        rig.cut(0);
        assert_eq!(rig.connect(0), "REPLICATE FROM 77 10 ID sluicegate#0");
    }
    rig.cut(0);
    assert_eq!(rig.connect(0), FIVE_WORDS);
    rig.cut(0);
    assert_eq!(rig.connect(0), "REPLICATE FROM 77 10 ID sluicegate#0", "what it does not speak it is asked once");
    for _ in 0..2 {
        rig.cut(0);
        rig.connect(0);
    }
    rig.say(0, "+ACK 0\r\n");
    assert_eq!(acknowledged(&mut rig, given(&snapshot(&[("b", "2")]), 10)), "", "nor is anything acknowledged to it");
    let mut replica = rig.attach(0, 0, None, 0);
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), "b=2");
}

#[test]
fn an_old_primary_that_was_emptied_behind_its_snapshot_begins_anew() {
    let mut rig = Rig::with(
        Upstream { dialect: Some(Dialect::K2), ..Upstream::new("primary", 6004, 1) },
        vec![(Kind::Plain, view("all", 1))],
    );
    rig.connect(0);
    rig.say(0, "+ACK 0\r\n+PING 5 10\r\n");
    rig.say(0, given(&snapshot(&[("a", "1")]), 10));
    assert!(rig.hung_up.is_empty());
    rig.say(0, "+PING 6 10\r\n");
    assert_eq!((rig.hung_up.len(), rig.connect(0)), (1, FIVE_WORDS.into()), "it says so by the generation alone");
}
