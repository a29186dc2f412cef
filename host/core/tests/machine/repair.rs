//! Values that come from the primary on a second connection.

use sluicegate_core::contract::{Input, LinkId};
use sluicegate_core::settings::{RepairLimits, ViewSettings};
use sluicegate_core::view::{Repaired, State};

use crate::rig::{A, Filter, Rig, frame, frames};

/// How far the primary is.
fn read(rig: &Rig) -> u64 {
    rig.machine.upstream_position().unwrap().2
}

fn restore(key: &str, value: &str) -> Vec<u8> {
    frame(&format!("RESTORE {key} 0 {value}\x0b\0checksum REPLACE ABSTTL"))
}

/// Views that filter, each with such limits, and a replica of each.
fn filters(limits: &[RepairLimits]) -> (Rig, Vec<LinkId>) {
    let view =
        |(n, limits): (usize, &RepairLimits)| ViewSettings { repair: *limits, ..ViewSettings::new(["one", "two"][n]) };
    let views: Vec<_> = limits.iter().enumerate().map(view).collect();
    let pipelines = views.iter().map(|_| Some(Box::new(Filter) as _)).collect();
    let mut rig = Rig::new(views, pipelines);
    rig.attach(A, 0);
    let replicas: Vec<_> = (0..limits.len()).map(|view| rig.synced(view)).collect();
    replicas.iter().for_each(|link| drop(rig.got(*link)));
    (rig, replicas)
}

fn filter(limits: RepairLimits) -> (Rig, LinkId) {
    let (rig, replicas) = filters(&[limits]);
    (rig, replicas[0])
}

#[test]
fn a_value_is_fetched_and_the_stream_goes_on_behind_it() {
    let (mut rig, replica) = filter(RepairLimits::default());
    rig.up(frames("SET a 1 | SUNIONSTORE d a x:b | SET b 1"));
    assert_eq!(rig.got(replica), frames("SELECT 0 | SET a 1"));
    rig.connect_values();
    assert_eq!(rig.told_values(), ["MULTI", "INFO replication", "SELECT 0", "DUMP d", "PEXPIRETIME d", "EXEC"]);
    let fence = read(&rig) + frame("SADD d m").len() as u64;
    rig.give_values(A, fence, &[Some("v")]);
    assert_eq!(rig.got(replica), b"", "the stream has not come to the place where the value is true");
    rig.up(frames("SADD d m | SADD d n"));
    assert_eq!(
        rig.got(replica),
        [frame("MULTI"), frame("SET b 1"), restore("d", "v"), frames("EXEC | SADD d n")].concat()
    );
}

#[test]
fn what_was_fetched_is_recorded_with_its_place_in_both_histories() {
    let (mut rig, replica) = filter(RepairLimits::default());
    rig.up(frames("SET a 1 | SUNIONSTORE d a x:b"));
    rig.connect_values();
    let (fence, place) = (read(&rig), rig.got(replica).len() as u64);
    rig.give_values(A, fence, &[Some("v")]);
    let entries: Vec<_> = rig.machine.views()[0].journal().collect();
    assert_eq!(entries, [Repaired { fence, keys: 1, view: place }]);
}

#[test]
fn the_attempt_that_was_given_up_cannot_disturb_the_one_that_came_through() {
    let (mut rig, replica) = filter(RepairLimits::default());
    rig.up(frame("COPY x:a d"));
    assert!(std::mem::take(&mut rig.wants_values));
    rig.wait(6_000);
    let link = rig.connect_values();
    rig.handle(Input::DialFailed(1, "late".into()));
    assert_eq!(rig.values_link(), Some(link));
    let fence = read(&rig);
    rig.give_values(A, fence, &[Some("v")]);
    assert_eq!(rig.got(replica), [frame("SELECT 0"), restore("d", "v")].concat());
}

#[test]
fn a_view_that_always_waits_for_something_but_for_nothing_long_goes_on() {
    let (mut rig, replica) = filter(RepairLimits { window_ms_max: 1_000, ..RepairLimits::default() });
    rig.up(frame("COPY x:a d0"));
    rig.connect_values();
    for n in 1..30 {
        // The next key is unknown before the value of the last one has come.
        rig.up(frame(&format!("COPY x:a d{n}")));
        rig.wait(100);
        let fence = read(&rig);
        rig.give_values(A, fence, &[Some("v")]);
        let got = rig.got(replica);
        assert!(got.ends_with(&restore(&format!("d{}", n - 1), "v")), "{}", got.escape_ascii());
    }
    rig.wait(1_100);
    assert!(rig.noted("view-halted").unwrap().contains("limits.repair_time"), "the last one does not come");
}

#[test]
fn a_pause_of_this_program_is_not_the_primarys() {
    let (mut rig, replica) = filter(RepairLimits { window_ms_max: 10_000, ..RepairLimits::default() });
    rig.up(frame("COPY x:a d"));
    rig.now += 20_000;
    rig.handle(Input::Tick);
    rig.wait(500);
    rig.connect_values();
    rig.got(replica);
    let fence = read(&rig);
    rig.give_values(A, fence, &[Some("v")]);
    assert_eq!(rig.got(replica), [frame("SELECT 0"), restore("d", "v")].concat());
}

#[test]
fn values_that_wait_for_others_count_among_what_is_held() {
    let (mut rig, replica) = filter(RepairLimits { window_bytes_max: 20_000, ..RepairLimits::default() });
    let value = "v".repeat(3_000);
    rig.up(frame("COPY x:a d0"));
    rig.connect_values();
    for n in 1..10 {
        // The last key is touched behind the next one's first unit: both go out together.
        rig.up(frames(&format!("COPY x:a d{n} | SADD d{} m", n - 1)));
        let fence = read(&rig);
        if rig.values_link().is_none() || !rig.told_values().iter().any(|command| command == "EXEC") {
            break;
        }
        rig.give_values(A, fence, &[Some(&value)]);
        assert!(rig.machine.views()[0].held().1 < 20_000 + 5_000, "{:?}", rig.machine.views()[0].held());
    }
    assert_eq!(rig.got(replica), b"");
    assert!(rig.noted("view-halted").unwrap().contains("limits.repair_window"));
}

#[test]
fn what_is_noted_of_frames_that_leave_nothing_behind_counts_too() {
    let (mut rig, _) = filter(RepairLimits { window_bytes_max: 20_000, ..RepairLimits::default() });
    rig.up(frame("COPY x:a d0"));
    rig.connect_values();
    for n in 1..30 {
        // Touches of a key whose value is unknown: of each there is nothing but that it was there.
        let touches = vec![format!("SADD d{} m", n - 1); 50].join(" | ");
        rig.up(frames(&format!("COPY x:a d{n} | {touches}")));
        let fence = read(&rig);
        if *rig.machine.views()[0].state() != State::Live {
            break;
        }
        rig.give_values(A, fence, &[Some("v")]);
    }
    assert!(rig.noted("view-halted").is_some_and(|why| why.contains("limits.repair_window")));
}

#[test]
fn names_of_keys_count_too() {
    let (mut rig, _) = filter(RepairLimits { window_bytes_max: 20_000, ..RepairLimits::default() });
    let name = "n".repeat(3_000);
    let frames: Vec<u8> = (0..10).flat_map(|n| frame(&format!("COPY x:a {name}{n}"))).collect();
    rig.up(frames);
    assert!(rig.noted("view-halted").is_some_and(|why| why.contains("limits.repair_window")));
}

#[test]
fn a_view_whose_value_is_refused_halts_alone() {
    let limits = RepairLimits { value_bytes_max: 100, window_bytes_max: 1_000, ..RepairLimits::default() };
    let (mut rig, replicas) = filters(&[limits, limits]);
    rig.up(frame("COPY x:a d"));
    rig.connect_values();
    assert_eq!(rig.told_values().iter().filter(|command| *command == "DUMP d").count(), 2, "they share an order");
    let fence = read(&rig);
    rig.give_values(A, fence, &[Some("v"), Some(&"v".repeat(200))]);
    assert!(rig.noted("view-halted").is_none(), "whose key it was is not known yet");
    rig.wait(2_000);
    rig.connect_values();
    rig.give_values(A, fence, &[Some(&"v".repeat(200))]);
    assert!(rig.noted("view-halted").unwrap().contains("limits.repair_value"));
    rig.wait(2_000);
    rig.connect_values();
    rig.give_values(A, fence, &[Some("v")]);
    assert_eq!(rig.noted("view-halted"), None);
    let live = |rig: &Rig, view: usize| *rig.machine.views()[view].state() == State::Live;
    assert_eq!([live(&rig, 0), live(&rig, 1)], [true, false]);
    assert_eq!(rig.got(replicas[0]), [frame("SELECT 0"), restore("d", "v")].concat());
}

#[test]
fn what_stands_before_a_window_is_acknowledged_while_another_is_open() {
    let (mut rig, replica) = filter(RepairLimits::default());
    rig.up(frame("SET a 1"));
    let before = read(&rig);
    rig.up(frames("COPY x:a d | REPLCONF GETACK *"));
    assert_eq!(rig.told_up(), frame(&format!("REPLCONF ACK {before}")), "the value of `d` is not known");
    rig.connect_values();
    let fence = read(&rig);
    // Another window opens before the answer to the first.
    rig.up(frames("SET b 1 | MULTI | SET c 1 | COPY x:a e | EXEC | SET f 1"));
    rig.give_values(A, fence, &[Some("v")]);
    let second = fence + frame("SET b 1").len() as u64;
    assert_eq!(rig.told_up(), frame(&format!("REPLCONF ACK {second}")), "the primary hears at once what it waits for");
    assert!(rig.got(replica).ends_with(&frame("SET b 1")));
    let end = read(&rig);
    rig.give_values(A, end, &[Some("w")]);
    rig.wait(1_000);
    assert!(rig.told_up().ends_with(&frame(&format!("REPLCONF ACK {end}"))));
}

fn dumps(commands: &[String]) -> usize {
    commands.iter().filter(|command| command.starts_with("DUMP")).count()
}

#[test]
fn orders_grow_as_values_turn_out_to_be_small() {
    let (mut rig, replica) = filter(RepairLimits { window_bytes_max: 200_000, ..RepairLimits::default() });
    rig.up(frame("SET a 1"));
    rig.got(replica);
    let many: Vec<String> = (0..100).map(|n| format!("COPY x:a d{n}")).collect();
    rig.up(frames(&many.join(" | ")));
    let fence = read(&rig);
    rig.connect_values();
    let mut orders = Vec::new();
    loop {
        let asked = dumps(&rig.told_values());
        if asked == 0 {
            break;
        }
        orders.push(asked);
        rig.give_values(A, fence, &vec![Some("v"); asked]);
    }
    assert_eq!(orders, [16, 32, 52]);
    let wanted: Vec<u8> = (0..100).flat_map(|n| restore(&format!("d{n}"), "v")).collect();
    assert_eq!(rig.got(replica), wanted, "the oldest first");
}

#[test]
fn values_that_are_too_many_bytes_together_come_in_smaller_orders() {
    let limits = RepairLimits { value_bytes_max: 1_000, window_bytes_max: 3_000, ..RepairLimits::default() };
    let (mut rig, replica) = filter(limits);
    let many: Vec<String> = (0..8).map(|n| format!("COPY x:a d{n}")).collect();
    rig.up(frames(&many.join(" | ")));
    let fence = read(&rig);
    let value = "v".repeat(800);
    let mut orders = Vec::new();
    for _ in 0..20 {
        if rig.wants_values {
            rig.connect_values();
        }
        let asked = dumps(&rig.told_values());
        if asked > 0 {
            orders.push(asked);
            rig.give_values(A, fence, &vec![Some(value.as_str()); asked]);
        } else {
            rig.wait(1_000);
        }
    }
    assert_eq!(orders, [8, 4, 2, 1, 1, 1, 1, 1, 1]);
    assert_eq!(*rig.machine.views()[0].state(), State::Live);
    let got = rig.got(replica);
    assert_eq!(got.windows(7).filter(|part| part == b"RESTORE").count(), 8);
}

#[test]
fn a_view_that_waited_for_too_long_says_for_what() {
    let (mut rig, _) = filter(RepairLimits { window_ms_max: 10_000, ..RepairLimits::default() });
    rig.up(frame("COPY x:a d"));
    for _ in 0..12 {
        rig.wait(1_000);
        if std::mem::take(&mut rig.wants_values) {
            rig.handle(Input::DialFailed(1, "refused by a firewall".into()));
        }
    }
    assert!(rig.noted("view-halted").unwrap().contains("refused by a firewall"));
    let (mut rig, _) = filter(RepairLimits { window_ms_max: 1_000, ..RepairLimits::default() });
    rig.up(frame("COPY x:a d"));
    rig.connect_values();
    let info = "role:slave\r\n";
    for _ in 0..12 {
        if rig.told_values().iter().any(|command| command == "EXEC") {
            let results = format!("${}\r\n{info}\r\n+OK\r\n$-1\r\n:-2\r\n", info.len());
            rig.values_say(format!("+OK\r\n{}*4\r\n{results}", "+QUEUED\r\n".repeat(4)));
        }
        rig.wait(100);
    }
    assert!(rig.noted("view-halted").unwrap().contains("is a replica of another one at the moment"));
}
