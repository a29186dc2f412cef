//! The rules that keep the promise where a command reaches beyond one kept key, each by itself.

use sluicegate_core::resp::write_command;
use sluicegate_core::settings::CrossKey;

use crate::repair::Teller;
use crate::support::{Rules, Setup};

fn dump(version: u8) -> Vec<u8> {
    [&b"\0\x01v"[..], &[version, 0], &[9; 8]].concat()
}

#[test]
fn no_restore_goes_out_that_a_replica_would_drop_without_a_word() {
    let restore = |version| {
        let mut frame = Vec::new();
        write_command(&mut frame, &[b"RESTORE", b"a", b"0", &dump(version), b"ABSTTL"]);
        frame
    };
    assert!(Setup::rules().run(&restore(11), 4096).1.is_none());
    let fault = Setup::rules().run(&restore(12), 4096).1.expect("replicas were let in with RDB version 11");
    assert!(fault.what.contains("RDB version 12"), "{fault}");
}

#[test]
fn databases_change_places_only_where_no_plugin_tells_them_apart() {
    let alike = Setup::with(Rules { db_independent: true, ..Rules::default() });
    alike.gives(&[("SET a 1 | SWAPDB 0 1 | SET a 2", "SELECT 0 | SET a 1 | SWAPDB 0 1 | SET a 2")]);
    Setup::rules().halts(&[("SET a 1 | SWAPDB 0 1", "SELECT 0 | SET a 1", "SWAPDB")]);
}

#[test]
fn a_key_that_is_named_by_its_database_is_moved_as_a_removal_and_a_value() {
    let mut view = Teller::new(Rules::default());
    view.hears("MOVE n:a 3 | COPY n:b n:c DB 4");
    assert_eq!(view.asks(), [(3, "n:a".into())], "COPY names both keys, and so can be rewritten");
}

#[test]
fn a_sort_by_patterns_is_always_fetched_and_scripts_and_slots_always_halt() {
    for sort in ["SORT a BY w_* STORE d", "SORT a GET # GET v_* STORE d", "SORT x:a BY nosort GET v_* STORE d"] {
        let mut view = Teller::new(Rules::default());
        assert_eq!(view.hears(sort), "");
        assert_eq!(view.asks(), [(0, "d".into())], "{sort}: its patterns read keys that nobody named");
    }
    Setup { cross_key: CrossKey::Repair, ..Setup::rules() }.halts(&[
        ("EVAL return 1 a", "", "EVAL"),
        ("EVALSHA 00 1 a", "", "EVALSHA"),
        ("FCALL f 1 a", "", "FCALL"),
        ("CLUSTER FLUSHSLOT 1 SYNC", "", "CLUSTER"),
        ("TRIMSLOTS RANGES 1 0 5", "", "TRIMSLOTS"),
    ]);
}

#[test]
fn function_libraries_are_asked_for_by_their_names_alone() {
    let decides = Setup::with(Rules { decides_frames: true, ..Rules::default() });
    decides.gives(&[
        ("FUNCTION DELETE hidden-one | FUNCTION DELETE shown", "FUNCTION DELETE shown"),
        ("FUNCTION FLUSH ASYNC", "FUNCTION FLUSH ASYNC"),
    ]);
    let load = |name: &str| {
        let mut frame = Vec::new();
        write_command(&mut frame, &[b"FUNCTION", b"LOAD", format!("#!lua name={name}\nhidden").as_bytes()]);
        frame
    };
    assert_eq!(decides.run(&load("shown"), 4096), (load("shown"), None), "what its source says is nobody's business");
    assert_eq!(decides.run(&load("hidden"), 4096), (Vec::new(), None));
}

#[test]
fn what_is_dropped_where_it_should_be_fetched_makes_no_view_halt_that_may_be_inexact() {
    let drop = Setup { cross_key: CrossKey::Drop, ..Setup::rules() };
    drop.gives(&[("SUNIONSTORE d a x:b | SET a 1", "SELECT 0 | SET a 1")]);
}
