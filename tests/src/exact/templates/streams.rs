//! Streams, their groups and consumers.

use super::Entry;
use crate::exact::draw::Draw;
use crate::server::Kind;

pub(super) const TEMPLATES: &[Entry] = &[
    ("xack", |d| with_group(d, |d, key, group| format!("XACK {key} {group} {} {}", d.entry(), d.entry()))),
    ("xackdel", xackdel),
    ("xadd", xadd),
    ("xautoclaim", xautoclaim),
    ("xclaim", xclaim),
    ("xdel", |d| format!("XDEL {} {} {}", d.key("xs"), d.entry(), d.entry())),
    ("xdelex", |d| format!("XDELEX {} {} IDS 2 {} {}", d.key("xs"), fate(d), d.entry(), d.entry())),
    ("xgroup|create", create),
    ("xgroup|createconsumer", |d| {
        let (group, consumer) = d.group();
        format!("XGROUP CREATECONSUMER {} {group} {consumer}", d.key("xs"))
    }),
    ("xgroup|delconsumer", |d| {
        let (group, consumer) = d.group();
        format!("XGROUP DELCONSUMER {} {group} {consumer}", d.key("xs"))
    }),
    ("xgroup|destroy", |d| with_group(d, |_, key, group| format!("XGROUP DESTROY {key} {group}"))),
    ("xgroup|setid", |d| {
        with_group(d, |d, key, group| {
            format!("XGROUP SETID {key} {group} {} {}", start(d), d.maybe(3, "ENTRIESREAD 2"))
        })
    }),
    ("xreadgroup", xreadgroup),
    ("xsetid", xsetid),
    ("xtrim", |d| format!("XTRIM {} {}", d.key("xs"), bound(d))),
];

/// A command for a stream's group, which is there in most cases.
fn with_group(d: &mut Draw, command: fn(&mut Draw, &str, &str) -> String) -> String {
    let (key, (group, _)) = (d.key("xs"), d.group());
    let command = command(d, &key, group);
    match d.one_in(2) {
        true => format!("XGROUP CREATE {key} {group} 0 MKSTREAM\n{command}"),
        false => command,
    }
}

/// The lines that make a group, its consumer and an entry; half the time nothing is made but the consumer.
fn stage(d: &mut Draw, key: &str, group: &str, consumer: &str) -> String {
    let consumer = format!("XGROUP CREATECONSUMER {key} {group} {consumer}");
    match d.one_in(2) {
        true => format!("XGROUP CREATE {key} {group} 0 MKSTREAM\nXADD {key} {} f v\n{consumer}\n", d.next_entry()),
        false => format!("{consumer}\n"),
    }
}

fn start(d: &mut Draw) -> String {
    match d.below(3) {
        0 => "$".into(),
        1 => "0".into(),
        _ => d.entry(),
    }
}

/// What becomes of references to removed entries.
fn fate(d: &mut Draw) -> &'static str {
    d.pick(&["", "KEEPREF", "DELREF", "ACKED"])
}

/// What XADD and XTRIM cut off.
fn bound(d: &mut Draw) -> String {
    let how = match d.below(5) {
        0 => format!("MAXLEN {}", d.below(12)),
        1 => format!("MAXLEN = {}", d.below(12)),
        2 => format!("MAXLEN ~ {}", d.below(12)),
        3 => format!("MINID {}", d.entry()),
        _ => format!("MINID ~ {} LIMIT 10", d.entry()),
    };
    let fate = if d.server == Kind::Redis82 { fate(d) } else { "" };
    format!("{how} {fate}")
}

fn xadd(d: &mut Draw) -> String {
    let key = d.key("xs");
    let make = d.maybe(8, "NOMKSTREAM");
    let bound = if d.one_in(3) { bound(d) } else { String::new() };
    let id = d.next_entry();
    let id = match d.below(8) {
        0 => id.replace("-1", "-*"),
        _ => id,
    };
    format!("XADD {key} {make} {bound} {id} {} {} {} {}", d.word(), d.value(), d.word(), d.word())
}

fn create(d: &mut Draw) -> String {
    let (key, (group, _)) = (d.key("xs"), d.group());
    format!("XGROUP CREATE {key} {group} {} {} {}", start(d), d.maybe(2, "MKSTREAM"), d.maybe(4, "ENTRIESREAD 1"))
}

fn xackdel(d: &mut Draw) -> String {
    with_group(d, |d, key, group| format!("XACKDEL {key} {group} {} IDS 2 {} {}", fate(d), d.entry(), d.entry()))
}

fn xreadgroup(d: &mut Draw) -> String {
    let (key, (group, consumer)) = (d.key("xs"), d.group());
    let mut stage = stage(d, &key, group, consumer);
    let count = 1 + d.below(4);
    let acknowledge = d.maybe(4, "NOACK");
    let mut streams = format!("{key} >");
    if d.one_in(4) {
        let other = d.key("xs");
        stage.push_str(&format!("XGROUP CREATECONSUMER {other} {group} {consumer}\n"));
        streams = format!("{key} {other} > >");
    }
    format!("{stage}XREADGROUP GROUP {group} {consumer} COUNT {count} {acknowledge} STREAMS {streams}")
}

fn xclaim(d: &mut Draw) -> String {
    let (key, (group, consumer)) = (d.key("xs"), d.group());
    let stage = stage(d, &key, group, consumer);
    let options = match d.below(6) {
        0 => "FORCE".into(),
        1 => "JUSTID".into(),
        2 => format!("RETRYCOUNT {} FORCE", d.below(9)),
        3 => format!("IDLE {} TIME 1000", d.below(900)),
        4 => format!("LASTID {}", d.entry()),
        _ => String::new(),
    };
    format!("{stage}XCLAIM {key} {group} {consumer} 0 {} {} {options}", d.entry(), d.entry())
}

fn xautoclaim(d: &mut Draw) -> String {
    let (key, (group, consumer)) = (d.key("xs"), d.group());
    let stage = stage(d, &key, group, consumer);
    let count = 1 + d.below(4);
    format!(
        "{stage}XAUTOCLAIM {key} {group} {consumer} 0 {} COUNT {count} {}",
        d.pick(&["-", "0-0"]),
        d.maybe(3, "JUSTID")
    )
}

fn xsetid(d: &mut Draw) -> String {
    let (key, id) = (d.key("xs"), d.next_entry());
    match d.one_in(2) {
        true => format!("XSETID {key} {id} ENTRIESADDED {} MAXDELETEDID 0-1", 5000 + d.below(10)),
        false => format!("XSETID {key} {id}"),
    }
}
