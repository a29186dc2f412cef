//! Sets, and vector sets.

use super::Entry;
use crate::exact::draw::Draw;
use crate::exact::line::quote;

pub(super) const TEMPLATES: &[Entry] = &[
    ("sadd", sadd),
    ("sdiffstore", |d| store(d, "SDIFFSTORE")),
    ("sinterstore", |d| store(d, "SINTERSTORE")),
    ("smove", smove),
    ("spop", spop),
    ("srem", |d| format!("SREM {} {}", d.key("set"), d.words())),
    ("sunionstore", |d| store(d, "SUNIONSTORE")),
    ("vadd", vadd),
    ("vrem", |d| {
        let (before, key, word) = member(d);
        format!("{before}VREM {key} {word}")
    }),
    ("vsetattr", |d| {
        let (before, key, word) = member(d);
        format!("{before}VSETATTR {key} {word} {}", attributes(d))
    }),
];

fn sadd(d: &mut Draw) -> String {
    match d.below(4) {
        0 => format!("SADD {} {} {}", d.key("ints"), d.below(9), d.below(9000)),
        1 => format!("SADD {} {}", d.key("set"), d.value()),
        _ => format!("SADD {} {}", d.key("set"), d.words()),
    }
}

fn smove(d: &mut Draw) -> String {
    let (source, target, word) = (d.key("set"), d.key("set"), d.word());
    let before = if d.one_in(2) { format!("SADD {source} {word}\n") } else { String::new() };
    format!("{before}SMOVE {source} {target} {word}")
}

fn store(d: &mut Draw, verb: &str) -> String {
    let (content, count) = (d.pick(&["set", "set", "ints"]), 1 + d.below(3));
    format!("{verb} {} {}", d.key(content), d.keys(count, content))
}

fn spop(d: &mut Draw) -> String {
    let key = d.key("set");
    match d.one_in(2) {
        true => format!("SPOP {key} {}", d.below(6)),
        false => format!("SPOP {key}"),
    }
}

fn attributes(d: &mut Draw) -> String {
    match d.one_in(4) {
        true => quote(b""),
        false => quote(format!("{{\"n\": {}}}", d.below(9)).as_bytes()),
    }
}

/// A vector set, one of its members, and in most cases the lines that make it.
fn member(d: &mut Draw) -> (String, String, String) {
    let (key, word) = (d.key("vec"), d.word());
    match d.one_in(3) {
        true => (String::new(), key, word),
        false => (format!("VREM {key} {word}\nVADD {key} VALUES 3 1 2 3 {word}\n"), key, word),
    }
}

fn vadd(d: &mut Draw) -> String {
    let (key, word) = (d.key("vec"), d.word());
    let vector = format!("VALUES 3 {}.5 {} {}", d.number(), d.number(), d.number());
    let attributes = match d.one_in(3) {
        true => format!("SETATTR {}", attributes(d)),
        false => String::new(),
    };
    // Of an element that is there already the primary would say nothing.
    format!("VREM {key} {word}\nVADD {key} {vector} {word} {} {attributes}", d.pick(&["", "", "NOQUANT", "BIN"]))
}
