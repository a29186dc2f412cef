//! What the operator decided for a kevy primary, as the core needs it: plain data, valid by construction of the shell.

use alloc::string::String;
use alloc::vec::Vec;

use super::Dialect;
use super::route::Routing;
use crate::limits;
use crate::settings::ViewSettings;

/// The primary to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Host name or address, as shown in logs.
    pub host: String,
    /// The replication port of its first shard; shard `i` has the port `i` behind it.
    pub port_base: u16,
    /// How many shards it has. At least 1.
    pub shards: usize,
    /// What it speaks; `None`: found out from its first answer.
    pub dialect: Option<Dialect>,
    /// How it, and so every replica of the views, routes keys.
    pub routing: Routing,
    /// What we call ourselves; the shard's number is added to it.
    pub id: String,
    /// Silence after which a link that has heartbeats counts as dead. Milliseconds.
    pub timeout_ms: u64,
    /// First delay before a new attempt; doubles up to the maximum. Milliseconds.
    pub backoff_min_ms: u64,
    /// Longest delay before a new attempt. Milliseconds.
    pub backoff_max_ms: u64,
}

impl Upstream {
    /// The defaults, for a primary with `shards` shards at `host:port_base`.
    pub fn new(host: &str, port_base: u16, shards: usize) -> Self {
        Self {
            host: host.into(),
            port_base,
            shards,
            dialect: None,
            routing: Routing::Hashtag,
            id: "sluicegate".into(),
            timeout_ms: limits::LINK_TIMEOUT_MS,
            backoff_min_ms: limits::BACKOFF_MIN_MS,
            backoff_max_ms: limits::BACKOFF_MAX_MS,
        }
    }
}

/// One view of the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// What a view of any protocol has. `backlog_bytes` is kept for each shard.
    pub view: ViewSettings,
    /// How many shards its replicas have. At least 1.
    pub shards: usize,
}

/// Everything that the core is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The primary to follow.
    pub upstream: Upstream,
    /// The views that are served.
    pub views: Vec<View>,
    /// Snapshots that go out at once, over all views; at least 1.
    pub ships_max: usize,
    /// Version of the program.
    pub version: String,
}
