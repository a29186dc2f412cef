//! How much goes out, and when: `docs/kevy-seed.md`, 4 to 6 and 21 to 23.

use sluicegate_core::contract::{Drive, Input};
use sluicegate_core::kevy::Dialect;

use super::replica::Replica;
use super::rig::{Kind, Rig, large, live};
use crate::support::Heard;

const TURN: usize = 262_144;
const HALF: usize = 2 << 20;
const BOUND: usize = 4 << 20;

/// A replica that is up, of a primary whose next frame is number 10; turns pass when the story says so.
fn pair() -> (Rig, Replica) {
    let mut rig = Rig::one(Kind::Plain);
    rig.seed(0, &[("a", "1")], 10);
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    rig.pumps_itself = false;
    (rig, replica)
}

/// So many frames of about so many bytes each.
fn feed(rig: &mut Rig, from: u64, frames: u64, bytes: usize) {
    (from..from + frames).for_each(|offset| rig.say(0, large(offset, "k", bytes)));
}

#[test]
fn seed_04_one_turn_gives_each_replica_a_bounded_number_of_whole_frames() {
    let (mut rig, mut first) = pair();
    rig.pumps_itself = true;
    let mut second = rig.replica(0, 0);
    second.drain(&mut rig);
    rig.pumps_itself = false;
    feed(&mut rig, 10, 10, 100_000);
    for turn in 1..=5 {
        rig.machine.pump();
        for replica in [&mut first, &mut second] {
            let given = replica.take(&mut rig, usize::MAX);
            assert!((200_000..=TURN).contains(&given), "{given} bytes in a turn");
            let frames = replica.heard().iter().filter(|heard| matches!(heard, Heard::Frame { .. })).count();
            assert_eq!(frames, 2 * turn, "whole frames");
        }
    }
    rig.machine.pump();
    assert_eq!(rig.waiting(first.link), 0);
}

#[test]
fn seed_05_above_half_of_the_bound_nothing_is_added() {
    let (mut rig, mut replica) = pair();
    feed(&mut rig, 10, 100, 100_000);
    let mut waiting = 0;
    while waiting < HALF {
        rig.machine.pump();
        assert!(rig.waiting(replica.link) > waiting, "below the mark every turn adds something");
        waiting = rig.waiting(replica.link);
    }
    (0..10).for_each(|_| rig.machine.pump());
    assert_eq!(rig.waiting(replica.link), waiting);
    replica.take(&mut rig, waiting - HALF + 1);
    rig.machine.pump();
    assert!(rig.waiting(replica.link) > HALF);
}

#[test]
fn seed_06_what_waits_for_one_replica_stays_within_its_bound() {
    let (mut rig, mut replica) = pair();
    let mut offset = 10;
    let mut most = 0;
    for size in (1..60).map(|step| step * 3_001) {
        feed(&mut rig, offset, 20, size);
        offset += 20;
        rig.machine.pump();
        most = most.max(rig.waiting(replica.link));
        replica.take(&mut rig, size);
    }
    assert!((HALF..=BOUND).contains(&most), "{most}");
    // A frame that is larger by itself is the one that may be.
    let (mut rig, replica) = pair();
    feed(&mut rig, 10, 3, 5 << 20);
    (0..5).for_each(|_| rig.machine.pump());
    let waiting = rig.waiting(replica.link);
    assert!((5 << 20..6 << 20).contains(&waiting), "one of them, and no second: {waiting}");
}

#[test]
fn seed_21_a_write_that_took_a_part_goes_on_at_that_byte() {
    let (mut rig, mut replica) = pair();
    rig.pumps_itself = true;
    let letters = "bcdefghijklmnopqrstuvwxyz";
    for (at, letter) in letters.chars().enumerate() {
        rig.say(0, live(10 + at as u64, &format!("APPEND a {letter}")));
        replica.take(&mut rig, at % 5 * 7 + 1);
        rig.wait(100);
    }
    while replica.take(&mut rig, 3) > 0 {
        rig.settle();
    }
    assert_eq!(replica.keys(), format!("a=1{letters}"));
}

#[test]
fn seed_22_a_replica_that_takes_nothing_is_closed_in_time() {
    // Nothing is ever sent to these but frames, and nothing is heard of them.
    let mut rig = Rig::old(Dialect::K1, Kind::Plain);
    let mut stuck = rig.attach(0, 0, None, 0);
    let mut other = rig.attach(0, 0, None, 0);
    // The frame by which it is found out whether they acknowledge.
    rig.wait(5_000);
    // An old replica is given one frame that does nothing, since it might answer.
    rig.wait(3_000);
    stuck.drain(&mut rig);
    other.drain(&mut rig);
    rig.wait(500_000);
    assert!(rig.closed.is_empty(), "as long as nothing waits, they take nothing with reason");
    rig.say(0, live(10, "SET b 2"));
    other.drain(&mut rig);
    rig.wait(58_000);
    assert!(!rig.closed.contains(&stuck.link));
    rig.notes.clear();
    rig.wait(3_000);
    assert!(rig.closed.contains(&stuck.link));
    assert!(rig.noted("replica-closed").unwrap().contains("takes no byte"));
    assert!(!rig.closed.contains(&other.link));
}

#[test]
fn seed_22_a_replica_whose_next_frame_has_left_the_backlog_is_closed() {
    let mut rig = Rig::tuned(Kind::Plain, |view| view.backlog_bytes = 1 << 20);
    rig.seed(0, &[("a", "1")], 10);
    let mut slow = rig.replica(0, 0);
    let mut quick = rig.replica(0, 0);
    (0..100).for_each(|at| {
        feed(&mut rig, 10 + at, 1, 100_000);
        quick.drain(&mut rig);
    });
    assert!(rig.closed.contains(&slow.link) && !rig.closed.contains(&quick.link));
    assert!(rig.noted("replica-behind").unwrap().contains("slower than the stream"));
    assert_eq!(slow.take(&mut rig, usize::MAX), 0);
    assert_eq!(rig.up(0).map(|link| rig.hung_up.contains(&link)), Some(false), "the primary hears nothing of it");
}

#[test]
fn seed_23_a_slow_snapshot_closes_nobody_as_long_as_bytes_move() {
    let (mut rig, _) = pair();
    rig.pumps_itself = true;
    rig.ships_itself = false;
    let mut slow = rig.replica(0, 0);
    let order = rig.ships.last().unwrap().clone();
    let body = rig.made(&order).unwrap();
    rig.handle(Input::ShipBytes(slow.link, body.into()));
    for _ in 0..30 {
        rig.wait(50_000);
        assert_eq!(slow.take(&mut rig, 1), 1);
    }
    assert!(!rig.closed.contains(&slow.link), "25 minutes for 30 bytes");
    rig.wait(61_000);
    assert!(rig.closed.contains(&slow.link), "only standing still closes");
    assert_eq!(rig.cancelled, [slow.link]);
}

#[test]
fn a_frame_above_the_backlog_waits_for_the_replicas_that_have_not_passed_it_and_for_nobody_else() {
    let mut rig = Rig::tuned(Kind::Plain, |view| view.backlog_bytes = 1 << 20);
    rig.seed(0, &[], 10);
    let (mut quick, mut slow) = (rig.replica(0, 0), rig.replica(0, 0));
    let mute = rig.link();
    rig.handle(Input::Accepted { link: mute, view: 0, port: 0, peer: "10.1.1.1:1".into() });
    quick.drain(&mut rig);
    slow.drain(&mut rig);
    // The first fills the output of who takes nothing; the second is given to the other one alone.
    for offset in [10, 11] {
        rig.say(0, large(offset, "k", 3 << 20));
        quick.drain(&mut rig);
    }
    rig.say(0, live(12, "SET a 1"));
    quick.drain(&mut rig);
    assert!(!rig.closed.contains(&slow.link), "it is not behind by more than one frame");
    slow.drain(&mut rig);
    assert_eq!((slow.place(), slow.keys()), (quick.place(), quick.keys()));
    rig.say(0, live(13, "SET a 2"));
    let kept = rig.machine.views()[0].backlog(0).unwrap();
    assert!(kept.end() - kept.start() < 1_000, "nobody needs it any more, and who has not spoken holds nothing");
}

#[test]
fn time_that_nobody_has_seen_pass_closes_nobody_who_waits_for_nothing() {
    let mut rig = Rig::old(Dialect::K1, Kind::Plain);
    let mut idle = rig.attach(0, 0, None, 0);
    rig.wait(1_000);
    idle.drain(&mut rig);
    // The whole machine was asleep.
    rig.now += 3_600_000;
    rig.handle(Input::Tick);
    assert!(rig.closed.is_empty());
}
