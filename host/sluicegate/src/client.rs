//! A small blocking client: what a kevy is asked at the start, what servers are asked when they are compared, what a view's port
//! is asked for its state, what the demo asks of its own, and what its model servers are built on.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};
use sluicegate_core::resp::write_command;

/// A server that says nothing for this long has failed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What is asked for is small; more is a mistake.
const BULK_BYTES_MAX: usize = 16 * 1024 * 1024;
const LINE_BYTES_MAX: u64 = 64 * 1024;
const NESTING_MAX: usize = 8;

/// A value in RESP 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// `+…`
    Simple(String),
    /// `-…`
    Error(String),
    /// `:…`
    Integer(i64),
    /// `$…`
    Bulk(Vec<u8>),
    /// `$-1` or `*-1`
    Nil,
    /// `*…`
    Array(Vec<Value>),
}

impl Value {
    /// The value as text for people and for comparison.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Simple(text) | Self::Error(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Nil => String::new(),
            Self::Array(values) => values.iter().map(Self::text).collect::<Vec<_>>().join(" "),
        }
    }

    /// The elements of an array; of anything else, none.
    pub(super) fn elements(&self) -> &[Self] {
        match self {
            Self::Array(values) => values,
            _ => &[],
        }
    }
}

/// How an answer begins; of a bulk or an array, all the rest is still to come.
#[derive(Debug)]
pub(super) enum Head {
    /// `+…`
    Simple(String),
    /// `-…`
    Error(String),
    /// `:…`
    Integer(i64),
    /// `$-1` or `*-1`
    Nil,
    /// `$…`: so many bytes, for [`Connection::pour`].
    Bulk(usize),
    /// `*…`: so many answers.
    Array(usize),
}

/// Where a server is and who asks it.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// What it is called in messages.
    pub(crate) party: &'static str,
    /// Host and port.
    pub(crate) place: (String, u16),
    /// ACL user; `None`: the default one.
    pub(crate) user: Option<String>,
    /// Password; `None`: no AUTH.
    pub(crate) password: Option<String>,
    /// Silence after which it has failed.
    pub(crate) timeout: Duration,
}

impl Address {
    /// `the replica at 10.0.0.5:6379`
    pub(super) fn who(&self) -> String {
        let (host, port) = &self.place;
        format!("the {} at {host}:{port}", self.party)
    }

    /// Connects.
    pub(super) fn dial(&self) -> anyhow::Result<Connection> {
        let link = Connection::dial(&self.place, self.timeout);
        link.with_context(|| format!("cannot connect to {}", self.who()))
    }
}

/// One connection, as client or as server.
pub(super) struct Connection {
    reader: BufReader<TcpStream>,
    /// Bytes read so far: a replica counts its offset by them.
    pub(super) bytes_read: u64,
}

impl Connection {
    /// Connects as a client.
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        Self::open_for(address, TIMEOUT)
    }

    /// Connects as a client to a host and port, at whichever of its addresses answers. A server that says nothing for
    /// longer than `timeout` has failed.
    pub(super) fn dial((host, port): &(String, u16), timeout: Duration) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in (host.as_str(), *port).to_socket_addrs()? {
            match Self::open_for(address, timeout) {
                Ok(link) => return Ok(link),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open_for(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout.min(TIMEOUT))?;
        stream.set_read_timeout(Some(timeout))?;
        Self::new(stream)
    }

    /// Takes a connection that is open.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream), bytes_read: 0 })
    }

    /// The socket, to write to.
    pub(super) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Says who asks, and returns the answer; `None` if the address says nothing of that.
    pub(super) fn log_in(&mut self, address: &Address) -> io::Result<Option<Value>> {
        let Some(password) = &address.password else { return Ok(None) };
        let words: Vec<&str> = [Some("AUTH"), address.user.as_deref(), Some(password)].into_iter().flatten().collect();
        self.send(&words)?;
        self.value().map(Some)
    }

    /// Sends a command and returns its answer; an error reply is an error.
    pub(super) fn call(&mut self, words: &[&str]) -> anyhow::Result<Value> {
        self.send(words)?;
        match self.value()? {
            Value::Error(text) => bail!("{} answered {text}", words.join(" ")),
            value => Ok(value),
        }
    }

    /// The fields of a section of INFO, or an empty text for a field that is not there.
    pub(super) fn info(&mut self, section: &str, fields: &[&str]) -> anyhow::Result<Vec<String>> {
        let text = self.call(&["INFO", section])?.text();
        let field = |name: &&str| {
            let line = text.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        Ok(fields.iter().map(field).collect())
    }

    /// Sends a command.
    pub(super) fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<()> {
        let words: Vec<&[u8]> = words.iter().map(W::as_ref).collect();
        let mut out = Vec::new();
        write_command(&mut out, &words);
        self.stream().write_all(&out)
    }

    /// Reads one value.
    pub(super) fn value(&mut self) -> io::Result<Value> {
        self.nested(NESTING_MAX)
    }

    fn nested(&mut self, depth: usize) -> io::Result<Value> {
        Ok(match self.head()? {
            Head::Simple(text) => Value::Simple(text),
            Head::Error(text) => Value::Error(text),
            Head::Integer(number) => Value::Integer(number),
            Head::Nil => Value::Nil,
            Head::Bulk(length) => Value::Bulk(self.bulk(length)?),
            Head::Array(_) if depth == 0 => return Err(broken("arrays in arrays without end")),
            Head::Array(count) => Value::Array((0..count).map(|_| self.nested(depth - 1)).collect::<io::Result<_>>()?),
        })
    }

    /// Reads how an answer begins.
    pub(super) fn head(&mut self) -> io::Result<Head> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| broken("an empty line"))?;
        match kind {
            "+" => Ok(Head::Simple(rest.into())),
            "-" => Ok(Head::Error(rest.into())),
            ":" => Ok(Head::Integer(rest.parse().map_err(broken)?)),
            "$" | "*" if rest == "-1" => Ok(Head::Nil),
            "$" => Ok(Head::Bulk(rest.parse().map_err(broken)?)),
            "*" => Ok(Head::Array(rest.parse().map_err(broken)?)),
            _ => Err(broken(line)),
        }
    }

    /// Reads the bytes of a bulk and gives them away as they come, so that it may be of any size.
    pub(super) fn pour(&mut self, length: usize, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let come = self.reader.fill_buf()?;
            let piece = &come[..come.len().min(left)];
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            sink(piece);
            let taken = piece.len();
            self.reader.consume(taken);
            self.bytes_read += taken as u64;
            left -= taken;
        }
        self.exactly(2).map(drop)
    }

    /// Reads a line without its end. A replication link may have empty ones between answers.
    pub(super) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match (&mut self.reader).take(LINE_BYTES_MAX).read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.bytes_read += read as u64;
                Ok(line.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }

    /// Reads exactly so many bytes.
    pub(super) fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.reader).take(count as u64).read_to_end(&mut bytes)?;
        self.bytes_read += bytes.len() as u64;
        if bytes.len() == count { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn bulk(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > BULK_BYTES_MAX {
            return Err(broken(format!("{length} bytes in one value")));
        }
        let mut bytes = self.exactly(length + 2)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// What became of a connection to `who`, in words.
pub(super) fn lost<T>(result: io::Result<T>, who: &str) -> anyhow::Result<T> {
    result
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it said nothing for too long"),
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it closed the connection"),
            _ => error,
        })
        .with_context(|| format!("lost {who}"))
}

/// What came is not RESP.
pub(super) fn broken(what: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an answer: {}", what.to_string()))
}
