//! A real kevy 6.4 with one shard, and what the bench asks it.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sluicegate_core::resp;

use crate::middle;
use crate::process::{Process, free_address};
use crate::wire;

/// The server's program, if it is here.
pub(super) fn program() -> Option<PathBuf> {
    middle::program("KEVY_SERVER", "target/servers/kevy-6.4/kevy")
}

/// A running server; it writes no log of its commands.
pub(super) struct Server {
    /// Its process.
    pub(super) process: Process,
    /// Where its shard's replicas attach.
    pub(super) shard: SocketAddr,
    client: SocketAddr,
}

impl Server {
    /// Starts a primary, or a replica of the shard at `upstream`.
    pub(super) fn start(program: &Path, upstream: Option<SocketAddr>, dir: &Path) -> Result<Self> {
        let (client, shard) = (free_address()?, free_address()?);
        let config = dir.join("kevy.toml");
        let role = if upstream.is_some() { "replica" } else { "primary" };
        let mut text = format!("[replication]\nrole = {role:?}\nlisten_port_base = {}\n", shard.port());
        text.extend(upstream.map(|upstream| format!("upstream = \"{upstream}\"\n")));
        fs::write(&config, text)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(config).arg("--dir").arg(dir);
        command.args(["--port", &client.port().to_string(), "--threads", "1", "--no-aof"]);
        let mut process = Process::start(role, command, dir)?;
        process.wait_listening(client)?;
        Ok(Self { process, shard, client })
    }

    /// A new connection to it.
    pub(super) fn client(&self) -> Result<Client> {
        let stream = TcpStream::connect(self.client)?;
        stream.set_nodelay(true)?;
        Ok(Client { input: BufReader::new(stream.try_clone()?), stream })
    }
}

/// A client of a server.
pub(super) struct Client {
    stream: TcpStream,
    input: BufReader<TcpStream>,
}

impl Client {
    /// The reply to one command: a line, a number or a string; `None` if there is no such key.
    pub(super) fn ask(&mut self, words: &[&[u8]]) -> Result<Option<Vec<u8>>> {
        self.stream.write_all(&wire::command(words))?;
        self.reply()
    }

    /// How many keys it has.
    pub(super) fn keys(&mut self) -> Result<u64> {
        let count = self.ask(&[b"DBSIZE"])?.context("no number of keys")?;
        resp::decimal(&count).context("not a number of keys")
    }

    /// Sends SETs of these keys and values and takes the replies.
    pub(super) fn set(&mut self, entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<()> {
        let mut out = Vec::new();
        let mut sent = 0;
        for (key, value) in entries {
            resp::write_command(&mut out, &[b"SET", &key, &value]);
            sent += 1;
        }
        self.stream.write_all(&out)?;
        for _ in 0..sent {
            let reply = self.reply()?;
            ensure!(reply.as_deref() == Some(b"OK"), "SET was answered {reply:?}");
        }
        Ok(())
    }

    fn reply(&mut self) -> Result<Option<Vec<u8>>> {
        let line = wire::read_line(&mut self.input)?;
        match line.split_first() {
            Some((b'+' | b':', rest)) => Ok(Some(rest.to_vec())),
            Some((b'$', b"-1")) | Some((b'_', b"")) => Ok(None),
            Some((b'$', length)) => {
                let mut bytes = vec![0; resp::decimal(length).context("a length")? as usize + 2];
                self.input.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Ok(Some(bytes))
            }
            _ => bail!("kevy says {}", line.escape_ascii()),
        }
    }
}
