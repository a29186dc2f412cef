//! Real Redis and Valkey servers, each in a directory of its own.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::client::Client;
use crate::leash::Leash;
use crate::ports::free_port;
use crate::wait::{PATIENCE, wait_for};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Redis 6.2: relative expiries in the stream, no functions.
    Redis62,
    /// Redis 7.0: RDB 10.
    Redis70,
    /// Redis 8.2: RDB 12, field expiry.
    Redis82,
    /// Valkey 9.1: RDB 80, or 11 by `REPLCONF version`; field expiry.
    Valkey91,
}

impl Kind {
    /// What `--version` must say.
    fn version_mark(self) -> &'static str {
        match self {
            Self::Redis62 => "v=6.2.",
            Self::Redis70 => "v=7.0.",
            Self::Redis82 => "v=8.2.",
            Self::Valkey91 => "v=9.1.",
        }
    }

    /// Where `cargo xtask servers` puts it, below the directory of servers.
    fn place(self) -> &'static str {
        match self {
            Self::Redis62 => "redis-6.2/redis-server",
            Self::Redis70 => "redis-7.0/redis-server",
            Self::Redis82 => "redis-8.2/redis-server",
            Self::Valkey91 => "valkey-9.1/valkey-server",
        }
    }

    /// The server's program: below `SLUICEGATE_SERVERS`, else below `target/servers` of the workspace, else in PATH, if it
    /// says that it is this version.
    pub fn find(self) -> Option<PathBuf> {
        let own = std::env::var_os("SLUICEGATE_SERVERS").map(PathBuf::from);
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/servers");
        let fetched = own.into_iter().chain([built]).map(|dir| dir.join(self.place()));
        let installed = ["redis-server", "valkey-server"].map(PathBuf::from);
        fetched.chain(installed).find(|program| self.is(program))
    }

    /// The server's program, or `None` after a line on standard error that says how to get it.
    pub fn find_or_say(self) -> Option<PathBuf> {
        let found = self.find();
        if found.is_none() {
            eprintln!("skipped: no {self:?} server found; `cargo xtask servers` fetches it");
        }
        found
    }

    fn is(self, program: &Path) -> bool {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(self.version_mark()))
    }

    /// Whether it has `FUNCTION`.
    pub fn has_functions(self) -> bool {
        self != Self::Redis62
    }

    /// Whether hash fields can expire.
    pub fn has_field_expiry(self) -> bool {
        matches!(self, Self::Redis82 | Self::Valkey91)
    }
}

/// A running server; killed when dropped, its directory removed.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    program: PathBuf,
    args: Vec<String>,
    port: u16,
    dir: TempDir,
    follows: Option<SocketAddr>,
    process: Option<Leash>,
}

impl Server {
    /// Starts a server with further `args` (`&["--appendonly", "yes"]`) and waits until it answers.
    ///
    /// # Errors
    /// It cannot be found, or does not come up.
    pub fn start(kind: Kind, args: &[&str]) -> Result<Self> {
        let program = kind.find().with_context(|| format!("no {kind:?} server; `cargo xtask servers` fetches it"))?;
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        let mut server =
            Self { kind, program, args, port: free_port()?, dir: tempfile::tempdir()?, follows: None, process: None };
        server.launch()?;
        Ok(server)
    }

    /// Starts a server that follows `primary`.
    ///
    /// # Errors
    /// As [`Server::start`]. That the link comes up is not waited for.
    pub fn replica_of(kind: Kind, primary: SocketAddr) -> Result<Self> {
        let mut server = Self::start(kind, &[])?;
        server.follow(primary)?;
        Ok(server)
    }

    fn launch(&mut self) -> Result<()> {
        let port = self.port.to_string();
        let mut args: Vec<OsString> = Vec::new();
        let fixed = [
            ("--port", port.as_str()),
            ("--bind", "127.0.0.1"),
            ("--save", ""),
            ("--daemonize", "no"),
            ("--loglevel", "notice"),
            ("--repl-diskless-sync-delay", "0"),
            ("--repl-ping-replica-period", "1"),
            // A restarted primary must still have the history that it was asked to keep.
            ("--repl-backlog-size", "16mb"),
        ];
        for (name, value) in fixed {
            args.extend([name.into(), value.into()]);
        }
        args.extend(["--dir".into(), self.dir.path().into(), "--logfile".into(), self.log_path().into()]);
        args.extend(self.args.iter().map(OsString::from));
        if let Some(primary) = self.follows {
            // Said at the start, not later: only so does a restarted replica offer the history that it had.
            args.extend(["--replicaof".into(), primary.ip().to_string().into(), primary.port().to_string().into()]);
        }
        self.process = Some(Leash::start(&self.program, &args, &[], &self.dir.path().join("output"))?);
        wait_for("a server that answers PING", PATIENCE, || {
            if let Some(code) = self.process.as_mut().map(Leash::ended).transpose()?.flatten() {
                bail!("{:?} ended with {code} at its start: {}", self.kind, self.log());
            }
            // A server with a password answers with a complaint, which will do; one that is still loading must not.
            let pong = Client::connect(self.addr()).and_then(|mut c| c.ask(&["PING"]));
            Ok(pong.is_ok_and(|reply| !reply.text().starts_with("LOADING")))
        })
    }

    /// Which server this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
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
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
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
        wait_for(what, patience, || condition(&mut client))
            .with_context(|| format!("log of {:?}:\n{}", self.kind, self.tail()))
    }

    /// Waits until its link to its primary is up.
    ///
    /// # Errors
    /// It does not come up.
    pub fn wait_link_up(&self) -> Result<()> {
        self.wait_for("a link to the primary", PATIENCE, |c| {
            Ok(c.info_field("replication", "master_link_status")? == "up")
        })
    }

    /// Makes it follow another primary.
    ///
    /// # Errors
    /// It does not run.
    pub fn follow(&mut self, primary: SocketAddr) -> Result<()> {
        self.client()?.call(&["REPLICAOF", &primary.ip().to_string(), &primary.port().to_string()])?;
        self.follows = Some(primary);
        Ok(())
    }

    /// Makes it a primary of its own, which goes on with the history that it has under a new id.
    ///
    /// # Errors
    /// It does not run.
    pub fn promote(&mut self) -> Result<()> {
        self.client()?.call(&["REPLICAOF", "NO", "ONE"])?;
        self.follows = None;
        Ok(())
    }

    /// Saves and stops, then starts on the same port from the saved data, which brings its replication history back.
    ///
    /// # Errors
    /// It does not stop or start.
    pub fn restart_with_data(&mut self) -> Result<()> {
        // The connection ends without an answer.
        self.client()?.call(&["SHUTDOWN", "SAVE"]).ok();
        if let Some(process) = &mut self.process {
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

    /// Starts it again after [`Server::kill9`], with what its directory holds.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_again(&mut self) -> Result<()> {
        self.launch()
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
