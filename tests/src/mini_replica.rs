//! A replica that does what a story says, and keeps every byte that it is given.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::client::{encode, read_line};

/// What the primary said to PSYNC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `+FULLRESYNC id offset`
    Full {
        /// The history's id.
        id: String,
        /// The offset for which the snapshot stands.
        offset: i64,
    },
    /// `+CONTINUE [id]`
    Continue {
        /// The id, if one was said.
        id: Option<String>,
    },
    /// `-…`
    Refused(String),
}

/// What a replica announces before PSYNC.
#[derive(Debug, Clone, Copy)]
pub struct Announce {
    /// `capa eof`: snapshots of unknown length are understood.
    pub eof: bool,
    /// `capa psync2`: `+CONTINUE` may carry an id.
    pub psync2: bool,
    /// `REPLCONF version`, as Valkey sends it.
    pub version: Option<&'static str>,
}

impl Default for Announce {
    fn default() -> Self {
        Self { eof: true, psync2: true, version: None }
    }
}

/// A replica on one connection.
#[derive(Debug)]
pub struct MiniReplica {
    reader: BufReader<TcpStream>,
    /// What the primary said to PSYNC.
    pub answer: Answer,
    /// The snapshot's bytes, after [`MiniReplica::take_snapshot`].
    pub snapshot: Vec<u8>,
    /// How often it was told to wait, by a lone newline.
    pub newlines: usize,
    /// Whether the snapshot came with an end mark instead of a length.
    pub by_mark: bool,
    /// The stream's bytes so far.
    pub stream: Vec<u8>,
}

impl MiniReplica {
    /// Connects, shakes hands and asks `PSYNC id offset`.
    ///
    /// # Errors
    /// The connection broke, or the answer is of no known kind.
    pub fn psync(addr: SocketAddr, announce: Announce, id: &str, offset: i64) -> Result<Self> {
        let mut reader = connect(addr)?;
        let mut ask = |args: &[&str]| -> Result<String> {
            reader.get_mut().write_all(&encode(args))?;
            read_line(&mut reader)
        };
        ensure!(ask(&["PING"])?.starts_with('+'), "PING is answered by +");
        ask(&["REPLCONF", "listening-port", "1"])?;
        if announce.eof {
            ask(&["REPLCONF", "capa", "eof"])?;
        }
        if announce.psync2 {
            ask(&["REPLCONF", "capa", "psync2"])?;
        }
        if let Some(version) = announce.version {
            ask(&["REPLCONF", "version", version])?;
        }
        reader.get_mut().write_all(&encode(&["PSYNC", id, &offset.to_string()]))?;
        let mut newlines = 0;
        let answer = read_answer(&mut reader, &mut newlines)?;
        Ok(Self { reader, answer, snapshot: Vec::new(), newlines, by_mark: false, stream: Vec::new() })
    }

    /// Full resync with the usual announcements: the snapshot is taken and acknowledged, the stream comes next.
    ///
    /// # Errors
    /// Anything but `+FULLRESYNC` and a snapshot.
    pub fn join(addr: SocketAddr) -> Result<Self> {
        let mut replica = Self::psync(addr, Announce::default(), "?", -1)?;
        ensure!(matches!(replica.answer, Answer::Full { .. }), "wanted a full resync, got {:?}", replica.answer);
        replica.take_snapshot()?;
        let offset = replica.offset();
        replica.ack(offset)?;
        Ok(replica)
    }

    /// The id and offset of the full resync.
    ///
    /// # Errors
    /// There was none.
    pub fn history(&self) -> Result<(String, i64)> {
        match &self.answer {
            Answer::Full { id, offset } => Ok((id.clone(), *offset)),
            other => bail!("no full resync but {other:?}"),
        }
    }

    /// The offset after all stream bytes read, for a replica that began with a full resync.
    pub fn offset(&self) -> i64 {
        let start = if let Answer::Full { offset, .. } = &self.answer { *offset } else { 0 };
        start + self.stream.len() as i64
    }

    /// Reads the snapshot to its end.
    ///
    /// # Errors
    /// The connection broke, or there is no snapshot header.
    pub fn take_snapshot(&mut self) -> Result<()> {
        let header = skip_newlines(&mut self.reader, &mut self.newlines)?;
        let rest = header.strip_prefix('$').with_context(|| format!("a snapshot header, not {header:?}"))?;
        if let Some(mark) = rest.strip_prefix("EOF:") {
            self.by_mark = true;
            self.read_to_mark(mark.as_bytes())
        } else {
            let mut bytes = vec![0; rest.parse()?];
            self.reader.read_exact(&mut bytes)?;
            self.snapshot = bytes;
            Ok(())
        }
    }

    /// Real replicas look at the last 40 bytes that they have read, so nothing may follow the mark before the first ACK.
    fn read_to_mark(&mut self, mark: &[u8]) -> Result<()> {
        ensure!(mark.len() == 40, "an end mark has 40 characters");
        loop {
            let got = self.reader.fill_buf()?;
            ensure!(!got.is_empty(), "the connection was closed in the middle of a snapshot");
            let count = got.len();
            self.snapshot.extend_from_slice(got);
            self.reader.consume(count);
            if self.snapshot.ends_with(mark) {
                self.snapshot.truncate(self.snapshot.len() - mark.len());
                return Ok(());
            }
        }
    }

    /// Acknowledges an offset, true or not.
    ///
    /// # Errors
    /// The connection broke.
    pub fn ack(&mut self, offset: i64) -> Result<()> {
        self.send(&encode(&["REPLCONF", "ACK", &offset.to_string()]))
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.reader.get_mut().write_all(bytes)?)
    }

    /// Reads the stream until it holds `text`. As a real replica does, it acknowledges now and then: a primary that was not
    /// done with its snapshot when the first acknowledgement came waits for another.
    ///
    /// # Errors
    /// It does not within `patience`, or the connection ended.
    pub fn read_until(&mut self, text: &[u8], patience: Duration) -> Result<()> {
        let start = Instant::now();
        // Only what is new can make a difference.
        let mut seen = 0_usize;
        while find(&self.stream[seen.saturating_sub(text.len())..], text).is_none() {
            if seen == self.stream.len() {
                self.ack(self.offset())?;
            }
            seen = self.stream.len();
            ensure!(start.elapsed() < patience, "{:?} did not come", String::from_utf8_lossy(text));
            if !self.read_some(Duration::from_millis(200))? {
                bail!("the stream ended before {:?} came", String::from_utf8_lossy(text));
            }
        }
        Ok(())
    }

    /// Reads what comes within `patience`; false if the connection has ended.
    ///
    /// # Errors
    /// The connection cannot be read.
    pub fn read_some(&mut self, patience: Duration) -> Result<bool> {
        self.reader.get_ref().set_read_timeout(Some(patience))?;
        let count = match self.reader.fill_buf() {
            Ok(bytes) => {
                self.stream.extend_from_slice(bytes);
                bytes.len()
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Ok(true);
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.reader.consume(count);
        Ok(count > 0)
    }

    /// Reads until the other side closes.
    ///
    /// # Errors
    /// It does not within `patience`.
    pub fn read_to_close(&mut self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        while self.read_some(Duration::from_millis(200))? {
            ensure!(start.elapsed() < patience, "the link was not closed");
        }
        Ok(())
    }

    /// The commands in the stream so far; an incomplete one at the end is left out.
    ///
    /// # Errors
    /// The stream is not made of arrays of bulk strings.
    pub fn commands(&self) -> Result<Vec<Vec<Vec<u8>>>> {
        commands(&self.stream)
    }
}

/// Cuts stream bytes into commands; an incomplete one at the end is left out.
///
/// # Errors
/// The bytes are not arrays of bulk strings.
pub fn commands(stream: &[u8]) -> Result<Vec<Vec<Vec<u8>>>> {
    let (mut rest, mut commands) = (stream, Vec::new());
    while let Some((command, after)) = command(rest)? {
        commands.push(command);
        rest = after;
    }
    Ok(commands)
}

pub(crate) type Cut<'a, T> = Option<(T, &'a [u8])>;

pub(crate) fn command(bytes: &[u8]) -> Result<Cut<'_, Vec<Vec<u8>>>> {
    let Some((count, mut rest)) = number(bytes, b'*')? else { return Ok(None) };
    let mut args = Vec::new();
    for _ in 0..count {
        let Some((length, after)) = number(rest, b'$')? else { return Ok(None) };
        let Some((arg, after)) = after.split_at_checked(length) else { return Ok(None) };
        let Some((end, after)) = after.split_at_checked(2) else { return Ok(None) };
        ensure!(end == b"\r\n", "a bulk ends with CRLF");
        args.push(arg.to_vec());
        rest = after;
    }
    Ok(Some((args, rest)))
}

fn number(bytes: &[u8], kind: u8) -> Result<Cut<'_, usize>> {
    let Some(end) = find(bytes, b"\r\n") else { return Ok(None) };
    let (line, rest) = bytes.split_at(end);
    ensure!(line.first() == Some(&kind), "wanted {:?}, got {:?}", char::from(kind), String::from_utf8_lossy(line));
    Ok(Some((std::str::from_utf8(&line[1..])?.parse()?, &rest[2..])))
}

/// Where `needle` first is in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn connect(addr: SocketAddr) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::with_capacity(256 * 1024, stream))
}

fn skip_newlines(reader: &mut impl BufRead, skipped: &mut usize) -> Result<String> {
    loop {
        let line = read_line(reader)?;
        if !line.is_empty() {
            return Ok(line);
        }
        *skipped += 1;
    }
}

fn read_answer(reader: &mut impl BufRead, newlines: &mut usize) -> Result<Answer> {
    let line = skip_newlines(reader, newlines)?;
    let words: Vec<_> = line.split_whitespace().collect();
    Ok(match words.as_slice() {
        ["+FULLRESYNC", id, offset] => Answer::Full { id: (*id).to_owned(), offset: offset.parse()? },
        ["+CONTINUE"] => Answer::Continue { id: None },
        ["+CONTINUE", id] => Answer::Continue { id: Some((*id).to_owned()) },
        _ if line.starts_with('-') => Answer::Refused(line),
        _ => bail!("PSYNC was answered with {line:?}"),
    })
}
