//! Everything that the demo starts, and the order in which it goes away.

mod account;
mod config;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use super::Interrupted;
use super::cast::Cast;
use super::ports::Ports;
use super::process::Process;
use super::proof::Proof;
use super::script::Script;
use super::server::{Role, Server};
use crate::client::Connection;

/// Each step takes a fraction of this, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(20);

/// The primary, the proxy and the replicas. Dropped from the first field to the last: those that follow go before those
/// that are followed, and the folder last.
pub(super) struct Stage {
    replica_of_filtered: Option<Server>,
    replica_of_all: Option<Server>,
    proxy: Option<Process>,
    primary: Option<Server>,
    /// The first port of the view that has everything.
    view_all: SocketAddr,
    /// The first port of the other one.
    view_filtered: SocketAddr,
    ports: Ports,
    cast: Cast,
    script: Script,
    interrupted: Arc<AtomicBool>,
    folder: TempDir,
}

impl Stage {
    /// An empty stage with a folder and ports for the views.
    pub(super) fn new(cast: Cast, script: Script, interrupted: Arc<AtomicBool>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sluicegate-demo-").tempdir().context("a temporary folder")?;
        let mut ports = Ports::new();
        Ok(Self {
            replica_of_filtered: None,
            replica_of_all: None,
            proxy: None,
            primary: None,
            view_all: ports.take(cast.shards())?,
            view_filtered: ports.take(cast.shards())?,
            ports,
            cast,
            script,
            interrupted,
            folder,
        })
    }

    /// Starts the primary, waits until it answers, and plays what comes before the proxy attaches.
    pub(super) fn start_primary(&mut self) -> anyhow::Result<()> {
        self.primary = Some(self.start("primary", None)?);
        self.until_ready("the primary", |stage| Ok(stage.primary()?.call(&["PING"]).is_ok()))?;
        self.script.seed(&mut self.primary()?)
    }

    /// Starts the proxy, as an operator would, and waits until both views answer.
    pub(super) fn start_proxy(&mut self) -> anyhow::Result<()> {
        let upstream = self.primary_server()?.upstream();
        let config = self.config_path();
        let text = config::text(&self.cast, &self.script.filtered, upstream, self.view_all, self.view_filtered);
        fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        let program = std::env::current_exe().context("finding our own program")?;
        let arguments = ["run", "--log-format", "text", "--config"].map(str::to_owned);
        let arguments: Vec<String> = arguments.into_iter().chain([config.display().to_string()]).collect();
        self.proxy = Some(Process::start(&program, &arguments, &[], self.folder.path(), &self.log_path("proxy"))?);
        self.until_ready("the proxy", |stage| {
            for view in [stage.view_all, stage.view_filtered] {
                let mut link = Connection::open(view)?;
                // A view of a kevy speaks to replicas only, and what it says to others is no answer.
                if !stage.cast.is_kevy() {
                    link.call(&["PING"])?;
                }
            }
            Ok(true)
        })
    }

    /// Starts the replicas and waits until both hold what there is.
    pub(super) fn start_replicas(&mut self) -> anyhow::Result<()> {
        self.replica_of_all = Some(self.start("replica-of-all", Some(self.view_all))?);
        let name = format!("replica-of-{}", self.script.filtered.name);
        self.replica_of_filtered = Some(self.start(&name, Some(self.view_filtered))?);
        self.until_ready("the replicas' first sync", |stage| {
            for replica in stage.replicas()? {
                let link = replica.open()?.info("replication", &["master_link_status"])?;
                // Each kevy has its own idea of when a link is up: what it holds is looked at, and that is all.
                if link != ["up"] && !stage.cast.is_kevy() {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        self.until_proven()?.check().context("after the replicas' first sync")
    }

    /// Plays what comes while the replicas are attached.
    pub(super) fn play_live(&self) -> anyhow::Result<()> {
        self.script.live(&mut self.primary()?)
    }

    /// Compares all datasets until they are as they must be. A proof that does not hold in time is returned as it is.
    pub(super) fn until_proven(&mut self) -> anyhow::Result<Proof> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.proof() {
                Ok(proof) if proof.holds() => return Ok(proof),
                // A server that takes a snapshot just now may answer nothing else.
                proof if Instant::now() > deadline => return proof,
                _ => self.glance()?,
            }
        }
    }

    fn proof(&self) -> anyhow::Result<Proof> {
        let [of_all, of_filtered] = self.replicas()?;
        Proof::take(&self.script, &mut self.primary()?, &mut of_all.open()?, &mut of_filtered.open()?)
    }

    /// Stays until somebody asks to end, or something ends by itself.
    pub(super) fn wait_for_interrupt(&mut self) -> anyhow::Result<()> {
        while !self.interrupted.load(Ordering::Relaxed) {
            self.check_alive()?;
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// The end of the proxy's log: what it said before something went wrong.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log_path("proxy")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default();
        format!("The proxy's last words:\n  {}\n", shown.join("\n  "))
    }

    fn start(&mut self, name: &str, follows: Option<SocketAddr>) -> anyhow::Result<Server> {
        Server::start(&self.cast, &Role { name, follows }, self.folder.path(), &mut self.ports)
    }

    fn primary_server(&self) -> anyhow::Result<&Server> {
        self.primary.as_ref().context("the primary is not started")
    }

    /// A connection to the primary.
    fn primary(&self) -> anyhow::Result<Connection> {
        Ok(self.primary_server()?.open()?)
    }

    /// The replica of everything, and the other one.
    fn replicas(&self) -> anyhow::Result<[&Server; 2]> {
        let replicas = self.replica_of_all.as_ref().zip(self.replica_of_filtered.as_ref());
        replicas.map(|(of_all, of_filtered)| [of_all, of_filtered]).context("the replicas are not started")
    }

    /// Waits for a condition. What refuses connections is still starting; a process that has ended will not.
    fn until_ready(&mut self, what: &str, ready: impl Fn(&Self) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = ready(self);
            if matches!(answer, Ok(true)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let why = answer.err().map_or_else(|| "not yet".to_owned(), |error| error.to_string());
                bail!("{what}: not ready after {} s ({why})", PATIENCE.as_secs());
            }
            self.glance()?;
        }
    }

    fn glance(&mut self) -> anyhow::Result<()> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), Interrupted);
        self.check_alive()?;
        thread::sleep(GLANCE);
        Ok(())
    }

    fn check_alive(&mut self) -> anyhow::Result<()> {
        if let Some(proxy) = &mut self.proxy {
            ensure!(!proxy.has_ended()?, "the proxy has ended");
        }
        let replicas = [&mut self.replica_of_all, &mut self.replica_of_filtered];
        for server in replicas.into_iter().chain([&mut self.primary]).flatten() {
            ensure!(!server.has_ended()?, "the server at {} has ended", server.address());
        }
        Ok(())
    }

    fn config_path(&self) -> PathBuf {
        self.folder.path().join("sluicegate.toml")
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }
}
