//! A small blocking RESP2 client.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// One reply of a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    /// `$-1` or `*-1`.
    Nil,
    /// `:n`
    Int(i64),
    /// `+text`
    Simple(String),
    /// `-text`
    Error(String),
    /// `$n` and its bytes.
    Bulk(Vec<u8>),
    /// `*n` and its replies.
    Array(Vec<Reply>),
}

impl Reply {
    /// The number, of an integer or of a bulk that holds one.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Bulk(b) => std::str::from_utf8(b).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The text of a simple string, an error or a bulk; anything else is empty.
    pub fn text(&self) -> String {
        match self {
            Self::Simple(s) | Self::Error(s) => s.clone(),
            Self::Bulk(b) => String::from_utf8_lossy(b).into_owned(),
            Self::Int(n) => n.to_string(),
            Self::Nil | Self::Array(_) => String::new(),
        }
    }

    /// The bytes of a bulk or simple string; anything else is empty.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bulk(b) => b,
            other => other.text().into_bytes(),
        }
    }

    /// The members of an array; anything else has none.
    pub fn items(self) -> Vec<Reply> {
        match self {
            Self::Array(items) => items,
            _ => Vec::new(),
        }
    }

    /// True for `-…`.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

/// A connection to one server.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Connects; reads and writes that take longer than 30 s fail.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(addr: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect_timeout(&addr, Duration::from_secs(5)).with_context(|| format!("connect {addr}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::with_capacity(64 * 1024, stream) })
    }

    /// Sends a command; an error reply is an error.
    ///
    /// # Errors
    /// The connection broke, or the server refused.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Reply> {
        match self.ask(args)? {
            Reply::Error(text) => bail!("{} answered {text:?}", lossy(args)),
            reply => Ok(reply),
        }
    }

    /// Sends a command given as words, for commands without blanks in their arguments: `client.run("SET a b")`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn run(&mut self, line: &str) -> Result<Reply> {
        self.call(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Sends a command; an error reply is a reply.
    ///
    /// # Errors
    /// The connection broke.
    pub fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Reply> {
        self.send(&encode(args))?;
        self.read()
    }

    /// Sends all commands at once and returns their replies, errors included.
    ///
    /// # Errors
    /// The connection broke.
    pub fn pipeline(&mut self, commands: &[Vec<Vec<u8>>]) -> Result<Vec<Reply>> {
        let mut replies = Vec::with_capacity(commands.len());
        // Bounded rounds: a server that cannot write its replies stops reading, and so would we.
        for round in commands.chunks(512) {
            let bytes: Vec<u8> = round.iter().flat_map(|args| encode(args)).collect();
            self.send(&bytes)?;
            for _ in round {
                replies.push(self.read()?);
            }
        }
        Ok(replies)
    }

    /// Writes raw bytes.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(bytes).context("write to the server")
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// The connection broke, or what came is not RESP2.
    pub fn read(&mut self) -> Result<Reply> {
        read_reply(&mut self.reader)
    }

    /// The fields of `INFO section`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn info(&mut self, section: &str) -> Result<BTreeMap<String, String>> {
        let text = self.call(&["INFO", section])?.text();
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(fields.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect())
    }

    /// One field of `INFO`, empty if it is not there.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn info_field(&mut self, section: &str, field: &str) -> Result<String> {
        Ok(self.info(section)?.remove(field).unwrap_or_default())
    }
}

/// A command as servers want it: an array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Reads one RESP2 reply. Nested arrays are read by recursion: servers under test are trusted.
///
/// # Errors
/// The connection broke, or what came is not RESP2.
pub fn read_reply(reader: &mut impl BufRead) -> Result<Reply> {
    let line = read_line(reader)?;
    let (kind, rest) = line.split_at_checked(1).context("an empty reply line")?;
    Ok(match kind {
        "+" => Reply::Simple(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Int(rest.parse()?),
        "$" if rest == "-1" => Reply::Nil,
        "*" if rest == "-1" => Reply::Nil,
        "$" => {
            let mut bytes = vec![0; rest.parse::<usize>()? + 2];
            reader.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            Reply::Bulk(bytes)
        }
        "*" => Reply::Array((0..rest.parse::<usize>()?).map(|_| read_reply(reader)).collect::<Result<_>>()?),
        _ => bail!("not a RESP2 reply: {line:?}"),
    })
}

/// Reads up to the end of the line and returns it without that.
///
/// # Errors
/// The connection ended or broke.
pub fn read_line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        bail!("the connection was closed");
    }
    while matches!(line.last(), Some(b'\r' | b'\n')) {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn lossy<A: AsRef<[u8]>>(args: &[A]) -> String {
    let text =
        args.iter().take(4).map(|a| String::from_utf8_lossy(a.as_ref()).into_owned()).collect::<Vec<_>>().join(" ");
    text.chars().take(120).collect()
}
