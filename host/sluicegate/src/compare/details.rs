//! What has to be asked about each part of a value by its name: expiries of a hash's fields, vectors of a vector set.
//!
//! The names are asked for first and the key is watched, so that what is asked about them is of the same moment or of none.

use std::io;

use super::elements::Element;
use super::server::{Command, Features, Server};
use crate::client::{Connection, Value};

/// Fields whose expiries are asked for by one command.
const FIELDS: usize = 1000;
/// More members than there are: all of them, each once.
pub(super) const ALL: &[u8] = b"2147483647";

/// Parts of a value, by name.
pub(super) enum Details {
    /// Nothing has to be asked.
    None,
    /// Of a hash, and how many stand in each question, as text.
    Fields(Vec<Vec<u8>>, Vec<String>),
    /// Of a vector set.
    Members(Vec<Vec<u8>>),
}

impl Details {
    /// Finds out what to ask about a key that is of this type. If it changes, the next transaction will not be answered.
    pub(super) fn watch(server: &mut Server, key: &[u8], kind: &str, common: Features) -> anyhow::Result<Self> {
        Ok(match kind {
            "hash" if common.field_expiry => {
                let names = names(server, key, &[b"HKEYS", key])?;
                let counts = names.chunks(FIELDS).map(|names| names.len().to_string()).collect();
                Self::Fields(names, counts)
            }
            "vectorset" => Self::Members(names(server, key, &[b"VRANDMEMBER", key, ALL])?),
            _ => Self::None,
        })
    }

    /// What to ask.
    pub(super) fn questions<'a>(&'a self, key: &'a [u8]) -> Vec<Command<'a>> {
        match self {
            Self::None => Vec::new(),
            Self::Fields(names, counts) => {
                let ask = |(names, count): (&'a [Vec<u8>], &'a String)| {
                    let head = [b"HPEXPIRETIME", key, b"FIELDS", count.as_bytes()];
                    head.into_iter().chain(names.iter().map(Vec::as_slice)).collect()
                };
                names.chunks(FIELDS).zip(counts).map(ask).collect()
            }
            Self::Members(names) => {
                let ask = |name: &'a Vec<u8>| [vec![b"VEMB", key, name, b"RAW"], vec![b"VGETATTR", key, name]];
                names.iter().flat_map(ask).collect()
            }
        }
    }

    /// Reads the answers, in words.
    pub(super) fn read(&self, link: &mut Connection) -> io::Result<Vec<Element>> {
        let mut phrases = Vec::new();
        match self {
            Self::None => {}
            Self::Fields(names, counts) => {
                for (names, _) in names.chunks(FIELDS).zip(counts) {
                    for (name, time) in names.iter().zip(link.value()?.elements()) {
                        // Below zero: it does not expire, or has.
                        if let Value::Integer(time @ 0..) = time {
                            phrases.push(Element::phrase(&format!("{} expires {time}", name.escape_ascii())));
                        }
                    }
                }
            }
            Self::Members(names) => {
                for name in names {
                    let (vector, attributes) = (shown(&link.value()?), link.value()?);
                    // Empty attributes are none: a server that was given them by RESTORE says so.
                    let attributes = if attributes == Value::Bulk(Vec::new()) { Value::Nil } else { attributes };
                    let attributes = shown(&attributes);
                    phrases.push(Element::phrase(&format!("{} is {vector} {attributes}", name.escape_ascii())));
                }
            }
        }
        Ok(phrases)
    }
}

fn names(server: &mut Server, key: &[u8], question: &[&[u8]]) -> anyhow::Result<Vec<Vec<u8>>> {
    server.ask(&[b"WATCH", key])?;
    match server.ask(question) {
        Ok(names) => Ok(names.elements().iter().filter_map(bytes).collect()),
        // Another type by now, which the transaction will show.
        Err(error) if format!("{error:#}").contains("WRONGTYPE") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    if let Value::Bulk(bytes) = value { Some(bytes.clone()) } else { None }
}

/// Every byte of an answer, so that two answers with the same text are the same.
fn shown(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => other.text(),
    }
}
