//! Commands for keys of any type.

use super::Entry;
use crate::exact::draw::Draw;
use crate::exact::line::quote;
use crate::server::Kind;

pub(super) const TEMPLATES: &[Entry] = &[
    ("copy", copy),
    ("del", |d| delete(d, "DEL")),
    ("expire", |d| expire(d, "EXPIRE", |d| d.seconds(), "-1")),
    ("expireat", |d| expire(d, "EXPIREAT", Draw::later, "1")),
    ("migrate", migrate),
    ("move", |d| format!("MOVE {} {}", any(d), d.db())),
    ("persist", persist),
    ("pexpire", |d| expire(d, "PEXPIRE", |d| d.seconds() * 1000, "0")),
    ("pexpireat", |d| expire(d, "PEXPIREAT", |d| d.later() * 1000, "1000")),
    ("rename", |d| two(d, "RENAME")),
    ("renamenx", |d| two(d, "RENAMENX")),
    ("restore", |d| restore(d, "RESTORE")),
    ("restore-asking", |d| restore(d, "RESTORE-ASKING")),
    ("sort", sort),
    ("unlink", |d| delete(d, "UNLINK")),
];

/// A key of any content.
pub(super) fn any(d: &mut Draw) -> String {
    let content = d.content();
    d.key(content)
}

/// Two keys of one content.
fn two(d: &mut Draw, verb: &str) -> String {
    let content = d.content();
    format!("{verb} {}", d.keys(2, content))
}

fn copy(d: &mut Draw) -> String {
    let db = match d.one_in(2) {
        true => format!("DB {}", d.db()),
        false => String::new(),
    };
    let replace = d.maybe(2, "REPLACE");
    let (first, second) = if d.one_in(2) { (db.as_str(), replace) } else { (replace, db.as_str()) };
    let keys = two(d, "COPY");
    format!("{keys} {first} {second}")
}

fn delete(d: &mut Draw, verb: &str) -> String {
    let content = d.content();
    format!("{verb} {}", d.any_keys(content))
}

fn expire(d: &mut Draw, verb: &str, far: fn(&mut Draw) -> u64, past: &str) -> String {
    let key = any(d);
    match d.below(8) {
        0 => format!("{verb} {key} {past}"),
        1 => format!("PEXPIRE {key} {}", d.moment()),
        _ => {
            let when = far(d);
            let condition = match d.one_in(2) {
                true => d.pick(&["NX", "XX", "GT", "LT", "XX GT", "LT XX"]),
                false => "",
            };
            format!("{verb} {key} {when} {condition}")
        }
    }
}

fn persist(d: &mut Draw) -> String {
    let key = any(d);
    let seconds = d.seconds();
    let before = if d.one_in(2) { format!("EXPIRE {key} {seconds}\n") } else { String::new() };
    format!("{before}PERSIST {key}")
}

fn migrate(d: &mut Draw) -> String {
    let port = d.prepared.neighbour;
    let options = d.pick(&["REPLACE", "REPLACE", "REPLACE", "REPLACE COPY"]);
    match d.one_in(2) {
        true => format!("MIGRATE 127.0.0.1 {port} {} 0 5000 {options}", any(d)),
        false => {
            let content = d.content();
            format!("MIGRATE 127.0.0.1 {port} %_ 0 5000 {options} KEYS {}", d.any_keys(content))
        }
    }
}

fn restore(d: &mut Draw, verb: &str) -> String {
    let chosen = d.below(d.prepared.dumps.len() as u32) as usize;
    let payload = quote(&d.prepared.dumps[chosen]);
    let content = super::super::draw::CONTENTS[chosen];
    let key = d.key(content);
    let expiry = match d.below(5) {
        0 => (d.seconds() * 1000).to_string(),
        1 => format!("{} ABSTTL", d.later() * 1000),
        // In the past: the key is not made, and what it replaces goes.
        2 if d.one_in(3) => "1000 ABSTTL".into(),
        _ => "0".into(),
    };
    let (ttl, absolute) = expiry.split_once(' ').unwrap_or((&expiry, ""));
    let replace = if d.one_in(5) { "" } else { "REPLACE" };
    let rest = d.pick(&["", "", "IDLETIME 5", "FREQ 3"]);
    format!("{verb} {key} {ttl} {payload} {replace} {absolute} {rest}")
}

fn sort(d: &mut Draw) -> String {
    let content = d.pick(&["list", "nums", "nums", "set", "ints", "zset"]);
    let source = d.key(content);
    let target = d.key("list");
    let mut options: Vec<String> = vec!["ALPHA".into()];
    if matches!(content, "nums" | "ints") && d.one_in(2) {
        options.clear();
    }
    if d.one_in(3) {
        options.push(d.pick(&["ASC", "DESC"]).into());
    }
    if d.one_in(3) {
        options.push(format!("LIMIT {} {}", d.below(3), d.below(6)));
    }
    // Patterns name keys that no frame names: they halt a view that must not fetch.
    if d.mixes() && d.one_in(3) {
        // Members of a set that weigh the same as texts come as the set has them, which differs between servers; those
        // that weigh the same as numbers come by their names.
        if matches!(content, "set" | "ints" | "zset") {
            options.clear();
        }
        options.push(format!("BY {}:num:*", d.pick(&["keep", "drop", "ren"])));
    } else if d.one_in(6) {
        options.push("BY nosort".into());
    }
    if d.mixes() && d.one_in(4) {
        options.push(format!("GET {}", d.pick(&["#", "keep:str:*", "drop:num:*", "ren:hash:*->w5"])));
    }
    let lone = d.server != Kind::Redis62 && d.one_in(30);
    let store = if lone { String::new() } else { format!("STORE {target}") };
    let at = d.below(options.len() as u32 + 1) as usize;
    options.insert(at, store);
    format!("SORT {source} {}", options.join(" "))
}
