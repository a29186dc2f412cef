//! Sorted sets and places.

use super::Entry;
use super::lists::BRIEFLY;
use crate::exact::draw::{Draw, LEXICAL};

pub(super) const TEMPLATES: &[Entry] = &[
    ("bzmpop", |d| format!("BZMPOP {BRIEFLY} {}", counted_pop(d))),
    ("bzpopmax", |d| pop_of_several(d, "BZPOPMAX")),
    ("bzpopmin", |d| pop_of_several(d, "BZPOPMIN")),
    ("geoadd", geoadd),
    ("georadius", |d| format!("GEORADIUS {} {} {}", d.key("geo"), place(d), radius_store(d))),
    ("georadiusbymember", |d| format!("GEORADIUSBYMEMBER {} {} {}", d.key("geo"), d.word(), radius_store(d))),
    ("geosearchstore", geosearchstore),
    ("zadd", zadd),
    ("zdiffstore", |d| format!("ZDIFFSTORE {} {}", d.key("zset"), d.counted("zset"))),
    ("zincrby", |d| format!("ZINCRBY {} {} {}", d.key("zset"), d.number(), d.word())),
    ("zinterstore", |d| store(d, "ZINTERSTORE")),
    ("zmpop", |d| format!("ZMPOP {}", counted_pop(d))),
    ("zpopmax", |d| pop(d, "ZPOPMAX")),
    ("zpopmin", |d| pop(d, "ZPOPMIN")),
    ("zrangestore", zrangestore),
    ("zrem", |d| format!("ZREM {} {}", d.key("zset"), d.words())),
    ("zremrangebylex", zremrangebylex),
    ("zremrangebyrank", |d| format!("ZREMRANGEBYRANK {} {} {}", d.key("zset"), d.index(), d.below(4))),
    ("zremrangebyscore", |d| format!("ZREMRANGEBYSCORE {} {}", d.key("zset"), scores(d))),
    ("zunionstore", |d| store(d, "ZUNIONSTORE")),
];

fn zadd(d: &mut Draw) -> String {
    if d.one_in(8) {
        return lexical(d);
    }
    let (key, score, word) = (d.key("zset"), d.score(), d.word());
    match d.below(8) {
        0 => format!("ZADD {key} {} {score} {word}", d.pick(&["NX", "XX", "GT", "LT", "XX GT", "LT XX"])),
        1 => format!("ZADD {key} {} CH {score} {word} {} {}", d.pick(&["NX", "GT", ""]), d.number(), d.word()),
        2 => format!("ZADD {key} {} INCR {} {word}", d.pick(&["NX", "XX", "GT", ""]), d.number()),
        3 => format!("ZADD {key} CH NX {score} {word}"),
        _ => format!("ZADD {key} {score} {word} {} {} {} {}", d.number(), d.word(), d.number(), d.word()),
    }
}

/// Members that only their names tell apart.
fn lexical(d: &mut Draw) -> String {
    format!("ZADD {} 0 {} 0 {} 0 {}", d.key(LEXICAL), d.word(), d.word(), d.word())
}

fn zremrangebylex(d: &mut Draw) -> String {
    let before = lexical(d);
    format!("{before}\nZREMRANGEBYLEX {} {}", d.key(LEXICAL), d.pick(&["- [w6", "(w7 +", "[1 (w5"]))
}

fn store(d: &mut Draw, verb: &str) -> String {
    let (target, count) = (d.key("zset"), 1 + d.below(3));
    // Sets count as sorted sets whose scores are 1.
    let content = d.pick(&["zset", "zset", "zset", "set"]);
    let keys = d.keys(count, content);
    let weights = match d.one_in(3) {
        true => (0..count).map(|_| format!(" {}", d.number())).collect::<String>(),
        false => String::new(),
    };
    let weights = if weights.is_empty() { weights } else { format!("WEIGHTS{weights}") };
    let aggregate = d.pick(&["", "", "AGGREGATE SUM", "AGGREGATE MIN", "AGGREGATE MAX"]);
    format!("{verb} {target} {count} {keys} {weights} {aggregate}")
}

fn scores(d: &mut Draw) -> String {
    let (low, high) = (d.number(), d.number());
    d.pick(&["-inf +inf", "(0 10", "LOW HIGH", "-inf (LOW"])
        .replace("LOW", &low.min(high).to_string())
        .replace("HIGH", &low.max(high).to_string())
}

fn zrangestore(d: &mut Draw) -> String {
    let keys = d.keys(2, "zset");
    let limit = match d.one_in(2) {
        true => format!("LIMIT {} {}", d.below(3), d.below(5)),
        false => String::new(),
    };
    match d.below(5) {
        0 => format!("ZRANGESTORE {keys} -inf +inf BYSCORE {limit}"),
        1 => format!("ZRANGESTORE {keys} +inf (0 BYSCORE REV {limit}"),
        2 => format!("ZRANGESTORE {} {} [0 + BYLEX {limit}", d.key("zset"), d.key(LEXICAL)),
        3 => format!("ZRANGESTORE {keys} 0 {} REV", d.index()),
        _ => format!("ZRANGESTORE {keys} {} {}", d.below(3), d.index()),
    }
}

fn counted_pop(d: &mut Draw) -> String {
    let keys = d.counted("zset");
    let count = match d.one_in(2) {
        true => format!("COUNT {}", 1 + d.below(4)),
        false => String::new(),
    };
    format!("{keys} {} {count}", d.pick(&["MIN", "MAX"]))
}

fn pop_of_several(d: &mut Draw, verb: &str) -> String {
    let count = 1 + d.below(3);
    format!("{verb} {} {BRIEFLY}", d.keys(count, "zset"))
}

fn pop(d: &mut Draw, verb: &str) -> String {
    let key = d.key("zset");
    match d.one_in(2) {
        true => format!("{verb} {key} {}", 1 + d.below(4)),
        false => format!("{verb} {key}"),
    }
}

/// Longitude and latitude.
fn place(d: &mut Draw) -> String {
    format!("{}.125 {}.5", d.below(40), d.below(40))
}

fn geoadd(d: &mut Draw) -> String {
    let options = d.pick(&["", "", "", "NX", "XX", "CH", "XX CH"]);
    format!("GEOADD {} {options} {} {} {} {}", d.key("geo"), place(d), d.word(), place(d), d.word())
}

/// What follows the middle of GEORADIUS. Of two targets the last counts.
fn radius_store(d: &mut Draw) -> String {
    let limit = match d.one_in(3) {
        true => format!("COUNT {} {}", 1 + d.below(4), d.maybe(2, "ANY")),
        false => String::new(),
    };
    let order = d.pick(&["", "ASC", "DESC"]);
    let target = match d.below(6) {
        0 => format!("STORE {} STOREDIST {}", d.key("zset"), d.key("zset")),
        1 => format!("STOREDIST {} STORE {}", d.key("zset"), d.key("geo")),
        2 => format!("STOREDIST {}", d.key("zset")),
        _ => format!("STORE {}", d.key("geo")),
    };
    match d.one_in(2) {
        true => format!("{} km {target} {limit} {order}", 500 * d.below(9)),
        false => format!("{} km {order} {limit} {target}", 500 * d.below(9)),
    }
}

fn geosearchstore(d: &mut Draw) -> String {
    let keys = d.keys(2, "geo");
    let from = match d.one_in(2) {
        true => format!("FROMLONLAT {}", place(d)),
        false => format!("FROMMEMBER {}", d.word()),
    };
    let shape = match d.one_in(2) {
        true => format!("BYRADIUS {} km", 500 * (1 + d.below(9))),
        false => format!("BYBOX {} 3000 km", 500 * (1 + d.below(9))),
    };
    let limit = match d.one_in(3) {
        true => format!("COUNT {} {}", 1 + d.below(4), d.maybe(2, "ANY")),
        false => String::new(),
    };
    format!("GEOSEARCHSTORE {keys} {from} {shape} {} {limit} {}", d.pick(&["", "ASC", "DESC"]), d.maybe(3, "STOREDIST"))
}
