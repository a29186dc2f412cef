//! What is in a dump: its keys, and what it says of itself.

use std::fmt;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value as Json, json};
use sluicegate_core::rdb::functions::library_name;
use sluicegate_core::rdb::{CrcKind, Family};

use super::dump::{Key, Part};
use super::kinds::Encoding;
use super::{Counted, Dump, Value, text, value};

/// What a dump came to.
#[derive(Debug, Default)]
struct Summary {
    format: Option<(Family, u32)>,
    /// Facts, in their order.
    facts: Vec<(String, String)>,
    keys: u64,
    expiring: u64,
    databases: u64,
    functions: u64,
    is_checked: bool,
}

/// Writes what is in the dump at `path`, line by line, and a summary last.
///
/// # Errors
/// The file cannot be read, or is damaged: what was written until then is in it.
pub(crate) fn cat(path: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut dump = Dump::open(path, "reading")?;
    let mut summary = Summary::default();
    let (mut db, mut family) = (0, Family::Redis);
    while let Some(part) = dump.next()? {
        match part {
            Part::Magic(written_by, version) => {
                (family, summary.format) = (written_by, Some((written_by, version)));
            }
            Part::Aux(name, value) => summary.facts.push((text(&name), text(&value))),
            Part::Select(number) => (db, summary.databases) = (number, summary.databases + 1),
            Part::Function(source) => {
                summary.functions += 1;
                say(out, json, &Library { name: library_name(&source).unwrap_or_default(), bytes: source.len() })?;
            }
            Part::Key(key) => {
                summary.keys += 1;
                summary.expiring += u64::from(key.expires_ms.is_some());
                let value = value::read(&mut dump, family, &key)?;
                say(out, json, &Line { db, key: &key, value, bytes: dump.value_bytes })?;
            }
            Part::End(crc) => summary.is_checked = crc == CrcKind::Checked,
        }
    }
    say(out, json, &summary)
}

/// A line for people or for programs.
trait Said: fmt::Display {
    fn json(&self) -> Json;
}

fn say(out: &mut dyn Write, json: bool, what: &dyn Said) -> anyhow::Result<()> {
    match json {
        true => writeln!(out, "{}", what.json()),
        false => writeln!(out, "{what}"),
    }
    .context("standard output")
}

struct Library<'d> {
    name: &'d [u8],
    bytes: usize,
}

impl Said for Library<'_> {
    fn json(&self) -> Json {
        json!({ "function_library": text(self.name), "bytes": self.bytes })
    }
}

impl fmt::Display for Library<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "function library \"{}\": {}", text(self.name), Counted(self.bytes as u64, "byte"))
    }
}

struct Line<'d> {
    db: u32,
    key: &'d Key,
    value: Value,
    /// As it stands in the file.
    bytes: u64,
}

impl Said for Line<'_> {
    fn json(&self) -> Json {
        let Value { kind, encoding, count, .. } = self.value;
        let count = (encoding != Encoding::Closed).then_some(count);
        json!({
            "db": self.db, "key": text(&self.key.name), "type": kind.name(), "encoding": encoding.name(),
            "elements": count, "bytes": self.bytes, "expires_ms": self.key.expires_ms,
        })
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Value { kind, encoding, .. } = self.value;
        write!(f, "db {} \"{}\": {}, {}", self.db, text(&self.key.name), self.value, encoding.name())?;
        if kind != super::kinds::Type::String {
            write!(f, ", {} in the file", Counted(self.bytes, "byte"))?;
        }
        match self.key.expires_ms {
            Some(ms) => write!(f, ", expires {ms}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.encoding {
            Encoding::Closed => f.write_str(self.kind.name()),
            _ => write!(f, "{} of {}", self.kind.name(), Counted(self.count, self.kind.part())),
        }
    }
}

impl Said for Summary {
    fn json(&self) -> Json {
        let facts: serde_json::Map<String, Json> =
            self.facts.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        json!({
            "format": self.format_name(), "keys": self.keys, "databases": self.databases, "expiring": self.expiring,
            "functions": self.functions, "checksum": self.is_checked, "about": facts,
        })
    }
}

impl Summary {
    fn format_name(&self) -> String {
        self.format.map_or_else(String::new, |(family, version)| format!("{family} {version}"))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.facts {
            writeln!(f, "{name}: {value}")?;
        }
        let checksum = if self.is_checked { "checksum right" } else { "no checksum" };
        write!(
            f,
            "{} in {}, {} expiring, {}; format {}, {checksum}",
            Counted(self.keys, "key"),
            Counted(self.databases, "database"),
            self.expiring,
            Counted(self.functions, "function library"),
            self.format_name(),
        )
    }
}
