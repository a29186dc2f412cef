//! What that pump does badly, and what replicas of a view get instead: `docs/kevy-seed.md`, the second table.

use sluicegate_core::contract::{Drive, Input};
use sluicegate_core::kevy::Dialect;
use sluicegate_core::kevy::replica::Phase;

use super::replica::Replica;
use super::rig::{G, Kind, Rig, given, large, live, snapshot};

/// A primary with `a=1` whose next frame is number 10, and a replica that is up.
fn pair(kind: Kind) -> (Rig, Replica) {
    let mut rig = Rig::one(kind);
    rig.seed(0, &[("a", "1")], 10);
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    (rig, replica)
}

/// The same with a backlog of a mebibyte.
fn small() -> (Rig, Replica) {
    let mut rig = Rig::tuned(Kind::Plain, |view| view.backlog_bytes = 1 << 20);
    rig.seed(0, &[("a", "1")], 10);
    let mut replica = rig.replica(0, 0);
    replica.drain(&mut rig);
    (rig, replica)
}

#[test]
fn weakness_01_a_frame_larger_than_a_turn_goes_out() {
    let (mut rig, mut replica) = pair(Kind::Filter);
    for bytes in [262_144, 1 << 20, 9 << 20] {
        let (_, next) = replica.place();
        let at = next - replica.base() + 10;
        rig.say(0, [large(at, "big", bytes), live(at + 1, "SET small 1")].concat());
        replica.drain(&mut rig);
        assert_eq!(replica.place().1, next + 2);
    }
    assert!(replica.keys().len() > 9 << 20);
}

#[test]
fn weakness_02_a_future_place_is_never_met_with_silence() {
    let (mut rig, first) = pair(Kind::Plain);
    let (generation, next) = first.place();
    for ahead in [1, 1_000_000] {
        let mut replica = rig.attach(0, 0, Some(generation), next + ahead);
        replica.drain(&mut rig);
        assert_eq!(replica.keys(), "a=1");
    }
    let mut rig = Rig::old(Dialect::K2, Kind::Plain);
    let mut old = rig.attach(0, 0, None, next + 1_000_000);
    old.drain(&mut rig);
    rig.say(0, live(10, "SET b 2"));
    old.drain(&mut rig);
    assert_eq!(old.keys(), "a=1 b=2", "nor does one of the old dialects get frames from there on");
}

#[test]
fn weakness_03_a_replica_that_stands_still_is_closed_and_pins_nothing() {
    let (mut rig, first) = small();
    let (generation, base) = first.place();
    (10..15).for_each(|offset| rig.say(0, large(offset, "k", 300_000)));
    assert!(!rig.closed.contains(&first.link), "what was given to it is its own");
    // It stands where nobody may go on any more, although it has not taken a byte.
    let mut late = rig.attach(0, 0, Some(generation), base);
    late.drain(&mut rig);
    assert!(late.bytes.is_empty() && rig.closed.contains(&late.link), "its frames are not kept for it");
    rig.wait(61_000);
    assert!(rig.closed.contains(&first.link));
}

#[test]
fn weakness_04_output_does_not_grow_with_the_traffic() {
    let (mut rig, mut replica) = pair(Kind::Plain);
    for offset in 10..4_010 {
        rig.say(0, large(offset, "k", 10_000));
        let waiting = rig.waiting(replica.link);
        assert!(waiting < 21_000, "{waiting} bytes wait");
        replica.take(&mut rig, waiting - 100);
        replica.bytes.clear();
        let outbox = &rig.attached(replica.link).unwrap().outbox;
        assert!(outbox.pieces(usize::MAX).count() <= 2, "what is written is gone");
    }
}

#[test]
fn weakness_05_a_backlog_outrun_by_a_ship_costs_one_fresh_snapshot_at_a_time() {
    let (mut rig, mut first) = small();
    rig.ships_itself = false;
    let outrun = |rig: &mut Rig, first: &mut Replica, from: u64| {
        (from..from + 20).for_each(|offset| {
            rig.say(0, large(offset, "k", 200_000));
            first.drain(rig);
        });
    };
    let slow = rig.replica(0, 0);
    outrun(&mut rig, &mut first, 10);
    assert!(rig.closed.contains(&slow.link) && rig.cancelled == [slow.link], "it lost the race");
    assert!(rig.noted("replica-behind").unwrap().contains("its snapshot took too long"));
    assert_eq!((rig.hung_up.len(), rig.closed.contains(&first.link)), (0, false));
    let again = rig.replica(0, 0);
    assert!(rig.closed.contains(&again.link), "nothing that is here can bring it up");
    assert_eq!(rig.hung_up.len(), 1, "so the primary is asked");
    rig.replica(0, 0);
    assert_eq!(rig.hung_up.len(), 1, "once");
    assert!(rig.connect(0).starts_with("REPLICATE FROM 0 0 ID"));
    rig.say(0, format!("+ACK {G} 0\r\n"));
    rig.wait(5_000);
    assert!(!rig.closed.contains(&first.link), "streams that are up go on until the snapshot comes");
    rig.say(0, given(&snapshot(&[("a", "2")]), 30));
    let mut third = rig.replica(0, 0);
    let order = rig.ships.last().unwrap().clone();
    rig.ship(&order);
    third.drain(&mut rig);
    assert_eq!(third.keys(), "a=2");
    outrun(&mut rig, &mut third, 30);
    rig.replica(0, 0);
    assert_eq!(rig.hung_up.len(), 1, "not again so soon");
    rig.wait(26_000);
    rig.replica(0, 0);
    assert_eq!(rig.hung_up.len(), 2, "but half a minute later");
}

#[test]
fn weakness_06_a_snapshot_goes_out_as_fast_as_it_is_taken() {
    let (mut rig, _) = pair(Kind::Plain);
    rig.ships_itself = false;
    let mut replica = rig.replica(0, 0);
    let (mut left, mut turns) = (64_usize << 20, 0);
    while left > 0 {
        let bytes = rig.machine.ship_room(replica.link).min(left);
        rig.handle(Input::ShipBytes(replica.link, vec![0; bytes].into()));
        left -= bytes;
        replica.drain(&mut rig);
        turns += 1;
    }
    // No time has passed at all.
    assert!(turns <= 33, "{turns} turns for 64 MiB");
}

#[test]
fn weakness_07_many_replicas_cost_the_primary_one_snapshot() {
    let (mut rig, _) = pair(Kind::Plain);
    rig.ships_itself = false;
    let mut replicas: Vec<Replica> = (0..40).map(|_| rig.replica(0, 0)).collect();
    let mut made = 1;
    while let Some(order) = rig.ships.get(made).cloned() {
        assert!(rig.ships.len() - made <= 8, "eight run at once");
        made += 1;
        // Half of them are cut, and come back.
        if made % 2 == 0 && made < 40 {
            rig.handle(Input::Closed(order.link, "cut".into()));
            replicas.retain(|replica| replica.link != order.link);
            replicas.push(rig.replica(0, 0));
        } else {
            rig.ship(&order);
        }
    }
    for replica in &mut replicas {
        replica.drain(&mut rig);
        assert_eq!(replica.keys(), "a=1");
    }
    assert_eq!((replicas.len(), rig.spooled, rig.hung_up.len()), (40, 1, 0), "the primary has noticed nothing");
}

#[test]
fn weakness_08_replicas_share_the_bytes_of_a_frame() {
    let (mut rig, first) = pair(Kind::Filter);
    let mut second = rig.replica(0, 0);
    second.drain(&mut rig);
    rig.say(0, (10..110).flat_map(|offset| live(offset, "SET b 2")).collect::<Vec<_>>());
    let pieces = |link| {
        let outbox = &rig.attached(link).unwrap().outbox;
        outbox.pieces(usize::MAX).map(|piece| (piece.as_ptr(), piece.len())).collect::<Vec<_>>()
    };
    assert_eq!(pieces(first.link), pieces(second.link), "the same bytes, not a copy");
    assert_eq!(pieces(first.link).len(), 1, "a hundred neighbours side by side");
}

#[test]
fn weakness_09_finding_a_place_in_a_long_backlog_is_quick() {
    const FRAMES: u64 = 1_000_000;
    let (mut rig, first) = pair(Kind::Plain);
    let (generation, base) = first.place();
    rig.handle(Input::Closed(first.link, "done".into()));
    for from in (0..FRAMES).step_by(10_000) {
        rig.say(0, (from..from + 10_000).flat_map(|frame| live(frame + 10, "DEL b")).collect::<Vec<_>>());
    }
    rig.pumps_itself = false;
    let mut ask = |place: u64| {
        let began = std::time::Instant::now();
        for nearby in 0..500 {
            let replica = rig.attach(0, 0, Some(generation), base + place + nearby);
            assert!(rig.attached(replica.link).unwrap().phase == Phase::Streaming);
            rig.machine.pump();
            rig.handle(Input::Closed(replica.link, "done".into()));
        }
        began.elapsed()
    };
    // The best of several, for other programs run here, too.
    let at_the_beginning = (0..5).map(|_| ask(1_000)).min().unwrap();
    let at_the_end = (0..5).map(|_| ask(FRAMES - 9_000)).min().unwrap();
    assert!(at_the_end < at_the_beginning * 10, "{at_the_end:?}, and {at_the_beginning:?} at the beginning");
}

#[test]
fn weakness_10_a_broken_replica_link_ends_alone() {
    let (mut rig, mut first) = pair(Kind::Plain);
    let broken = rig.replica(0, 0);
    let foreign = rig.replica(0, 0);
    rig.handle(Input::Closed(broken.link, "reset by peer".into()));
    rig.send(foreign.link, vec![b'x'; 100_000]);
    assert!(rig.closed.contains(&foreign.link), "nor one that talks nonsense");
    rig.say(0, live(10, "SET b 2"));
    first.drain(&mut rig);
    assert_eq!((first.keys(), rig.hung_up.len()), ("a=1 b=2".into(), 0));
}

#[test]
fn weakness_11_only_an_acknowledgement_says_that_frames_arrived() {
    let mut rig = Rig::old(Dialect::K2, Kind::Plain);
    let mut silent = rig.attach(0, 0, None, 0);
    let mut speaking = rig.attach(0, 0, None, 0);
    rig.say(0, [live(10, "SET b 2"), live(11, "SET c 3")].concat());
    silent.drain(&mut rig);
    speaking.drain(&mut rig);
    let base = speaking.base();
    rig.send(speaking.link, format!("REPLCONF ACK {}\r\n", base + 1));
    let seen = |replica: &Replica| rig.attached(replica.link).map(|seen| (seen.dialect, seen.acked - base)).unwrap();
    assert_eq!(seen(&silent), (Dialect::K1, 0), "all of it was taken, and nothing said");
    assert_eq!(seen(&speaking), (Dialect::K2, 1));
    assert_eq!((silent.keys(), speaking.keys()), ("a=1 b=2 c=3".into(), "a=1 b=2 c=3".into()));
}

#[test]
fn weakness_12_an_empty_backlog_makes_nobody_up_to_date() {
    let (mut rig, first) = pair(Kind::Plain);
    let (generation, _) = first.place();
    for (of, place) in [(G, 10), (G, 0), (generation, 0), (generation, 10)] {
        let mut replica = rig.attach(0, 0, Some(of), place);
        replica.drain(&mut rig);
        assert_eq!(replica.keys(), "a=1", "{of} {place}");
    }
    let mut rig = Rig::old(Dialect::K2, Kind::Plain);
    for place in [0, 10, 11] {
        let mut replica = rig.attach(0, 0, None, place);
        replica.drain(&mut rig);
        assert_eq!(replica.keys(), "a=1", "{place}, which is a number of the primary's");
    }
}

#[test]
fn weakness_13_two_replicas_of_one_name_do_not_disturb_each_other() {
    let (mut rig, mut first) = pair(Kind::Plain);
    let mut second = rig.replica(0, 0);
    second.drain(&mut rig);
    assert_eq!(rig.attached(first.link).unwrap().id, rig.attached(second.link).unwrap().id);
    rig.say(0, live(10, "APPEND a b"));
    first.drain(&mut rig);
    let (generation, next) = first.place();
    rig.handle(Input::Closed(first.link, "cut".into()));
    rig.say(0, live(11, "APPEND a c"));
    let mut back = rig.attach(0, 0, Some(generation), next);
    back.drain(&mut rig);
    second.drain(&mut rig);
    assert_eq!((back.told(), second.keys()), ("ack, APPEND a".into(), "a=1bc".into()));
}

#[test]
fn weakness_14_the_ship_of_a_link_that_is_gone_is_cancelled() {
    let (mut rig, _) = pair(Kind::Plain);
    rig.ships_itself = false;
    let replicas: Vec<Replica> = (0..9).map(|_| rig.replica(0, 0)).collect();
    assert_eq!(rig.ships.len(), 9, "one of the first replica, eight of these");
    rig.handle(Input::ShipBytes(replicas[0].link, vec![1; 1000].into()));
    rig.handle(Input::Closed(replicas[0].link, "cut".into()));
    assert_eq!(rig.cancelled, [replicas[0].link]);
    assert_eq!(rig.ships.last().unwrap().link, replicas[8].link, "its place goes to the one that waits");
    rig.handle(Input::ShipBytes(replicas[0].link, vec![1; 1000].into()));
    rig.handle(Input::ShipEnded(replicas[0].link, Ok(())));
    assert_eq!(rig.machine.ship_room(replicas[0].link), 0);
}

#[test]
fn weakness_16_a_link_that_is_idle_is_not_looked_at() {
    let mut rig = Rig::new(2, vec![(Kind::Plain, super::rig::view("all", 2))]);
    rig.seed(0, &[("a", "1")], 10);
    rig.seed(1, &[("b", "1")], 10);
    let mut idle: Vec<Replica> = (0..50).map(|_| rig.replica(0, 1)).collect();
    let mut busy = rig.replica(0, 0);
    idle.iter_mut().for_each(|replica| replica.drain(&mut rig));
    busy.drain(&mut rig);
    let mut links = Vec::new();
    rig.machine.links_with_output(&mut links);
    assert_eq!(links, []);
    rig.say(0, live(10, "SET a 2"));
    rig.machine.links_with_output(&mut links);
    assert_eq!(links, [busy.link], "the shell is told of the one that has something to take");
    assert!(rig.machine.next_wakeup() >= rig.now, "and sleeps until something happens, or a tenth of a second");
}

#[test]
fn weakness_17_a_replica_that_is_slow_to_apply_has_only_the_backlog() {
    let (mut rig, mut slow) = small();
    let mut most = 0;
    for at in 0..100 {
        let frames: Vec<u8> =
            (0..2_000).flat_map(|frame| live(10 + at * 2_000 + frame, "APPEND a xxxxxxxxxx")).collect();
        rig.say(0, frames);
        most = most.max(rig.waiting(slow.link));
        slow.take(&mut rig, 1_000);
    }
    assert!(most <= 4 << 20, "{most} bytes wait, and not all that was ever written");
    assert!(rig.closed.contains(&slow.link), "what it did not take is not kept for it without bound");
    let mut quick = rig.replica(0, 0);
    quick.drain(&mut rig);
    assert!(rig.hung_up.len() == 1 && rig.closed.contains(&quick.link), "it needs a snapshot, as every late one does");
}
