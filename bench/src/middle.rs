//! What stands between primary and sink: nothing, a relay, a chained replica, or Sluicegate.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::{Process, free_address};
use crate::stream::View;

/// The settings of the plugins that [`View::pipeline`] names.
pub(crate) const PLUGINS: &str = r#"
[[plugin]]
name = "filter"
builtin = "key-filter"
[plugin.config]
allow = ["user:*", "end:*"]

[[plugin]]
name = "rename"
builtin = "key-rename"
[plugin.config]
rule = ["user:* => u:*"]
"#;

/// A kind of middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The sink attaches to the primary itself.
    Direct,
    /// The raw TCP relay.
    Relay,
    /// A replica of redis 7.0, which has the sink as its own replica.
    Redis,
    /// The same of valkey 9.1.
    Valkey,
    /// Sluicegate with one view.
    Sluicegate(View),
}

impl Kind {
    /// What the report calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Direct => "none (direct)",
            Self::Relay => "raw TCP relay",
            Self::Redis => "chained replica, redis 7.0",
            Self::Valkey => "chained replica, valkey 9.1",
            Self::Sluicegate(View::Plain) => "sluicegate, no plugin",
            Self::Sluicegate(View::Filter) => "sluicegate, filter",
            Self::Sluicegate(View::Rename) => "sluicegate, rename",
            Self::Sluicegate(View::FilterRename) => "sluicegate, filter + rename",
        }
    }

    /// The view that comes out of it.
    pub(crate) fn view(self) -> View {
        match self {
            Self::Sluicegate(view) => view,
            _ => View::Plain,
        }
    }

    /// The program that it runs; `None` if that is not to be had here.
    pub(crate) fn program(self) -> Option<PathBuf> {
        match self {
            Self::Direct | Self::Relay => env::current_exe().ok(),
            Self::Redis => program("REDIS_SERVER", "redis-server"),
            Self::Valkey => program("VALKEY_SERVER", "target/servers/valkey-9.1/valkey-server"),
            Self::Sluicegate(_) => program("SLUICEGATE_BIN", "target/release/sluicegate"),
        }
    }
}

/// The program named by an environment variable, or else by `default`: a path in the workspace, or a name on the `PATH`.
pub(crate) fn program(variable: &str, default: &str) -> Option<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return Some(path.into());
    }
    if default.contains('/') {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(default);
        return path.exists().then_some(path);
    }
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(default)).find(|path| path.exists())
}

/// A running middle.
pub(crate) struct Middle {
    /// Where the sink attaches.
    pub(crate) address: SocketAddr,
    /// The process, unless it is [`Kind::Direct`].
    pub(crate) process: Option<Process>,
}

impl Middle {
    /// Starts a middle that follows `primary`. `backlog` is what it may keep for replicas that come back, in MiB.
    pub(crate) fn start(kind: Kind, primary: SocketAddr, backlog: u32, dir: &Path) -> Result<Self> {
        let Some(program) = kind.program() else { anyhow::bail!("no program for {}", kind.title()) };
        let address = free_address()?;
        let mut command = Command::new(program);
        match kind {
            Kind::Direct => return Ok(Self { address: primary, process: None }),
            Kind::Relay => {
                command.args(["relay", &address.to_string(), &primary.to_string()]);
            }
            Kind::Redis | Kind::Valkey => chained(&mut command, address, Some(primary), backlog, dir),
            Kind::Sluicegate(view) => {
                let config = dir.join("sluicegate.toml");
                fs::write(&config, configuration(view, primary, address, backlog, dir))?;
                command.args(["run", "--config"]).arg(config);
            }
        }
        let mut process = Process::start("middle", command, dir)?;
        process.wait_listening(address)?;
        Ok(Self { address, process: Some(process) })
    }

    /// Waits until its start is over.
    pub(crate) fn settle(&self) -> Result<()> {
        self.process.as_ref().map_or(Ok(()), Process::settle)
    }
}

/// A real server as a primary.
pub(crate) fn real_primary(dir: &Path) -> Result<(Process, SocketAddr)> {
    let program = Kind::Redis.program();
    ensure!(program.is_some(), "no redis-server on the PATH");
    let address = free_address()?;
    let mut command = Command::new(program.unwrap_or_default());
    chained(&mut command, address, None, 64, dir);
    let mut process = Process::start("primary", command, dir)?;
    process.wait_listening(address)?;
    Ok((process, address))
}

/// Starts Sluicegate with this configuration, and waits until it listens at `address`.
pub(crate) fn sluicegate(config: &str, address: SocketAddr, name: &str, dir: &Path) -> Result<Process> {
    let program = Kind::Sluicegate(View::Plain).program();
    let program = program.context("no release build of sluicegate; `cargo xtask build --release` makes one")?;
    let file = dir.join(format!("{name}.toml"));
    fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.args(["run", "--config"]).arg(file);
    let mut process = Process::start(name, command, dir)?;
    process.wait_listening(address)?;
    Ok(process)
}

/// The arguments of a redis or valkey server: no persistence, no delay, no limit that the bench could run into.
fn chained(command: &mut Command, address: SocketAddr, primary: Option<SocketAddr>, backlog: u32, dir: &Path) {
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--protected-mode", "no"]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(dir);
    command.args(["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]);
    command.args(["--client-output-buffer-limit", "replica 0 0 0"]);
    command.args(["--repl-backlog-size", &format!("{backlog}mb")]);
    if let Some(primary) = primary {
        command.args(["--replicaof", &primary.ip().to_string(), &primary.port().to_string()]);
    }
}

fn configuration(view: View, primary: SocketAddr, listen: SocketAddr, backlog: u32, dir: &Path) -> String {
    let data = dir.join("data");
    let pipeline = view.pipeline();
    let plugins = if pipeline.is_empty() { "" } else { PLUGINS };
    // The canned primary cannot give a second snapshot that fits its stream. Replicas that read nothing keep their places, and
    // whoever is measured must not wait behind them.
    format!(
        "[server]\ndata_dir = {data:?}\n\n[snapshot]\nrefresh_log = \"0\"\nships = 32\n\n[upstream]\naddress = \"{primary}\"\n\n[[view]]\nname = \"bench\"\n\
         listen = [\"{listen}\"]\npipeline = {pipeline:?}\n[view.backlog]\nmemory = \"{backlog}mb\"\n{plugins}"
    )
}
