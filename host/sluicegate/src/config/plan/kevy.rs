//! `[upstream]` with `protocol = "kevy"`, and what does not go with it.

use std::ops::RangeInclusive;

use sluicegate_core::kevy::Dialect;
use sluicegate_core::kevy::route::Routing;
use toml::Spanned;

use super::checks::Checks;
use super::upstream::{Patience, patience};
use crate::config::address;
use crate::config::file::{File, Upstream};

/// More than any machine has processors for.
pub(super) const SHARDS: RangeInclusive<usize> = 1..=1024;

/// A kevy primary: what the operator says of it. What is left open, it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kevy {
    /// Host name or address.
    pub(crate) host: String,
    /// The replication port of its first shard. The others follow.
    pub(crate) port_base: u16,
    /// Its shards; `None`: see `client`.
    pub(crate) shards: Option<usize>,
    /// Where it answers clients, if it is to be asked.
    pub(crate) client: Option<(String, u16)>,
    /// What it speaks; `None`: it is asked, or tried.
    pub(crate) dialect: Option<Dialect>,
    /// How it routes keys; `None`: it is asked, or does as most do.
    pub(crate) routing: Option<Routing>,
    /// How long it is waited for.
    pub(crate) patience: Patience,
}

impl Kevy {
    /// Its ports, if it has so many shards.
    ///
    /// # Errors
    /// There are no so many.
    pub(crate) fn check_ports(&self, shards: usize) -> Result<(), String> {
        match address::last_port(self.port_base, shards) {
            Some(_) => Ok(()),
            None => Err(format!(
                "a primary with {shards} shards cannot have its first replication port at {}: the last port is 65535",
                self.port_base
            )),
        }
    }
}

pub(super) fn upstream(written: &Upstream, checks: &mut Checks) -> Kevy {
    let (host, port_base) =
        checks.take(&written.address, address::upstream(written.address.get_ref())).unwrap_or_default();
    let shards = written.shards.as_ref().map(|shards| checks.within("shards", Some(shards), 1, SHARDS));
    let client = written.client_address.as_ref();
    let client = client.and_then(|text| checks.take(text, address::upstream(text.get_ref())));
    if shards.is_none() && written.client_address.is_none() {
        let message =
            "how many shards this kevy has must be known: set `shards`, or `client_address` to ask it at the start";
        checks.error(&written.address, message.into());
    }
    let kevy = Kevy {
        host,
        port_base,
        shards,
        client,
        dialect: written.dialect.as_ref().map(|dialect| (*dialect.get_ref()).into()),
        routing: written.routing.as_ref().map(|routing| (*routing.get_ref()).into()),
        patience: patience(written, checks),
    };
    if let Some(shards) = &written.shards {
        checks.take(&written.address, kevy.check_ports(*shards.get_ref()));
    }
    kevy
}

/// Refuses what only kevy has.
pub(super) fn refuse_in_redis(file: &File, checks: &mut Checks) {
    let upstream = &file.upstream;
    let why = "Redis and Valkey have one stream on one port";
    refuse(upstream.shards.as_ref(), "shards", &needs_kevy(why), checks);
    refuse(upstream.client_address.as_ref(), "client_address", &needs_kevy("replicas attach where clients do"), checks);
    refuse(upstream.dialect.as_ref(), "dialect", &needs_kevy("other primaries say themselves what they speak"), checks);
    refuse(upstream.routing.as_ref(), "routing", &needs_kevy(why), checks);
    for view in &file.views {
        refuse(view.shards.as_ref(), "shards", &needs_kevy(why), checks);
    }
}

fn needs_kevy(why: &str) -> String {
    format!("is for `protocol = \"kevy\"` in [upstream]: {why}")
}

/// Refuses what only Redis and Valkey have.
pub(super) fn refuse_of_redis(file: &File, checks: &mut Checks) {
    let upstream = &file.upstream;
    let password = "has no meaning for kevy: its replication links have no passwords";
    refuse(upstream.username.as_ref(), "username", password, checks);
    refuse(upstream.password_file.as_ref(), "password_file", password, checks);
    refuse(upstream.password_env.as_ref(), "password_env", password, checks);
    let port = "has no meaning for kevy: a replica does not tell its primary where it listens";
    refuse(upstream.announce_port.as_ref(), "announce_port", port, checks);
    let version = "has no meaning for kevy: a replica and its primary do not tell each other their versions";
    refuse(upstream.announce_version.as_ref(), "announce_version", version, checks);
    let refresh = "has no meaning for kevy: its snapshots come with the stream that follows them";
    refuse(file.snapshot.refresh_log.as_ref(), "refresh_log", refresh, checks);
    refuse(file.snapshot.refresh_age.as_ref(), "refresh_age", refresh, checks);
    refuse(file.snapshot.refresh_every.as_ref(), "refresh_every", refresh, checks);
    let pack = "has no meaning for kevy: only what a Redis or Valkey primary has can be packed on its way";
    refuse(upstream.pack.as_ref(), "pack", pack, checks);
    for view in &file.views {
        refuse(view.pack.as_ref(), "pack", pack, checks);
        refuse(view.unknown_replica.as_ref(), "unknown_replica", version, checks);
        let disk = "has no meaning for kevy: what is kept for its replicas is kept in memory";
        refuse(view.backlog.disk.as_ref(), "backlog.disk", disk, checks);
        refuse(view.floor.as_ref(), "floor", "has no meaning for kevy: use `dialect` in [upstream]", checks);
        let transaction = "has no meaning for kevy: there are no transactions in its stream";
        refuse(view.limits.transaction.as_ref(), "limits.transaction", transaction, checks);
        let repair = "has no meaning for kevy: it does not tell a value together with its place in the stream";
        refuse(view.cross_key.as_ref(), "cross-key", repair, checks);
        refuse(view.limits.repair_window.as_ref(), "limits.repair_window", repair, checks);
        refuse(view.limits.repair_time.as_ref(), "limits.repair_time", repair, checks);
        refuse(view.limits.repair_keys.as_ref(), "limits.repair_keys", repair, checks);
        refuse(view.limits.repair_value.as_ref(), "limits.repair_value", repair, checks);
    }
    if let Some(user) = file.users.first() {
        let message = "[[user]] has no meaning for kevy: its replicas cannot log in. \
                       Listen where only replicas connect, and remove it";
        checks.error(&user.name, message.into());
    }
}

fn refuse<T>(written: Option<&Spanned<T>>, name: &str, why: &str, checks: &mut Checks) {
    if let Some(at) = written {
        checks.error(at, format!("`{name}` {why}"));
    }
}
