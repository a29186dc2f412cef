//! Views that wait for values from the primary: the bounds, and primaries that answer without sense.

use crate::rig::{A, Rig, frame, frames};
use crate::values::{answer, restore};

#[test]
fn a_view_that_would_hold_back_too_much_halts() {
    let (mut rig, replica) = Rig::repairing(|view| view.repair.window_bytes_max = 2_000);
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1"));
    for _ in 0..3 {
        rig.up(frame(&format!("SET b {}", "v".repeat(300))));
    }
    assert_eq!(rig.halted(0), None);
    rig.up(frame(&format!("SET b {}", "v".repeat(2_000))));
    let fault = rig.halted(0).expect("above its bound");
    assert!(fault.contains("2000 bytes (limits.repair_window)"), "{fault}");
    assert!(rig.closed.contains(&replica));
}

#[test]
fn a_view_with_too_many_unknown_keys_halts() {
    let (mut rig, _) = Rig::repairing(|view| view.repair.keys_max = 2);
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1 | SUNIONSTORE b x:1"));
    assert_eq!(rig.halted(0), None);
    rig.up(frame("SUNIONSTORE c x:1"));
    // What comes while it waits is looked at when it is its turn.
    rig.connect_values();
    rig.say_values(answer(A, rig.here(), &[None, None]));
    let fault = rig.halted(0).expect("above its bound");
    assert!(fault.contains("more than 2 keys (limits.repair_keys)"), "{fault}");
}

#[test]
fn a_value_above_the_bound_halts_the_view() {
    let (mut rig, _) = Rig::repairing(|view| view.repair.value_bytes_max = 100);
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1"));
    rig.connect_values();
    rig.say_values(answer(A, rig.here(), &[Some(&"v".repeat(200))]));
    let fault = rig.halted(0).expect("above its bound");
    assert!(fault.contains("'a'") && fault.contains("limits.repair_value (100 bytes)"), "{fault}");
    assert_eq!(rig.values, None, "the rest of the answer is not read");
}

#[test]
fn values_that_never_come_halt_the_view_in_time() {
    let (mut rig, _) = Rig::repairing(|view| view.repair.window_ms_max = 10_000);
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1"));
    rig.wait(9_800);
    assert_eq!(rig.halted(0), None);
    rig.wait(400);
    let fault = rig.halted(0).expect("above its bound");
    assert!(fault.contains("within 10000 ms (limits.repair_time)"), "{fault}");
}

#[test]
fn time_without_the_primary_is_not_time_that_is_waited() {
    let (mut rig, _) = Rig::repairing(|view| view.repair.window_ms_max = 10_000);
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1"));
    rig.cut();
    rig.wait(50_000);
    assert_eq!(rig.halted(0), None);
}

#[test]
fn one_repair_behind_another_without_end_halts_nothing() {
    let (mut rig, replica) = Rig::repairing(|view| view.repair.window_ms_max = 10_000);
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1"));
    rig.connect_values();
    let mut got = rig.got(replica);
    for _ in 0..60 {
        rig.up(frame("SUNIONSTORE a x:1"));
        rig.wait(500);
        // Before the frame: its key is unknown again as soon as it is known.
        rig.say_values(answer(A, rig.here() - frame("SUNIONSTORE a x:1").len() as u64, &[Some("v")]));
        assert!(rig.machine.views()[0].holds_back_from().is_some(), "it holds back all the time");
        got.extend(rig.got(replica));
    }
    assert_eq!(rig.halted(0), None);
    assert_eq!(got, [frame("SELECT 0"), restore("a", "v")].concat().repeat(60));
}

#[test]
fn a_primary_whose_fences_lie_nowhere_halts_the_view() {
    for back in [1, 30] {
        let (mut rig, _) = Rig::repairing(|_| {});
        rig.up(frames("SELECT 0 | SET b 1 | SUNIONSTORE a x:1"));
        rig.connect_values();
        for _ in 0..4 {
            rig.say_values(answer(A, rig.here() - back, &[Some("v")]));
            assert_eq!(rig.halted(0), None);
        }
        rig.say_values(answer(A, rig.here() - back, &[Some("v")]));
        let fault = rig.halted(0).expect("it makes no sense");
        assert!(fault.contains("the primary says") && fault.contains("no command"), "{fault}");
    }
    // In the middle of a frame that comes while the values are asked for.
    let (mut rig, _) = Rig::repairing(|_| {});
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1"));
    rig.connect_values();
    for strays in 1..=5 {
        rig.say_values(answer(A, rig.here() + 3, &[Some("v")]));
        rig.up(frame("SET b 1"));
        assert_eq!(rig.halted(0).is_some(), strays == 5, "{strays}");
        rig.wait(200);
    }
}
