//! What the operator decided, as the core needs it: plain data, valid by construction of the shell.

use alloc::string::String;
use alloc::vec::Vec;

use crate::limits;
use crate::rdb::ServerVersion;

/// The primary to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Host name or address, as shown by INFO and ROLE.
    pub host: String,
    /// Port, as shown by INFO and ROLE.
    pub port: u16,
    /// ACL user; `None` sends `AUTH password` alone.
    pub username: Option<String>,
    /// Password; `None` sends no AUTH.
    pub password: Option<String>,
    /// `REPLCONF listening-port`: where Sentinel and the primary's INFO will look for us.
    pub announce_port: u16,
    /// `REPLCONF version`: the server version that we claim towards Valkey, which picks its snapshot version by it.
    pub announce_version: String,
    /// The format in which snapshots and stream may come, if the primary is a Sluicegate that packs so.
    pub pack: Option<String>,
    /// Silence after which the link counts as dead. Milliseconds.
    pub timeout_ms: u64,
    /// First delay before a new attempt; doubles up to the maximum. Milliseconds.
    pub backoff_min_ms: u64,
    /// Longest delay before a new attempt. Milliseconds.
    pub backoff_max_ms: u64,
}

impl UpstreamSettings {
    /// The defaults, for a primary at `host:port`.
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            username: None,
            password: None,
            announce_port: 0,
            announce_version: "9.1.0".into(),
            pack: None,
            timeout_ms: limits::LINK_TIMEOUT_MS,
            backoff_min_ms: limits::BACKOFF_MIN_MS,
            backoff_max_ms: limits::BACKOFF_MAX_MS,
        }
    }
}

/// One view of the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewSettings {
    /// The view's name in logs and INFO.
    pub name: String,
    /// The first listening port, as shown by INFO.
    pub port: u16,
    /// Names of the plugins, in order. Empty: the view relays the primary's own history.
    pub pipeline: Vec<String>,
    /// Bytes of stream kept for replicas that come back.
    pub backlog_bytes: usize,
    /// Bytes of stream kept on disk beneath them, while the snapshot or a replica needs them; 0: none.
    pub backlog_disk_bytes: u64,
    /// Unsent bytes that one replica may have.
    pub replica_output_bytes: usize,
    /// How long a replica may take no byte while output waits. Milliseconds.
    pub stalled_ms: u64,
    /// The largest single command that a view with plugins takes. Bytes.
    pub frame_bytes_max: usize,
    /// The view's bytes of one MULTI…EXEC that are held until its EXEC.
    pub transaction_bytes_max: usize,
    /// Replicas at once.
    pub replicas_max: usize,
    /// `false` permits plugins whose failures drop or pass frames: the view may then differ from the primary's truth.
    pub exact: bool,
    /// What a replica that does not tell its version, and cannot be asked, is taken for.
    pub unknown_replica: UnknownReplica,
    /// The lowest server that the view serves. Such a view has a history of its own, in which nothing is said that this server
    /// does not know; snapshots are rewritten for it where nothing is lost. `None`: replicas must load what the primary sends.
    pub floor: Option<ServerVersion>,
    /// What becomes of a kept key whose value depends on a dropped one.
    pub cross_key: CrossKey,
    /// How much may be held back for values that come from the primary.
    pub repair: RepairLimits,
    /// The format in which another Sluicegate gets the view, if it asks for it.
    pub pack: Option<String>,
}

/// What a view with plugins does when a kept key gets a value that depends on a key which the view does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CrossKey {
    /// Fetch the value from the primary, on a connection of its own.
    #[default]
    Repair,
    /// Halt the view, and name the command.
    Halt,
    /// Leave the key as it is: the view is inexact from there.
    Drop,
}

/// Bounds of what a view holds back for values that come from the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepairLimits {
    /// Bytes of the stream held back.
    pub window_bytes_max: usize,
    /// How long the oldest byte may be held back while the primary is there. Milliseconds.
    pub window_ms_max: u64,
    /// Keys whose values may be unknown at once.
    pub keys_max: usize,
    /// The largest value that is fetched. Bytes, as DUMP gives it.
    pub value_bytes_max: usize,
}

impl Default for RepairLimits {
    fn default() -> Self {
        Self {
            window_bytes_max: limits::REPAIR_WINDOW_BYTES_MAX,
            window_ms_max: limits::REPAIR_WINDOW_MS_MAX,
            keys_max: limits::REPAIR_KEYS_MAX,
            value_bytes_max: limits::REPAIR_VALUE_BYTES_MAX,
        }
    }
}

/// What to do with a replica whose version is neither announced nor found out by asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownReplica {
    /// Serve it: the operator knows what is attached.
    #[default]
    Accept,
    /// Refuse it with an error.
    Refuse,
}

impl ViewSettings {
    /// The defaults, for a view without plugins.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            port: 0,
            pipeline: Vec::new(),
            backlog_bytes: limits::BACKLOG_BYTES,
            backlog_disk_bytes: limits::BACKLOG_DISK_BYTES,
            replica_output_bytes: limits::REPLICA_OUTPUT_BYTES,
            stalled_ms: limits::REPLICA_STALLED_MS,
            frame_bytes_max: limits::FRAME_BYTES_MAX,
            transaction_bytes_max: limits::TRANSACTION_BYTES_MAX,
            replicas_max: limits::REPLICAS_MAX,
            exact: true,
            unknown_replica: UnknownReplica::Accept,
            floor: None,
            cross_key: CrossKey::Repair,
            repair: RepairLimits::default(),
            pack: None,
        }
    }
}

/// When a newer snapshot of the history that is followed is taken, on a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshSettings {
    /// When a view's stream behind its snapshot is longer than this. Bytes; 0: never for this reason.
    pub log_bytes: u64,
    /// When the snapshot is older than this. Milliseconds; 0: never for this reason.
    pub age_ms: u64,
    /// But not within this time of the last attempt: each costs the primary a fork. Milliseconds.
    pub every_ms: u64,
}

impl Default for RefreshSettings {
    fn default() -> Self {
        Self { log_bytes: limits::REFRESH_LOG_BYTES, age_ms: 0, every_ms: limits::REFRESH_EVERY_MS }
    }
}

/// Someone who may connect to the view ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The ACL user name; `default` for `AUTH password` alone.
    pub name: String,
    /// SHA-256 of the password.
    pub password_sha256: [u8; 32],
}

/// Everything that the core is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The primary to follow.
    pub upstream: UpstreamSettings,
    /// The views that are served.
    pub views: Vec<ViewSettings>,
    /// Who may connect; empty: everybody.
    pub users: Vec<User>,
    /// When newer snapshots are taken.
    pub refresh: RefreshSettings,
    /// Snapshots that go out at once, over all views; at least 1.
    pub ships_max: usize,
    /// Version of the program, as shown by INFO.
    pub version: String,
}
