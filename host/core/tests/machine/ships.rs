//! Ships: how many, how far they have come, and what becomes of those whose snapshot is damaged.

use sluicegate_core::contract::{Input, LinkId, SpoolId};
use sluicegate_core::replica::Phase;

use crate::rig::{A, Rig};

fn phases(rig: &Rig, phase: Phase) -> Vec<LinkId> {
    rig.machine.replicas().filter(|(_, replica)| replica.phase == phase).map(|(link, _)| *link).collect()
}

/// A view that filters, and a story that makes the snapshots itself.
fn filter() -> Rig {
    let mut rig = Rig::filter();
    rig.ships_itself = false;
    rig.attach(A, 100);
    rig
}

#[test]
fn how_far_a_snapshot_has_come_is_told_while_it_goes_out() {
    let mut rig = filter();
    let (link, _) = rig.replica(0);
    rig.handle(Input::ShipBytes(link, vec![b'x'; 1000].into()));
    let slave = rig.info("slave0");
    assert!(slave.contains("state=send_bulk") && slave.contains(",sent=0,rate=0"), "nothing was taken yet: {slave}");
    assert!(!slave.contains("total=") && !slave.contains("eta="), "how long it will be is not known: {slave}");
    rig.got(link);
    rig.wait(2000);
    assert!(rig.info("slave0").ends_with(",sent=1000,rate=500"));
    let told = rig.noted("snapshot-progress").unwrap_or_default();
    assert!(told.contains("1000 B, 500 B/s, cause: it has none yet"), "{told}");
    rig.handle(Input::ShipLength(link, 4000));
    assert_eq!(rig.got(link), b"", "one with an end mark is not told a length");
    assert!(rig.info("slave0").ends_with(",sent=1000,rate=500,total=4000,eta=6"), "{}", rig.info("slave0"));
    rig.wait(1900);
    assert_eq!(rig.noted("snapshot-progress"), None, "every two seconds");
    rig.wait(100);
    let told = rig.noted("snapshot-progress").unwrap_or_default();
    assert!(told.contains("1000 B of 3.9 KiB (25 %), 250 B/s, 12 s left"), "{told}");
    rig.handle(Input::ShipBytes(link, vec![b'x'; 3000].into()));
    rig.handle(Input::ShipEnded(link, Ok(())));
    let told = rig.noted("snapshot-sent").unwrap_or_default();
    assert!(told.contains("3.9 KiB in 4000 ms") && told.ends_with("cause: it has none yet"), "{told}");
    assert!(!rig.info("slave0").contains("sent="));
}

#[test]
fn one_that_waits_for_its_length_is_told_to_be_in_the_making() {
    let mut rig = filter();
    let link = rig.accept(0);
    rig.ask(link, "PSYNC ? -1");
    rig.wait(2000);
    assert!(rig.noted("snapshot-progress").is_some_and(|told| told.contains("it is being made")));
}

#[test]
fn info_counts_ships_and_walks() {
    let mut rig = filter();
    (0..11).for_each(|_| drop(rig.replica(0)));
    rig.handle(Input::Walking(0));
    let counts = ["ships_running", "ships_waiting", "walks_total"].map(|name| rig.info(name));
    assert_eq!(counts, ["8", "3", "1"]);
    assert!(rig.noted("walk").is_some_and(|told| told.contains("'some'")));
}

#[test]
fn a_damaged_snapshot_is_given_to_nobody_and_another_one_is_asked_for() {
    let mut rig = filter();
    let links: Vec<_> = (0..10).map(|_| rig.replica(0).0).collect();
    assert_eq!(phases(&rig, Phase::Queued), links[8..]);
    rig.handle(Input::SpoolDamaged(SpoolId(7), "another one".into()));
    assert_eq!(rig.noted("snapshot-damaged"), None);
    rig.handle(Input::SpoolDamaged(SpoolId(0), "byte 5".into()));
    assert!(rig.noted("snapshot-damaged").is_some_and(|told| told.contains("byte 5")));
    for link in &links[8..] {
        assert!(rig.got(*link).starts_with(b"-NOMASTERLINK"));
    }
    assert_eq!((rig.ships.len(), rig.up_link().is_some()), (8, true), "the stream goes on");
    rig.wait(100);
    rig.introduce_refresh();
    rig.give_refresh(A, 100);
    links.iter().for_each(|link| rig.handle(Input::Closed(*link, "gone".into())));
    rig.replica(0);
    assert_eq!(rig.ships.len(), 9);
    // A disk that damages whatever comes does not make us ask without end.
    rig.handle(Input::SpoolDamaged(SpoolId(1), "byte 5".into()));
    let (link, got) = rig.replica(0);
    assert!(got.starts_with(b"-NOMASTERLINK"));
    assert!(rig.closed.contains(&link));
    rig.wait(20_000);
    assert!(!rig.wants_refresh, "one was asked for only just");
    rig.wait(15_000);
    assert!(rig.wants_refresh);
}
