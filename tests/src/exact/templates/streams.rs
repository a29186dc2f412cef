//! Streams, their groups and consumers.

use super::Entry;
use crate::exact::draw::Draw;
use crate::server::Kind;

pub(super) const TEMPLATES: &[Entry] = &[
    ("xack", |d| {
        let (stage, key, group, id) = pending(d);
        format!("{stage}XACK {key} {group} {id} {}", d.entry())
    }),
    ("xackdel", xackdel),
    ("xadd", xadd),
    ("xautoclaim", xautoclaim),
    ("xclaim", xclaim),
    ("xdel", |d| {
        let (stage, key, id) = entry(d);
        format!("{stage}XDEL {key} {id} {}", d.entry())
    }),
    ("xdelex", |d| {
        let (stage, key, id) = entry(d);
        format!("{stage}XDELEX {key} {} IDS 2 {id} {}", fate(d), d.entry())
    }),
    ("xgroup|create", create),
    ("xgroup|createconsumer", |d| {
        with_group(d, |d, key, group| format!("XGROUP CREATECONSUMER {key} {group} {}", d.group().1))
    }),
    ("xgroup|delconsumer", |d| {
        let (stage, key, group, _) = pending(d);
        format!("{stage}XGROUP DELCONSUMER {key} {group} {}", d.group().1)
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

/// A stream, and the id of an entry; half the time with the line that makes it.
fn entry(d: &mut Draw) -> (String, String, String) {
    let key = d.key("xs");
    match d.one_in(2) {
        true => {
            let id = d.next_entry();
            (format!("XADD {key} {id} f v\n"), key, id)
        }
        false => (String::new(), key, d.entry()),
    }
}

/// Lines after which a group of a stream has entries pending, most likely the one of that id.
fn pending(d: &mut Draw) -> (String, String, String, String) {
    let (key, (group, consumer)) = (d.key("xs"), d.group());
    let stage = stage(d, &key, group, consumer);
    let id = d.next_entry();
    let read = format!("XREADGROUP GROUP {group} {consumer} COUNT 9 STREAMS {key} >");
    (format!("{stage}XADD {key} {id} f w\n{read}\n"), key, group.to_owned(), id)
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
    let fate = if d.server == Kind::Redis82 { d.pick(&["", "KEEPREF", "DELREF"]) } else { "" };
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
    let (stage, key, group, id) = pending(d);
    format!("{stage}XACKDEL {key} {group} {} IDS 2 {id} {}", fate(d), d.entry())
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
    let (stage, key, group, id) = pending(d);
    let consumer = d.group().1;
    let options = match d.below(6) {
        0 => "FORCE".into(),
        1 => "JUSTID".into(),
        2 => format!("RETRYCOUNT {} FORCE", d.below(9)),
        3 => format!("IDLE {} TIME 1000", d.below(900)),
        4 => format!("LASTID {}", d.entry()),
        _ => String::new(),
    };
    let make = format!("XGROUP CREATECONSUMER {key} {group} {consumer}");
    format!("{stage}{make}\nXCLAIM {key} {group} {consumer} 0 {id} {} {options}", d.entry())
}

fn xautoclaim(d: &mut Draw) -> String {
    let (stage, key, group, _) = pending(d);
    let (consumer, count) = (d.group().1, 1 + d.below(4));
    let make = format!("XGROUP CREATECONSUMER {key} {group} {consumer}");
    let (from, form) = (d.pick(&["-", "0-0"]), d.maybe(3, "JUSTID"));
    format!("{stage}{make}\nXAUTOCLAIM {key} {group} {consumer} 0 {from} COUNT {count} {form}")
}

fn xsetid(d: &mut Draw) -> String {
    let (key, id) = (d.key("xs"), d.next_entry());
    match d.one_in(2) {
        true => format!("XSETID {key} {id} ENTRIESADDED {} MAXDELETEDID 0-1", 5000 + d.below(10)),
        false => format!("XSETID {key} {id}"),
    }
}
