//! Views whose streams are made of several shards of the primary begin, and begin anew, when all of these are there.

use std::collections::BTreeSet;

use sluicegate_core::kevy::route::{Routing, shard_of};

use super::replica::Replica;
use super::rig::{G, Kind, Rig, given, large, live, snapshot, view};
use crate::model::{Entry, Model, blob};

/// Two shards, and a view of `shards` shards.
fn two(kind: Kind, shards: usize) -> Rig {
    Rig::new(2, vec![(kind, view("mixed", shards))])
}

/// What the replicas of all ports hold together. Each key is where a client would look for it.
fn union(rig: &mut Rig, replicas: &mut [Replica]) -> String {
    let shards = replicas.len();
    let mut all = BTreeSet::new();
    for (port, replica) in replicas.iter_mut().enumerate() {
        replica.drain(rig);
        for pair in replica.keys().split_whitespace() {
            let key = pair.split('=').next().unwrap();
            assert_eq!(shard_of(key.as_bytes(), shards, Routing::Hashtag), port, "{key}");
            assert!(all.insert(pair.to_owned()));
        }
    }
    all.into_iter().collect::<Vec<_>>().join(" ")
}

fn replicas(rig: &mut Rig, shards: usize) -> Vec<Replica> {
    replicas_of(rig, 0, shards)
}

fn replicas_of(rig: &mut Rig, view: usize, shards: usize) -> Vec<Replica> {
    (0..shards).map(|port| rig.replica(view, port)).collect()
}

// Of two shards `r:1`, `r:2` and `r:3` lie where they lie, and their new names may lie elsewhere.
const KEYS: &[(&str, &str)] = &[("r:1", "1"), ("r:2", "2"), ("r:3", "3"), ("r:4", "4"), ("k1", "5"), ("x:1", "6")];

/// Gives each shard the keys that lie there.
fn seeded(rig: &mut Rig, shard: usize, shards: usize) {
    let keys = KEYS.iter().filter(|(key, _)| shard_of(key.as_bytes(), shards, Routing::Hashtag) == shard);
    let keys: Vec<(&str, &str)> = keys.copied().collect();
    rig.seed(shard, &keys, 10);
}

#[test]
fn a_view_that_renames_lives_when_every_shard_has_given_its_snapshot() {
    let mut rig = two(Kind::Rename, 2);
    let mut replicas = replicas(&mut rig, 2);
    seeded(&mut rig, 0, 2);
    // What an early shard says while the other is awaited is not lost.
    rig.say(0, live(10, "SET r:10 10"));
    rig.cut(0);
    rig.connect(0);
    rig.say(0, format!("+ACK {G} 11\r\n"));
    rig.say(0, live(11, "SET r:11 11"));
    assert_eq!(union(&mut rig, &mut replicas), "");
    assert!(replicas.iter().all(|replica| replica.bytes.is_empty()), "half a view is none");
    seeded(&mut rig, 1, 2);
    rig.say(0, live(12, "SET r:12 12"));
    rig.say(1, live(10, "SET r:13 13"));
    let names = "moved:10=10 moved:11=11 moved:12=12 moved:13=13 moved:1=1 moved:2=2 moved:3=3 moved:4=4";
    assert_eq!(union(&mut rig, &mut replicas), format!("k1=5 {names}"));
    assert_eq!((rig.closed.len(), rig.hung_up.len(), rig.spooled), (0, 0, 2));
}

#[test]
fn a_shard_that_begins_anew_makes_the_others_of_its_view_do_so() {
    let mut rig = two(Kind::Rename, 2);
    seeded(&mut rig, 0, 2);
    seeded(&mut rig, 1, 2);
    rig.say(1, live(10, "SET r:20 20"));
    let mut before = replicas(&mut rig, 2);
    union(&mut rig, &mut before);
    let link = rig.up(1).unwrap();
    // FLUSHALL on one shard.
    rig.say(0, given(&snapshot(&[]), 0));
    rig.say(0, live(0, "SET r:21 21"));
    assert!(before.iter().all(|replica| rig.closed.contains(&replica.link)), "what they hold is no longer the view");
    assert!(rig.hung_up.contains(&link), "the snapshot of the other stands at the beginning of the old round");
    let mut after: Vec<Replica> = before
        .iter()
        .enumerate()
        .map(|(port, replica)| rig.attach(0, port, Some(replica.place().0), replica.place().1))
        .collect();
    assert_eq!(union(&mut rig, &mut after), "");
    rig.seed(1, &[("r:20", "20")], 11);
    assert_eq!(union(&mut rig, &mut after), "moved:20=20 moved:21=21");
    assert_eq!(rig.hung_up.len(), 1, "and the first one is not asked again");
}

#[test]
fn shards_of_a_view_that_mixes_nothing_live_and_begin_anew_by_themselves() {
    let mut rig = two(Kind::Filter, 2);
    rig.seed(0, &[("a", "1")], 10);
    let mut first = rig.replica(0, 0);
    let mut second = rig.replica(0, 1);
    first.drain(&mut rig);
    assert_eq!(first.keys(), "a=1");
    rig.seed(1, &[("b", "1")], 10);
    rig.say(0, given(&snapshot(&[]), 0));
    rig.say(1, live(10, "SET k1 2"));
    second.drain(&mut rig);
    assert_eq!(second.keys(), "b=1 k1=2");
    assert_eq!((rig.closed, rig.hung_up.len()), ([first.link].into(), 0));
}

#[test]
fn a_view_may_have_more_shards_than_the_primary_or_fewer() {
    for (of, to) in [(1, 2), (2, 1), (2, 3), (3, 2), (4, 2)] {
        for kind in [Kind::Plain, Kind::Rename] {
            let mut rig = Rig::new(of, vec![(kind, view("mixed", to))]);
            let mut early = replicas(&mut rig, to);
            (0..of).for_each(|shard| seeded(&mut rig, shard, of));
            for (at, key) in ["k2", "k3", "q", "b", "r:5"].iter().enumerate() {
                let shard = shard_of(key.as_bytes(), of, Routing::Hashtag);
                let next = 10
                    + ["k2", "k3", "q", "b", "r:5"][..at]
                        .iter()
                        .filter(|key| shard_of(key.as_bytes(), of, Routing::Hashtag) == shard)
                        .count() as u64;
                rig.say(shard, live(next, &format!("SET {key} v")));
            }
            let mut late = replicas(&mut rig, to);
            let expected = match kind {
                Kind::Plain => "b=v k1=5 k2=v k3=v q=v r:1=1 r:2=2 r:3=3 r:4=4 r:5=v x:1=6",
                _ => "b=v k1=5 k2=v k3=v moved:1=1 moved:2=2 moved:3=3 moved:4=4 moved:5=v q=v",
            };
            assert_eq!(union(&mut rig, &mut early), expected, "{of} to {to}, {kind:?}");
            assert_eq!(union(&mut rig, &mut late), expected, "{of} to {to}, {kind:?}");
        }
    }
}

#[test]
fn a_view_that_halts_in_the_middle_of_a_round_can_begin_another() {
    let mut rig = two(Kind::Rename, 2);
    seeded(&mut rig, 0, 2);
    rig.connect(1);
    rig.say(1, format!("+ACK {G} 0\r\n"));
    let body = given(&snapshot(&[]), 10);
    let (some, rest) = body.split_at(body.len() / 2);
    rig.say(1, some);
    rig.say(0, live(10, "SET fail 1"));
    assert!(rig.noted("view-halted").is_some());
    rig.say(1, rest);
    rig.say(1, live(10, "SET r:30 30"));
    assert_eq!(rig.noted("view-live"), None, "it stays halted");
    let link = rig.up(1).unwrap();
    rig.say(0, given(&snapshot(&[("r:31", "31")]), 0));
    assert!(rig.hung_up.contains(&link), "what the other has said since its snapshot is in no stream");
    let mut replicas = replicas(&mut rig, 2);
    rig.seed(1, &[("r:30", "30")], 11);
    assert_eq!(union(&mut rig, &mut replicas), "moved:30=30 moved:31=31");
}

#[test]
fn snapshots_that_are_verified_at_the_same_time_are_all_kept() {
    let mut rig = two(Kind::Rename, 2);
    rig.verifies_itself = false;
    (0..2).for_each(|shard| seeded(&mut rig, shard, 2));
    rig.verify();
    let mut replicas = replicas(&mut rig, 2);
    assert_eq!(union(&mut rig, &mut replicas), "k1=5 moved:1=1 moved:2=2 moved:3=3 moved:4=4");
}

#[test]
fn a_link_that_is_cut_does_not_end_a_round() {
    let mut rig = two(Kind::Rename, 2);
    (0..2).for_each(|shard| seeded(&mut rig, shard, 2));
    let mut replicas = replicas(&mut rig, 2);
    rig.cut(1);
    rig.say(0, live(10, "SET r:40 40"));
    assert_eq!(rig.connect(1), "REPLICATE FROM 77 10 ID sluicegate#1");
    rig.say(1, format!("+ACK {G} 10\r\n"));
    rig.say(1, live(10, "SET r:41 41"));
    assert_eq!(union(&mut rig, &mut replicas), "k1=5 moved:1=1 moved:2=2 moved:3=3 moved:40=40 moved:41=41 moved:4=4");
    assert!(rig.closed.is_empty());
}

#[test]
fn views_that_begin_anew_together_ask_each_shard_once_and_share_its_spool() {
    let mut rig = Rig::new(2, vec![(Kind::Rename, view("two", 2)), (Kind::Plain, view("one", 1))]);
    (0..2).for_each(|shard| seeded(&mut rig, shard, 2));
    let before: Vec<Replica> =
        [replicas_of(&mut rig, 0, 2), replicas_of(&mut rig, 1, 1)].into_iter().flatten().collect();
    let (old, link) = (rig.kept(), rig.up(1).unwrap());
    rig.say(0, given(&snapshot(&[("r:1", "new")]), 0));
    assert_eq!(rig.closed, before.iter().map(|replica| replica.link).collect(), "both views have ended");
    assert_eq!(rig.hung_up, [link].into(), "for both of them the other shard is asked once");
    let (mut two, mut one) = (replicas_of(&mut rig, 0, 2), replicas_of(&mut rig, 1, 1));
    rig.seed(1, &[("r:2", "new")], 20);
    assert_eq!(union(&mut rig, &mut two), "moved:1=new moved:2=new");
    assert_eq!(union(&mut rig, &mut one), "r:1=new r:2=new");
    assert_eq!((rig.spooled, rig.hung_up.len(), rig.kept().len()), (4, 1, 2));
    assert!(rig.kept().iter().all(|id| !old.contains(id)), "what nobody needs any more is gone");
    let (mut two, mut one) = (replicas_of(&mut rig, 0, 2), replicas_of(&mut rig, 1, 1));
    assert_eq!(union(&mut rig, &mut two), "moved:1=new moved:2=new");
    assert_eq!(
        (union(&mut rig, &mut one), rig.spooled),
        ("r:1=new r:2=new".into(), 4),
        "late ones have it of the same spools"
    );
}

#[test]
fn a_spool_stays_as_long_as_one_of_two_views_needs_it() {
    let mut rig = Rig::new(2, vec![(Kind::Rename, view("mixed", 2)), (Kind::Filter, view("apart", 2))]);
    (0..2).for_each(|shard| seeded(&mut rig, shard, 2));
    let mut apart = replicas_of(&mut rig, 1, 2);
    let held = {
        union(&mut rig, &mut apart);
        apart[1].keys()
    };
    let [_, needed] = rig.kept()[..] else { panic!("{:?}", rig.kept()) };
    rig.say(0, given(&snapshot(&[]), 0));
    assert!(rig.closed.contains(&apart[0].link) && !rig.closed.contains(&apart[1].link), "this shard of it goes on");
    assert!(rig.kept().contains(&needed), "the view that mixes is done with it, the other is not");
    let mut late = rig.replica(1, 1);
    late.drain(&mut rig);
    assert_eq!(late.keys(), held);
    let mut mixed = replicas_of(&mut rig, 0, 2);
    assert_eq!(union(&mut rig, &mut mixed), "");
    rig.seed(1, &[("r:2", "new")], 20);
    assert!(!rig.kept().contains(&needed));
    assert_eq!(union(&mut rig, &mut mixed), "moved:2=new");
    let mut apart = replicas_of(&mut rig, 1, 2);
    apart.iter_mut().for_each(|replica| replica.drain(&mut rig));
    assert_eq!((apart[0].keys(), apart[1].keys(), rig.spooled), (String::new(), "r:2=new".into(), 4));
}

#[test]
fn while_a_snapshot_is_on_its_way_only_the_one_that_it_replaces_is_dropped() {
    let mut rig = two(Kind::Plain, 2);
    (0..2).for_each(|shard| seeded(&mut rig, shard, 2));
    let old = rig.kept();
    let body = given(&snapshot(&[("a", "1")]), 0);
    rig.say(0, &body[..20]);
    assert_eq!(rig.kept(), old);
    rig.say(1, given(&snapshot(&[("k1", "1")]), 0));
    assert!(rig.kept().len() == 1 && rig.kept() != old, "nobody is served from the old one any more");
    rig.cut(0);
    rig.say(1, given(&snapshot(&[("k1", "1")]), 0));
    assert_eq!(rig.kept().len(), 1, "nor when the new one did not arrive");
    rig.seed(0, &[("a", "1")], 10);
    let mut replicas = replicas(&mut rig, 2);
    replicas.iter_mut().for_each(|replica| replica.drain(&mut rig));
    assert_eq!((replicas[0].keys(), replicas[1].keys()), ("a=1".into(), "k1=1".into()));
}

#[test]
fn shards_may_give_snapshots_of_different_versions() {
    let mut rig = two(Kind::Rename, 2);
    for (shard, version, key) in [(0, 6, "r:1"), (1, 4, "r:2")] {
        let entry = Entry { code: 1, ttl: None, key: key.as_bytes().to_vec(), rest: blob(b"v") };
        let body = Model { version, entries: vec![entry], aux: None, reads: Vec::new() }.bytes();
        rig.connect(shard);
        rig.say(shard, format!("+ACK {G} 0\r\n"));
        rig.say(shard, given(&body, 10));
    }
    let mut replicas = replicas(&mut rig, 2);
    assert_eq!(union(&mut rig, &mut replicas), "moved:1=v moved:2=v");
    assert!(replicas.iter().all(|replica| replica.snapshot()[8] == 6), "what is made of them has the newer one");
}

#[test]
fn a_view_of_several_shards_that_is_outrun_asks_all_of_them_at_once() {
    let mut small = view("mixed", 1);
    small.view.backlog_bytes = 1 << 20;
    let mut rig = Rig::new(2, vec![(Kind::Plain, small)]);
    (0..2).for_each(|shard| seeded(&mut rig, shard, 2));
    (10..20).for_each(|offset| rig.say(0, large(offset, "k", 300_000)));
    let late = rig.replica(0, 0);
    assert!(rig.closed.contains(&late.link));
    assert_eq!(rig.hung_up.len(), 2);
}

#[test]
fn a_shard_that_is_about_to_give_its_snapshot_is_not_asked_again() {
    let mut rig = two(Kind::Rename, 2);
    seeded(&mut rig, 0, 2);
    seeded(&mut rig, 1, 2);
    // Both histories end, and both shards are asked; the first has not answered yet when the second begins.
    for shard in 0..2 {
        rig.cut(shard);
        rig.connect(shard);
        rig.say(shard, "+ACK 78 0\r\n");
    }
    let before = rig.hung_up.len();
    rig.say(1, given(&snapshot(&[]), 20));
    assert_eq!(rig.hung_up.len(), before, "it will begin anew by itself");
    rig.say(0, given(&snapshot(&[("r:1", "new")]), 20));
    let mut replicas = replicas(&mut rig, 2);
    assert_eq!(union(&mut rig, &mut replicas), "moved:1=new");
}
