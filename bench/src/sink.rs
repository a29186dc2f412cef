//! A replica that keeps nothing: it does a replica's handshake, reads the snapshot, acknowledges once a second and hands
//! the stream's bytes to the bench as they come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sluicegate_core::resp;

use crate::rdb::{self, Visitor};
use crate::wire;

/// A stream that stands still for so long is broken.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a primary may say "later" or not listen yet.
const ATTACH_MAX: Duration = Duration::from_secs(60);

/// A replica in the stream.
pub(crate) struct Sink {
    input: BufReader<TcpStream>,
    offset: Arc<AtomicU64>,
    snapshot_bytes: u64,
    snapshot_end: Instant,
    /// Dropped with the sink, which ends the acknowledging thread.
    _acks: Sender<()>,
}

/// What a primary says to PSYNC.
enum Greeting {
    FullResync { offset: u64 },
    Later(String),
}

impl Sink {
    /// Attaches to the primary at `address` and takes its snapshot.
    pub(crate) fn attach(address: SocketAddr, visitor: &mut dyn Visitor) -> Result<Self> {
        let deadline = Instant::now() + ATTACH_MAX;
        loop {
            match greet(address) {
                Ok((input, Greeting::FullResync { offset })) => return Self::take_snapshot(input, offset, visitor),
                Ok((_, Greeting::Later(why))) => ensure!(Instant::now() < deadline, "{address} still says: {why}"),
                Err(error) if Instant::now() < deadline => drop(error),
                Err(error) => return Err(error.context(format!("attaching to {address}"))),
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A replica that asks for everything and then reads nothing: the socket that has to stay open.
    pub(crate) fn stalled(address: SocketAddr) -> Result<TcpStream> {
        let deadline = Instant::now() + ATTACH_MAX;
        loop {
            match greet(address) {
                Ok((input, Greeting::FullResync { .. })) => return Ok(input.into_inner()),
                Ok((_, Greeting::Later(why))) => ensure!(Instant::now() < deadline, "{address} still says: {why}"),
                Err(error) if Instant::now() < deadline => drop(error),
                Err(error) => return Err(error.context(format!("attaching to {address}"))),
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn take_snapshot(mut input: BufReader<TcpStream>, offset: u64, visitor: &mut dyn Visitor) -> Result<Self> {
        let header = line_after_newlines(&mut input)?;
        let snapshot_bytes = match header.strip_prefix(b"$EOF:") {
            Some(mark) => {
                let read = rdb::read(&mut input, visitor)?;
                let mut end = [0; 40];
                input.read_exact(&mut end)?;
                ensure!(end == *mark, "the snapshot does not end with its mark");
                read
            }
            None => {
                let length = header.strip_prefix(b"$").and_then(resp::decimal);
                let length = length.with_context(|| format!("instead of a snapshot: {}", header.escape_ascii()))?;
                let read = rdb::read(&mut input, visitor)?;
                ensure!(read == length, "a snapshot of {read} bytes was announced with {length}");
                read
            }
        };
        let offset = Arc::new(AtomicU64::new(offset));
        let acks = acknowledge(input.get_ref().try_clone()?, offset.clone())?;
        Ok(Self { input, offset, snapshot_bytes, snapshot_end: Instant::now(), _acks: acks })
    }

    /// Length of the snapshot and the moment of its last byte.
    pub(crate) fn snapshot(&self) -> (u64, Instant) {
        (self.snapshot_bytes, self.snapshot_end)
    }

    /// Hands every read of the stream to `each` until it says that the stream has ended (`true`).
    pub(crate) fn drain(&mut self, mut each: impl FnMut(&[u8]) -> Result<bool>) -> Result<()> {
        loop {
            let bytes = self.input.fill_buf().context("reading the stream")?;
            ensure!(!bytes.is_empty(), "the stream was cut off");
            let ended = each(bytes)?;
            let length = bytes.len();
            self.input.consume(length);
            self.offset.fetch_add(length as u64, Ordering::Relaxed);
            if ended {
                return Ok(());
            }
        }
    }
}

fn greet(address: SocketAddr) -> Result<(BufReader<TcpStream>, Greeting)> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut input = BufReader::with_capacity(1 << 20, stream.try_clone()?);
    let say = |args: &[&[u8]]| (&stream).write_all(&wire::command(args));

    say(&[b"PING"])?;
    let pong = wire::read_line(&mut input)?;
    if !pong.starts_with(b"+") {
        return Ok((input, Greeting::Later(pong.escape_ascii().to_string())));
    }
    say(&[b"REPLCONF", b"listening-port", b"6399"])?;
    say(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"])?;
    // What servers do not know they refuse; the bench does not depend on it.
    say(&[b"REPLCONF", b"version", b"7.0.15"])?;
    for _ in 0..3 {
        wire::read_line(&mut input)?;
    }
    say(&[b"PSYNC", b"?", b"-1"])?;
    let line = line_after_newlines(&mut input)?;
    let text = String::from_utf8_lossy(&line).into_owned();
    let greeting = match text.split(' ').collect::<Vec<_>>()[..] {
        ["+FULLRESYNC", _, offset] => Greeting::FullResync { offset: offset.parse()? },
        _ if text.starts_with('-') => Greeting::Later(text),
        _ => bail!("PSYNC was answered {text}"),
    };
    Ok((input, greeting))
}

fn line_after_newlines(input: &mut impl BufRead) -> Result<Vec<u8>> {
    loop {
        let line = wire::read_line(input)?;
        if !line.is_empty() {
            return Ok(line);
        }
    }
}

/// Acknowledges `offset` now and once a second, until the returned sender is dropped.
fn acknowledge(mut stream: TcpStream, offset: Arc<AtomicU64>) -> Result<Sender<()>> {
    let (sender, stopped) = channel();
    let ack = move |stream: &mut TcpStream| {
        let offset = offset.load(Ordering::Relaxed).to_string();
        stream.write_all(&wire::command(&[b"REPLCONF", b"ACK", offset.as_bytes()]))
    };
    ack(&mut stream)?;
    thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            if ack(&mut stream).is_err() {
                return;
            }
        }
    });
    Ok(sender)
}
