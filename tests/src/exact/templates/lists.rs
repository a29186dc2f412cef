//! Lists.

use super::Entry;
use crate::exact::draw::Draw;

pub(super) const TEMPLATES: &[Entry] = &[
    ("blmove", |d| format!("BLMOVE {} {} {}", d.keys(2, "list"), ends(d), BRIEFLY)),
    ("blmpop", |d| format!("BLMPOP {BRIEFLY} {}", counted_pop(d))),
    ("blpop", |d| pop_of_several(d, "BLPOP")),
    ("brpop", |d| pop_of_several(d, "BRPOP")),
    ("brpoplpush", |d| format!("BRPOPLPUSH {} {BRIEFLY}", d.keys(2, "list"))),
    ("linsert", linsert),
    ("lmove", |d| format!("LMOVE {} {}", d.keys(2, "list"), ends(d))),
    ("lmpop", |d| format!("LMPOP {}", counted_pop(d))),
    ("lpop", |d| pop(d, "LPOP")),
    ("lpush", |d| push(d, "LPUSH")),
    ("lpushx", |d| push(d, "LPUSHX")),
    ("lrem", |d| format!("LREM {} {} {}", d.key("list"), d.index(), d.word())),
    ("lset", |d| format!("LSET {} {} {}", d.key("list"), d.index(), d.value())),
    ("ltrim", |d| format!("LTRIM {} {} {}", d.key("list"), d.below(2), d.pick(&[-1, -2, 3, 8]))),
    ("rpop", |d| pop(d, "RPOP")),
    ("rpoplpush", |d| format!("RPOPLPUSH {}", d.keys(2, "list"))),
    ("rpush", |d| push(d, "RPUSH")),
    ("rpushx", |d| push(d, "RPUSHX")),
];

/// Seconds for which a command blocks whose keys are all empty.
pub(super) const BRIEFLY: &str = "0.001";

fn ends(d: &mut Draw) -> String {
    format!("{} {}", d.pick(&["LEFT", "RIGHT"]), d.pick(&["LEFT", "RIGHT"]))
}

fn counted_pop(d: &mut Draw) -> String {
    let keys = d.counted("list");
    let count = match d.one_in(2) {
        true => format!("COUNT {}", 1 + d.below(4)),
        false => String::new(),
    };
    format!("{keys} {} {count}", d.pick(&["LEFT", "RIGHT"]))
}

fn pop_of_several(d: &mut Draw, verb: &str) -> String {
    let count = 1 + d.below(3);
    format!("{verb} {} {BRIEFLY}", d.keys(count, "list"))
}

fn pop(d: &mut Draw, verb: &str) -> String {
    let key = d.key("list");
    match d.one_in(2) {
        true => format!("{verb} {key} {}", d.below(5)),
        false => format!("{verb} {key}"),
    }
}

/// Numbers for SORT, or anything.
fn push(d: &mut Draw, verb: &str) -> String {
    if d.one_in(4) {
        return format!("{verb} {} {} {} {}", d.key("nums"), d.number(), d.number(), d.number());
    }
    match d.one_in(3) {
        true => format!("{verb} {} {}", d.key("list"), d.value()),
        false => format!("{verb} {} {}", d.key("list"), d.words()),
    }
}

fn linsert(d: &mut Draw) -> String {
    format!("LINSERT {} {} {} {}", d.key("list"), d.pick(&["BEFORE", "AFTER"]), d.word(), d.value())
}
