//! What becomes of which command.

use std::sync::Arc;

use sluicegate_core::command::Table;
use sluicegate_core::kevy::projection::Projection;
use sluicegate_core::kevy::route::Routing;
use sluicegate_core::kevy::{Event, Scanner};

use super::{Out, Rules, Setup, commands, stream, words};
use crate::model::Rule;

#[test]
fn a_view_without_plugins_has_every_command_as_it_is() {
    let stories = [
        ("SET a 1 | sEt x:b 2 | DEL a b c", "SET a 1 | sEt x:b 2 | DEL a b c"),
        ("NONSENSE | NONSENSE k v", "NONSENSE | NONSENSE k v"),
        ("EVAL s 1 a | XINTERNAL.CATALOG 1 2 i v t", "EVAL s 1 a | XINTERNAL.CATALOG 1 2 i v t"),
        ("RENAME a b | MSET a 1 b", "RENAME a b | MSET a 1 b"),
        ("FLUSHALL | PUBLISH c m | SET", "FLUSHALL | PUBLISH c m | SET"),
        ("PING | SET a 1 | PING", "SET a 1"),
    ];
    for (setup, stream) in [(Setup::plain(), 0), (Setup::plain().at(2), 2)] {
        for (input, expected) in stories {
            let expected: Vec<String> = expected.split(" | ").map(|line| format!("{stream} {line}")).collect();
            setup.passes(&[(input, &expected.join(" | "))]);
        }
    }
}

#[test]
fn what_kevy_never_sends_halts_every_view() {
    for setup in [Setup::plain(), Setup::plain().at(1), Setup::plain().over(2), Setup::rules(), Setup::rules().at(0)] {
        for line in ["SELECT 0", "MULTI", "EXEC", "REPLCONF GETACK *"] {
            let name = if line.starts_with("REPLCONF") { "REPLCONF|GETACK" } else { line.split(' ').next().unwrap() };
            setup.halts(&[(line, "", &format!("kevy never sends {name}"))]);
        }
    }
}

#[test]
fn a_view_with_other_shards_has_every_command_in_the_stream_of_its_key() {
    Setup::plain().over(2).passes(&[
        ("SET a 1 | SET b 2 | HSET {a}b f v", "0 SET a 1 | 1 SET b 2 | 0 HSET {a}b f v"),
        ("DEL a k1 k2 b", "0 DEL a k2 | 1 DEL k1 b"),
        ("DEL b k1 | unlink a", "1 DEL b k1 | 0 unlink a"),
        ("MSET k1 1 a 2 b 3 k1 4", "1 MSET k1 1 b 3 k1 4 | 0 MSET a 2"),
        ("RENAME a k2 | SMOVE b k1 m | BITOP AND a q k3", "0 RENAME a k2 | 1 SMOVE b k1 m | 0 BITOP AND a q k3"),
        (
            "XGROUP CREATE b g $ | XREADGROUP GROUP g c STREAMS b >",
            "1 XGROUP CREATE b g $ | 1 XREADGROUP GROUP g c STREAMS b >",
        ),
        ("PUBLISH b m | PING", "0 PUBLISH b m"),
        ("SET | EVAL | DEL | MSET b 1 a | SET b", "1 SET b"),
    ]);
    Setup::plain().over(3).passes(&[("DEL a k1 k2 b", "1 DEL a | 2 DEL k1 b | 0 DEL k2")]);
    Setup::plain().over(2).halts(&[
        (
            "SET b 1 | NONSENSE b | SET a 1",
            "1 SET b 1",
            "unknown command NONSENSE: no table tells what it does to which keys",
        ),
        ("RENAME a b", "", "RENAME a b cannot be made right for this view: it joins keys of several streams"),
        ("EVAL s 1 a", "", "EVAL is of unknown streams: a script may write keys that it does not declare"),
    ]);
}

#[test]
fn a_command_with_one_key_shares_its_fate() {
    Setup::rules().passes(&[
        ("SET a 1 | SET x:a 1 | SET r:a 1", "0 SET a 1 | 0 SET {a}R 1"),
        ("hset r:a f v g w", "0 hset {a}R f v g w"),
        ("INCR r:a | LPOP x:a | SPOP a 2 | XADD r:a * f v", "0 INCR {a}R | 0 SPOP a 2 | 0 XADD {a}R * f v"),
        ("XGROUP CREATE r:s g $ MKSTREAM | xgroup setid x:s g 0", "0 XGROUP CREATE {s}R g $ MKSTREAM"),
        ("XGROUP WHATEVER r:s g", "0 XGROUP WHATEVER {s}R g"),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS r:s >", "0 XREADGROUP GROUP g c COUNT 1 STREAMS {s}R >"),
        ("XREADGROUP GROUP STREAMS c STREAMS x:s >", ""),
        (
            "XINTERNAL.CONSUMERSEEN r:s g c 1 2 | XINTERNAL.PENDING x:s g c 1 2 3-4",
            "0 XINTERNAL.CONSUMERSEEN {s}R g c 1 2",
        ),
        ("ZPOPMIN.BELOW r:z 5 | ZPOPMIN.BELOW x:z 5", "0 ZPOPMIN.BELOW {z}R 5"),
    ]);
    Setup::rules().over(2).passes(&[("SET r:a 1 | SET r:b 1 | SET b 1", "0 SET {a}R 1 | 1 SET {b}R 1 | 1 SET b 1")]);
    Setup::rules().at(2).passes(&[("SET r:a 1 | SET r:b 1 | SET b 1", "2 SET {a}R 1 | 2 SET {b}R 1 | 2 SET b 1")]);
}

#[test]
fn values_are_not_copied() {
    let command = |key: &str| vec![vec![b"SET".to_vec(), key.into(), vec![b'v'; 5000]]];
    let told = Setup::rules().run(&command("a"), usize::MAX);
    assert_eq!(told.out.pieces, 1);
    let told = Setup::rules().run(&command("r:a"), usize::MAX);
    assert_eq!((told.out.pieces, words(&told.out.commands[0].1)[1].as_slice()), (4, &b"{a}R"[..]));
}

#[test]
fn independent_keys_go_each_its_way() {
    Setup::rules().passes(&[
        ("DEL a x:b r:c", "0 DEL a {c}R"),
        ("UNLINK x:a x:b | DEL a b", "0 DEL a b"),
        ("MSET a 1 x:b 2 r:c 3 | MSET x:a 1", "0 MSET a 1 {c}R 3"),
    ]);
    Setup::rules().over(2).passes(&[
        ("DEL r:b a x:c b r:a", "1 DEL {b}R b | 0 DEL a {a}R"),
        ("mset r:b 1 a 2 x:c 3 b 4 r:b 5", "1 mset {b}R 1 b 4 {b}R 5 | 0 mset a 2"),
        ("DEL x:a b | DEL k1 b", "1 DEL b | 1 DEL k1 b"),
    ]);
    Setup::rules().at(1).passes(&[("DEL r:b a x:c b r:a", "1 DEL {b}R a b {a}R")]);
}

#[test]
fn joined_keys_are_all_kept_or_all_dropped() {
    let all_or_nothing = [
        (
            "RENAME a k2 | COPY a k2 REPLACE | LMOVE a k2 LEFT RIGHT",
            "RENAME a k2 | COPY a k2 REPLACE | LMOVE a k2 LEFT RIGHT",
        ),
        ("RENAME r:a k2 | RENAMENX k2 r:a", "RENAME {a}R k2 | RENAMENX k2 {a}R"),
        (
            "RPOPLPUSH a r:a | BRPOPLPUSH r:a a 0 | SMOVE a r:a m",
            "RPOPLPUSH a {a}R | BRPOPLPUSH {a}R a 0 | SMOVE a {a}R m",
        ),
        ("BLPOP a r:a 0 | BZPOPMIN a 0", "BLPOP a {a}R 0 | BZPOPMIN a 0"),
        ("GEOSEARCHSTORE a r:q FROMMEMBER m BYRADIUS 1 km", "GEOSEARCHSTORE a {q}R FROMMEMBER m BYRADIUS 1 km"),
        ("GEORADIUS a 1 2 3 km COUNT 3 STORE r:q", "GEORADIUS a 1 2 3 km COUNT 3 STORE {q}R"),
        ("SORT a BY nosort STORE r:q", "SORT a BY nosort STORE {q}R"),
        (
            "SUNIONSTORE a q k3 | ZINTERSTORE r:a 2 q k3 WEIGHTS 1 2",
            "SUNIONSTORE a q k3 | ZINTERSTORE {a}R 2 q k3 WEIGHTS 1 2",
        ),
        ("XREADGROUP GROUP g c STREAMS a r:q > >", "XREADGROUP GROUP g c STREAMS a {q}R > >"),
        // Nothing that is written is kept.
        ("RENAME x:a x:b | SUNIONSTORE x:a a b | COPY a x:a | BITOP AND x:a a b | GEORADIUS a 1 2 3 km", ""),
        ("LMOVE x:a x:b LEFT LEFT | BLPOP x:a x:b 0 | GEORADIUS a 1 2 3 km STORE x:b", ""),
    ];
    for (setup, stream) in [(Setup::rules(), 0), (Setup::rules().over(2), 0), (Setup::rules().at(2), 2)] {
        for (input, expected) in all_or_nothing {
            let lines = expected.split(" | ").filter(|line| !line.is_empty());
            let expected: Vec<String> = lines.map(|line| format!("{stream} {line}")).collect();
            setup.passes(&[(input, &expected.join(" | "))]);
        }
    }
    let mixed =
        |named: &str| format!("{named} cannot be made right for this view: it joins kept keys with dropped ones");
    for (input, named) in [
        ("RENAME a x:secret", "RENAME a (a dropped key)"),
        ("RENAME x:secret r:a", "RENAME (a dropped key) r:a"),
        ("COPY x:secret a", "COPY (a dropped key) a"),
        ("LMOVE a x:secret LEFT LEFT", "LMOVE a (a dropped key)"),
        ("SMOVE x:secret a m", "SMOVE (a dropped key) a"),
        ("BLPOP a x:secret 0", "BLPOP a (a dropped key)"),
        ("SDIFFSTORE a b x:secret", "SDIFFSTORE a b (a dropped key)"),
        ("GEORADIUSBYMEMBER x:secret m 1 km STOREDIST a", "GEORADIUSBYMEMBER (a dropped key) a"),
        ("XREADGROUP GROUP g c STREAMS a x:secret > >", "XREADGROUP a (a dropped key)"),
    ] {
        for setup in [Setup::rules(), Setup::rules().over(2), Setup::rules().at(0)] {
            setup.halts(&[(input, "", &mixed(named))]);
        }
    }
    Setup::rules().over(2).halts(&[
        ("RENAME a r:b", "", "RENAME a r:b cannot be made right for this view: it joins keys of several streams"),
        (
            "SET a 1 | SORT a BY w_* STORE a",
            "0 SET a 1",
            "SORT a a cannot be made right for this view: its patterns read keys that nobody named",
        ),
    ]);
}

#[test]
fn commands_that_no_key_decides() {
    Setup::rules().passes(&[
        ("PING | SET a 1 | PING | PING x", "0 SET a 1"),
        ("XINTERNAL.CATALOG 1 2 i v t | IDX.CREATE i ON x: | TABLE.DROP t | VIEW.DROP v", ""),
        ("FLUSHALL | FLUSHDB", "0 FLUSHALL | 0 FLUSHDB"),
        ("PUBLISH hidden m", "0 PUBLISH hidden m"),
    ]);
    Setup::rules().over(3).passes(&[("PUBLISH b m", "0 PUBLISH b m")]);
    Setup::rules().at(2).passes(&[("FLUSHALL | PUBLISH b m", "2 FLUSHALL | 2 PUBLISH b m")]);
    let decides = Setup { rules: Some(Rules { decides_frames: true, fails_on: None }), ..Setup::rules() };
    decides.passes(&[("PUBLISH hidden m | SPUBLISH c m", "0 SPUBLISH c m")]);
    let why = "a script may write keys that it does not declare";
    Setup::rules().at(0).halts(&[
        ("SET a 1 | EVAL s 0", "0 SET a 1", &format!("EVAL cannot be filtered: {why}")),
        ("EVALSHA s 1 x:a", "", &format!("EVALSHA cannot be filtered: {why}")),
        ("FCALL f 1 a", "", "FCALL cannot be filtered: what a function writes is known only where it runs"),
        ("SWAPDB 0 1", "", "kevy never sends SWAPDB"),
        ("SCRIPT FLUSH", "", "kevy never sends SCRIPT|FLUSH"),
        ("KEVY.NEW a | SET a 1", "", "unknown command KEVY.NEW: no table tells what it does to which keys"),
        ("KEVY.NEW", "", "unknown command KEVY.NEW: no table tells what it does to which keys"),
    ]);
}

/// The snapshots of such a view have no catalog either, and a replica that loads a snapshot without one forgets its own.
#[test]
fn a_catalog_passes_only_where_the_snapshots_have_it() {
    let catalog = "XINTERNAL.CATALOG 1 2 i v t";
    for setup in [Setup::plain(), Setup::plain().at(2)] {
        setup.passes(&[(catalog, &format!("{} {catalog}", setup.home.unwrap_or_default()))]);
    }
    for setup in [Setup::plain().over(1), Setup::plain().over(2), Setup::rules(), Setup::rules().over(2)] {
        setup.passes(&[(catalog, ""), ("IDX.CREATE i ON a: | SET a 1", "0 SET a 1")]);
    }
}

#[test]
fn one_shard_s_flush_halts_a_view_whose_streams_hold_keys_of_several() {
    for setup in [Setup::plain().over(1), Setup::plain().over(2), Setup::rules().over(1), Setup::rules().over(2)] {
        for flush in ["FLUSHALL", "FLUSHDB ASYNC"] {
            let name = flush.split(' ').next().unwrap();
            let why = format!("{name} empties one shard of the primary, and this view does not keep its keys apart");
            setup.halts(&[(&format!("SET a 1 | {flush} | SET a 2"), "0 SET a 1", &why)]);
        }
    }
}

#[test]
fn commands_that_failed_on_the_primary_are_left_out_and_counted() {
    let counted = |input: &str| {
        let told = Setup::rules().over(2).run(&commands(input), usize::MAX);
        assert_eq!(told.fault, None, "{input}");
        (told.counts.frames_in, told.counts.frames_out, told.failed)
    };
    assert_eq!(counted("SET | DEL | EVAL | EVAL s | RENAME a | MSET a 1 b | XGROUP | XGROUP HELP"), (8, 0, 8));
    assert_eq!(counted("XREADGROUP GROUP g c s 1 2 | ZUNIONSTORE d x a b | PUBLISH c | LMOVE a b LEFT"), (4, 0, 4));
    // Their key decides, whatever follows it.
    assert_eq!(counted("SET a | SET x:a | EXPIRE a | GETEX a EX | INCR a b c"), (5, 4, 0));
    assert_eq!(counted("DEL a b x:c | MSET a 1 b 2 | PING | SET x:a 1"), (3, 2, 0), "a PING is no command");
}

#[test]
fn plugins_are_asked_for_many_keys_at_once() {
    let line: Vec<String> = (0..1000).map(|i| format!("SET k{i} v")).collect();
    let table = Arc::new(Table::kevy());
    let mut rule = Rule(|key: &[u8]| Some(key.to_vec()), Vec::new());
    let mut projection = Projection::new(table.clone(), Some(&rule), 2, Routing::Hashtag, true);
    let mut scanner = Scanner::new(table, 1 << 20);
    scanner.push(stream(&commands(&line.join(" | "))).into());
    let mut out = Out::default();
    while let Some(event) = scanner.next().unwrap() {
        if let Event::Frames { frames, .. } = event {
            projection.project(&frames, Some(&mut rule), None, 0, &mut out).unwrap();
        }
    }
    assert_eq!((out.commands.len(), rule.1), (1000, vec![512, 488]));
}

#[test]
fn a_plugin_that_fails_halts_the_view() {
    let rules = Rules { fails_on: Some(b"k1"), ..Rules::default() };
    let setup = Setup { rules: Some(rules), ..Setup::rules() };
    let why = Some("plugin: plugin 'rules': it was told to fail".to_owned());
    assert_eq!(setup.tell("DEL k1 a"), (String::new(), why));
}
