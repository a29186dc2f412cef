//! A client of a server or of a view's port: one command, one answer.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sluicegate_core::resp;

use crate::wire;

/// No answer takes so long.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A connection to something that answers commands.
pub(super) struct Client {
    input: BufReader<TcpStream>,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(Self { input: BufReader::new(stream) })
    }

    /// Sends bytes as they are: commands whose answers are read by [`Self::answer`].
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.input.get_ref().write_all(bytes)?)
    }

    /// The next answer: the text of a line or of a bulk string.
    pub(super) fn answer(&mut self) -> Result<String> {
        let line = wire::read_line(&mut self.input)?;
        let (kind, rest) = line.split_first().context("an empty answer")?;
        let text = match kind {
            b'+' | b':' => rest.to_vec(),
            b'$' => {
                let length = resp::decimal(rest).with_context(|| format!("an answer of {}", line.escape_ascii()))?;
                let mut bytes = vec![0; usize::try_from(length)? + 2];
                self.input.read_exact(&mut bytes)?;
                ensure!(bytes.ends_with(b"\r\n"), "a bulk string without an end");
                bytes.truncate(bytes.len() - 2);
                bytes
            }
            _ => bail!("answered {}", line.escape_ascii()),
        };
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    pub(super) fn call(&mut self, args: &[&str]) -> Result<String> {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.send(&wire::command(&args))?;
        self.answer()
    }

    /// A number out of INFO.
    pub(super) fn info(&mut self, field: &str) -> Result<u64> {
        let info = self.call(&["INFO", "everything"])?;
        number(&info, field).with_context(|| format!("INFO has no number {field}"))
    }

    /// Writes `entries` strings and waits until all are taken.
    pub(super) fn fill(&mut self, entries: u64, mut entry: impl FnMut(u64) -> (String, Vec<u8>)) -> Result<()> {
        const AT_ONCE: u64 = 1000;
        let mut batch = Vec::new();
        let mut next = 0;
        while next < entries {
            let until = entries.min(next + AT_ONCE);
            batch.clear();
            for index in next..until {
                let (key, value) = entry(index);
                resp::write_command(&mut batch, &[b"SET", key.as_bytes(), &value]);
            }
            self.send(&batch)?;
            for _ in next..until {
                self.answer()?;
            }
            next = until;
        }
        Ok(())
    }
}

/// A number out of the text of INFO.
pub(super) fn number(info: &str, field: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
}
