//! What no longer fits into a backlog's memory and is still needed: on disk, and read from there.

use sluicegate_core::contract::{Drive, Input, LinkId, LogId};
use sluicegate_core::replica::Phase;
use sluicegate_core::settings::ViewSettings;
use sluicegate_core::view::State;

use crate::rig::{A, B, Filter, Rig, frame, snapshot};

const MIB: usize = 1 << 20;

/// One view with a backlog of 1 MiB, and so much of a log.
fn rig(relays: bool, disk: usize) -> Rig {
    let mut settings = ViewSettings::new("all");
    (settings.backlog_bytes, settings.backlog_disk_bytes) = (MIB, disk as u64);
    let mut rig = Rig::new(vec![settings], vec![if relays { None } else { Some(Box::new(Filter)) }]);
    rig.attach(A, 0);
    rig
}

/// The primary writes so many values of 100 kB; what it sent comes back.
fn write(rig: &mut Rig, values: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for n in 0..values {
        let bytes = frame(&format!("SET k:{n} {}", format!("{:05}", all.len() % 99_991).repeat(20_000)));
        rig.up(&bytes);
        all.extend(bytes);
    }
    all
}

/// A replica that takes its snapshot, but does not say so.
fn loading(rig: &mut Rig) -> LinkId {
    let (link, got) = rig.replica(0);
    assert!(got.starts_with(b"+FULLRESYNC"), "{}", got.escape_ascii());
    assert_eq!(phase(rig, link), Some(Phase::Loading));
    link
}

fn phase(rig: &Rig, link: LinkId) -> Option<Phase> {
    rig.machine.replicas().find(|(id, _)| **id == link).map(|(_, replica)| replica.phase)
}

/// It has loaded, and reads: the stream that it gets.
fn stream(rig: &mut Rig, link: LinkId) -> Vec<u8> {
    rig.send(link, frame("REPLCONF ACK 0"));
    rig.got(link)
}

#[test]
fn a_replica_that_loads_for_long_gets_every_byte_from_the_disk() {
    let mut rig = rig(false, 100 * MIB);
    let slow = loading(&mut rig);
    let sent = write(&mut rig, 50);
    assert!(rig.machine.views()[0].backlog().start() > 3 * MIB as u64, "the memory is as small as it should be");
    assert!(stream(&mut rig, slow).ends_with(&sent), "what it missed, whole and in order");
    assert!(rig.disk.read > 3 * MIB);
    let more = write(&mut rig, 3);
    let read = rig.disk.read;
    assert_eq!(rig.got(slow), more);
    assert_eq!(rig.disk.read, read, "it has caught up with the memory");
    // And whoever comes now begins with the same snapshot.
    let late = loading(&mut rig);
    assert!(stream(&mut rig, late).ends_with(&[sent, more].concat()));
    assert_eq!(rig.info("full_syncs_total"), "1");
}

#[test]
fn one_that_was_away_for_long_goes_on_from_the_disk() {
    let mut rig = rig(true, 100 * MIB);
    let link = rig.accept(0);
    let sent = write(&mut rig, 40);
    rig.send(link, frame(&format!("PSYNC {A} 1001")));
    let got = rig.got(link);
    let stream = got.strip_prefix(b"+CONTINUE\r\n").expect("it can go on");
    assert!(stream == &sent[1000..]);
    assert_eq!(rig.info("repl_backlog_first_byte_offset"), (sent.len() - memory(&rig) + 1).to_string());
    let view = rig.info("view_all");
    assert!(view.contains(&format!("log_bytes={}", sent.len() - memory(&rig))), "{view}");
}

fn memory(rig: &Rig) -> usize {
    let backlog = rig.machine.views()[0].backlog();
    (backlog.end() - backlog.start()) as usize
}

#[test]
fn what_is_on_its_way_to_the_disk_is_read_behind_it() {
    let mut rig = rig(false, 100 * MIB);
    let link = loading(&mut rig);
    rig.disk.busy = true;
    let sent = write(&mut rig, 50);
    rig.send(link, frame("REPLCONF ACK 0"));
    rig.wait(3_000);
    assert!(rig.got(link).is_empty() && rig.disk.read == 0, "the disk has said nothing yet");
    rig.disk_works();
    assert!(rig.got(link).ends_with(&sent));
}

#[test]
fn the_primary_is_not_read_faster_than_the_log_is_written() {
    let mut rig = rig(true, 100 * MIB);
    let up = rig.up_link().unwrap();
    rig.disk.busy = true;
    write(&mut rig, 50);
    assert!(rig.machine.wants_read(up));
    write(&mut rig, 60);
    assert!(!rig.machine.wants_read(up));
    rig.disk_works();
    assert!(rig.machine.wants_read(up));
}

#[test]
fn beyond_its_budget_the_oldest_goes_and_who_needed_it_is_closed() {
    let mut rig = rig(false, 3 * MIB);
    let slow = loading(&mut rig);
    let fast = rig.synced(0);
    for _ in 0..60 {
        write(&mut rig, 1);
        rig.got(fast);
    }
    let text = rig.noted("replica-behind").expect("it is told");
    assert!(text.contains("view.backlog.disk") && text.contains("3.0 MiB on disk"), "{text}");
    assert!(rig.closed.contains(&slow) && !rig.closed.contains(&fast));
    assert!(rig.disk.logs.values().all(Vec::is_empty), "nobody needs any of it: the snapshot is out of reach");
    let (_, answer) = rig.replica(0);
    assert!(answer.starts_with(b"-NOMASTERLINK"), "{}", answer.escape_ascii());
    rig.wait(100);
    assert!(rig.wants_refresh && rig.up_link().is_some(), "a newer snapshot is asked for, and the stream goes on");
}

#[test]
fn a_waiting_replica_whose_turn_comes_too_late_is_not_given_what_cannot_be_followed() {
    let mut rig = rig(false, 2 * MIB);
    rig.ships_itself = false;
    let first: Vec<LinkId> = (0..8).map(|_| rig.replica(0).0).collect();
    let (late, said) = rig.replica(0);
    assert!(said.is_empty(), "it waits");
    while !rig.wants_refresh {
        assert!(rig.machine.views()[0].backlog().end() < 5 * MIB as u64, "the log has a budget");
        write(&mut rig, 1);
        rig.wait(100);
    }
    assert!(first.iter().all(|link| rig.closed.contains(link)), "they have nothing to go on with");
    assert!(String::from_utf8(rig.got(late)).unwrap().contains("-NOMASTERLINK"), "the primary is asked for another");
}

#[test]
fn a_full_disk_costs_those_who_need_it_and_nobody_else() {
    let mut rig = rig(false, 100 * MIB);
    let fast = rig.synced(0);
    let slow = loading(&mut rig);
    for _ in 0..30 {
        write(&mut rig, 1);
        rig.got(fast);
    }
    rig.disk.full = true;
    write(&mut rig, 1);
    let notes: Vec<_> = rig.notes.iter().map(|note| (note.event, note.text.clone())).collect();
    let text = |event: &str| notes.iter().find(|note| note.0 == event).map(|note| &*note.1).unwrap_or_default();
    assert!(text("log-failed").contains("sluicegate: no space left"), "{notes:?}");
    assert!(text("replica-behind").contains("no space left"), "{notes:?}");
    assert!(rig.closed.contains(&slow));
    assert_eq!(rig.machine.views()[0].state(), &State::Live);
    assert!(rig.disk.logs.is_empty(), "no half of it is left");
    rig.disk.full = false;
    for _ in 0..30 {
        let sent = write(&mut rig, 1);
        assert!(rig.got(fast).ends_with(&sent), "one that reads along goes on");
    }
    assert!(rig.disk.logs.is_empty(), "a log with a gap is none");
    // After a while it begins anew, for those who need it from there on.
    for _ in 0..31 {
        rig.wait(1_000);
        rig.send(fast, "\n");
    }
    let missed = write(&mut rig, 40);
    assert_eq!(rig.disk.logs.len(), 1);
    assert!(rig.got(fast).ends_with(&missed));
    let (_, answer) = rig.replica(0);
    assert!(answer.starts_with(b"-NOMASTERLINK"), "{}", answer.escape_ascii());
    // The next snapshot begins a new one.
    rig.notes.clear();
    rig.refreshed();
    let link = loading(&mut rig);
    let sent = write(&mut rig, 30);
    let read = rig.disk.read;
    assert!(stream(&mut rig, link).ends_with(&sent) && rig.disk.read > read + MIB);
}

#[test]
fn a_damaged_log_is_given_up_and_a_replica_never_gets_a_gap() {
    let mut rig = rig(false, 100 * MIB);
    let link = loading(&mut rig);
    write(&mut rig, 30);
    rig.disk.broken = true;
    assert!(stream(&mut rig, link).is_empty());
    assert!(rig.closed.contains(&link));
    let text = rig.noted("replica-behind").expect("it is told");
    assert!(text.contains("a bad sector"), "{text}");
    let (_, answer) = rig.replica(0);
    assert!(answer.starts_with(b"-NOMASTERLINK"), "the next one would read the same bad place");
}

#[test]
fn answers_that_are_late_are_for_nobody() {
    let mut rig = rig(false, 100 * MIB);
    let gone = loading(&mut rig);
    write(&mut rig, 30);
    rig.disk.busy = true;
    rig.send(gone, frame("REPLCONF ACK 0"));
    // Another history begins while the disk still reads for the first.
    rig.cut();
    rig.introduce("");
    rig.give_snapshot(B, 0, &snapshot("7.2.4"));
    assert!(rig.closed.contains(&gone));
    let link = loading(&mut rig);
    let sent = write(&mut rig, 30);
    rig.disk_works();
    assert!(rig.noted("log-failed").is_none());
    assert!(stream(&mut rig, link).ends_with(&sent));
    let lives: Vec<LogId> = rig.disk.logs.keys().copied().collect();
    assert_eq!(lives.len(), 1, "the first one's log is gone: {lives:?}");
}

#[test]
fn a_halted_view_keeps_no_log() {
    let mut rig = rig(false, 100 * MIB);
    write(&mut rig, 30);
    assert_eq!(rig.disk.logs.len(), 1);
    rig.up(frame("x.unknown k v"));
    assert!(matches!(rig.machine.views()[0].state(), State::Halted(_)));
    assert!(rig.disk.logs.is_empty());
}

#[test]
fn a_view_without_a_log_is_as_it_was() {
    let mut rig = rig(false, 0);
    let link = loading(&mut rig);
    write(&mut rig, 30);
    assert!(rig.disk.logs.is_empty() && rig.closed.contains(&link));
}

#[test]
fn the_program_ends_only_when_what_is_on_disk_is_out() {
    let mut rig = rig(false, 100 * MIB);
    let link = loading(&mut rig);
    let sent = write(&mut rig, 30);
    rig.disk.busy = true;
    rig.send(link, frame("REPLCONF ACK 0"));
    rig.handle(Input::Shutdown);
    assert!(!rig.machine.is_drained());
    rig.disk_works();
    assert!(rig.got(link).ends_with(&sent));
    assert!(rig.machine.is_drained());
}
