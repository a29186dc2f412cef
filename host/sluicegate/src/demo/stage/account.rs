//! What the demo says of its stage: what runs where, how far everybody is, how to look around.

use std::net::SocketAddr;

use super::Stage;
use crate::client::Connection;

impl Stage {
    /// What runs where.
    pub(in super::super) fn describe(&self) -> anyhow::Result<String> {
        let (before, after) = self.script.lengths();
        let name = self.script.filtered.name;
        let views = [self.view_all, self.view_filtered].map(|first| self.ports(first));
        let [of_all, of_filtered] = self.replicas()?.map(|replica| replica.address());
        let primary = self.primary_server()?;
        let mut replication = String::new();
        if primary.upstream() != primary.address() {
            replication = format!(", replication on {}", self.ports(primary.upstream()));
        }
        let (address, version) = (primary.address(), self.cast.version());
        let (label, width) = ("view all".len().max("view ".len() + name.len()), views[0].len());
        Ok(format!(
            "  {:label$}  {address:width$}   {version}{replication}\n  \
               {:label$}  {}   no plugins               → replica {of_all}\n  \
               {:label$}  {}   key-filter → key-rename  → replica {of_filtered}\n  \
               {:label$}  {before} commands before the replicas attached, {after} after\n",
            "primary",
            "view all",
            views[0],
            format!("view {name}"),
            views[1],
            "played",
        ))
    }

    /// How far everybody is, from what they say of themselves.
    pub(in super::super) fn positions(&self) -> anyhow::Result<String> {
        if self.cast.is_kevy() { self.links() } else { self.histories() }
    }

    /// The histories and offsets of the primary and of both views.
    fn histories(&self) -> anyhow::Result<String> {
        const FIELDS: [&str; 3] = ["master_replid", "master_repl_offset", "connected_slaves"];
        let mut out = String::new();
        let mut of_primary = String::new();
        let filtered = format!("view {}", self.script.filtered.name);
        let primary = self.primary_server()?.address();
        for (name, server) in
            [("primary", primary), ("view all", self.view_all), (filtered.as_str(), self.view_filtered)]
        {
            let fields = Connection::open(server)?.info("replication", &FIELDS)?;
            let [id, offset, replicas] = <[String; 3]>::try_from(fields).unwrap_or_default();
            let whose = match name {
                "primary" => "",
                _ if id == of_primary => ", the primary's",
                _ => ", its own",
            };
            if of_primary.is_empty() {
                of_primary.clone_from(&id);
            }
            let id: String = id.chars().take(8).collect();
            out += &format!("  {name:9} history {id}…{whose}, offset {offset}, replicas {replicas}\n");
        }
        Ok(out)
    }

    /// What the primary and the replicas say of their links: a view of a kevy speaks to replicas only.
    fn links(&self) -> anyhow::Result<String> {
        const FIELDS: [&str; 4] = ["master_link_status", "master_host", "master_port", "slave_lag_frames"];
        let replicas = self.primary()?.info("replication", &["connected_slaves"])?.concat();
        let mut out = format!("  primary           replicas {replicas}: the proxy, a link for each shard\n");
        for (name, replica) in ["all", self.script.filtered.name].iter().zip(self.replicas()?) {
            let fields = replica.open()?.info("replication", &FIELDS)?;
            let [link, host, port, behind] = <[String; 4]>::try_from(fields).unwrap_or_default();
            let name = format!("replica of {name}");
            // 1.19 does not say.
            let behind = if behind.is_empty() { String::new() } else { format!(", {behind} frames behind") };
            out += &format!("  {name:17} link to {host}:{port} {link}{behind}\n");
        }
        Ok(out)
    }

    /// How to talk to what is running.
    pub(in super::super) fn how_to_look_around(&self) -> anyhow::Result<String> {
        let primary = self.primary_server()?.address().port();
        let [of_all, of_filtered] = self.replicas()?.map(|replica| replica.address().port());
        let (name, renamed) = (self.script.filtered.name, self.script.filtered.renamed);
        let mut lines = vec![
            (format!("redis-cli -p {primary} SET user:8 you"), "on the primary".to_owned()),
            (format!("redis-cli -p {of_all} GET user:8"), "on the replica of all".to_owned()),
            (format!("redis-cli -p {of_filtered} GET {renamed}8"), format!("on the replica of {name}")),
        ];
        lines.push(if self.cast.is_kevy() {
            (format!("tail {}", self.log_path("proxy").display()), "what the proxy said".into())
        } else {
            (format!("redis-cli -p {} INFO replication", self.view_filtered.port()), format!("on view {name} itself"))
        });
        let lines: String = lines.iter().map(|(command, what)| format!("  {command:47} {what}\n")).collect();
        let config = self.config_path();
        Ok(format!("Still running; Ctrl-C ends it all. For example:\n{lines}  its configuration: {}", config.display()))
    }

    /// The address of a row of ports, one a shard: `127.0.0.1:7000`, or `127.0.0.1:7000-7001`.
    fn ports(&self, first: SocketAddr) -> String {
        match self.cast.shards() {
            1 => first.to_string(),
            shards => format!("{first}-{}", first.port() + shards - 1),
        }
    }
}
