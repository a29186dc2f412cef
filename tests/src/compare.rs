//! Equality of what a replica holds with what the view of its primary holds: every key of every database, its type, value
//! and absolute expiry, and the function libraries.
//!
//! Values are read by the commands of their type, not by DUMP, which shows encodings. Left out, being no part of what
//! servers replicate: idle times of stream consumers and pending entries, and the `entries-read` and `lag` of stream groups
//! (a replica of any server learns them by `XCLAIM … LASTID`, which does not carry them).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::{Client, Reply};
use crate::server::{Kind, Server};
use crate::wait::{PATIENCE, wait_for};

/// What a view makes of a primary: which keys, and under which name.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Whether the key of that database is in the view.
    pub keeps: fn(u32, &[u8]) -> bool,
    /// The key's name in the view.
    pub renames: fn(&[u8]) -> Vec<u8>,
}

impl View {
    /// Everything, as it is.
    pub const IDENTITY: Self = Self { keeps: |_, _| true, renames: <[u8]>::to_vec };

    /// The keys `user:*` and `sess:*`, the first renamed to `u:*`: what
    /// [`FILTERED`](crate::proxy::FILTERED) configures.
    pub const MEMBERS: Self = Self {
        keeps: |_, key| key.starts_with(b"user:") || key.starts_with(b"sess:"),
        renames: |key| match key.strip_prefix(b"user:") {
            Some(rest) => [b"u:", rest].concat(),
            None => key.to_vec(),
        },
    };
}

/// One key's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) kind: String,
    /// Unix milliseconds; −1 for none. Where only the time that is left can be asked for: 1 for any.
    pub(crate) expires_at: i64,
    pub(crate) value: Reply,
}

/// All that a server holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holdings {
    pub(crate) keys: BTreeMap<(u32, Vec<u8>), Held>,
    functions: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Holdings {
    /// Reads all of a server. It must be at rest, or what comes out is of no one moment.
    ///
    /// # Errors
    /// The connection broke, or there is a key of a type that is not known here.
    pub fn read(server: &Server) -> Result<Self> {
        Self::read_as(server, server.kind())
    }

    /// Reads all of a server that a server of another kind can tell of itself, too: what it does not have, or does not show,
    /// is left out.
    ///
    /// # Errors
    /// As [`Holdings::read`].
    pub fn read_as(server: &Server, other: Kind) -> Result<Self> {
        let both = |has: fn(Kind) -> bool| has(server.kind()) && has(other);
        let modern = both(Kind::has_functions);
        let mut client = server.client()?;
        let mut holdings = Self::default();
        for db in databases(&mut client)? {
            client.run(&format!("SELECT {db}"))?;
            let names = scan(&mut client)?;
            let kinds = each(&mut client, &names, &["TYPE"])?;
            // Before 7.0 only the time that is left can be asked for.
            let expiries = each(&mut client, &names, &[if modern { "PEXPIRETIME" } else { "PTTL" }])?;
            let seen = Seen { counters: modern, field_expiry: both(Kind::has_field_expiry) };
            let values = read_values(&mut client, &names, &kinds, seen)?;
            for (((name, kind), expiry), value) in names.into_iter().zip(kinds).zip(expiries).zip(values) {
                // Gone since the scan.
                let Some(value) = value else { continue };
                let expires_at = expiry.int().context("PEXPIRETIME answers a number")?;
                let expires_at = if modern { expires_at } else { expires_at.signum() };
                holdings.keys.insert((db, name), Held { kind: kind.text(), expires_at, value });
            }
        }
        if modern {
            holdings.functions = functions(&mut client)?;
        }
        Ok(holdings)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys there are of each type.
    pub fn census(&self) -> BTreeMap<String, usize> {
        let mut census = BTreeMap::new();
        for held in self.keys.values() {
            *census.entry(held.kind.clone()).or_default() += 1;
        }
        census
    }

    /// What a view makes of it.
    pub fn through(&self, view: View) -> Self {
        let kept = self.keys.iter().filter(|((db, name), _)| (view.keeps)(*db, name));
        let keys = kept.map(|((db, name), held)| ((*db, (view.renames)(name)), held.clone())).collect();
        Self { keys, functions: self.functions.clone() }
    }

    /// The differences, one line each, at most `limit`; the first is the number of all.
    pub fn differences(&self, other: &Self, limit: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for ((db, name), held) in &self.keys {
            let place = format!("db {db} {:?}", String::from_utf8_lossy(name));
            match other.keys.get(&(*db, name.clone())) {
                None => lines.push(format!("{place}: missing ({}, expires {})", held.kind, held.expires_at)),
                Some(found) if found != held => lines.push(format!("{place}: {}", contrast(held, found))),
                Some(_) => {}
            }
        }
        for ((db, name), held) in &other.keys {
            if !self.keys.contains_key(&(*db, name.clone())) {
                lines.push(format!("db {db} {:?}: must not be there ({})", String::from_utf8_lossy(name), held.kind));
            }
        }
        if self.functions != other.functions {
            lines.push(format!("functions: wanted {:?}, found {:?}", self.functions, other.functions));
        }
        if lines.len() > limit {
            lines.insert(0, format!("{} differences", lines.len()));
            lines.truncate(limit);
        }
        lines
    }
}

/// Waits until `replica` holds exactly what `view` makes of `primary`, to which nobody may write meanwhile. Returns the number
/// of keys compared. The first look is taken when a marker, written here, has come through, so a replica that is merely late
/// is not read in vain.
///
/// # Errors
/// They still differ after `patience`; the message has the first differences.
pub fn assert_same(primary: &Server, replica: &Server, view: View, patience: Duration) -> Result<usize> {
    let start = Instant::now();
    pass_marker(primary, replica, view, patience)?;
    loop {
        let read = Holdings::read_as(primary, replica.kind())
            .and_then(|wanted| Ok((wanted.through(view), Holdings::read_as(replica, primary.kind())?)));
        let differences = match &read {
            Ok((wanted, found)) => wanted.differences(found, 10),
            // A key that expires between two questions about it is answered with an error.
            Err(error) => vec![format!("{error:#}")],
        };
        if let (Ok((wanted, _)), true) = (&read, differences.is_empty()) {
            return Ok(wanted.len());
        }
        // Keys may be on the point of expiry, and a `DEL` under way.
        if start.elapsed() > patience {
            let (from, to) = (primary.kind(), replica.kind());
            bail!("{to:?} differs from its view of {from:?}:\n  {}", differences.join("\n  "));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until no key of a server, to which nobody may write meanwhile, expires within a minute: what is read of it twice is
/// the same then.
///
/// # Errors
/// There is one all the time.
pub fn wait_lasting(server: &Server) -> Result<()> {
    const MINUTE_MILLIS: i64 = 60_000;
    let mut client = server.client()?;
    wait_for("no key to be on the point of expiry", PATIENCE, || {
        for db in databases(&mut client)? {
            client.run(&format!("SELECT {db}"))?;
            let names = scan(&mut client)?;
            let left = each(&mut client, &names, &["PTTL"])?;
            // -1: for ever; -2: gone since the scan.
            if left.iter().any(|left| left.int().is_none_or(|left| left != -1 && left < MINUTE_MILLIS)) {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Writes a fresh value on the primary and waits until the replica has it.
///
/// # Errors
/// It does not come through within `patience`.
pub fn pass_marker(primary: &Server, replica: &Server, view: View, patience: Duration) -> Result<()> {
    const MARKER: &[u8] = b"user:marker";
    let value = format!("{:016x}", fastrand::u64(..));
    primary.client()?.call(&[b"SET", MARKER, value.as_bytes()])?;
    let name = (view.renames)(MARKER);
    let arrived = |client: &mut Client| {
        // A replica that is loading, or whose link is down, may refuse reads for the moment.
        let reply = client.ask(&[b"GET", name.as_slice()])?;
        Ok(reply == Reply::Bulk(value.clone().into_bytes()))
    };
    replica.wait_for("a marker to come through", patience, arrived)
}

/// Both contents from a little before the place where they part.
fn contrast(wanted: &Held, found: &Held) -> String {
    let (wanted, found) = (show(wanted), show(found));
    let same = wanted.chars().zip(found.chars()).take_while(|(a, b)| a == b).count();
    let part = |text: &str| text.chars().skip(same.saturating_sub(60)).take(160).collect::<String>();
    format!("wanted …{}\n    found  …{}", part(&wanted), part(&found))
}

fn show(held: &Held) -> String {
    let mut text = format!("{}, expires {}, ", held.kind, held.expires_at);
    render(&held.value, &mut text);
    text
}

fn render(reply: &Reply, out: &mut String) {
    match reply {
        Reply::Array(items) => {
            out.push('[');
            for item in items {
                render(item, out);
                out.push(' ');
            }
            out.push(']');
        }
        Reply::Bulk(bytes) => out.push_str(&bytes.escape_ascii().to_string()),
        other => out.push_str(&other.text()),
    }
}

/// The numbers of the databases that have keys.
fn databases(client: &mut Client) -> Result<Vec<u32>> {
    let keyspace = client.info("keyspace")?;
    Ok(keyspace.keys().filter_map(|name| name.strip_prefix("db")?.parse().ok()).collect())
}

fn scan(client: &mut Client) -> Result<Vec<Vec<u8>>> {
    let (mut cursor, mut names) = (String::from("0"), Vec::new());
    loop {
        let mut page = client.call(&["SCAN", &cursor, "COUNT", "1000"])?.items().into_iter();
        cursor = page.next().context("SCAN answers a cursor")?.text();
        names.extend(page.next().context("SCAN answers names")?.items().into_iter().map(Reply::bytes));
        if cursor == "0" {
            names.sort();
            names.dedup();
            return Ok(names);
        }
    }
}

/// Asks one command about each key.
pub(crate) fn each(client: &mut Client, names: &[Vec<u8>], command: &[&str]) -> Result<Vec<Reply>> {
    let ask = |name: &Vec<u8>| [words(command), vec![name.clone()]].concat();
    client.pipeline(&names.iter().map(ask).collect::<Vec<_>>())
}

fn words(text: &[&str]) -> Vec<Vec<u8>> {
    text.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// What both of two servers can tell.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// A stream's largest deleted id and count of entries.
    counters: bool,
    field_expiry: bool,
}

fn read_values(client: &mut Client, names: &[Vec<u8>], kinds: &[Reply], seen: Seen) -> Result<Vec<Option<Reply>>> {
    let mut commands = Vec::new();
    for (name, kind) in names.iter().zip(kinds) {
        let (verb, tail): (&str, &[&str]) = match kind.text().as_str() {
            "string" => ("GET", &[]),
            "list" => ("LRANGE", &["0", "-1"]),
            "set" => ("SMEMBERS", &[]),
            "zset" => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
            "hash" => ("HGETALL", &[]),
            "stream" => ("XRANGE", &["-", "+"]),
            "vectorset" => ("VRANDMEMBER", &["1000000"]),
            "none" => ("EXISTS", &[]),
            other => bail!("no comparison for the type {other}"),
        };
        commands.push([words(&[verb]), vec![name.clone()], words(tail)].concat());
    }
    let replies = client.pipeline(&commands)?;
    let mut values = Vec::new();
    for ((name, kind), reply) in names.iter().zip(kinds).zip(replies) {
        values.push(match kind.text().as_str() {
            "none" => None,
            "set" => Some(sorted(reply.items())),
            "zset" => Some(Reply::Array(reply.items().chunks(2).map(scored).collect::<Result<_>>()?)),
            "hash" => Some(hash(client, name, reply.items(), seen.field_expiry)?),
            "stream" => Some(Reply::Array(vec![reply, stream_state(client, name, seen.counters)?])),
            "vectorset" => Some(vectors(client, name, reply.items())?),
            _ => Some(reply),
        });
    }
    Ok(values)
}

pub(crate) fn sorted(mut items: Vec<Reply>) -> Reply {
    items.sort();
    Reply::Array(items)
}

/// A member with its score. The score's text differs between servers (`0.1`, `0.10000000000000001`), the number does not.
pub(crate) fn scored(pair: &[Reply]) -> Result<Reply> {
    let [member, score] = pair else { bail!("WITHSCORES answers pairs") };
    let number: f64 = score.text().parse()?;
    Ok(Reply::Array(vec![member.clone(), Reply::Simple(format!("{number:?}"))]))
}

/// The pairs of a flat list of names and values, sorted.
pub(crate) fn pair_members(flat: Vec<Reply>) -> Vec<Reply> {
    let mut pairs: Vec<Reply> = flat.chunks(2).map(|pair| Reply::Array(pair.to_vec())).collect();
    pairs.sort();
    pairs
}

/// Fields with values, and with their expiries where the server has those.
fn hash(client: &mut Client, name: &[u8], flat: Vec<Reply>, field_expiry: bool) -> Result<Reply> {
    let mut fields = pair_members(flat);
    if field_expiry && !fields.is_empty() {
        let names: Vec<_> =
            fields.iter().filter_map(|f| f.clone().items().into_iter().next()).map(Reply::bytes).collect();
        let count = names.len().to_string();
        let ask = [words(&["HPEXPIRETIME"]), vec![name.to_vec()], words(&["FIELDS", &count]), names].concat();
        let expiries = client.call(&ask)?;
        // A server without field expiry shows the same as one whose fields have none.
        if expiries.clone().items().iter().any(|expiry| expiry != &Reply::Int(-1)) {
            fields.push(expiries);
        }
    }
    Ok(Reply::Array(fields))
}

/// What a stream is besides its entries: its counters, groups, consumers and pending entries.
pub(crate) fn stream_state(client: &mut Client, name: &[u8], counters: bool) -> Result<Reply> {
    let about = ["length", "last-generated-id", "groups", "max-deleted-entry-id", "entries-added"];
    let info = client.call(&[b"XINFO", b"STREAM".as_slice(), name])?;
    let mut state = vec![pick(info, if counters { &about } else { &about[..3] })];
    for group in client.call(&[b"XINFO", b"GROUPS".as_slice(), name])?.items() {
        let group = pick(group, &["name", "consumers", "pending", "last-delivered-id"]);
        let group_name = group.clone().items().into_iter().nth(1).context("a group has a name")?.bytes();
        let consumers = client.call(&[b"XINFO", b"CONSUMERS".as_slice(), name, &group_name])?.items();
        let consumers = consumers.into_iter().map(|one| pick(one, &["name", "pending"])).collect();
        let pending = client.call(&[b"XPENDING".as_slice(), name, &group_name, b"-", b"+", b"100000"])?.items();
        // id, consumer, idle time, deliveries
        let pending = pending.into_iter().map(|entry| {
            let mut entry = entry.items();
            entry.remove(2);
            Reply::Array(entry)
        });
        state.push(Reply::Array(vec![group, sorted(consumers), Reply::Array(pending.collect())]));
    }
    Ok(Reply::Array(state))
}

/// The members of a vector set, each with its vector and attributes.
fn vectors(client: &mut Client, name: &[u8], mut members: Vec<Reply>) -> Result<Reply> {
    members.sort();
    let ask = |verb: &str, member: &Reply| vec![verb.into(), name.to_vec(), member.clone().bytes()];
    let commands: Vec<_> = members.iter().flat_map(|member| [ask("VEMB", member), ask("VGETATTR", member)]).collect();
    let mut state = client.pipeline(&commands)?;
    // An empty attribute, which only VADD makes, becomes none in every DUMP and snapshot.
    state.iter_mut().filter(|reply| **reply == Reply::Bulk(Vec::new())).for_each(|reply| *reply = Reply::Nil);
    state.append(&mut members);
    Ok(Reply::Array(state))
}

/// Some fields of a flat list of names and values.
fn pick(flat: Reply, wanted: &[&str]) -> Reply {
    let items = flat.items();
    let pairs = items.chunks(2).filter(|pair| wanted.contains(&pair[0].text().as_str()));
    Reply::Array(pairs.flatten().cloned().collect())
}

fn functions(client: &mut Client) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let list = client.run("FUNCTION LIST WITHCODE")?.items();
    let mut libraries = Vec::new();
    for library in list {
        let field = |name| pick(library.clone(), &[name]).items().into_iter().nth(1).unwrap_or(Reply::Nil).bytes();
        libraries.push((field("library_name"), field("library_code")));
    }
    libraries.sort();
    Ok(libraries)
}
