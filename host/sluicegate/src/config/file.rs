//! What was written: the file's tables and keys, with their places. What they mean is decided in `plan`.
//!
//! `examples/sluicegate.toml` documents every key.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use toml::{Spanned, Value};

use super::units::{Size, Time};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(default)]
    pub(crate) server: Server,
    pub(crate) upstream: Upstream,
    #[serde(default, rename = "view")]
    pub(crate) views: Vec<View>,
    #[serde(default, rename = "plugin")]
    pub(crate) plugins: Vec<Plugin>,
    #[serde(default, rename = "user")]
    pub(crate) users: Vec<User>,
    #[serde(default)]
    pub(crate) snapshot: Snapshot,
    #[serde(default)]
    pub(crate) log: Log,
}

/// `[server]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) data_dir: Option<PathBuf>,
}

/// `[snapshot]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshot {
    pub(crate) disk: Option<Spanned<Size>>,
    pub(crate) ships: Option<Spanned<usize>>,
    pub(crate) rate: Option<Spanned<Size>>,
    pub(crate) refresh_log: Option<Spanned<Size>>,
    pub(crate) refresh_age: Option<Spanned<Time>>,
    pub(crate) refresh_every: Option<Spanned<Time>>,
    pub(crate) codec: Option<Spanned<String>>,
}

/// `[upstream]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upstream {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) address: Spanned<String>,
    pub(crate) client_address: Option<Spanned<String>>,
    pub(crate) shards: Option<Spanned<usize>>,
    pub(crate) dialect: Option<Spanned<Dialect>>,
    pub(crate) routing: Option<Spanned<Routing>>,
    pub(crate) username: Option<Spanned<String>>,
    pub(crate) password_file: Option<Spanned<PathBuf>>,
    pub(crate) password_env: Option<Spanned<String>>,
    pub(crate) announce_port: Option<Spanned<u16>>,
    pub(crate) announce_version: Option<Spanned<String>>,
    pub(crate) pack: Option<Spanned<String>>,
    pub(crate) timeout: Option<Spanned<Time>>,
    #[serde(default)]
    pub(crate) backoff: Backoff,
}

impl Upstream {
    /// Only an address, all else by default.
    pub(crate) fn new(address: String) -> Self {
        Self {
            protocol: None,
            address: unplaced(address),
            client_address: None,
            shards: None,
            dialect: None,
            routing: None,
            username: None,
            password_file: None,
            password_env: None,
            announce_port: None,
            announce_version: None,
            pack: None,
            timeout: None,
            backoff: Backoff::default(),
        }
    }
}

/// `protocol = …`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// That of Redis, which Valkey speaks, too.
    #[default]
    #[serde(alias = "valkey")]
    Redis,
    Kevy,
}

/// `dialect = …`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    K1,
    K2,
    K3,
}

impl From<Dialect> for sluicegate_core::kevy::Dialect {
    fn from(written: Dialect) -> Self {
        match written {
            Dialect::K1 => Self::K1,
            Dialect::K2 => Self::K2,
            Dialect::K3 => Self::K3,
        }
    }
}

/// `routing = …`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Routing {
    Hashtag,
    WholeKey,
    Slots,
}

impl From<Routing> for sluicegate_core::kevy::route::Routing {
    fn from(written: Routing) -> Self {
        match written {
            Routing::Hashtag => Self::Hashtag,
            Routing::WholeKey => Self::WholeKey,
            Routing::Slots => Self::Slots,
        }
    }
}

/// `backoff = { min, max }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backoff {
    pub(crate) min: Option<Spanned<Time>>,
    pub(crate) max: Option<Spanned<Time>>,
}

/// `[[view]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct View {
    pub(crate) name: Spanned<String>,
    pub(crate) listen: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(crate) pipeline: Vec<Spanned<String>>,
    pub(crate) pack: Option<Spanned<String>>,
    pub(crate) max_replicas: Option<Spanned<usize>>,
    pub(crate) exact: Option<bool>,
    pub(crate) unknown_replica: Option<Spanned<UnknownReplica>>,
    pub(crate) floor: Option<Spanned<String>>,
    #[serde(rename = "cross-key")]
    pub(crate) cross_key: Option<Spanned<CrossKey>>,
    pub(crate) shards: Option<Spanned<usize>>,
    pub(crate) snapshot_rate: Option<Spanned<Size>>,
    #[serde(default)]
    pub(crate) backlog: Backlog,
    #[serde(default)]
    pub(crate) limits: Limits,
}

/// `unknown_replica = …`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnknownReplica {
    Accept,
    Refuse,
}

/// `cross-key = …`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CrossKey {
    Repair,
    Halt,
    Drop,
}

/// `[view.backlog]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backlog {
    /// For a kevy primary up to 3.18 not below its own buffer: while it has its first frame it gives no snapshot.
    pub(crate) memory: Option<Spanned<Size>>,
    pub(crate) disk: Option<Spanned<Size>>,
}

/// `[view.limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    #[serde(default)]
    pub(crate) replica_output: ReplicaOutput,
    pub(crate) frame: Option<Spanned<Size>>,
    pub(crate) transaction: Option<Spanned<Size>>,
    pub(crate) repair_window: Option<Spanned<Size>>,
    pub(crate) repair_time: Option<Spanned<Time>>,
    pub(crate) repair_keys: Option<Spanned<usize>>,
    pub(crate) repair_value: Option<Spanned<Size>>,
}

/// `replica_output = { hard, stalled_for }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplicaOutput {
    pub(crate) hard: Option<Spanned<Size>>,
    pub(crate) stalled_for: Option<Spanned<Time>>,
}

/// `[[plugin]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plugin {
    pub(crate) name: Spanned<String>,
    pub(crate) path: Option<Spanned<PathBuf>>,
    pub(crate) builtin: Option<Spanned<String>>,
    pub(crate) sha256: Option<Spanned<String>>,
    pub(crate) on_error: Option<Spanned<OnError>>,
    pub(crate) memory: Option<Spanned<Size>>,
    pub(crate) deadline: Option<Spanned<Time>>,
    #[serde(default)]
    pub(crate) fuel: u64,
    #[serde(default)]
    pub(crate) config: PluginConfig,
}

/// `on_error = …`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnError {
    Halt,
    Drop,
    Pass,
}

impl From<OnError> for sluicegate_guest::OnError {
    fn from(written: OnError) -> Self {
        match written {
            OnError::Halt => Self::Halt,
            OnError::Drop => Self::Drop,
            OnError::Pass => Self::Pass,
        }
    }
}

/// `[plugin.config]`: names and values in the order of the file; an array is its name, repeated.
#[derive(Debug, Default)]
pub(crate) struct PluginConfig(pub(crate) Vec<(String, String)>);

/// `[[user]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    pub(crate) name: Spanned<String>,
    pub(crate) password_sha256: Spanned<String>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) level: Option<Spanned<String>>,
    pub(crate) format: Option<LogFormat>,
}

/// `format = …`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A value that stands in no file: the command line's.
pub(crate) fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

impl<'de> Deserialize<'de> for PluginConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PluginConfigVisitor).map(Self)
    }
}

struct PluginConfigVisitor;

impl<'de> Visitor<'de> for PluginConfigVisitor {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut settings = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            for value in map.next_value::<Setting>()?.0 {
                settings.push((name.clone(), value));
            }
        }
        Ok(settings)
    }
}

/// One setting's values: one, or as many as its array has.
struct Setting(Vec<String>);

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = match Value::deserialize(deserializer)? {
            Value::Array(values) => values,
            value => vec![value],
        };
        values.iter().map(text).collect::<Option<_>>().map(Self).ok_or_else(|| {
            de::Error::custom("a plugin's setting is a string, a number, a boolean, or an array of those")
        })
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}
