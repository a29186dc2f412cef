//! Newer snapshots of the same history, taken while the stream goes on.

use sluicegate_core::contract::{Cargo, Input, ShipOrder, SpoolId};
use sluicegate_core::rdb::{Family, write};
use sluicegate_core::settings::{RefreshSettings, Settings, UpstreamSettings, ViewSettings};
use sluicegate_core::view::{Base, State};

use crate::rig::{A, B, Filter, Rig, frame, frames, snapshot};

/// A view that relays and one that filters; newer snapshots are wanted at once.
fn rig() -> Rig {
    let views = vec![ViewSettings::new("all"), ViewSettings::new("some")];
    let refresh = RefreshSettings { log_bytes: 50, age_ms: 0, every_ms: 1000 };
    let upstream = UpstreamSettings { announce_port: 7000, ..UpstreamSettings::new("primary", 6379) };
    let settings = Settings { upstream, views, users: Vec::new(), refresh, ships_max: 8, version: "0.1.0".into() };
    Rig::with(settings, vec![None, Some(Box::new(Filter))])
}

/// A rig whose stream is longer than it may be; how long the stream is.
fn outgrown() -> (Rig, u64) {
    let mut rig = rig();
    rig.introduce("");
    rig.give_snapshot(A, 100, &snapshot("7.2.4"));
    rig.told_up();
    let stream = frames("SELECT 3 | SET a 1 | SET x:b 2 | SET c 3");
    rig.up(&stream);
    rig.wait(100);
    (rig, 100 + stream.len() as u64)
}

fn bases(rig: &Rig) -> Vec<Option<Base>> {
    rig.machine.views().iter().map(|view| view.base().copied()).collect()
}

/// Where a replica that comes now begins, and the whole of what it gets behind its snapshot.
fn newcomer(rig: &mut Rig, view: usize) -> (u64, Vec<u8>) {
    let (link, got) = rig.replica(view);
    let text = String::from_utf8_lossy(&got).into_owned();
    let offset =
        text.split(['\r', ' ']).nth(2).and_then(|offset| offset.parse().ok()).unwrap_or_else(|| panic!("{text}"));
    rig.send(link, frame(&format!("REPLCONF ACK {offset}")));
    let bytes = rig.kept[&spool(rig.ships.last().unwrap())].len();
    let head = text.find("\r\n$").unwrap() + 2;
    let head = head + text[head..].find("\r\n").unwrap() + 2;
    let mut stream = got[head..].to_vec();
    // What a view with plugins is sent is no matter of the machine: see the rig.
    let snapshot = if view == 0 { bytes } else { "(snapshot)".len() + 40 };
    stream.drain(..snapshot);
    stream.extend(rig.got(link));
    (offset, stream)
}

fn spool(order: &ShipOrder) -> SpoolId {
    let Cargo::Rdb { spool, .. } = order.cargo else { panic!("{order:?}") };
    spool
}

#[test]
fn a_place_that_the_stream_has_passed_is_found_before_the_next_select() {
    let (mut rig, place) = outgrown();
    let healthy = rig.synced(1);
    rig.introduce_refresh();
    // The primary forks here, and its answer is late.
    rig.up(frames("SELECT 3 | SET d 4 | SET e 5 | SELECT 1 | SET f 6"));
    rig.give_refresh(A, place);
    assert_eq!(rig.refresh, None, "the connection is closed when the snapshot is there");
    let own = frames("SELECT 3 | SET a 1 | SET c 3").len() as u64;
    let expected = [
        Base { spool: SpoolId(1), offset: place, stream_db: 0 },
        Base { spool: SpoolId(1), offset: own, stream_db: 3 },
    ];
    assert_eq!(bases(&rig), expected.map(Some));
    assert_eq!(rig.kept.keys().collect::<Vec<_>>(), [&SpoolId(1)], "nobody needs the old one");
    assert_eq!((rig.described[&SpoolId(1)].history.as_str(), rig.described[&SpoolId(1)].offset), (A, place));
    let (offset, stream) = newcomer(&mut rig, 0);
    assert_eq!((offset, stream), (place, frames("SELECT 3 | SET d 4 | SET e 5 | SELECT 1 | SET f 6")));
    let (offset, stream) = newcomer(&mut rig, 1);
    assert_eq!(
        (offset, stream),
        (own, frames("SET d 4 | SET e 5 | SELECT 1 | SET f 6")),
        "database 3 is selected there"
    );
    let Cargo::Rdb { head, .. } = rig.ships.last().unwrap().cargo else { panic!() };
    assert_eq!(head.map(|head| (head.repl_offset, head.stream_db)), Some((own, 3)));
    assert!(!rig.closed.contains(&healthy), "replicas that follow do not notice");
    assert_eq!((rig.info("refreshes_total"), rig.info("full_syncs_total")), ("1".into(), "1".into()));
}

#[test]
fn a_place_that_the_stream_has_not_reached_is_waited_for_to_the_byte() {
    let stream = frames("SET d 4 | MULTI | SET e 5 | SET f 6 | EXEC | SET g 7");
    let ahead = frames("SET d 4 | MULTI | SET e 5 | SET f 6 | EXEC").len();
    for size in [1, 7, stream.len()] {
        let (mut rig, end) = outgrown();
        rig.introduce_refresh();
        rig.give_refresh(A, end + ahead as u64);
        assert_eq!(rig.info("refresh_state"), "waiting");
        assert_eq!(spools(&rig), [0, 0], "the snapshot is of what we have not seen");
        stream.chunks(size).for_each(|chunk| rig.up(chunk));
        assert_eq!(spools(&rig), [1, 1], "chunks of {size}");
        for view in 0..2 {
            assert_eq!(newcomer(&mut rig, view).1, frame("SET g 7"), "view {view}, chunks of {size}");
        }
    }
}

/// The snapshot that each view's new replicas begin at.
fn spools(rig: &Rig) -> Vec<u64> {
    bases(rig).iter().map(|base| base.expect("a base").spool.0).collect()
}

#[test]
fn a_snapshot_that_fits_no_place_is_dropped_and_asked_for_again_later() {
    let inside = frames("SELECT 3 | SET d 4 | MULTI | SELECT 4 | SET e 5 | EXEC");
    let (select, set) = (frame("SELECT 3").len() as u64, frame("SET d 4").len() as u64);
    let multi = frames("SELECT 3 | SET d 4 | MULTI").len() as u64;
    // Behind a command that no SELECT follows; inside a transaction, though a SELECT follows; before anyone looked; nowhere.
    for offset in [select, multi, multi + frame("SELECT 4").len() as u64, 3] {
        let (mut rig, end) = outgrown();
        rig.introduce_refresh();
        rig.up(&inside);
        let before = bases(&rig);
        rig.refresh_says(format!("+FULLRESYNC {A} {}\r\n", end + offset));
        assert_eq!(rig.refresh, None, "offset {offset}");
        assert!(rig.noted("refresh-failed").is_some_and(|text| text.contains("was not watched there")), "{offset}");
        assert_eq!(bases(&rig), before);
        rig.wait(1500);
        assert!(!rig.wants_refresh, "each costs a fork");
        rig.wait(1000);
        rig.introduce_refresh();
        rig.give_refresh(A, end + inside.len() as u64);
        assert_eq!(spools(&rig), [1, 1]);
    }
    let (mut rig, end) = outgrown();
    rig.introduce_refresh();
    rig.up(&inside);
    rig.give_refresh(A, end + select + set);
    assert_eq!(spools(&rig), [1, 1], "before the MULTI it is sound");
}

#[test]
fn another_history_or_another_format_changes_nothing() {
    let (mut rig, end) = outgrown();
    rig.introduce_refresh();
    rig.refresh_says(format!("+FULLRESYNC {B} {end}\r\n"));
    assert!(rig.noted("refresh-failed").is_some_and(|text| text.contains("not the one that is followed")));
    rig.wait(2500);
    rig.introduce_refresh();
    let mut rdb = Vec::new();
    write::write_magic(&mut rdb, Family::Redis, 12);
    write::write_aux(&mut rdb, b"redis-ver", b"7.4.0");
    write::write_end(&mut rdb);
    rig.refresh_says(format!("+FULLRESYNC {A} {end}\r\n${}\r\n", rdb.len()));
    rig.refresh_says(rdb);
    assert!(rig.noted("refresh-failed").is_some_and(|text| text.contains("another format")));
    assert_eq!(spools(&rig), [0, 0]);
    assert_eq!(rig.kept.keys().collect::<Vec<_>>(), [&SpoolId(0)]);
}

#[test]
fn a_connection_that_breaks_costs_nothing_but_time() {
    let rdb = snapshot("7.2.4");
    for at in 0..rdb.len() {
        let (mut rig, end) = outgrown();
        rig.introduce_refresh();
        rig.refresh_says(format!("+FULLRESYNC {A} {end}\r\n${}\r\n", rdb.len()));
        rig.refresh_says(&rdb[..at]);
        let link = rig.refresh.take().unwrap();
        rig.handle(Input::Closed(link, "cut".into()));
        assert_eq!(spools(&rig), [0, 0], "cut behind byte {at}");
        assert_eq!(newcomer(&mut rig, 0).0, 100, "the older one is served");
        rig.wait(2500);
        rig.introduce_refresh();
        rig.give_refresh(A, end);
        assert_eq!(spools(&rig), [2, 2], "cut behind byte {at}");
    }
    // Every flipped byte, too: no half of a snapshot becomes a base.
    for at in 0..rdb.len() {
        let (mut rig, end) = outgrown();
        rig.introduce_refresh();
        let mut damaged = rdb.clone();
        damaged[at] ^= 0x41;
        rig.refresh_says(format!("+FULLRESYNC {A} {end}\r\n${}\r\n", rdb.len()));
        rig.refresh_says(damaged);
        assert_eq!(spools(&rig), [0, 0], "byte {at}");
        assert!(rig.noted("refresh-failed").is_some(), "byte {at}");
    }
}

#[test]
fn a_primary_that_closes_behind_the_last_byte_has_given_all_of_it() {
    let (rdb, mark) = (snapshot("7.2.4"), "m".repeat(40));
    for (header, end) in [(rdb.len().to_string(), ""), (format!("EOF:{mark}"), &*mark)] {
        for whole in [true, false] {
            let (mut rig, place) = outgrown();
            rig.introduce_refresh();
            rig.spool_busy = true;
            let bytes = [&rdb[..], end.as_bytes()].concat();
            rig.refresh_says(format!("+FULLRESYNC {A} {place}\r\n${header}\r\n"));
            rig.refresh_says(&bytes[..bytes.len() - usize::from(!whole)]);
            let link = rig.refresh.take().unwrap();
            rig.handle(Input::Closed(link, "the peer closed it".into()));
            rig.spool_works();
            assert_eq!(spools(&rig), [u64::from(whole); 2], "{header}");
            assert_eq!(rig.info("refresh_state"), if whole { "idle" } else { "wanted" });
            rig.wait(2500);
            assert_eq!(rig.wants_refresh, !whole, "{header}");
        }
    }
}

#[test]
fn a_place_that_the_stream_passes_without_coming_there_is_waited_for_no_longer() {
    let stream = frames("SELECT 3 | SET d 4 | MULTI | SET e 5 | EXEC");
    let (set, multi) = (frame("SELECT 3").len() as u64, frames("SELECT 3 | SET d 4 | MULTI").len() as u64);
    // Inside a command, and inside a transaction.
    for ahead in [set + 1, multi] {
        let (mut rig, end) = outgrown();
        rig.introduce_refresh();
        rig.give_refresh(A, end + ahead);
        assert_eq!(rig.info("refresh_state"), "waiting");
        rig.up(&stream);
        assert_eq!(rig.info("refresh_state"), "wanted", "{ahead} ahead");
        assert!(rig.noted("refresh-failed").is_some_and(|text| text.contains("passed")), "{ahead} ahead");
        assert_eq!((spools(&rig), rig.kept.len()), (vec![0, 0], 1));
        rig.wait(2500);
        rig.introduce_refresh();
        rig.give_refresh(A, end + stream.len() as u64);
        assert_eq!(spools(&rig), [2, 2]);
    }
}

#[test]
fn a_snapshot_that_is_out_of_reach_when_it_comes_is_not_followed_by_the_next_at_once() {
    let mut settings = ViewSettings::new("all");
    (settings.backlog_bytes, settings.backlog_disk_bytes) = (1000, 0);
    let mut rig = Rig::new(vec![settings], vec![None]);
    rig.attach(A, 0);
    let mut waits = Vec::new();
    for _ in 0..4 {
        (0..100).for_each(|_| rig.up(frame("SET a 1")));
        let (_, answer) = rig.replica(0);
        assert!(answer.starts_with(b"-NOMASTERLINK"));
        let since = rig.now;
        while !rig.wants_refresh {
            rig.wait(1_000);
            rig.up(frame("PING"));
        }
        waits.push((rig.now - since) / 30_000);
        rig.introduce_refresh();
        let place = rig.machine.upstream_position().unwrap().2;
        // The primary takes its time to send it, and is written to.
        (0..600).for_each(|_| (rig.wait(100), rig.up(frame("SET a 1"))).1);
        rig.give_refresh(A, place);
    }
    assert!(waits.is_sorted_by(|a, b| a < b), "forks without end, and each in vain: {waits:?}");
    assert!(rig.noted("refresh-done").is_some_and(|text| text.contains("view.backlog")));
}

#[test]
fn a_view_that_waits_for_values_again_and_again_delays_no_other() {
    let mut views = vec![ViewSettings::new("all"), ViewSettings::new("some")];
    (views[0].backlog_bytes, views[0].backlog_disk_bytes) = (1000, 0);
    let refresh = RefreshSettings { log_bytes: 50, age_ms: 0, every_ms: 1000 };
    let upstream = UpstreamSettings { announce_port: 7000, ..UpstreamSettings::new("primary", 6379) };
    let settings = Settings { upstream, views, users: Vec::new(), refresh, ships_max: 8, version: "0.1.0".into() };
    let mut rig = Rig::with(settings, vec![None, Some(Box::new(Filter))]);
    rig.attach(A, 0);
    rig.up(frames("SET a 1 | SUNIONSTORE d a x:b | SET c 3 | SET d 4"));
    for round in 1..4 {
        while !rig.wants_refresh {
            rig.wait(100);
        }
        rig.introduce_refresh();
        let end = rig.machine.upstream_position().unwrap().2;
        rig.give_refresh(A, end);
        assert_eq!(spools(&rig), [round, 0]);
        rig.up(frames("SET a 1 | SET c 3 | SET d 4"));
    }
    rig.wait(2000);
    assert!(!rig.wants_refresh, "for its sake there is no hurry");
    (0..100).for_each(|_| rig.up(frame("SET a 1")));
    let (_, answer) = rig.replica(0);
    assert!(answer.starts_with(b"-NOMASTERLINK"));
    rig.wait(100);
    assert!(rig.wants_refresh, "a replica of the other one waits");
}

#[test]
fn a_view_that_halted_keeps_no_snapshot() {
    let (mut rig, end) = outgrown();
    rig.up(frame("x.unknown k v"));
    assert!(matches!(rig.machine.views()[1].state(), State::Halted(_)));
    rig.introduce_refresh();
    rig.give_refresh(A, end + frame("x.unknown k v").len() as u64);
    assert_eq!(rig.kept.keys().collect::<Vec<_>>(), [&SpoolId(1)]);
}

#[test]
fn the_end_of_the_segment_is_the_end_of_what_is_under_way() {
    for verified in [false, true] {
        let (mut rig, end) = outgrown();
        rig.introduce_refresh();
        match verified {
            true => rig.give_refresh(A, end + 1000),
            false => rig.refresh_says(format!("+FULLRESYNC {A} {end}\r\n$EOF:{}\r\nREDIS", "m".repeat(40))),
        }
        rig.cut();
        assert_eq!(rig.refresh.is_some(), !verified, "a lost link of the stream is no reason to give up");
        rig.introduce("");
        rig.up(format!("+FULLRESYNC {B} 7\r\n"));
        assert_eq!(rig.refresh, None);
        assert_eq!(rig.kept.keys().collect::<Vec<_>>(), [&SpoolId(0)], "the old one stays until a new one is verified");
        let rdb = snapshot("7.2.4");
        rig.up(format!("${}\r\n", rdb.len()));
        rig.up(rdb);
        assert!(rig.machine.views().iter().all(|view| *view.state() == State::Live));
        assert_eq!(rig.kept.len(), 1);
        let before = bases(&rig);
        rig.up(frames("SELECT 0 | SET a 1").repeat(40));
        assert_eq!(bases(&rig), before);
    }
}

#[test]
fn behind_a_failover_a_place_of_the_old_future_is_not_waited_for() {
    for (ahead, expected) in [(0, [1, 1]), (1, [0, 0])] {
        let (mut rig, end) = outgrown();
        rig.introduce_refresh();
        rig.give_refresh(A, end + ahead * frame("PING").len() as u64);
        rig.cut();
        let info = format!("master_replid:{B}\r\nmaster_replid2:{A}\r\nsecond_repl_offset:{}\r\n", end + 1);
        rig.introduce(&info);
        rig.up(format!("+CONTINUE {B}\r\n"));
        rig.up(frames("PING | SELECT 0 | SET z 1"));
        assert_eq!(spools(&rig), expected, "{ahead} ahead");
        let newest = rig.described.values().next_back().unwrap();
        assert_eq!(newest.history.as_str(), B, "what the snapshot is called now is written down");
    }
}

#[test]
fn a_replica_that_no_snapshot_can_bring_up_waits_for_a_newer_one_and_nobody_else_notices() {
    let mut settings = ViewSettings::new("all");
    (settings.backlog_bytes, settings.backlog_disk_bytes) = (1000, 0);
    let mut rig = Rig::new(vec![settings], vec![None]);
    rig.attach(A, 0);
    let healthy = rig.synced(0);
    for _ in 0..100 {
        rig.up(frame("SET a 1"));
        rig.got(healthy);
    }
    let late = rig.accept(0);
    assert!(rig.ask(late, "PSYNC ? -1").starts_with("-NOMASTERLINK"));
    rig.wait(100);
    rig.introduce_refresh();
    let end = rig.machine.upstream_position().unwrap().2;
    rig.give_refresh(A, end);
    assert_eq!(newcomer(&mut rig, 0), (end, Vec::new()));
    assert!(!rig.closed.contains(&healthy));
    assert!(rig.up_link().is_some());
}

#[test]
fn a_damaged_snapshot_is_not_offered_again() {
    let (mut rig, end) = outgrown();
    rig.handle(Input::SpoolDamaged(SpoolId(0), "its checksum is wrong".into()));
    assert_eq!(bases(&rig), [None, None]);
    assert!(rig.kept.is_empty());
    let late = rig.accept(0);
    assert!(rig.ask(late, "PSYNC ? -1").starts_with("-NOMASTERLINK"));
    rig.introduce_refresh();
    rig.give_refresh(A, end);
    assert_eq!(newcomer(&mut rig, 0).0, end);
    rig.handle(Input::SpoolDamaged(SpoolId(0), "it is gone by now".into()));
    assert_eq!(spools(&rig), [1, 1]);
}

#[test]
fn a_view_without_a_place_for_three_snapshots_gets_one_on_the_main_link() {
    let mut settings = ViewSettings::new("all");
    (settings.backlog_bytes, settings.backlog_disk_bytes) = (1000, 0);
    let mut rig = Rig::new(vec![settings], vec![None]);
    rig.attach(A, 0);
    (0..100).for_each(|_| rig.up(frame("SET a 1")));
    for _ in 0..3 {
        let late = rig.accept(0);
        assert!(rig.ask(late, "PSYNC ? -1").starts_with("-NOMASTERLINK"));
        assert!(rig.up_link().is_some());
        while !rig.wants_refresh {
            rig.wait(10_000);
            rig.up(frame("PING"));
        }
        rig.introduce_refresh();
        rig.refresh_says(format!("+FULLRESYNC {A} 1\r\n"));
    }
    let late = rig.accept(0);
    assert!(rig.ask(late, "PSYNC ? -1").starts_with("-NOMASTERLINK"));
    assert_eq!(rig.up_link(), None, "the next link asks for everything");
    assert_eq!(rig.introduce(""), String::from_utf8(frame("PSYNC ? -1")).unwrap());
    rig.up(format!("+CONTINUE {A}\r\n"));
    assert_eq!(rig.up_link(), None, "a snapshot was asked for, nothing else will do");
}

#[test]
fn a_program_that_is_started_again_goes_on_behind_the_snapshot_it_kept() {
    let (mut before, end) = outgrown();
    let (id, origin) = before.described.pop_first().unwrap();
    assert_eq!((origin.history.as_str(), origin.offset), (A, 100));
    let stream = frames("SELECT 3 | SET a 1 | SET x:b 2 | SET c 3");
    for renamed in [A, B] {
        let mut rig = rig();
        rig.machine.resume_from(SpoolId(7), origin.clone());
        rig.kept.insert(SpoolId(7), before.kept[&id].clone());
        assert_eq!(rig.introduce("").as_bytes(), frame(&format!("PSYNC {A} 101")));
        rig.up(format!("+CONTINUE {renamed}\r\n"));
        // A replica of the earlier run is ahead of us for a moment.
        let ahead = rig.accept(0);
        assert!(rig.ask(ahead, &format!("PSYNC {renamed} {}", end + 1)).starts_with("-NOMASTERLINK"));
        rig.up(&stream);
        let back = rig.accept(0);
        assert!(rig.ask(back, &format!("PSYNC {renamed} {}", end + 1)).starts_with("+CONTINUE"));
        assert_eq!(
            rig.machine.upstream_position().map(|(id, applied, _)| (id.as_str().len(), applied)),
            Some((40, end))
        );
        assert_eq!(rig.info("master_replid"), renamed);
        assert_eq!(newcomer(&mut rig, 0), (100, stream.clone()));
        assert_eq!(newcomer(&mut rig, 1), (0, frames("SELECT 3 | SET a 1 | SET c 3")));
        assert_eq!((rig.info("full_syncs_total"), rig.info("partial_syncs_total")), ("0".into(), "1".into()));
        // The next one has a number of its own.
        rig.wait(100);
        rig.introduce_refresh();
        rig.give_refresh(renamed, end);
        assert_eq!(spools(&rig), [8, 8]);
    }
}

#[test]
fn a_primary_that_does_not_go_on_gives_a_new_snapshot_and_the_kept_one_goes_then() {
    let (mut before, _) = outgrown();
    let (_, origin) = before.described.pop_first().unwrap();
    let mut rig = rig();
    rig.machine.resume_from(SpoolId(7), origin.clone());
    rig.kept.insert(SpoolId(7), Vec::new());
    rig.introduce("");
    let rdb = snapshot("7.2.4");
    rig.up(format!("+FULLRESYNC {B} 5\r\n${}\r\n", rdb.len()));
    assert!(rig.kept.contains_key(&SpoolId(7)));
    rig.cut();
    assert_eq!(rig.introduce("").as_bytes(), frame("PSYNC ? -1"), "it has been refused");
    rig.give_snapshot(B, 5, &rdb);
    assert_eq!(rig.kept.keys().map(|id| id.0).collect::<Vec<_>>(), [9]);
    // Behind a 6.2, times to live count from when they were sent: nobody knows when that was.
    let mut old = origin;
    old.summary.server_version = Some("6.2.16".into());
    let mut rig = self::rig();
    rig.machine.resume_from(SpoolId(7), old);
    assert_eq!(rig.introduce("").as_bytes(), frame("PSYNC ? -1"));
}
