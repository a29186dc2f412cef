//! Real kevy servers, each in a directory of its own: N shards, each with a replication port of its own.

pub mod bystanders;
pub mod fake_primary;
pub mod holdings;
pub mod mini_replica;
pub mod snapshot;
pub mod workload;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::client::Client;
use crate::leash::Leash;
use crate::ports::free_ports;
use crate::wait::{PATIENCE, wait_for};

/// Which kevy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.19: the first dialect, without heartbeats.
    V119,
    /// 3.17: heartbeats, still without generations in the handshake.
    V317,
    /// 6.4: generations; the one that comes ready-made.
    V64,
    /// 7.0: stream ids and group reads by their effects, records after the end of a snapshot.
    V70,
}

impl Version {
    /// Oldest first.
    pub const ALL: [Self; 4] = [Self::V119, Self::V317, Self::V64, Self::V70];

    /// Those that are here, after a line on standard error for each that is not.
    pub fn all_found() -> Vec<Self> {
        Self::ALL.into_iter().filter(|version| version.find_or_say().is_some()).collect()
    }

    /// How the version begins.
    fn number(self) -> &'static str {
        match self {
            Self::V119 => "1.19",
            Self::V317 => "3.17",
            Self::V64 => "6.4",
            Self::V70 => "7.0",
        }
    }

    /// The server's program: below `SLUICEGATE_SERVERS`, else below `target/servers` of the workspace, else in PATH, if it
    /// says that it is this version.
    pub fn find(self) -> Option<PathBuf> {
        let own = std::env::var_os("SLUICEGATE_SERVERS").map(PathBuf::from);
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/servers");
        let place = format!("kevy-{}/kevy", self.number());
        let fetched = own.into_iter().chain([built]).map(|dir| dir.join(&place));
        fetched.chain([PathBuf::from("kevy")]).find(|program| self.is(program))
    }

    /// The server's program, or `None` after a line on standard error that says how to get it.
    pub fn find_or_say(self) -> Option<PathBuf> {
        let found = self.find();
        if found.is_none() {
            let how = if self == Self::V64 { "servers` fetches it" } else { "servers --kevy-crates` builds it" };
            eprintln!("skipped: no kevy {} found; `cargo xtask {how}", self.number());
        }
        found
    }

    fn is(self, program: &Path) -> bool {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).starts_with(&format!("kevy {}.", self.number())))
    }

    /// Whether a replica names the generation that it has, and so speaks six words instead of five.
    pub fn names_generations(self) -> bool {
        self >= Self::V64
    }

    /// Whether primary and replica tell each other every second how far they are.
    pub fn has_heartbeats(self) -> bool {
        self >= Self::V317
    }
}

/// How a server is started; `..Setup::default()` for what does not matter.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How many shards.
    pub shards: u16,
    /// The first replication port of the primary that it follows, if it is a replica.
    pub upstream: Option<u16>,
    /// How much each shard keeps of its stream: `"16mb"`.
    pub backlog: &'static str,
    /// Further lines of the section `[replication]`.
    pub replication: Vec<String>,
    /// Keys go to shards by the slots of a cluster, and each shard has a client port of its own as well.
    pub cluster: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { shards: 2, upstream: None, backlog: "16mb", replication: Vec::new(), cluster: false }
    }
}

/// A running server; killed when dropped, its directory removed. It writes no log of its commands.
#[derive(Debug)]
pub struct KevyServer {
    version: Version,
    program: PathBuf,
    setup: Setup,
    port: u16,
    base: u16,
    dir: TempDir,
    process: Option<Leash>,
}

impl KevyServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// It cannot be found, or does not come up.
    pub fn start(version: Version, setup: Setup) -> Result<Self> {
        let program = version.find().with_context(|| format!("no {version:?}; see `cargo xtask servers --help`"))?;
        // The ports of a cluster's shards are those behind its first one.
        let ports = if setup.cluster { 1 + setup.shards } else { 1 };
        let (port, base, dir) = (free_ports(ports)?, free_ports(setup.shards)?, tempfile::tempdir()?);
        let mut server = Self { version, program, setup, port, base, dir, process: None };
        server.launch()?;
        Ok(server)
    }

    /// A primary with so many shards.
    ///
    /// # Errors
    /// As [`KevyServer::start`].
    pub fn primary(version: Version, shards: u16) -> Result<Self> {
        Self::start(version, Setup { shards, ..Setup::default() })
    }

    /// A replica that follows the ports from `upstream` on, one for each of its shards. That it has caught up is not waited
    /// for, nor that anybody listens there: it goes on trying, four times a second.
    ///
    /// # Errors
    /// As [`KevyServer::start`].
    pub fn replica(version: Version, shards: u16, upstream: u16) -> Result<Self> {
        Self::start(version, Setup { shards, upstream: Some(upstream), ..Setup::default() })
    }

    fn launch(&mut self) -> Result<()> {
        let path = |name: &str| self.dir.path().join(name);
        std::fs::write(path("kevy.toml"), self.configuration())?;
        let mut args: Vec<OsString> = Vec::new();
        args.extend(["--config".into(), path("kevy.toml").into(), "--dir".into(), self.dir.path().into()]);
        args.extend(["--port".into(), self.port.to_string().into(), "--no-aof".into()]);
        args.extend(["--threads".into(), self.setup.shards.to_string().into()]);
        args.extend(self.setup.cluster.then(|| "--cluster".into()));
        // Up to 2.0, a primary that uses io_uring freezes when its first replica comes.
        self.process = Some(Leash::start(&self.program, &args, &[("KEVY_IO_URING", "0")], &path("log"))?);
        wait_for("a kevy that answers PING", PATIENCE, || {
            if let Some(code) = self.process.as_mut().map(Leash::ended).transpose()?.flatten() {
                bail!("{:?} ended with {code} at its start: {}", self.version, self.log());
            }
            let pong = Client::connect(self.addr()).and_then(|mut c| c.ask(&["PING"]));
            Ok(pong.is_ok_and(|reply| reply.text() == "PONG"))
        })
    }

    fn configuration(&self) -> String {
        let role = if self.setup.upstream.is_some() { "replica" } else { "primary" };
        let mut lines = vec![
            "[replication]".to_owned(),
            format!("role = {role:?}"),
            format!("listen_port_base = {}", self.base),
            format!("replication_buffer_size = {:?}", self.setup.backlog),
        ];
        lines.extend(self.setup.upstream.map(|base| format!("upstream = \"127.0.0.1:{base}\"")));
        lines.extend(self.setup.replication.iter().cloned());
        lines.join("\n") + "\n"
    }

    /// Which server this is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How many shards it has.
    pub fn shards(&self) -> u16 {
        self.setup.shards
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The first of its replication ports.
    pub fn base(&self) -> u16 {
        self.base
    }

    /// Where the replicas of one shard connect.
    pub fn shard_addr(&self, shard: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.base + shard))
    }

    /// A new connection to it.
    ///
    /// # Errors
    /// It does not run.
    pub fn client(&self) -> Result<Client> {
        Client::connect(self.addr())
    }

    /// All that it has logged, over its restarts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Asks until `condition` holds.
    ///
    /// # Errors
    /// It does not within `patience`; the message has the end of the log.
    pub fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        mut condition: impl FnMut(&mut Client) -> Result<bool>,
    ) -> Result<()> {
        let mut client = self.client()?;
        wait_for(what, patience, || Ok(unless_loading(condition(&mut client))? == Some(true)))
            .with_context(|| format!("log of {:?}:\n{}", self.version, self.tail()))
    }

    /// Waits until its links to its primary are up. 1.19 says so at once and whatever happens.
    ///
    /// # Errors
    /// They do not come up.
    pub fn wait_link_up(&self) -> Result<()> {
        self.wait_for("a link to the primary", PATIENCE, |c| {
            Ok(c.info_field("replication", "master_link_status")? == "up")
        })
    }

    /// Makes it follow the ports from `upstream` on, also after a restart.
    ///
    /// # Errors
    /// It does not run.
    pub fn follow(&mut self, upstream: u16) -> Result<()> {
        self.client()?.call(&["REPLICAOF", "127.0.0.1", &upstream.to_string()])?;
        self.setup.upstream = Some(upstream);
        Ok(())
    }

    /// Makes it a primary of its own, with the data that it has.
    ///
    /// # Errors
    /// It does not run.
    pub fn promote(&mut self) -> Result<()> {
        self.client()?.call(&["REPLICAOF", "NO", "ONE"])?;
        self.setup.upstream = None;
        Ok(())
    }

    /// Saves and stops, then starts on the same ports from what was saved. From 3.17 on the generations and offsets survive,
    /// as they would not with `SHUTDOWN` in 3.17; those of 1.19 begin anew.
    ///
    /// # Errors
    /// It does not save, stop or start.
    pub fn restart_with_data(&mut self) -> Result<()> {
        let dumps: Vec<_> = (0..self.shards()).map(|i| self.dir.path().join(format!("dump-{i}.rdb"))).collect();
        for dump in dumps.iter().filter(|dump| dump.exists()) {
            std::fs::remove_file(dump)?;
        }
        self.client()?.call(&["SAVE"])?;
        // 3.17 answers before the files have their names.
        wait_for("a saved snapshot of each shard", PATIENCE, || Ok(dumps.iter().all(|dump| dump.exists())))?;
        if let Some(process) = &mut self.process {
            process.signal("TERM")?;
            process.wait_end(PATIENCE)?;
        }
        self.launch()
    }

    /// Kills it without warning.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill9())
    }

    /// Starts it again after [`KevyServer::kill9`], on the same ports, with what was last saved, if anything was.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_again(&mut self) -> Result<()> {
        self.launch()
    }

    /// Whether it still runs: up to 3.17 a link that breaks in the wrong way ends the whole process.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.process.as_mut().map(Leash::ended).transpose()?.is_some_and(|ended| ended.is_none()))
    }

    /// Stops its process in its tracks, or lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let process = self.process.as_ref().context("the server does not run")?;
        process.signal(if frozen { "STOP" } else { "CONT" })
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// `None` while a server takes a snapshot: from 4.0 on it refuses to say anything then.
fn unless_loading<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Err(error) if format!("{error:#}").contains("\"LOADING ") => Ok(None),
        answer => answer.map(Some),
    }
}
