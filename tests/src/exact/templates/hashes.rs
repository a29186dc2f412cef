//! Hashes, and the lifetimes of their fields.

use super::Entry;
use crate::exact::draw::Draw;
use crate::server::Kind;

pub(super) const TEMPLATES: &[Entry] = &[
    ("hdel", |d| format!("HDEL {} {}", d.key("hash"), d.words())),
    ("hexpire", |d| lifetime(d, "HEXPIRE", |d| d.seconds(), "0")),
    ("hexpireat", |d| lifetime(d, "HEXPIREAT", Draw::later, "1")),
    ("hgetdel", |d| format!("HGETDEL {} {}", d.key("hash"), d.fields())),
    ("hgetex", hgetex),
    ("hincrby", |d| format!("HINCRBY {} n{} {}", d.key("hash"), d.below(3), d.number())),
    ("hincrbyfloat", |d| format!("HINCRBYFLOAT {} n{} {}.5", d.key("hash"), d.below(3), d.number())),
    ("hmset", |d| format!("HMSET {} {}", d.key("hash"), pairs(d))),
    ("hpersist", hpersist),
    ("hpexpire", |d| lifetime(d, "HPEXPIRE", |d| d.seconds() * 1000, "0")),
    ("hpexpireat", |d| lifetime(d, "HPEXPIREAT", |d| d.later() * 1000, "1")),
    ("hset", |d| format!("HSET {} {}", d.key("hash"), pairs(d))),
    ("hsetex", hsetex),
    ("hsetnx", |d| format!("HSETNX {} {} {}", d.key("hash"), d.word(), d.value())),
];

fn pairs(d: &mut Draw) -> String {
    let pairs: Vec<String> = (0..=d.below(4)).map(|_| format!("{} {}", d.word(), d.value())).collect();
    pairs.join(" ")
}

fn lifetime(d: &mut Draw, verb: &str, far: fn(&mut Draw) -> u64, past: &str) -> String {
    let (key, when, fields) = (d.key("hash"), far(d), d.fields());
    match d.below(8) {
        0 => format!("{verb} {key} {past} {fields}"),
        1 if short_lives(d) => format!("HSET {key} s0 v s1 w\nHPEXPIRE {key} {} {SHORT}", d.moment()),
        n => {
            let condition = if n < 5 { d.pick(&["NX", "XX", "GT", "LT"]) } else { "" };
            format!("{verb} {key} {when} {condition} {fields}")
        }
    }
}

/// Fields that end within the story, which nothing persists: a replica of Redis 8 ignores an HPERSIST that comes when the
/// field's time has passed by its own clock.
const SHORT: &str = "FIELDS 2 s0 s1";

/// Valkey 9 itself goes astray on fields that have expired and are not yet reclaimed (valkey-io/valkey#4732).
fn short_lives(d: &Draw) -> bool {
    d.server != Kind::Valkey91
}

fn hpersist(d: &mut Draw) -> String {
    let (key, fields, seconds) = (d.key("hash"), d.fields(), d.seconds());
    let before = if d.one_in(2) { format!("HEXPIRE {key} {seconds} {fields}\n") } else { String::new() };
    format!("{before}HPERSIST {key} {fields}")
}

fn when(d: &mut Draw) -> String {
    match d.below(6) {
        0 => format!("EX {}", d.seconds()),
        1 => format!("PX {}", d.seconds() * 1000),
        2 => format!("EXAT {}", d.later()),
        3 => format!("PXAT {}", d.later() * 1000),
        _ => String::new(),
    }
}

fn hgetex(d: &mut Draw) -> String {
    if short_lives(d) && d.one_in(5) {
        return format!("HGETEX {} PX {} {SHORT}", d.key("hash"), d.moment());
    }
    let option = if d.one_in(4) { "PERSIST".into() } else { when(d) };
    format!("HGETEX {} {option} {}", d.key("hash"), d.fields())
}

fn hsetex(d: &mut Draw) -> String {
    let key = d.key("hash");
    if short_lives(d) && d.one_in(5) {
        return format!("HSETEX {key} PX {} FIELDS 2 s0 v s1 w", d.moment());
    }
    let option = if d.one_in(5) { "KEEPTTL".into() } else { when(d) };
    let condition = d.pick(&["", "", "FNX", "FXX"]);
    let count = 1 + d.below(3);
    let pairs: Vec<String> = (0..count).map(|n| format!("w{} {}", 5 + n, d.value())).collect();
    format!("HSETEX {key} {condition} {option} FIELDS {count} {}", pairs.join(" "))
}
