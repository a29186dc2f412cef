//! One server of the demo: a real one, or the demo's own.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;

use super::cast::Cast;
use super::model::Model;
use super::ports::Ports;
use super::process::Process;
use crate::client::Connection;

/// Up to 2.0, a primary that uses io_uring freezes when its first replica comes; and not every container has io_uring.
const KEVY_ENVIRONMENT: &[(&str, &str)] = &[("KEVY_IO_URING", "0")];

/// A server that runs until it is dropped.
pub(super) enum Server {
    Real {
        process: Process,
        /// Where clients connect.
        address: SocketAddr,
        /// Where replicas connect: the first of their ports.
        upstream: SocketAddr,
    },
    Model(Model),
}

/// A server that is to be started, and which view it follows if it is a replica.
pub(super) struct Role<'a> {
    pub(super) name: &'a str,
    pub(super) follows: Option<SocketAddr>,
}

impl Server {
    /// Starts a server with a sub-folder and a log of its own in `folder`. That it answers is not waited for.
    pub(super) fn start(cast: &Cast, role: &Role<'_>, folder: &Path, ports: &mut Ports) -> anyhow::Result<Self> {
        let (Cast::Redis(binary) | Cast::Kevy(binary)) = cast else { return Self::model(role) };
        let home = folder.join(role.name);
        fs::create_dir(&home).with_context(|| format!("creating {}", home.display()))?;
        let address = ports.take(1)?;
        let (options, environment, upstream) = if cast.is_kevy() {
            let upstream = ports.take(cast.shards())?;
            let config = home.join("kevy.toml");
            fs::write(&config, kevy_config(upstream, role)).with_context(|| format!("writing {}", config.display()))?;
            (kevy_options(address, cast.shards()), KEVY_ENVIRONMENT, upstream)
        } else {
            (redis_options(address, role), &[][..], address)
        };
        let log = folder.join(format!("{}.log", role.name));
        let process = Process::start(&binary.path, &options, environment, &home, &log)?;
        Ok(Self::Real { process, address, upstream })
    }

    fn model(role: &Role<'_>) -> anyhow::Result<Self> {
        let model = match role.follows {
            None => Model::primary(),
            Some(view) => Model::replica(view),
        };
        Ok(Self::Model(model.with_context(|| format!("the model of the {}", role.name))?))
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Real { address, .. } => *address,
            Self::Model(model) => model.address(),
        }
    }

    /// Where replicas connect: the first of their ports.
    pub(super) fn upstream(&self) -> SocketAddr {
        match self {
            Self::Real { upstream, .. } => *upstream,
            Self::Model(model) => model.address(),
        }
    }

    /// A new connection to it.
    pub(super) fn open(&self) -> io::Result<Connection> {
        Connection::open(self.address())
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> io::Result<bool> {
        match self {
            Self::Real { process, .. } => process.has_ended(),
            Self::Model(_) => Ok(false),
        }
    }
}

fn redis_options(address: SocketAddr, role: &Role<'_>) -> Vec<String> {
    let port = address.port();
    let mut options = format!("--port {port} --bind 127.0.0.1 --appendonly no --repl-diskless-sync-delay 0");
    if let Some(view) = role.follows {
        options += &format!(" --replicaof {} {}", view.ip(), view.port());
    }
    let save = ["--save".to_owned(), String::new()];
    options.split(' ').map(str::to_owned).chain(save).collect()
}

fn kevy_options(address: SocketAddr, shards: u16) -> Vec<String> {
    let port = address.port();
    let options = format!("--config kevy.toml --port {port} --threads {shards} --dir . --no-aof");
    options.split(' ').map(str::to_owned).collect()
}

/// Its replication is set up by a file alone. Replicas have replication ports, too.
fn kevy_config(upstream: SocketAddr, role: &Role<'_>) -> String {
    let is = if role.follows.is_some() { "replica" } else { "primary" };
    let mut text = format!("[replication]\nrole = \"{is}\"\nlisten_port_base = {}\n", upstream.port());
    if let Some(view) = role.follows {
        text += &format!("upstream = \"{view}\"\n");
    }
    text
}
