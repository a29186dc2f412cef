//! The proof: what the replicas hold, key by key, against what the primary holds and what each view says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{bail, ensure};

use super::script::{Script, Way};
use crate::client::{Connection, Value};

/// A key's value and expiry, in a form that is the same on every server that holds the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    value: String,
    /// Unix milliseconds, as far as the server tells.
    expires: Option<i64>,
}

type Dataset = BTreeMap<String, Entry>;

/// One key and what became of it.
struct Row {
    key: String,
    primary: Option<Entry>,
    of_all: Option<Entry>,
    /// The filtered view's name for the key, if it keeps it.
    new_name: Option<String>,
    of_filtered: Option<Entry>,
    way: Way,
    /// The key's shard, and that of its new name, if there is more than one.
    places: Option<(usize, usize)>,
}

/// The three datasets, compared.
pub(super) struct Proof {
    /// The name of the view that does not have everything.
    filtered: &'static str,
    rows: Vec<Row>,
    /// Keys that a replica has although no view gives it to it.
    strays: Vec<String>,
}

impl Proof {
    /// Reads all three servers.
    pub(super) fn take(
        script: &Script,
        primary: &mut Connection,
        of_all: &mut Connection,
        of_filtered: &mut Connection,
    ) -> anyhow::Result<Self> {
        let primary = dataset(primary)?;
        let (mut all, mut filtered) = (dataset(of_all)?, dataset(of_filtered)?);
        let keys: BTreeSet<String> =
            script.keys().into_iter().map(str::to_owned).chain(primary.keys().cloned()).collect();
        let row = |key: String| {
            let new_name = script.filtered.name_of(&key);
            Row {
                primary: primary.get(&key).cloned(),
                of_all: all.remove(&key),
                of_filtered: new_name.as_ref().and_then(|name| filtered.remove(name)),
                way: script.way(&key),
                places: new_name.as_ref().and_then(|name| script.places(&key, name)),
                new_name,
                key,
            }
        };
        let rows = keys.into_iter().map(row).collect();
        let stray = |view| move |key| format!("{key}: the replica of {view} has it, and must not");
        let name = script.filtered.name;
        let strays = all.into_keys().map(stray("all")).chain(filtered.into_keys().map(stray(name))).collect();
        Ok(Self { filtered: name, rows, strays })
    }

    /// How many keys are as they must be, and how many there are.
    pub(super) fn count(&self) -> (usize, usize) {
        let right = self.rows.iter().filter(|row| row.fault(self.filtered).is_none()).count();
        (right, self.rows.len() + self.strays.len())
    }

    /// Whether everything is as it must be.
    pub(super) fn holds(&self) -> bool {
        let (right, all) = self.count();
        right == all
    }

    /// Everything is as it must be, or the error says what is not.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let faults = self.rows.iter().filter_map(|row| row.fault(self.filtered)).chain(self.strays.iter().cloned());
        let faults: String = faults.map(|fault| format!("\n  {fault}")).collect();
        let (right, all) = self.count();
        ensure!(right == all, "{} of {all} keys are not as they must be:{faults}", all - right);
        Ok(())
    }

    /// How many keys have another place under their new name, if there is more than one.
    pub(super) fn moves(&self) -> Option<String> {
        let kept = self.rows.iter().filter(|row| row.of_filtered.is_some());
        let places: Vec<(usize, usize)> = kept.filter_map(|row| row.places).collect();
        let moved = places.iter().filter(|(from, to)| from != to).count();
        (!places.is_empty()).then(|| format!("{moved} of {} keys changed shards with their names", places.len()))
    }

    /// One line a key, in columns.
    pub(super) fn table(&self) -> String {
        let of_filtered = format!("replica of {}", self.filtered);
        let head = ["  key", "primary", "replica of all", &of_filtered, "why"].map(str::to_owned);
        let rows = self.rows.iter().map(|row| row.cells(self.filtered));
        let lines: Vec<[String; 5]> = [head].into_iter().chain(rows).collect();
        let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default();
        let widths: [usize; 5] = std::array::from_fn(width);
        let mut out = String::new();
        for cells in &lines {
            for (cell, width) in cells.iter().zip(widths) {
                let _ = write!(out, "{cell:width$}   ");
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out
    }
}

impl Row {
    fn cells(&self, filtered: &str) -> [String; 5] {
        let of_filtered = match (&self.new_name, &self.of_filtered) {
            (Some(name), Some(entry)) => format!("{name}  {}", shown(Some(entry))),
            _ => shown(None),
        };
        let mark = if self.fault(filtered).is_some() { 'x' } else { ' ' };
        let of_all = shown(self.of_all.as_ref());
        [format!("{mark} {}", self.key), shown(self.primary.as_ref()), of_all, of_filtered, self.why()]
    }

    /// What is wrong with this key, if anything.
    fn fault(&self, filtered: &str) -> Option<String> {
        let key = &self.key;
        let must = shown(self.primary.as_ref());
        if self.of_all != self.primary {
            return Some(format!("{key}: must be {must} in all, is {}", shown(self.of_all.as_ref())));
        }
        let name = self.new_name.as_ref()?;
        (self.of_filtered != self.primary)
            .then(|| format!("{key}: must be {must} as {name} in {filtered}, is {}", shown(self.of_filtered.as_ref())))
    }

    fn why(&self) -> String {
        let way = match self.way {
            Way::Snapshot => "snapshot",
            Way::Stream => "stream",
            Way::Both => "snapshot and stream",
        };
        let fate = match (&self.new_name, &self.primary, self.places) {
            (None, ..) => "dropped by key-filter".into(),
            (Some(_), None, _) => "kept, deleted since".into(),
            (Some(_), Some(_), None) => "kept, renamed".into(),
            (Some(_), Some(_), Some((from, to))) if from == to => format!("kept, renamed, shard {to}"),
            (Some(_), Some(_), Some((from, to))) => format!("kept, renamed, shard {from} → {to}"),
        };
        format!("{fate}; by {way}")
    }
}

fn shown(entry: Option<&Entry>) -> String {
    match entry {
        None => "–".into(),
        Some(Entry { value, expires: None }) => value.clone(),
        Some(Entry { value, .. }) => format!("{value}, expires"),
    }
}

fn dataset(server: &mut Connection) -> anyhow::Result<Dataset> {
    let keys = server.call(&["KEYS", "*"])?;
    let mut dataset = Dataset::new();
    for key in keys.elements() {
        let key = key.text();
        let entry = Entry { value: value(server, &key)?, expires: expires(server, &key)? };
        dataset.insert(key, entry);
    }
    Ok(dataset)
}

/// The value as text. Members of a set and fields of a hash come in any order: they are sorted.
fn value(server: &mut Connection, key: &str) -> anyhow::Result<String> {
    let kind = server.call(&["TYPE", key])?.text();
    let mut parts: Vec<String> = match kind.as_str() {
        // Gone since it was listed; or it lies in a shard where no client looks for it, and then it stays like this.
        "none" => return Ok("nowhere to be found".into()),
        "string" => return Ok(server.call(&["GET", key])?.text()),
        "list" => return Ok(server.call(&["LRANGE", key, "0", "-1"])?.text()),
        "set" => server.call(&["SMEMBERS", key])?.elements().iter().map(Value::text).collect(),
        "zset" => server.call(&["ZRANGE", key, "0", "-1", "WITHSCORES"])?.elements().chunks(2).map(pair).collect(),
        "hash" => server.call(&["HGETALL", key])?.elements().chunks(2).map(pair).collect(),
        other => bail!("{key} is a {other}, which the demo never wrote"),
    };
    parts.sort();
    Ok(parts.join(" "))
}

fn pair(field_and_value: &[Value]) -> String {
    format!("{{{}}}", field_and_value.iter().map(Value::text).collect::<Vec<_>>().join(": "))
}

/// The moment of expiry. Before 7.0 a server tells only how long it is until then, which differs from server to server by
/// the time between the questions: then it counts only that there is one.
fn expires(server: &mut Connection, key: &str) -> anyhow::Result<Option<i64>> {
    let (moment, is_exact) = match server.call(&["PEXPIRETIME", key]) {
        Ok(moment) => (moment, true),
        Err(_) => (server.call(&["PTTL", key])?, false),
    };
    Ok(match moment {
        Value::Integer(moment) if moment >= 0 => Some(if is_exact { moment } else { 0 }),
        _ => None,
    })
}
