//! A primary, the proxy with one view, and a replica of it; a batch of commands, then the comparison.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::line::{excerpt, shown};
use super::sieve::{Sieve, Tamper};
use crate::client::{Client, Reply, encode};
use crate::compare::{Holdings, View};
use crate::compared;
use crate::proxy::{Config, Proxy};
use crate::server::{Kind, Server};
use crate::wait::{PATIENCE, wait_for};
use crate::workload::{Command, check};

/// How the failure of a comparison begins.
pub const DIFFERS: &str = "the replica is not what the view makes of the primary";

/// A key of the view that only the stage writes.
const MARKER: &str = "keep:marker";

/// How long replicas may take to agree once the marker is through: keys may be on the point of expiry.
const SETTLING: Duration = Duration::from_secs(10);

/// The same where a difference is wanted.
const SETTLING_FALSE: Duration = Duration::from_secs(1);

/// A view: its configuration, and what it is expected to make of a primary.
#[derive(Debug, Clone, Copy)]
pub struct Lens {
    /// Plugins in TOML, named in `pipeline`.
    tables: &'static str,
    pipeline: &'static [&'static str],
    /// Further lines of the view.
    lines: &'static str,
    view: View,
}

impl Lens {
    /// Keeps `keep:*`, keeps and renames `ren:*`, drops the rest; the same in every database.
    pub const BY_NAME: Self = Self {
        tables: r#"
[[plugin]]
name = "chosen"
builtin = "key-filter"
  [plugin.config]
  allow = ["keep:*", "ren:*"]
[[plugin]]
name = "moved"
builtin = "key-rename"
  [plugin.config]
  rule = ["ren:* => moved:*"]
"#,
        pipeline: &["chosen", "moved"],
        lines: "",
        view: View { keeps: |_, key| chosen(key), renames: moved },
    };

    /// The same, in a view that halts where kept keys meet dropped ones.
    pub const STRICT: Self = Self { lines: "cross-key = \"halt\"", ..Self::BY_NAME };

    /// The same as the first, but of the databases 0, 3 and no others.
    pub const BY_DATABASE: Self = Self {
        tables: r#"
[[plugin]]
name = "chosen"
builtin = "key-filter"
  [plugin.config]
  allow = ["keep:*", "ren:*"]
  databases = "0,3"
[[plugin]]
name = "moved"
builtin = "key-rename"
  [plugin.config]
  rule = ["ren:* => moved:*"]
"#,
        pipeline: &["chosen", "moved"],
        lines: "",
        view: View { keeps: |db, key| matches!(db, 0 | 3) && chosen(key), renames: moved },
    };
}

fn chosen(key: &[u8]) -> bool {
    key.starts_with(b"keep:") || key.starts_with(b"ren:")
}

fn moved(key: &[u8]) -> Vec<u8> {
    match key.strip_prefix(b"ren:") {
        Some(rest) => [b"moved:", rest].concat(),
        None => key.to_vec(),
    }
}

/// What a look at all servers shows.
enum Look {
    /// The replica is right; so many keys.
    Same(usize),
    /// The direct replica is not what its primary is.
    ServersDiffer(Vec<String>),
    /// The view's replica is not what it must be.
    Differs(Vec<String>),
}

/// All that a story of exactness needs.
#[derive(Debug)]
pub struct Stage {
    /// What is written to.
    pub primary: Server,
    /// Between the primary and the proxy.
    before: Sieve,
    /// Between the proxy and the replica.
    behind: Sieve,
    proxy: Proxy,
    replica: Server,
    /// A direct replica of the primary, where asked for: what differs there as well is no fault of the proxy.
    witness: Option<Server>,
    /// Takes the keys that are migrated.
    neighbour: Server,
    clients: Vec<Client>,
    lens: Lens,
    /// What was sent since the last comparison: the connection and the command.
    sent: Vec<(usize, Command)>,
    /// Comparisons made, and keys compared in all.
    compared: (usize, usize),
    settling: Duration,
    marks: u64,
}

impl Stage {
    /// Starts everything and waits until the replica follows. `SLUICEGATE_EXACT_WITNESS=1` adds a direct replica, which
    /// tells the servers' own faults from those of the proxy.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn start(kind: Kind, lens: Lens) -> Result<Self> {
        let primary = Server::start(kind, &[])?;
        let before = Sieve::new(primary.addr())?;
        let config = Config::new(before.addr()).tables(lens.tables).view_with("exact", lens.pipeline, lens.lines);
        let proxy = Proxy::start(config)?;
        let behind = Sieve::new(proxy.addr("exact"))?;
        let replica = Server::replica_of(kind, behind.addr())?;
        let witness = match std::env::var_os("SLUICEGATE_EXACT_WITNESS") {
            Some(_) => Some(Server::replica_of(kind, primary.addr())?),
            None => None,
        };
        let clients = (0..3).map(|_| primary.client()).collect::<Result<_>>()?;
        let neighbour = Server::start(kind, &[])?;
        let mut stage = Self {
            primary,
            before,
            behind,
            proxy,
            replica,
            witness,
            neighbour,
            clients,
            lens,
            sent: Vec::new(),
            compared: (0, 0),
            settling: SETTLING,
            marks: 0,
        };
        stage.compare()?;
        Ok(stage)
    }

    /// How often each command stood in the primary's stream, as far as the last comparison saw it.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.before.counts()
    }

    /// How many frames have been falsified.
    pub fn tampered(&self) -> u64 {
        self.behind.tampered()
    }

    /// The port of a primary to which keys can be migrated.
    pub fn neighbour(&self) -> u16 {
        self.neighbour.port()
    }

    /// Comparisons made, and keys compared in all.
    pub fn compared(&self) -> (usize, usize) {
        self.compared
    }

    /// Sends commands through one of a few connections and reads their replies.
    ///
    /// # Errors
    /// The connection broke, or a reply shows that a template makes no sense.
    pub fn send(&mut self, connection: usize, commands: &[Command]) -> Result<()> {
        let connection = connection % self.clients.len();
        let replies = self.clients[connection].pipeline(commands)?;
        self.sent.extend(commands.iter().map(|command| (connection, command.clone())));
        for (command, reply) in commands.iter().zip(&replies) {
            check(command, reply)?;
        }
        Ok(())
    }

    /// Sends commands through one connection, the last of which must block, then those that serve it through another.
    ///
    /// # Errors
    /// As [`Stage::send`], or the command does not block.
    pub fn serve(&mut self, mut blocked: Vec<Command>, serving: &[Command]) -> Result<()> {
        let last = blocked.pop().context("something that blocks")?;
        self.send(0, &blocked)?;
        self.clients[0].send(&encode(&last))?;
        self.sent.push((0, last.clone()));
        let observer = &mut self.clients[2];
        wait_for("a client to block", PATIENCE, || Ok(observer.info_field("clients", "blocked_clients")? != "0"))
            .with_context(|| shown(&last))?;
        self.send(1, serving)?;
        let reply = self.clients[0].read()?;
        check(&last, &reply)
    }

    /// Falsifies what the replica is given.
    pub fn tamper(&mut self, tamper: Tamper) {
        self.settling = SETTLING_FALSE;
        self.behind.tamper(tamper);
    }

    /// Empties the primary, and with it the replica.
    ///
    /// # Errors
    /// The connection broke.
    pub fn clear(&mut self) -> Result<()> {
        self.send(0, &[vec![b"FLUSHALL".to_vec()]])
    }

    /// Waits until the replica has all that was sent, and compares every key.
    ///
    /// # Errors
    /// The view halted, or the replica is not what the view makes of the primary; the message has the commands that named
    /// the keys in question since the last comparison.
    pub fn compare(&mut self) -> Result<()> {
        self.catch_up()?;
        let start = Instant::now();
        loop {
            let late = start.elapsed() > self.settling;
            match self.look() {
                Ok(Look::Same(keys)) => {
                    self.compared = (self.compared.0 + 1, self.compared.1 + keys);
                    self.sent.clear();
                    return Ok(());
                }
                Ok(Look::ServersDiffer(differences)) if late => {
                    bail!("a fault of the servers: the direct replica differs\n{}", self.history(&differences))
                }
                Ok(Look::Differs(differences)) if late => bail!("{DIFFERS}\n{}", self.history(&differences)),
                // A key that expires between two questions about it is answered with an error.
                Err(error) if late => return Err(error),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Lets `sluicegate compare` have its say; returns how many keys it compared.
    ///
    /// # Errors
    /// It finds a difference, or cannot decide.
    pub fn prove(&mut self) -> Result<usize> {
        self.catch_up()?;
        compared::compare(&self.proxy, "exact", self.replica.addr(), &["--wait", "30s"])?.equal_keys()
    }

    /// Keys whose values the view has fetched from the primary.
    ///
    /// # Errors
    /// The proxy does not say.
    pub fn repaired(&self) -> Result<u64> {
        let view = self.proxy.info("exact", "views", "view_exact")?;
        let number = view.split(',').find_map(|field| field.strip_prefix("repaired=")?.parse().ok());
        number.with_context(|| format!("a view that does not say what it repaired: {view}"))
    }

    fn look(&self) -> Result<Look> {
        let wanted = Holdings::read(&self.primary)?;
        if let Some(witness) = &self.witness {
            let differences = wanted.differences(&Holdings::read(witness)?, 3);
            if !differences.is_empty() {
                return Ok(Look::ServersDiffer(differences));
            }
        }
        let expected = wanted.through(self.lens.view);
        let differences = expected.differences(&Holdings::read(&self.replica)?, 3);
        Ok(if differences.is_empty() { Look::Same(expected.len()) } else { Look::Differs(differences) })
    }

    /// Waits for a marker to come through, to the witness as well.
    fn catch_up(&mut self) -> Result<()> {
        self.marks += 1;
        let mark = self.marks.to_string();
        self.primary.client()?.call(&["SET", MARKER, &mark])?;
        let followers = [Some(&self.replica), self.witness.as_ref()];
        for follower in followers.into_iter().flatten() {
            let mut client = follower.client()?;
            wait_for("the replica to have all", PATIENCE, || {
                let arrived = client.ask(&["GET", MARKER])? == Reply::Bulk(mark.clone().into_bytes());
                if !arrived {
                    let halted = self.proxy.info("exact", "views", "view_exact_halted")?;
                    ensure!(halted.is_empty(), "the view halted: {halted}");
                }
                Ok(arrived)
            })
            .with_context(|| format!("last commands:\n{}\n{}", self.last(), self.proxy.context()))?;
        }
        Ok(())
    }

    fn last(&self) -> String {
        let last = self.sent.len().saturating_sub(5);
        self.sent[last..]
            .iter()
            .map(|(connection, command)| format!("  [{connection}] {}\n", excerpt(&shown(command), "")))
            .collect()
    }

    /// The differences, each with the last commands that named its key or changed whole databases.
    fn history(&self, differences: &[String]) -> String {
        let mut text = String::new();
        for difference in differences {
            text.push_str(&format!("  {difference}\n"));
            let Some(key) = difference.split('"').nth(1) else { continue };
            let key = key.replace("moved:", "ren:");
            let mut databases = vec![String::from("?"); self.clients.len()];
            let mut lines = Vec::new();
            for (index, (connection, command)) in self.sent.iter().enumerate() {
                let line = shown(command);
                let verb = String::from_utf8_lossy(&command[0]).to_lowercase();
                if verb == "select" {
                    databases[*connection] = line[7..].to_owned();
                }
                if line.contains(&key) || ["flushall", "flushdb", "swapdb"].contains(&verb.as_str()) {
                    let db = &databases[*connection];
                    lines.push(format!("      #{index} [{connection}, db {db}] {}\n", excerpt(&line, &key)));
                }
            }
            text.extend(lines.drain(lines.len().saturating_sub(16)..));
        }
        text
    }
}
