//! Commands with keys.

use sluicegate_core::resp::write_command;

use crate::support::{Rules, Setup, frames};

#[test]
fn single_keys_are_kept_dropped_and_renamed() {
    Setup::rules().gives(&[
        ("SET a 1", "SELECT 0 | SET a 1"),
        ("set a 1 | SeT b 2", "SELECT 0 | set a 1 | SeT b 2"),
        ("SET x:a 1 | set x:b 2", ""),
        ("SET x:a 1 | SET a 1 | SET x:b 1 | SET b 1", "SELECT 0 | SET a 1 | SET b 1"),
        ("SET r:a 1", "SELECT 0 | SET R:a 1"),
        ("SET r:a 1 | SET b 2 | hset r:c f v", "SELECT 0 | SET R:a 1 | SET b 2 | hset R:c f v"),
        ("INCR r: | DEL r:", "SELECT 0 | INCR R: | DEL R:"),
        ("SET \"\" 1", "SELECT 0 | SET \"\" 1"),
        ("SET a r:v | SET b x:v", "SELECT 0 | SET a r:v | SET b x:v"),
        ("RESTORE r:a 0 payload REPLACE", "SELECT 0 | RESTORE R:a 0 payload REPLACE"),
        ("XADD r:s 1-1 f v | XADD x:s 1-1 f v", "SELECT 0 | XADD R:s 1-1 f v"),
        ("\\n | SET a 1 | \\n", "SELECT 0 | SET a 1"),
    ]);
}

#[test]
fn a_payload_that_replicas_may_be_too_old_for_halts_unless_it_is_dropped() {
    let restore = |key: &[u8], version: u8| {
        let mut frame = Vec::new();
        let payload = [&b"\0\x01v"[..], &[version, 0], &[9; 8]].concat();
        write_command(&mut frame, &[b"RESTORE", key, b"0", &payload]);
        frame
    };
    let (out, fault) = Setup::rules().run(&restore(b"a", 11), 4096);
    assert!(fault.is_none() && out.ends_with(&restore(b"a", 11)));
    assert_eq!(Setup::rules().run(&restore(b"x:a", 80), 4096), (Vec::new(), None));
    let (out, fault) = Setup::rules().run(&restore(b"a", 80), 4096);
    assert!(out.is_empty() && fault.is_some_and(|fault| fault.what.contains("RDB version 80")));
}

#[test]
fn keys_behind_a_subcommand_are_keys_too() {
    Setup::rules().gives(&[
        ("XGROUP CREATE s g $ MKSTREAM", "SELECT 0 | XGROUP CREATE s g $ MKSTREAM"),
        ("XGROUP CREATE x:s g $ MKSTREAM", ""),
        ("xgroup destroy r:s g", "SELECT 0 | xgroup destroy R:s g"),
        ("XGROUP SETID r:s g 0 | XSETID r:s 1-1", "SELECT 0 | XGROUP SETID R:s g 0 | XSETID R:s 1-1"),
    ]);
}

#[test]
fn what_can_be_split_is_split() {
    Setup::rules().gives(&[
        ("DEL a b c", "SELECT 0 | DEL a b c"),
        ("DEL a x:b c", "SELECT 0 | DEL a c"),
        ("unlink x:a x:b", ""),
        ("UNLINK x:a r:b", "SELECT 0 | UNLINK R:b"),
        ("DEL r:a r:b", "SELECT 0 | DEL R:a R:b"),
        ("MSET a 1 x:b 2 c 3", "SELECT 0 | MSET a 1 c 3"),
        ("MSET x:a 1 x:b 2", ""),
        ("mset r:a x:v b r:v", "SELECT 0 | mset R:a x:v b r:v"),
        ("MSETNX x:a 1 b 2", "SELECT 0 | MSETNX b 2"),
        ("MSETEX 2 a 1 x:b 2 PXAT 5", "SELECT 0 | MSETEX 1 a 1 PXAT 5"),
        ("MSETEX 2 r:a 1 b 2 NX KEEPTTL", "SELECT 0 | MSETEX 2 R:a 1 b 2 NX KEEPTTL"),
        ("MSETEX 1 x:a 1 PXAT 5", ""),
    ]);
}

#[test]
fn joined_keys_are_all_kept_or_all_dropped() {
    Setup::rules().gives(&[
        ("SUNIONSTORE d a b", "SELECT 0 | SUNIONSTORE d a b"),
        ("SUNIONSTORE r:d a r:b", "SELECT 0 | SUNIONSTORE R:d a R:b"),
        ("SUNIONSTORE x:d x:a x:b", ""),
        // The kept key is only read: what is written, the view does not have.
        ("SUNIONSTORE x:d a b | PFMERGE x:d a", ""),
        ("ZUNIONSTORE r:d 2 a r:b WEIGHTS 1 2", "SELECT 0 | ZUNIONSTORE R:d 2 a R:b WEIGHTS 1 2"),
        ("ZUNIONSTORE x:d 2 a b AGGREGATE MAX", ""),
        ("BITOP AND r:d a r:b", "SELECT 0 | BITOP AND R:d a R:b"),
        ("RENAME r:a r:b", "SELECT 0 | RENAME R:a R:b"),
        ("RENAME a r:b | RENAMENX r:b a", "SELECT 0 | RENAME a R:b | RENAMENX R:b a"),
        ("RENAME x:a x:b | SMOVE x:a x:b m | LMOVE x:a x:b LEFT RIGHT", ""),
        ("LMOVE r:a b LEFT RIGHT | RPOPLPUSH a r:b", "SELECT 0 | LMOVE R:a b LEFT RIGHT | RPOPLPUSH a R:b"),
        ("SORT a LIMIT 0 5 STORE d", "SELECT 0 | SORT a LIMIT 0 5 STORE d"),
        ("SORT r:a ALPHA STORE r:d", "SELECT 0 | SORT R:a ALPHA STORE R:d"),
        ("SORT x:a BY w_* STORE x:d", ""),
        ("GEORADIUS r:g 0 0 5 km STORE r:d", "SELECT 0 | GEORADIUS R:g 0 0 5 km STORE R:d"),
        ("GEORADIUSBYMEMBER g m 5 km STOREDIST r:d", "SELECT 0 | GEORADIUSBYMEMBER g m 5 km STOREDIST R:d"),
        ("GEORADIUS x:g 0 0 5 km STORE x:d", ""),
        (
            "GEOSEARCHSTORE r:d g FROMLONLAT 0 0 BYRADIUS 5 km",
            "SELECT 0 | GEOSEARCHSTORE R:d g FROMLONLAT 0 0 BYRADIUS 5 km",
        ),
        ("ZRANGESTORE x:d a 0 -1", ""),
    ]);
}

#[test]
fn a_kept_key_that_depends_on_a_dropped_one_halts_the_view_where_that_is_wanted() {
    Setup::rules().halts(&[
        ("SET a 1 | SUNIONSTORE d a x:b | SET c 1", "SELECT 0 | SET a 1", "SUNIONSTORE d a (a dropped key)"),
        ("ZINTERSTORE d 2 a x:b", "", "ZINTERSTORE"),
        ("BITOP OR d x:a", "", "BITOP"),
        ("PFMERGE d x:a", "", "PFMERGE"),
        ("RENAME x:a b", "", "RENAME"),
        ("LMOVE x:a b LEFT LEFT", "", "LMOVE"),
        ("COPY x:a b", "", "COPY"),
        ("MOVE n:a 3", "", "MOVE"),
        ("SELECT 3 | MOVE d:a 0", "", "MOVE"),
        ("SELECT 3 | COPY d:a d:b DB 0", "", "COPY"),
        ("SORT x:a STORE d", "", "SORT"),
        ("SORT a BY w_* STORE d", "", "SORT"),
        ("SORT a GET # GET x_* STORE d", "", "SORT"),
        ("GEORADIUS x:g 0 0 5 km STORE d", "", "GEORADIUS"),
        ("ZRANGESTORE d x:a 0 -1", "", "ZRANGESTORE"),
        ("MULTI | SET a 1 | RENAME x:a b | EXEC", "", "RENAME"),
        (
            "SET z 1 | MULTI | SET a 1 | EXEC | MULTI | RENAME x:a b",
            "SELECT 0 | SET z 1 | MULTI | SET a 1 | EXEC",
            "RENAME",
        ),
    ]);
}

#[test]
fn what_is_left_of_a_command_for_the_kept_key_goes_out() {
    Setup::rules().gives(&[
        ("RENAME a x:b", "SELECT 0 | DEL a"),
        ("renamenx r:a x:b", "SELECT 0 | DEL R:a"),
        ("SMOVE a x:b m", "SELECT 0 | SREM a m"),
        ("smove x:a r:b m", "SELECT 0 | SADD R:b m"),
        ("LMOVE a x:b LEFT RIGHT", "SELECT 0 | LPOP a"),
        ("lmove r:a x:b right left", "SELECT 0 | RPOP R:a"),
        ("RPOPLPUSH a x:b", "SELECT 0 | RPOP a"),
        ("COPY a x:b REPLACE | PFCOUNT a x:b", ""),
        ("MOVE d:a 3", "SELECT 0 | DEL d:a"),
        ("SELECT 3 | COPY d:a x:b DB 0", ""),
        ("MULTI | RENAME a x:b | SMOVE x:a x:c m | SMOVE c x:a m | EXEC", "MULTI | SELECT 0 | DEL a | SREM c m | EXEC"),
    ]);
}

#[test]
fn copy_and_move_reach_into_other_databases() {
    Setup::rules().gives(&[
        ("COPY a b", "SELECT 0 | COPY a b"),
        ("COPY r:a r:b REPLACE", "SELECT 0 | COPY R:a R:b REPLACE"),
        ("COPY a x:b | COPY x:a x:b", ""),
        ("COPY a b DB 3 REPLACE", "SELECT 0 | COPY a b DB 3 REPLACE"),
        ("COPY n:a n:b DB 3", "SELECT 0 | COPY N0:a N3:b DB 3"),
        ("COPY a d:b DB 3", ""),
        ("MOVE a 3", "SELECT 0 | MOVE a 3"),
        ("MOVE r:a 3", "SELECT 0 | MOVE R:a 3"),
        ("MOVE x:a 3", ""),
    ]);
    Setup::rules().halts(&[("COPY a b DB many", "", "database")]);
}

#[test]
fn frames_that_do_not_have_the_shape_of_their_command_halt() {
    Setup::rules().halts(&[
        ("SET a", "", "SET"),
        ("SET", "", "SET"),
        ("GETSET a", "", "GETSET"),
        ("MSET a 1 b", "", "mset"),
        ("DEL", "", "del"),
        ("RENAME a", "", "rename"),
        ("ZUNIONSTORE d 3 a b", "", "zunionstore"),
        ("ZUNIONSTORE d many a b", "", "zunionstore"),
        ("SWAPDB 1", "", "SWAPDB"),
        ("FUNCTION DELETE", "", "FUNCTION"),
        ("XGROUP CREATE s", "", "xgroup"),
    ]);
}

#[test]
fn what_no_table_knows_and_what_cannot_be_filtered_halts() {
    Setup::rules().halts(&[
        ("SET a 1 | JSON.SET a $ 1", "SELECT 0 | SET a 1", "JSON.SET"),
        ("EVAL return 0", "", "EVAL"),
        ("EVAL return 1 a", "", "EVAL"),
        ("evalsha 00 1 x:a", "", "EVALSHA"),
        ("FCALL f 1 a", "", "FCALL"),
        ("SPOP a", "", "SPOP"),
        ("CLUSTER SETSLOT 1 NODE n", "", "CLUSTER"),
        ("XGROUP INVENTED s g", "", "XGROUP"),
        ("REPLCONF ACK 5", "", "REPLCONF"),
    ]);
}

#[test]
fn an_unknown_command_is_told_without_what_it_carries() {
    let long = "Z".repeat(300);
    let (out, fault) = Setup::rules().tell(&format!("{long} x:secret"));
    let fault = fault.expect("it halts");
    assert_eq!(out, "");
    assert!(fault.len() < 200 && !fault.contains("secret"), "{fault}");
}

#[test]
fn a_plugin_that_fails_halts_behind_what_was_sound() {
    let rules = Rules { fails_on: Some(b"bad"), ..Rules::default() };
    Setup::with(rules).halts(&[("SELECT 1 | SET bad 1", "", "plugin 'rules'"), ("COPY bad b", "", "plugin 'rules'")]);
    // How far the view gets before it halts depends on the batches, what it holds does not.
    let stream = frames("SET a 1 | SET b 2 | SET bad 3 | SET c 4");
    let whole = frames("SELECT 0 | SET a 1 | SET b 2");
    for size in 1..stream.len() {
        let (out, fault) = Setup::with(rules).run(&stream, size);
        assert!(fault.is_some() && whole.starts_with(&out), "reads of {size} bytes");
    }
}
