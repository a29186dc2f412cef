//! Strings, numbers, bitmaps and HyperLogLogs.

use super::Entry;
use crate::exact::draw::Draw;
use crate::server::Kind;

pub(super) const TEMPLATES: &[Entry] = &[
    ("append", |d| format!("APPEND {} {}", d.key("str"), d.word())),
    ("bitfield", bitfield),
    ("bitop", bitop),
    ("decr", |d| format!("DECR {}", d.key("num"))),
    ("decrby", |d| format!("DECRBY {} {}", d.key("num"), d.number())),
    ("delifeq", delifeq),
    ("getdel", |d| format!("GETDEL {}", d.key("str"))),
    ("getex", getex),
    ("getset", |d| format!("GETSET {} {}", d.key("str"), d.value())),
    ("incr", |d| format!("INCR {}", d.key("num"))),
    ("incrby", |d| format!("INCRBY {} {}", d.key("num"), d.number())),
    ("incrbyfloat", |d| format!("INCRBYFLOAT {} {}.5", d.key("num"), d.number())),
    ("mset", |d| format!("MSET {}", pairs(d))),
    ("msetex", msetex),
    ("msetnx", msetnx),
    ("psetex", |d| format!("PSETEX {} {} {}", d.key("str"), d.seconds() * 1000, d.value())),
    ("set", set),
    ("setbit", |d| format!("SETBIT {} {} {}", d.key("bits"), d.below(100), d.below(2))),
    ("setex", |d| format!("SETEX {} {} {}", d.key("str"), d.seconds(), d.value())),
    ("setnx", |d| format!("SETNX {} {}", d.key("str"), d.value())),
    ("setrange", |d| format!("SETRANGE {} {} {}", d.key("str"), d.below(60), d.value())),
    ("pfadd", |d| format!("PFADD {} {}", d.key("hll"), elements(d))),
    ("pfcount", pfcount),
    ("pfdebug", |d| format!("PFDEBUG {} {}", d.pick(&["GETREG", "TODENSE"]), d.key("hll"))),
    ("pfmerge", pfmerge),
];

fn set(d: &mut Draw) -> String {
    let (key, value) = (d.key("str"), d.value());
    let expiry = match d.below(12) {
        0 => format!("EX {}", d.seconds()),
        1 => format!("PX {}", d.seconds() * 1000),
        2 => format!("EXAT {}", d.later()),
        3 => format!("PXAT {}", d.later() * 1000),
        4 => format!("PX {}", d.moment()),
        5 => "EXAT 1".into(),
        6 => "KEEPTTL".into(),
        _ => String::new(),
    };
    let condition = match d.below(8) {
        0 => "NX".into(),
        1 => "XX".into(),
        2 if d.server == Kind::Valkey91 => format!("IFEQ {}", d.value()),
        _ => String::new(),
    };
    let get = d.maybe(6, "GET");
    match d.one_in(2) {
        true => format!("SET {key} {value} {expiry} {condition} {get}"),
        false => format!("SET {key} {value} {get} {condition} {expiry}"),
    }
}

fn getex(d: &mut Draw) -> String {
    let key = d.key("str");
    let option = match d.below(8) {
        0 => format!("EX {}", d.seconds()),
        1 => format!("PX {}", d.seconds() * 1000),
        2 => format!("EXAT {}", d.later()),
        3 => format!("PXAT {}", d.later() * 1000),
        4 => format!("PX {}", d.moment()),
        5 => "PXAT 1000".into(),
        6 => "PERSIST".into(),
        _ => String::new(),
    };
    format!("GETEX {key} {option}")
}

fn delifeq(d: &mut Draw) -> String {
    let (key, value) = (d.key("str"), d.value());
    let before = if d.one_in(2) { format!("SET {key} {value}\n") } else { String::new() };
    format!("{before}DELIFEQ {key} {value}")
}

/// Keys with values, each key of any fate.
fn pairs(d: &mut Draw) -> String {
    let pairs: Vec<String> = (0..=d.below(4)).map(|_| format!("{} {}", d.any_key("str"), d.value())).collect();
    pairs.join(" ")
}

fn msetnx(d: &mut Draw) -> String {
    let pairs = pairs(d);
    // It takes effect only where none of its keys is there.
    let keys: Vec<&str> = pairs.split(' ').step_by(2).collect();
    let before = if d.one_in(2) { format!("DEL {}\n", keys.join(" ")) } else { String::new() };
    format!("{before}MSETNX {pairs}")
}

fn msetex(d: &mut Draw) -> String {
    let pairs = pairs(d);
    let count = pairs.split(' ').count() / 2;
    let condition = d.pick(&["", "", "", "NX", "XX"]);
    let expiry = match d.below(6) {
        0 => format!("EX {}", d.seconds()),
        1 => format!("PX {}", d.seconds() * 1000),
        2 => format!("EXAT {}", d.later()),
        3 => format!("PXAT {}", d.later() * 1000),
        4 => "KEEPTTL".into(),
        _ => String::new(),
    };
    match d.one_in(2) {
        true => format!("MSETEX {count} {pairs} {condition} {expiry}"),
        false => format!("MSETEX {count} {pairs} {expiry} {condition}"),
    }
}

fn bitfield(d: &mut Draw) -> String {
    let key = d.key("bits");
    let (at, n) = (d.below(60), d.below(60));
    match d.below(6) {
        0 => format!("BITFIELD {key} SET u8 #{} {n}", at % 10),
        1 => format!("BITFIELD {key} INCRBY i16 {at} {n}"),
        2 => format!("BITFIELD {key} OVERFLOW SAT INCRBY u4 {at} {n}"),
        // The key is there and long enough, or the fault of the servers would show.
        3 => format!("SETBIT {key} 99 1\nBITFIELD {key} OVERFLOW FAIL INCRBY u2 {at} {n}"),
        4 => format!("BITFIELD {key} GET u8 0 SET i5 {at} {n} OVERFLOW WRAP INCRBY u2 #1 3"),
        _ => format!("BITFIELD {key} GET u8 {at}"),
    }
}

fn bitop(d: &mut Draw) -> String {
    let target = d.key("bits");
    let newer = d.server == Kind::Redis82;
    match d.below(if newer { 8 } else { 4 }) {
        0 => format!("BITOP NOT {target} {}", d.key("bits")),
        n @ (4 | 6 | 7) => {
            let operation = ["DIFF", "", "DIFF1", "ANDOR"][n as usize - 4];
            format!("BITOP {operation} {target} {}", d.keys(2, "bits"))
        }
        n => {
            let operation = ["", "AND", "OR", "XOR", "", "ONE"][n as usize];
            let count = 1 + d.below(3);
            format!("BITOP {operation} {target} {}", d.keys(count, "bits"))
        }
    }
}

/// Elements of a HyperLogLog; sometimes none.
fn elements(d: &mut Draw) -> String {
    match d.below(8) {
        0 => String::new(),
        1 => (0..20).map(|_| format!("e{} ", d.below(5000))).collect(),
        _ => d.words(),
    }
}

fn pfcount(d: &mut Draw) -> String {
    let (key, word) = (d.key("hll"), d.below(5000));
    match d.below(5) {
        0 => format!("PFCOUNT {}", d.keys(2, "hll")),
        1 => format!("PFCOUNT {key}"),
        // The count is no longer cached, so that counting writes.
        _ => format!("PFADD {key} e{word}\nPFCOUNT {key}"),
    }
}

fn pfmerge(d: &mut Draw) -> String {
    let count = d.below(4);
    format!("PFMERGE {} {}", d.key("hll"), d.keys(count, "hll"))
}
