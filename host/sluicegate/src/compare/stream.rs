//! What a stream is: its entries, its counters, and who reads it.

use std::io;

use super::elements::{self, Element, Elements, Shape};
use crate::client::{Connection, Head, Value, broken};

/// The counters. How long an entry has been pending and how far a group lags are no part of what servers tell replicas.
const COUNTERS: [&str; 1] = ["last-generated-id"];
/// Those that came with 7.0.
const NEW_COUNTERS: [&str; 2] = ["max-deleted-entry-id", "entries-added"];

/// Reads the answer to `XINFO STREAM … FULL COUNT 0`: entries, all besides them, and of that what servers tell their replicas.
/// The inner error is the server's. `since_7`: both servers have what came with 7.0.
pub(super) fn read(link: &mut Connection, since_7: bool) -> io::Result<Result<(Elements, Elements, Elements), String>> {
    let count = match link.head()? {
        Head::Error(text) => return Ok(Err(text)),
        Head::Array(count) => count,
        head => return Err(broken(format!("{head:?} for a stream"))),
    };
    let mut entries = Elements::new(true);
    let (mut about, mut told) = (Elements::new(false), Elements::new(false));
    for _ in 0..count / 2 {
        let name = link.value()?.text();
        match name.as_str() {
            "entries" => match elements::read(link, Shape::Entries)? {
                Ok(read) => entries = read,
                Err(text) => return Ok(Err(text)),
            },
            "groups" => {
                let groups = link.value()?;
                groups.elements().iter().try_for_each(|group| self::group(group, &mut about, &mut told))?;
            }
            counter => {
                let value = link.value()?.text();
                if COUNTERS.contains(&counter) || (since_7 && NEW_COUNTERS.contains(&counter)) {
                    say(format!("{counter} {value}"), [&mut about, &mut told]);
                }
            }
        }
    }
    Ok(Ok((entries, about, told)))
}

fn say<const N: usize>(phrase: String, to: [&mut Elements; N]) {
    to.into_iter().for_each(|elements| elements.push(Element::phrase(&phrase)));
}

fn group(group: &Value, about: &mut Elements, told: &mut Elements) -> io::Result<()> {
    let name = name(group);
    let pending = field(group, "pending").elements();
    // What is not found would be taken for equal.
    if *field(group, "pel-count") != Value::Integer(pending.len() as i64) {
        return Err(broken("a group that does not tell its pending entries"));
    }
    say(format!("group {name}, last delivered {}", field(group, "last-delivered-id").text()), [about, told]);
    for consumer in field(group, "consumers").elements() {
        let phrase = format!("consumer {} of group {name}", self::name(consumer));
        // A primary does not tell of a consumer that it made for a read that found nothing.
        match field(consumer, "pel-count") {
            Value::Integer(0) => say(phrase, [about]),
            _ => say(phrase, [about, told]),
        }
    }
    for entry in pending {
        if let [id, consumer, _, count] = entry.elements() {
            let phrase = format!("entry {} of group {name} pending for {}", id.text(), shown(consumer));
            say(format!("{phrase}, delivered {} times", count.text()), [about]);
            // Nor of an entry that a consumer reads once more.
            say(phrase, [told]);
        }
    }
    Ok(())
}

/// A field of a flat list of names and values.
fn field<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut pairs = list.elements().chunks_exact(2);
    pairs.find(|pair| pair[0].text() == name).map_or(&Value::Nil, |pair| &pair[1])
}

fn name(list: &Value) -> String {
    shown(field(list, "name"))
}

fn shown(value: &Value) -> String {
    let bytes = if let Value::Bulk(bytes) = value { bytes.as_slice() } else { &[] };
    format!("\"{}\"", bytes.escape_ascii())
}
