//! What a server holds under a name: at a glance for many keys at once, and in full for one.

use std::io;

use sha2::{Digest, Sha256};

use super::details::{self, Details};
use super::elements::{self, Element, Elements, Shape};
use super::server::{Command, Features, Fence, Server, clock, number};
use super::stream;
use crate::client::{Connection, Head, broken};

/// `DUMP` ends in the version of its format and a checksum over both: the same value differs there between servers.
const DUMP_TAIL: usize = 10;

/// When a key expires. Unix milliseconds, as far as the server tells: before 7.0 it tells how long it is until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    Never,
    Between(i64, i64),
}

impl Expiry {
    /// Whether both may be the same moment, give or take.
    pub(super) fn agrees(self, other: Self, tolerance_ms: i64) -> bool {
        match (self, other) {
            (Self::Between(from, to), Self::Between(since, until)) => {
                from.saturating_sub(tolerance_ms) <= until && since.saturating_sub(tolerance_ms) <= to
            }
            _ => self == other,
        }
    }

    /// Whether it is over.
    fn has_come(self, now_ms: i64) -> bool {
        matches!(self, Self::Between(_, last) if last <= now_ms)
    }
}

/// A key at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Glance {
    /// What its `DUMP` is made of; equal ones are of equal values.
    dump: u128,
    expiry: Expiry,
}

impl Glance {
    /// Whether two servers surely hold the same.
    pub(super) fn agree(must: &Option<Self>, is: &Option<Self>, tolerance_ms: i64) -> bool {
        match (must, is) {
            (Some(must), Some(is)) => must.dump == is.dump && must.expiry.agrees(is.expiry, tolerance_ms),
            _ => must == is,
        }
    }
}

/// All of a key.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) kind: String,
    pub(super) expiry: Expiry,
    pub(super) value: Elements,
    /// What belongs to it besides its elements: groups of a stream, expiries of fields. In words.
    pub(super) about: Elements,
    /// The same without what servers are known to keep from their replicas.
    pub(super) told: Elements,
    /// Nothing but `DUMP` reads this type, and what that shows may be told in several ways.
    pub(super) is_opaque: bool,
}

impl Held {
    /// Of the value alone.
    pub(super) fn digest(&self) -> u128 {
        let hash = Sha256::new_with_prefix(&self.kind).chain_update(self.value.digest.to_be_bytes());
        elements::digest(hash.chain_update(self.about.digest.to_be_bytes()))
    }
}

/// What came of reading one key.
#[derive(Debug, Clone)]
pub(super) enum Reading {
    /// There is none, or it has expired.
    Absent,
    Held(Box<Held>),
    /// It changed while it was read.
    Moved,
}

impl Reading {
    /// What has expired is not there, whether or not the server has found out.
    pub(super) fn at(self, now_ms: i64) -> Self {
        match self {
            Self::Held(held) if held.expiry.has_come(now_ms) => Self::Absent,
            other => other,
        }
    }
}

/// Glances at keys of the selected database, as of one moment. Also how many bytes their `DUMP`s had.
pub(super) fn glance(server: &mut Server, keys: &[&[u8]]) -> anyhow::Result<(Vec<Option<Glance>>, usize)> {
    let since_7 = server.has.since_7;
    let mut commands = Vec::new();
    for key in keys {
        commands.push(vec![&b"DUMP"[..], key]);
        commands.extend(ask_expiry(key, since_7));
    }
    let mut bytes = 0;
    let answers = server.together(&commands, |link| {
        let mut one = || {
            let dump = dump(link, &mut bytes)?;
            let expiry = expiry(link, since_7)?;
            Ok(dump.map(|dump| dump.map(|dump| Glance { dump, expiry })))
        };
        keys.iter().map(|_| one()).collect::<io::Result<Vec<_>>>()
    })?;
    let answers: Result<Vec<_>, String> = answers.unwrap_or_default().into_iter().collect();
    Ok((answers.map_err(|text| server.refused("DUMP", &text))?, bytes))
}

/// Reads a key of the selected database in full, as far as servers with these features can be compared.
pub(super) fn read(server: &mut Server, key: &[u8], common: Features) -> anyhow::Result<(Reading, Fence)> {
    let kind = server.ask(&[b"TYPE", key])?.text();
    let details = Details::watch(server, key, &kind, common)?;
    let since_7 = server.has.since_7;
    let mut commands = vec![vec![&b"TYPE"[..], key]];
    commands.extend(ask_expiry(key, since_7));
    commands.push(ask_value(&kind, key));
    commands.extend(details.questions(key));
    let answer = server.together(&commands, |link| {
        let (found, expiry) = (link.value()?.text(), expiry(link, since_7)?);
        let mut value = value(link, &kind, common)?;
        let about = details.read(link)?;
        if let Ok((_, described, _)) = &mut value {
            about.into_iter().for_each(|phrase| described.push(phrase));
        }
        Ok((found, expiry, value))
    })?;
    let fence = server.fence.clone();
    let Some((found, expiry, value)) = answer else { return Ok((Reading::Moved, fence)) };
    if found != kind {
        return Ok((Reading::Moved, fence));
    }
    if kind == "none" {
        return Ok((Reading::Absent, fence));
    }
    let (value, about, told) = value.map_err(|text| server.refused("a question for a value", &text))?;
    let is_opaque = shape(&kind).is_none() && kind != "stream";
    let told = told.unwrap_or_else(|| about.clone());
    Ok((Reading::Held(Box::new(Held { kind, expiry, value, about, told, is_opaque })), fence))
}

/// How the elements of a type are told; `None` for a stream, and for a type that is not known here.
fn shape(kind: &str) -> Option<Shape> {
    Some(match kind {
        "string" => Shape::Text,
        "list" => Shape::List,
        "set" | "vectorset" => Shape::Set,
        "hash" => Shape::Pairs,
        "zset" => Shape::Scored,
        _ => return None,
    })
}

fn ask_value<'a>(kind: &str, key: &'a [u8]) -> Command<'a> {
    let words: &[&[u8]] = match kind {
        "string" => &[b"GET", key],
        "list" => &[b"LRANGE", key, b"0", b"-1"],
        "set" => &[b"SMEMBERS", key],
        "hash" => &[b"HGETALL", key],
        "zset" => &[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"],
        "vectorset" => &[b"VRANDMEMBER", key, details::ALL],
        "stream" => &[b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"],
        _ => &[b"DUMP", key],
    };
    words.to_vec()
}

type Told = (Elements, Elements, Option<Elements>);

fn value(link: &mut Connection, kind: &str, common: Features) -> io::Result<Result<Told, String>> {
    if let Some(shape) = shape(kind) {
        return Ok(elements::read(link, shape)?.map(|value| (value, Elements::new(false), None)));
    }
    if kind == "stream" {
        return Ok(stream::read(link, common.since_7)?.map(|(value, about, told)| (value, about, Some(told))));
    }
    let mut value = Elements::new(true);
    let dump = dump(link, &mut 0)?;
    Ok(dump.map(|dump| {
        value.push(Element::phrase(&format!("{dump:?}")));
        (value, Elements::new(false), None)
    }))
}

/// A `DUMP` without its tail. The inner error is the server's.
fn dump(link: &mut Connection, bytes: &mut usize) -> io::Result<Result<Option<u128>, String>> {
    let length = match link.head()? {
        Head::Nil => return Ok(Ok(None)),
        Head::Error(text) => return Ok(Err(text)),
        Head::Bulk(length) => length,
        head => return Err(broken(format!("{head:?} for a DUMP"))),
    };
    *bytes = bytes.saturating_add(length);
    let (mut hash, mut left) = (Sha256::new(), length.saturating_sub(DUMP_TAIL));
    link.pour(length, |piece| {
        let counted = piece.len().min(left);
        hash.update(&piece[..counted]);
        left -= counted;
    })?;
    Ok(Ok(Some(elements::digest(hash))))
}

fn ask_expiry(key: &[u8], since_7: bool) -> Vec<Command<'_>> {
    match since_7 {
        true => vec![vec![b"PEXPIRETIME", key]],
        false => vec![vec![b"TIME"], vec![b"PTTL", key], vec![b"TIME"]],
    }
}

fn expiry(link: &mut Connection, since_7: bool) -> io::Result<Expiry> {
    if since_7 {
        let moment = number(&link.value()?)?;
        return Ok(if moment < 0 { Expiry::Never } else { Expiry::Between(moment, moment) });
    }
    let (before, left, after) = (clock(&link.value()?), number(&link.value()?)?, clock(&link.value()?));
    Ok(match left {
        ..0 => Expiry::Never,
        left => Expiry::Between(before.saturating_add(left), after.saturating_add(left)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_that_is_told_roughly_may_be_the_exact_one() {
        let (exact, rough) = (Expiry::Between(100, 100), Expiry::Between(98, 101));
        assert!(exact.agrees(rough, 0) && rough.agrees(exact, 0) && Expiry::Never.agrees(Expiry::Never, 0));
        assert!(!exact.agrees(Expiry::Between(101, 103), 0) && exact.agrees(Expiry::Between(101, 103), 1));
        assert!(!exact.agrees(Expiry::Never, 1_000_000) && !Expiry::Never.agrees(exact, 1_000_000));
    }

    #[test]
    fn what_has_expired_is_not_there() {
        assert!(Expiry::Between(98, 101).has_come(101) && !Expiry::Between(98, 101).has_come(100));
        assert!(!Expiry::Never.has_come(i64::MAX));
    }
}
