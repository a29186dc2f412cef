//! What that pump does badly where the primary has it, and what becomes of it here: `docs/kevy-seed.md`, the second table.

use sluicegate_core::contract::{Input, Level};
use sluicegate_core::kevy::Dialect;
use sluicegate_core::kevy::settings::Upstream;

use super::replica::Replica;
use super::rig::{G, Kind, NOTHING, Rig, given, large, live, snapshot, view};

/// A primary with `a=1` whose next frame is number 10, and a replica that is up.
fn pair() -> (Rig, Replica) {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    (rig, replica)
}

#[test]
fn weakness_01_a_primary_that_holds_a_frame_back_is_asked_for_a_snapshot() {
    let (mut rig, mut replica) = pair();
    // A heartbeat that is ahead of a frame on its way is no sign of it.
    rig.say(0, format!("+PING {G} 11\r\n"));
    rig.wait(2_000);
    rig.say(0, live(10, "SET b 2"));
    rig.wait(10_000);
    assert!(rig.hung_up.is_empty());
    for _ in 0..5 {
        rig.say(0, format!("+PING {G} 12\r\n"));
        rig.wait(900);
    }
    assert_eq!(rig.hung_up.len(), 1);
    assert!(rig.noted("upstream-wedged").unwrap().contains("frames that it does not send"));
    replica.drain(&mut rig);
    assert_eq!((replica.keys(), rig.closed.len()), ("a=1 b=2".into(), 0), "until then it has what there was");
    assert_eq!(rig.connect(0), NOTHING);
    rig.say(0, format!("+ACK {G} 0\r\n"));
    rig.say(0, given(&snapshot(&[("a", "1"), ("b", "2"), ("big", &"x".repeat(300_000))]), 12));
    let mut again = rig.attach(0, 0, Some(replica.place().0), replica.place().1);
    again.drain(&mut rig);
    assert!(again.keys().len() > 300_000, "the snapshot has brought the value");
    let mut rig = Rig::old(Dialect::K2, Kind::Plain);
    for _ in 0..5 {
        rig.say(0, format!("+PING {G} 11\r\n"));
        rig.wait(900);
    }
    let notes: Vec<_> = rig.notes.iter().filter(|note| note.event == "upstream-wedged").collect();
    let [note] = notes[..] else { panic!("{notes:?}") };
    assert!(note.level == Level::Error && note.text.contains("restart it"), "one that cannot be asked: {}", note.text);
    assert!(rig.hung_up.is_empty());
}

#[test]
fn weakness_02_a_primary_that_leaves_a_gap_is_not_believed() {
    // A gap, a frame for the second time, and one at the end of a batch.
    let stories: &[&[u64]] = &[&[11], &[9], &[0], &[10, 12], &[10, 10], &[10, 11, 13]];
    for story in stories {
        let (mut rig, mut replica) = pair();
        rig.say(0, story.iter().flat_map(|&offset| live(offset, &format!("SET at {offset}"))).collect::<Vec<_>>());
        replica.drain(&mut rig);
        let sound = story.iter().zip(10..).take_while(|(offset, next)| *offset == next).last();
        let expected = sound.map_or("a=1".into(), |(offset, _)| format!("a=1 at={offset}"));
        assert_eq!((replica.keys(), rig.hung_up.len()), (expected, 1), "{story:?}");
        assert!(rig.noted("upstream-failed").unwrap().contains("is next"), "{story:?}");
        assert_eq!(rig.connect(0), NOTHING, "{story:?}: nothing of it is joined to what we hold");
    }
    let (mut rig, mut replica) = pair();
    rig.say(0, format!("+PING {G} 9\r\n"));
    assert_eq!((rig.hung_up.len(), rig.connect(0)), (1, NOTHING.into()), "nor one that has gone back");
    rig.say(0, format!("+ACK {G} 0\r\n"));
    rig.say(0, live(5, "SET b 2"));
    replica.drain(&mut rig);
    assert_eq!((replica.keys(), rig.hung_up.len()), ("a=1".into(), 2), "nor one that begins in the middle");
}

#[test]
fn weakness_10_an_upstream_link_is_hung_up_and_never_just_closed() {
    type Act = fn(&mut Rig);
    let acts: &[(&str, Act)] = &[
        ("a gap", |rig| rig.say(0, live(12, "SET b 2"))),
        ("nonsense", |rig| rig.say(0, "-ERR what\r\n")),
        ("a frame that is too large", |rig| rig.say(0, large(10, "k", 2 << 20))),
        ("a broken snapshot", |rig| rig.say(0, given(b"KEVYSNAP\x06", 20))),
        ("another history", |rig| {
            rig.say(0, format!("+PING {G} 10\r\n"));
            rig.say(0, "+PING 78 10\r\n");
        }),
        ("silence", |rig| rig.wait(61_000)),
        ("a frame that is held back", |rig| {
            for _ in 0..3 {
                rig.wait(2_000);
                rig.say(0, format!("+PING {G} 11\r\n"));
            }
        }),
        ("the end", |rig| rig.handle(Input::Shutdown)),
    ];
    for (what, act) in acts {
        let mut all = view("all", 1);
        all.view.frame_bytes_max = 1 << 20;
        let mut rig = Rig::with(Upstream::new("primary", 6004, 1), vec![(Kind::Plain, all)]);
        rig.seed(0, &[("a", "1")], 10);
        act(&mut rig);
        // That no link to the primary is closed is seen to by the rig.
        assert_eq!((rig.hung_up.len(), rig.up(0)), (1, None), "{what}");
    }
    let mut rig = Rig::one(Kind::Plain);
    rig.connect(0);
    rig.wait(6_000);
    assert_eq!(rig.hung_up.len(), 1, "a handshake without an answer");
    rig.handle(Input::Shutdown);
    let late = rig.link();
    rig.handle(Input::Connected(0, late));
    assert!(rig.hung_up.contains(&late), "a connection that comes up too late");
}

#[test]
fn weakness_12_a_primary_that_says_nothing_about_its_data_is_told_to_the_operator() {
    let upstream = || Upstream { dialect: Some(Dialect::K1), ..Upstream::new("primary", 6004, 1) };
    let mut rig = Rig::with(upstream(), vec![(Kind::Plain, view("all", 1))]);
    assert_eq!(rig.connect(0), "REPLICATE FROM 0 ID sluicegate#0");
    rig.say(0, "+ACK 0\r\n");
    rig.wait(4_000);
    assert_eq!(rig.noted("upstream-unsaid"), None);
    rig.wait(2_000);
    assert!(rig.noted("upstream-unsaid").unwrap().contains("until its next write"));
    rig.wait(20_000);
    assert_eq!(rig.noted("upstream-unsaid"), None, "once");
    rig.say(0, live(0, "SET a 1"));
    assert!(rig.noted("upstream-unsaid").unwrap().contains("in neither"));
    let mut replica = rig.attach(0, 0, None, 0);
    replica.drain(&mut rig);
    assert_eq!(replica.keys(), "a=1", "and what it does say is served");
    // Where a snapshot comes there is nothing to tell. A heartbeat that says 0 is none, whatever was loaded.
    for (said, told) in [(given(&snapshot(&[]), 3), false), (b"+PING 5 0\r\n".to_vec(), true)] {
        let mut rig = Rig::with(upstream(), vec![(Kind::Plain, view("all", 1))]);
        rig.connect(0);
        rig.say(0, "+ACK 0\r\n");
        rig.say(0, said);
        rig.wait(10_000);
        assert_eq!(rig.noted("upstream-unsaid").is_some(), told);
    }
}

#[test]
fn weakness_15_a_broken_snapshot_is_not_served() {
    let whole = snapshot(&[("a", "1"), ("b", "2")]);
    let mut flawed = whole.clone();
    flawed[25] = 99;
    for broken in [&whole[..whole.len() - 4], &flawed, &b"KEVY"[..]] {
        let mut rig = Rig::one(Kind::Filter);
        let mut replica = rig.replica(0, 0);
        rig.connect(0);
        rig.say(0, format!("+ACK {G} 0\r\n"));
        rig.say(0, given(broken, 10));
        assert_eq!(rig.hung_up.len(), 1);
        assert!(rig.noted("upstream-failed").is_some());
        replica.drain(&mut rig);
        assert_eq!((replica.bytes.len(), rig.ships.len()), (0, 0));
        rig.seed(0, &[("a", "1"), ("b", "2")], 10);
        replica.drain(&mut rig);
        assert_eq!(replica.keys(), "a=1 b=2");
    }
}
