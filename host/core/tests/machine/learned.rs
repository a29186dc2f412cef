//! Commands that the primary itself describes: what is made of real descriptions, and when they count.
//!
//! The golden replies are those of real servers to COMMAND, byte for byte: redis 8.2 with the FalkorDB module, valkey 9.1.

use sluicegate_core::command::learned::{REPLY_BOUNDS, learned};
use sluicegate_core::command::{Class, KeyPart, KeySpec, LEARNED_MAX, Learned, Mixed, Rest, Role, Table};
use sluicegate_core::resp::reply::Reader;
use sluicegate_core::settings::ViewSettings;

use crate::rig::{A, Filter, Rig, frame, frames, snapshot};

const FALKORDB: &[u8] = include_bytes!("../golden/command-all-redis-8.2-falkordb.reply");
const VALKEY: &[u8] = include_bytes!("../golden/command-all-valkey-9.1.reply");

fn read(mut bytes: &[u8]) -> Vec<Learned> {
    let reply = Reader::new(REPLY_BOUNDS).next(&mut bytes).expect("a reply").expect("a whole one");
    learned(&reply).expect("a list of commands")
}

/// A description as servers from 7.0 on give it: `name flags first last step | spec | spec …`, where a spec is
/// `flags / index 1 / range 0 1 0`.
fn described(line: &str) -> Vec<u8> {
    let mut parts = line.split(" | ");
    let words: Vec<&str> = parts.next().unwrap().split(' ').collect();
    let specs: Vec<&str> = parts.collect();
    let list = |words: &str| {
        let words: Vec<&str> = words.split(',').collect();
        format!("*{}\r\n", words.len()) + &words.iter().map(|word| format!("+{word}\r\n")).collect::<String>()
    };
    let mut out = format!("*10\r\n${}\r\n{}\r\n:-1\r\n{}", words[0].len(), words[0], list(words[1]));
    words[2..5].iter().for_each(|number| out += &format!(":{number}\r\n"));
    out += &format!("*0\r\n*0\r\n*{}\r\n", specs.len());
    for spec in specs {
        let halves: Vec<&str> = spec.split(" / ").collect();
        out += &format!("*6\r\n+flags\r\n{}", list(halves[0]));
        for (name, half, fields) in [
            ("begin_search", halves[1], &["index"][..]),
            (
                "find_keys",
                halves[2],
                if halves[2].starts_with("range") {
                    &["lastkey", "keystep", "limit"]
                } else {
                    &["keynumidx", "firstkey", "keystep"]
                },
            ),
        ] {
            let words: Vec<&str> = half.split(' ').collect();
            out += &format!("+{name}\r\n*4\r\n+type\r\n+{}\r\n+spec\r\n*{}\r\n", words[0], 2 * (words.len() - 1));
            fields.iter().zip(&words[1..]).for_each(|(field, number)| out += &format!("+{field}\r\n:{number}\r\n"));
        }
    }
    (out + "*0\r\n").into_bytes()
}

fn list(commands: &[Vec<u8>]) -> Vec<u8> {
    [format!("*{}\r\n", commands.len()).into_bytes(), commands.concat()].concat()
}

const JOINED: Class = Class::Cross(Mixed { source: Rest::Repair, target: Rest::Repair });

#[test]
fn a_module_s_writing_commands_are_learned() {
    let builtin = Table::builtin();
    let table = builtin.with_learned(&read(FALKORDB));
    let mut found: Vec<String> =
        table.rows()[builtin.rows().len()..].iter().map(|row| format!("{} {}", row.name, row.arity)).collect();
    found.sort_unstable();
    let known =
        "bulk -2,constraint -3,copy -3,delete -2,effect -2,explain -2,password -1,profile -2,query -2,restore -2";
    assert_eq!(found, known.split(',').map(|row| format!("graph.{row}")).collect::<Vec<_>>());
    let row = |name: &str| table.row(table.find(name.as_bytes()).expect(name));
    assert!(row("GRAPH.EFFECT").first_key_only && row("graph.constraint").class == Class::Single);
    assert_eq!(row("Graph.Copy").class, JOINED);
    assert!(matches!(row("graph.password").class, Class::Refuse(_)));
    assert_eq!(table.find(b"graph.ro_query"), None, "it only reads");
    assert_eq!(builtin.rows(), &table.rows()[..builtin.rows().len()], "the table's own rows keep their places");
}

#[test]
fn a_server_without_modules_teaches_nothing() {
    let builtin = Table::builtin();
    assert_eq!(builtin.with_learned(&read(VALKEY)).rows(), builtin.rows());
}

#[test]
fn what_is_learned_of_known_commands_agrees_with_the_table() {
    let table = Table::builtin();
    let mut compared = 0;
    for learned in read(FALKORDB).iter().chain(&read(VALKEY)).filter(|learned| learned.class == Class::Single) {
        let Some(row) = table.rows().iter().find(|row| row.name == learned.name) else { continue };
        // What takes one key or several has a range in the table.
        let place = |keys: KeySpec| match keys.0 {
            [KeyPart::One { at, .. }, KeyPart::None] => Some(at),
            _ => None,
        };
        assert_eq!(place(row.keys), place(learned.keys), "{}", row.name);
        compared += 1;
    }
    assert!(compared > 150, "{compared} commands were compared");
}

#[test]
fn descriptions_of_every_shape_are_placed_or_refused() {
    let one = |at, role| KeySpec([KeyPart::One { at, role }, KeyPart::None]);
    let range = |first, spare, step, role| KeySpec([KeyPart::Range { first, spare, step, role }, KeyPart::None]);
    let joined = |keys| Some((keys, JOINED));
    let single = |keys| Some((keys, Class::Single));
    let (r, w, rw) = (Role::Read, Role::Write, Role::ReadWrite);
    let known = [
        ("m.set write 1 1 1 | OW,update / index 1 / range 0 1 0", single(one(1, w))),
        ("m.old write 2 2 1", single(one(2, rw))),
        ("m.oldmany write 1 -1 3", joined(range(1, 0, 3, rw))),
        ("m.oldmost write 1 -2 1", joined(range(1, 1, 1, rw))),
        ("m.odd write 1 1 1 | RO,variable_flags / index 1 / range 0 1 0", single(one(1, rw))),
        (
            "m.union write 1 1 1 | OW / index 1 / range 0 1 0 | RO / index 2 / range -1 1 0",
            joined(KeySpec([KeyPart::One { at: 1, role: w }, KeyPart::Range { first: 2, spare: 0, step: 1, role: r }])),
        ),
        (
            "m.counted write,movablekeys 0 0 0 | RW / index 1 / keynum 0 1 2",
            joined(KeySpec([KeyPart::Counted { count: 1, first: 2, step: 2, role: rw }, KeyPart::None])),
        ),
        ("m.moves write,movablekeys 1 1 1 | RW / index 1 / range 0 1 0", None),
        ("m.oldmoves write,movablekeys 1 1 1", None),
        ("m.part write 1 1 1 | RW,incomplete / index 1 / range 0 1 0", None),
        ("m.channel write 1 1 1 | not_key / index 1 / range 0 1 0", None),
        ("m.secret write 1 1 1 | RW / unknown / range 0 1 0", None),
        ("m.secret2 write 1 1 1 | RW / index 1 / unknown", None),
        ("m.word write 0 0 0 | RW / keyword / range 0 1 0", None),
        ("m.half write 1 1 1 | RW / index 1 / range -1 1 2", None),
        ("m.three write 1 3 1", None),
        ("m.none write 0 0 0", None),
        ("m.behind write 1 1 1 | RO / index 1 / range -1 1 0 | RW / index 2 / range 0 1 0", None),
        ("m.large write 4294967297 4294967297 1", None),
    ];
    for (line, keys) in known {
        let found = read(&list(&[described(line)]));
        match (&found[..], keys) {
            ([learned], Some(keys)) => assert_eq!((learned.keys, learned.class), keys, "{line}"),
            ([learned], None) => assert!(matches!(learned.class, Class::Refuse(_)), "{line}: {learned:?}"),
            _ => panic!("{line}: {found:?}"),
        }
    }
    for line in ["m.get readonly 1 1 1", "m|x write 1 1 1", "\u{e9} write 1 1 1"] {
        assert_eq!(read(&list(&[described(line)])), [], "{line}");
    }
}

#[test]
fn sub_commands_are_learned_with_their_container() {
    let sub = |name: &str| described(&format!("{name} write 2 2 1"));
    let container = |name: &str, subs: &[Vec<u8>]| {
        let mut bytes = described(&format!("{name} module 0 0 0"));
        bytes.truncate(bytes.len() - b"*0\r\n".len());
        [bytes, list(subs)].concat()
    };
    let reply = list(&[
        container("m.box", &[sub("m.box|put"), sub("other|put"), described("m.box|get readonly 2 2 1")]),
        container("xgroup", &[sub("xgroup|create"), sub("xgroup|vanish")]),
        container("m.reads", &[described("m.reads|get readonly 2 2 1")]),
    ]);
    let builtin = Table::builtin();
    let table = builtin.with_learned(&read(&reply));
    let names: Vec<&str> = table.rows()[builtin.rows().len()..].iter().map(|row| &*row.name).collect();
    assert_eq!(names, ["m.box", "m.box|put", "xgroup|vanish"]);
    assert!(table.row(table.find(b"M.BOX").unwrap()).group);
}

#[test]
fn no_more_is_learned_than_the_bound() {
    let commands: Vec<Vec<u8>> = (0..2000).map(|n| described(&format!("m.{n:04} write 1 1 1"))).collect();
    let builtin = Table::builtin();
    let table = builtin.with_learned(&read(&list(&commands)));
    assert_eq!(table.rows().len() - builtin.rows().len(), LEARNED_MAX);
    for n in [0, 1, 500, LEARNED_MAX - 1] {
        let name = format!("M.{n:04}");
        assert!(table.find(name.as_bytes()).is_some_and(|id| table.row(id).name == *name.to_lowercase()), "{name}");
    }
    assert_eq!(table.find(b"m.1999"), None);
}

/// A view whose plugins are named, as the shell has them.
fn filtered() -> Rig {
    let settings = ViewSettings { pipeline: vec!["filter".into()], ..ViewSettings::new("some") };
    Rig::new(vec![settings], vec![Some(Box::new(Filter))])
}

/// The handshake up to COMMAND's answer, which comes in two reads; what was asked next comes back.
fn tell_commands(rig: &mut Rig, reply: &[u8]) -> Vec<u8> {
    rig.connect();
    rig.up("+PONG\r\n+OK\r\n+OK\r\n+OK\r\n");
    assert!(rig.told_up().ends_with(&frame("COMMAND")));
    let (head, tail) = reply.split_at(reply.len() / 2);
    rig.up(head);
    assert_eq!(rig.told_up(), b"");
    rig.up(tail);
    rig.told_up()
}

#[test]
fn a_view_with_plugins_filters_what_its_primary_described() {
    let mut rig = filtered();
    assert_eq!(tell_commands(&mut rig, FALKORDB), frame("PSYNC ? -1"));
    assert_eq!(rig.noted("commands-learned").unwrap(), "the primary describes 10 commands beyond the table");
    rig.give_snapshot(A, 0, &snapshot("8.2.3"));
    let replica = rig.synced(0);
    rig.up(frames("SELECT 0 | GRAPH.EFFECT a 1 | GRAPH.EFFECT x:b 2 | graph.delete c"));
    let got = rig.got(replica);
    assert!(got.ends_with(&frames("SELECT 0 | GRAPH.EFFECT a 1 | graph.delete c")), "{}", got.escape_ascii());
    rig.up(frame("GRAPH.PASSWORD secret"));
    assert!(rig.noted("view-halted").unwrap().contains("GRAPH.PASSWORD cannot be filtered"), "{:?}", rig.notes);
}

#[test]
fn a_primary_that_does_not_describe_its_commands_is_followed_with_the_table() {
    for answer in ["-NOPERM no permissions to run the 'command' command\r\n", "-ERR unknown command\r\n", "+OK\r\n"] {
        let mut rig = filtered();
        assert_eq!(tell_commands(&mut rig, answer.as_bytes()), frame("PSYNC ? -1"));
        let text = rig.noted("commands-unknown").unwrap();
        assert!(text.contains("views halt at commands of modules"), "{text}");
    }
}

#[test]
fn a_reply_beyond_the_bound_ends_the_link() {
    for reply in ["*1\r\n*1\r\n$1025\r\n", "*300000\r\n", "!\r\n"] {
        let mut rig = filtered();
        tell_commands(&mut rig, reply.as_bytes());
        assert_eq!(rig.up_link(), None, "{reply:?}");
        let text = rig.noted("upstream-failed").unwrap();
        assert!(text.starts_with("upstream:"), "{text}");
    }
}

#[test]
fn what_is_learned_on_the_way_counts_from_the_next_snapshot_on() {
    let mut rig = filtered();
    tell_commands(&mut rig, VALKEY);
    assert_eq!(rig.noted("commands-learned"), None);
    rig.give_snapshot(A, 0, &snapshot("8.2.3"));
    rig.up(frame("SET a 1"));
    rig.cut();
    assert_eq!(tell_commands(&mut rig, FALKORDB), frame("INFO replication"));
    assert!(rig.noted("commands-learned").unwrap().ends_with("from the next snapshot on"));
    let read = frame("SET a 1").len() as u64;
    rig.up("$0\r\n\r\n");
    rig.up("+CONTINUE\r\n");
    rig.up(frame("GRAPH.EFFECT a 1"));
    assert!(rig.noted("view-halted").unwrap().contains("unknown command GRAPH.EFFECT"), "{:?}", rig.notes);
    rig.cut();
    tell_commands(&mut rig, FALKORDB);
    rig.up("$0\r\n\r\n");
    rig.give_snapshot(A, read + 100, &snapshot("8.2.3"));
    let replica = rig.synced(0);
    rig.up(frame("GRAPH.EFFECT a 1"));
    assert!(rig.got(replica).ends_with(&frame("GRAPH.EFFECT a 1")));
}
