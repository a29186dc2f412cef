//! Commands that no key decides.

use crate::support::{Rules, Setup, frames};

use sluicegate_core::rdb::functions::{join_function_dump, split_function_dump};
use sluicegate_core::resp::write_command;

const DECIDES: Rules = Rules { db_independent: false, decides_frames: true, fails_on: None };

#[test]
fn whole_databases_are_emptied_in_the_view_too() {
    Setup::rules().gives(&[
        ("FLUSHALL", "SELECT 0 | FLUSHALL"),
        ("SELECT 4 | flushdb ASYNC | SET a 1", "SELECT 4 | flushdb ASYNC | SET a 1"),
        ("SET x:a 1 | FLUSHALL SYNC", "SELECT 0 | FLUSHALL SYNC"),
    ]);
}

#[test]
fn databases_are_exchanged_only_where_answers_do_not_depend_on_them() {
    let alike = Rules { db_independent: true, ..Rules::default() };
    Setup::with(alike).gives(&[
        ("SWAPDB 0 1", "SWAPDB 0 1"),
        ("SET a 1 | swapdb 0 1 | SET b 1", "SELECT 0 | SET a 1 | swapdb 0 1 | SET b 1"),
    ]);
    Setup::rules().halts(&[("SET a 1 | SWAPDB 0 1", "SELECT 0 | SET a 1", "SWAPDB")]);
}

#[test]
fn messages_pass_but_for_those_that_sentinels_find_each_other_by() {
    Setup::rules().gives(&[
        ("PUBLISH c m | SPUBLISH s m", "PUBLISH c m | SPUBLISH s m"),
        ("PUBLISH __sentinel__:hello m", ""),
        ("PUBLISH x:c m | PUBLISH hidden m", "PUBLISH x:c m | PUBLISH hidden m"),
        ("MULTI | PUBLISH __sentinel__:hello m | EXEC", ""),
    ]);
    Setup::with(DECIDES).gives(&[("PUBLISH c m | publish hidden m | SPUBLISH hidden2 m", "PUBLISH c m")]);
    Setup::rules().halts(&[("PUBLISH c", "", "PUBLISH"), ("PUBLISH c m m", "", "PUBLISH")]);
}

#[test]
fn function_libraries_are_asked_by_name() {
    // The words of a story are parted by spaces, so the source uses tabs.
    let all = "FUNCTION LOAD #!lua\tname=hiddenlib | function load REPLACE #!lua\tname=open | FUNCTION DELETE hiddenlib | FUNCTION DELETE open | FUNCTION FLUSH";
    Setup::rules().gives(&[(all, &all.replace('\t', "\\t"))]);
    let kept = "function load REPLACE #!lua\\tname=open | FUNCTION DELETE open | FUNCTION FLUSH";
    Setup::with(DECIDES).gives(&[(all, kept)]);
    Setup::with(DECIDES)
        .halts(&[("FUNCTION LOAD nameless", "", "FUNCTION LOAD"), ("FUNCTION RESTORE junk", "", "FUNCTION RESTORE")]);
    Setup::rules().halts(&[("FUNCTION INVENTED x", "", "FUNCTION")]);
}

#[test]
fn a_dump_of_functions_comes_apart_into_libraries() {
    let (open, hidden) = (&b"#!lua name=open\nreturn 1"[..], &b"#!lua name=hidden\nreturn 2"[..]);
    let restore = |sources: &[&[u8]], last: &[u8]| {
        let mut frame = Vec::new();
        write_command(&mut frame, &[b"FUNCTION", b"RESTORE", &join_function_dump(sources, 11), last]);
        frame
    };
    let deciding = Setup::with(DECIDES);
    let whole = restore(&[open], b"FLUSH");
    assert_eq!(deciding.run(&whole, 9), (whole.clone(), None), "all kept: as it is");
    assert_eq!(deciding.run(&restore(&[hidden, open], b"FLUSH"), 9), (whole, None));
    let (emptied, fault) = deciding.run(&restore(&[hidden], b"FLUSH"), 9);
    assert_eq!((emptied, fault), (restore(&[], b"FLUSH"), None), "FLUSH takes effect even where nothing is kept");
    assert_eq!(split_function_dump(&join_function_dump::<&[u8]>(&[], 11)).map(|(sources, _)| sources.len()), Ok(0));
    let mixed = restore(&[hidden, open], b"APPEND");
    assert_eq!(Setup::rules().run(&mixed, 9), (mixed.clone(), None), "no plugin decides");
}

#[test]
fn the_streams_own_business_is_the_hosts() {
    Setup::rules().gives(&[
        ("PING | ping", "PING | ping"),
        ("MULTI | PING | SET a 1 | EXEC | PING", "MULTI | SELECT 0 | SET a 1 | EXEC | PING"),
        ("REPLCONF GETACK * | SET a 1 | replconf getack *", "SELECT 0 | SET a 1"),
        ("SCRIPT LOAD return | SCRIPT FLUSH", "SELECT 0 | SCRIPT LOAD return | SCRIPT FLUSH"),
    ]);
    Setup::rules().halts(&[
        ("SELECT many", "", "SELECT"),
        ("SELECT 4294967296", "", "SELECT"),
        ("SELECT 1 2", "", "SELECT"),
    ]);
}

#[test]
fn a_view_without_plugins_passes_what_it_does_not_know() {
    Setup::plain().gives(&[
        (
            "JSON.SET a $ 1 | EVAL return 0 | XGROUP INVENTED",
            "SELECT 0 | JSON.SET a $ 1 | EVAL return 0 | XGROUP INVENTED",
        ),
        (
            "SORT a BY w_* STORE d | SWAPDB 0 1 | RENAME x:a b",
            "SELECT 0 | SORT a BY w_* STORE d | SWAPDB 0 1 | RENAME x:a b",
        ),
        ("PUBLISH __sentinel__:hello m | REPLCONF GETACK * | SELECT 3", ""),
        ("MULTI | EXEC", ""),
    ]);
}

#[test]
fn expiries_of_old_primaries_are_made_absolute() {
    let filtered = Setup { relative: true, ..Setup::rules() };
    let stories = [
        ("SET a 1 PX 5", "SELECT 0 | SET a 1 PXAT 1000000000005"),
        ("SETEX a 2 v", "SELECT 0 | SET a v PXAT 1000000002000"),
        ("EXPIRE a 1 | pexpire a 1", "SELECT 0 | PEXPIREAT a 1000000001000 | PEXPIREAT a 1000000000001"),
        ("SET a 1 | PEXPIREAT a 5", "SELECT 0 | SET a 1 | PEXPIREAT a 5"),
        ("RESTORE a 5 p REPLACE", "SELECT 0 | RESTORE a 1000000000005 p REPLACE ABSTTL"),
        ("MULTI | SET a 1 | EXPIRE a 1 | EXEC", "MULTI | SELECT 0 | SET a 1 | PEXPIREAT a 1000000001000 | EXEC"),
    ];
    Setup::plain().gives(&stories);
    filtered.gives(&stories);
    filtered.gives(&[
        ("SET r:a 1 EX 1 | EXPIRE x:a 1 | SETEX x:a 1 v", "SELECT 0 | SET R:a 1 PXAT 1000000001000"),
        ("PSETEX r:a 1 v", "SELECT 0 | SET R:a v PXAT 1000000000001"),
        ("SET r:a 1 | XGROUP CREATE r:s g 0", "SELECT 0 | SET R:a 1 | XGROUP CREATE R:s g 0"),
    ]);
    filtered.halts(&[("EXPIRE a soon", "", "expire"), ("MSETEX 2 a 1 x:b 2 PX 5", "", "MSETEX")]);
    Setup::rules().gives(&[("SET a 1 PX 5", "SELECT 0 | SET a 1 PX 5")]);
}

#[test]
fn the_example_streams_are_what_they_say() {
    assert_eq!(frames("PING | \\n | SET a \"\""), b"*1\r\n$4\r\nPING\r\n\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n");
}
