//! Everything that the demo starts, and the order in which it goes away.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use super::Interrupted;
use super::model::Model;
use super::process::Process;
use super::proof::Proof;
use super::script::{KEPT, RENAMED, Script};
use super::servers::Binary;
use crate::client::Connection;

/// Each step takes a fraction of this, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(20);

/// A server of the demo: a real one, or the demo's own.
enum Server {
    Real { process: Process, address: SocketAddr },
    Model(Model),
}

/// The primary, the proxy and the replicas. Dropped from the first field to the last: those that follow go before those
/// that are followed, and the folder last.
pub(super) struct Stage {
    replica_of_eu: Option<Server>,
    replica_of_all: Option<Server>,
    proxy: Option<Process>,
    primary: Option<Server>,
    view_all: SocketAddr,
    view_eu: SocketAddr,
    binary: Option<Binary>,
    interrupted: Arc<AtomicBool>,
    folder: TempDir,
}

impl Stage {
    /// An empty stage with a folder and two ports for the views.
    pub(super) fn new(binary: Option<Binary>, interrupted: Arc<AtomicBool>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sluicegate-demo-").tempdir().context("a temporary folder")?;
        let [view_all, view_eu] = free_addresses()?;
        Ok(Self {
            replica_of_eu: None,
            replica_of_all: None,
            proxy: None,
            primary: None,
            view_all,
            view_eu,
            binary,
            interrupted,
            folder,
        })
    }

    /// Whether the servers are the demo's own, which know strings only.
    pub(super) fn speaks_strings_only(&self) -> bool {
        self.binary.is_none()
    }

    /// Starts the primary and waits until it answers.
    pub(super) fn start_primary(&mut self) -> anyhow::Result<()> {
        self.primary = Some(self.server("primary", None)?);
        self.until_ready("the primary", |stage| Ok(stage.primary()?.call(&["PING"]).is_ok()))
    }

    /// Starts the proxy, as an operator would, and waits until both views answer.
    pub(super) fn start_proxy(&mut self) -> anyhow::Result<()> {
        let primary = self.primary_address()?;
        let config = self.config_path();
        fs::write(&config, config_text(primary, self.view_all, self.view_eu))
            .with_context(|| format!("writing {}", config.display()))?;
        let program = std::env::current_exe().context("finding our own program")?;
        let arguments = ["run", "--log-format", "text", "--config"].map(str::to_owned);
        let arguments: Vec<String> = arguments.into_iter().chain([config.display().to_string()]).collect();
        self.proxy = Some(Process::start(&program, &arguments, self.folder.path(), &self.log_path("proxy"))?);
        self.until_ready("the proxy", |stage| {
            for view in [stage.view_all, stage.view_eu] {
                Connection::open(view)?.call(&["PING"])?;
            }
            Ok(true)
        })
    }

    /// Starts the replicas and waits until both are in sync.
    pub(super) fn start_replicas(&mut self) -> anyhow::Result<()> {
        self.replica_of_all = Some(self.server("replica-of-all", Some(self.view_all))?);
        self.replica_of_eu = Some(self.server("replica-of-eu", Some(self.view_eu))?);
        self.until_ready("the replicas' first sync", |stage| {
            for replica in [&stage.replica_of_all, &stage.replica_of_eu] {
                let link = open(replica.as_ref())?.info("replication", &["master_link_status"])?;
                if link != ["up"] {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Compares all datasets until they are as they must be. A proof that does not hold in time is returned as it is.
    pub(super) fn until_proven(&mut self, script: &Script) -> anyhow::Result<Proof> {
        let deadline = Instant::now() + PATIENCE;
        let mut primary = self.primary()?;
        let (mut of_all, mut of_eu) = (open(self.replica_of_all.as_ref())?, open(self.replica_of_eu.as_ref())?);
        loop {
            let proof = Proof::take(script, &mut primary, &mut of_all, &mut of_eu)?;
            if proof.holds() || Instant::now() > deadline {
                return Ok(proof);
            }
            self.glance()?;
        }
    }

    /// A connection to the primary.
    pub(super) fn primary(&self) -> anyhow::Result<Connection> {
        open(self.primary.as_ref())
    }

    /// What runs where.
    pub(super) fn describe(&self, script: &Script) -> anyhow::Result<String> {
        let version = super::played_by(self.binary.as_ref());
        let (before, after) = script.lengths();
        let [of_all, of_eu] = [&self.replica_of_all, &self.replica_of_eu].map(|server| address(server.as_ref()));
        Ok(format!(
            "  primary   {}   {version}\n  \
               view all  {}   no plugins               → replica {}\n  \
               view eu   {}   key-filter → key-rename  → replica {}\n  \
               played    {before} commands before the replicas attached, {after} after\n",
            self.primary_address()?,
            self.view_all,
            of_all?,
            self.view_eu,
            of_eu?,
        ))
    }

    /// The histories and offsets of the primary and of both views, from what they say of themselves.
    pub(super) fn positions(&self) -> anyhow::Result<String> {
        const FIELDS: [&str; 3] = ["master_replid", "master_repl_offset", "connected_slaves"];
        let mut out = String::new();
        let mut of_primary = String::new();
        for (name, server) in
            [("primary", self.primary_address()?), ("view all", self.view_all), ("view eu", self.view_eu)]
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

    /// How to talk to what is running.
    pub(super) fn how_to_look_around(&self) -> anyhow::Result<String> {
        let port = |server: Option<&Server>| address(server).map(|address| address.port());
        Ok(format!(
            "Still running; Ctrl-C ends it all. For example:\n  \
               redis-cli -p {} SET user:8 you                  on the primary\n  \
               redis-cli -p {} GET user:8                      on the replica of all\n  \
               redis-cli -p {} GET eu:user:8                   on the replica of eu\n  \
               redis-cli -p {} INFO replication                on view eu itself\n  \
               its configuration: {}",
            self.primary_address()?.port(),
            port(self.replica_of_all.as_ref())?,
            port(self.replica_of_eu.as_ref())?,
            self.view_eu.port(),
            self.config_path().display(),
        ))
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

    fn server(&self, name: &str, follows: Option<SocketAddr>) -> anyhow::Result<Server> {
        let Some(binary) = &self.binary else {
            return Ok(Server::Model(match follows {
                None => Model::primary().context("the model primary")?,
                Some(view) => Model::replica(view).with_context(|| format!("the model {name}"))?,
            }));
        };
        let [address] = free_addresses()?;
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let port = address.port();
        let mut options = format!("--port {port} --bind 127.0.0.1 --appendonly no --repl-diskless-sync-delay 0");
        if let Some(view) = follows {
            options += &format!(" --replicaof {} {}", view.ip(), view.port());
        }
        let save = ["--save".to_owned(), String::new()];
        let arguments: Vec<String> = options.split(' ').map(str::to_owned).chain(save).collect();
        let process = Process::start(&binary.path, &arguments, &folder, &self.log_path(name))?;
        Ok(Server::Real { process, address })
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
        for server in [&mut self.primary, &mut self.replica_of_all, &mut self.replica_of_eu].into_iter().flatten() {
            if let Server::Real { process, address } = server {
                ensure!(!process.has_ended()?, "the server at {address} has ended");
            }
        }
        Ok(())
    }

    fn primary_address(&self) -> anyhow::Result<SocketAddr> {
        address(self.primary.as_ref())
    }

    fn config_path(&self) -> PathBuf {
        self.folder.path().join("sluicegate.toml")
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }
}

fn address(server: Option<&Server>) -> anyhow::Result<SocketAddr> {
    match server.context("a server that is not started")? {
        Server::Real { address, .. } => Ok(*address),
        Server::Model(model) => Ok(model.address()),
    }
}

fn open(server: Option<&Server>) -> anyhow::Result<Connection> {
    Ok(Connection::open(address(server)?)?)
}

/// Addresses on which nobody listens now.
fn free_addresses<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>().context("a free port")?;
    let addresses: Vec<SocketAddr> = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    addresses.try_into().map_err(|_| anyhow::anyhow!("a free port"))
}

fn config_text(primary: SocketAddr, all: SocketAddr, eu: SocketAddr) -> String {
    format!(
        r#"[server]
data_dir = "data"

[upstream]
address = "{primary}"

[[view]]
name = "all"
listen = ["{all}"]

[[view]]
name = "eu"
listen = ["{eu}"]
pipeline = ["users-only", "under-eu"]

[[plugin]]
name = "users-only"
builtin = "key-filter"
config = {{ allow = ["{KEPT}*"] }}

[[plugin]]
name = "under-eu"
builtin = "key-rename"
config = {{ rule = "{KEPT}* => {RENAMED}*" }}
"#
    )
}
