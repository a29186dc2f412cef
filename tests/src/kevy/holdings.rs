//! Equality of what a kevy replica holds with what the view of its primary holds. Kevy has one database, and tells expiries
//! only as the time that is left.
//!
//! Its command `PREFIX.DIGEST` is of no use here: only some versions have it, and it knows no views.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::{KevyServer, Version, unless_loading};
use crate::client::{Client, Reply};
use crate::compare::{Held, Holdings, View, each, pair_members, scored, sorted, stream_state};

/// Expiries are told to this many milliseconds. The reading shifts them by its own duration, and relative expiries by that
/// of their way; the workload keeps its deadlines at multiples of this, so each still comes out as itself.
pub const GRAIN_MS: i64 = 10_000;

/// How long an old primary may say nothing before it is written to again.
const SILENCE: Duration = Duration::from_secs(5);

impl Holdings {
    /// Reads all of a kevy server. It must be at rest, or what comes out is of no one moment.
    ///
    /// # Errors
    /// The connection broke, or there is a key of a type that is not known here.
    pub fn of_kevy(server: &KevyServer) -> Result<Self> {
        let mut client = server.client()?;
        let mut names: Vec<_> = client.run("KEYS *")?.items().into_iter().map(Reply::bytes).collect();
        names.sort();
        let kinds = each(&mut client, &names, &["TYPE"])?;
        let times_left = each(&mut client, &names, &["PTTL"])?;
        let mut holdings = Self::default();
        for ((name, kind), left) in names.into_iter().zip(kinds).zip(times_left) {
            let kind = kind.text();
            let Some(value) = value(&mut client, server.version(), &name, &kind)? else { continue };
            let expires_at = deadline(left.int().context("PTTL answers a number")?)?;
            holdings.keys.insert((0, name), Held { kind, expires_at, value });
        }
        Ok(holdings)
    }
}

/// Waits until `replica` holds exactly what `view` makes of `primary`, to which nobody may write meanwhile. Returns the number
/// of keys compared.
///
/// # Errors
/// They still differ after `patience`; the message has the first differences.
pub fn assert_same(primary: &KevyServer, replica: &KevyServer, view: View, patience: Duration) -> Result<usize> {
    let start = Instant::now();
    pass_markers(primary, replica, view, patience)?;
    loop {
        let wanted = Holdings::of_kevy(primary)?.through(view);
        let found = unless_loading(Holdings::of_kevy(replica))?.unwrap_or_default();
        let differences = wanted.differences(&found, 10);
        if differences.is_empty() {
            return Ok(wanted.len());
        }
        if start.elapsed() > patience {
            let (from, to) = (primary.version(), replica.version());
            bail!("{to:?} differs from its view of {from:?}:\n  {}", differences.join("\n  "));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes fresh values on the primary, some in each shard, and waits until the replica has them.
///
/// # Errors
/// They do not come through within `patience`.
pub fn pass_markers(primary: &KevyServer, replica: &KevyServer, view: View, patience: Duration) -> Result<()> {
    let value = format!("{:016x}", fastrand::u64(..));
    // Enough for each of a few shards to get some, wherever its version puts them.
    let names: Vec<_> = (0..32).map(|n| format!("user:marker:{n}").into_bytes()).collect();
    let write = || -> Result<()> {
        let mut client = primary.client()?;
        names.iter().try_for_each(|name| client.call(&[b"SET", name.as_slice(), value.as_bytes()]).map(drop))
    };
    write()?;
    let mut written = Instant::now();
    let seen: Vec<_> = names.iter().map(|name| (view.renames)(name)).collect();
    replica.wait_for("markers to come through", patience, |client| {
        // A shard up to 3.18 that is asked for everything may say nothing until its next write.
        if !primary.version().names_generations() && written.elapsed() > SILENCE {
            write()?;
            written = Instant::now();
        }
        let replies = each(client, &seen, &["GET"])?;
        Ok(replies.iter().all(|reply| *reply == Reply::Bulk(value.clone().into_bytes())))
    })
}

/// Unix milliseconds, or −1.
fn deadline(left: i64) -> Result<i64> {
    if left < 0 {
        return Ok(-1);
    }
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    Ok((now + left + GRAIN_MS / 2) / GRAIN_MS * GRAIN_MS)
}

fn value(client: &mut Client, version: Version, name: &[u8], kind: &str) -> Result<Option<Reply>> {
    let mut ask = |verb: &str, tail: &[&str]| {
        let tail = tail.iter().map(|word| word.as_bytes());
        client.call(&[verb.as_bytes(), name].into_iter().chain(tail).collect::<Vec<_>>())
    };
    Ok(Some(match kind {
        "none" => return Ok(None),
        "string" => ask("GET", &[])?,
        "list" => ask("LRANGE", &["0", "-1"])?,
        "set" => sorted(ask("SMEMBERS", &[])?.items()),
        "zset" => {
            let members = ask("ZRANGE", &["0", "-1", "WITHSCORES"])?.items();
            Reply::Array(members.chunks(2).map(scored).collect::<Result<_>>()?)
        }
        "hash" => {
            let fields = pair_members(ask("HGETALL", &[])?.items());
            hash(client, version, name, fields)?
        }
        "stream" => {
            let entries = ask("XRANGE", &["-", "+"])?;
            Reply::Array(vec![entries, stream_state(client, name, true)?])
        }
        other => bail!("no comparison for the type {other}"),
    }))
}

/// Fields with values, and with their expiries where the server has those.
fn hash(client: &mut Client, version: Version, name: &[u8], fields: Vec<Reply>) -> Result<Reply> {
    let verb = match version {
        Version::V119 => return Ok(Reply::Array(fields)),
        // It has no HPTTL; its HTTL tells milliseconds.
        Version::V317 => "HTTL",
        Version::V64 | Version::V70 => "HPTTL",
    };
    if fields.is_empty() {
        // Expired since it was listed.
        return Ok(Reply::Nil);
    }
    let (mut with_expiry, count) = (Vec::new(), fields.len().to_string());
    let names: Vec<_> = fields.iter().filter_map(|f| f.clone().items().into_iter().next()).map(Reply::bytes).collect();
    let words = [verb.as_bytes(), name, b"FIELDS", count.as_bytes()].into_iter();
    let times_left = client.call(&words.chain(names.iter().map(Vec::as_slice)).collect::<Vec<_>>())?.items();
    for (field, left) in fields.into_iter().zip(times_left) {
        let left = left.int().context("a time to live is a number")?;
        let mut field = field.items();
        // A field without an expiry looks as it does on a server that knows none.
        field.extend((left >= 0).then(|| deadline(left)).transpose()?.map(Reply::Int));
        with_expiry.push(Reply::Array(field));
    }
    Ok(Reply::Array(with_expiry))
}
