//! A replica that keeps nothing but its snapshot: it does the handshake of the newest dialect, acknowledges, and hands the
//! bytes of the stream to the bench as they come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::wire;

/// A stream that stands still for so long is broken.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a primary may not listen yet, or hang up.
const ATTACH_MAX: Duration = Duration::from_secs(30);
/// The longest frame of a stream here, and more: as many as fit into what came have certainly come.
const FRAME_BYTES_MAX: u64 = 160;

/// A replica in the stream.
pub(super) struct Sink {
    input: BufReader<TcpStream>,
    /// The offset of the first frame behind the snapshot.
    pub(super) first: u64,
    /// From the request to the end of the snapshot.
    pub(super) took: Duration,
    next: Arc<AtomicU64>,
    /// Dropped with the sink, which ends the acknowledging thread.
    _acks: Sender<()>,
}

impl Sink {
    /// Attaches to the stream at `address` and takes its snapshot into `body`.
    pub(super) fn attach(address: SocketAddr, body: &mut Vec<u8>) -> Result<Self> {
        let deadline = Instant::now() + ATTACH_MAX;
        loop {
            match attach(address, body) {
                Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
                result => return result.with_context(|| format!("attaching to {address}")),
            }
        }
    }

    /// Hands every read of the stream to `each` until it says that the stream has ended (`true`).
    pub(super) fn drain(&mut self, mut each: impl FnMut(&[u8]) -> Result<bool>) -> Result<()> {
        let mut bytes = 0;
        loop {
            let read = self.input.fill_buf().context("reading the stream")?;
            ensure!(!read.is_empty(), "the stream was cut off");
            let ended = each(read)?;
            let length = read.len();
            self.input.consume(length);
            bytes += length as u64;
            self.next.store(self.first + bytes / FRAME_BYTES_MAX, Ordering::Relaxed);
            if ended {
                return Ok(());
            }
        }
    }
}

fn attach(address: SocketAddr, body: &mut Vec<u8>) -> Result<Sink> {
    body.clear();
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut input = BufReader::with_capacity(1 << 20, stream.try_clone()?);
    let asked = Instant::now();
    (&stream).write_all(&wire::command(&[b"REPLICATE", b"FROM", b"0", b"0", b"ID", b"sluicegate-bench"]))?;
    let greeting = text(&mut input)?;
    ensure!(greeting.starts_with("+ACK ") && greeting.ends_with(" 0"), "the request was answered {greeting}");
    let begin = text(&mut input)?;
    ensure!(begin == "+SNAPSHOT", "{begin} instead of a snapshot");
    let first = loop {
        let line = text(&mut input)?;
        if let Some(length) = line.strip_prefix('$') {
            let length = length.parse()?;
            let read = (&mut input).take(length).read_to_end(body)? as u64;
            ensure!(read == length, "a cut snapshot");
            let mut behind = [0; 2];
            input.read_exact(&mut behind)?;
            ensure!(behind == *b"\r\n", "a piece does not end where it should");
        } else if let Some(next) = line.strip_prefix("+SNAPSHOT_END ") {
            break next.parse()?;
        } else if !line.starts_with("+PING ") || !body.is_empty() {
            bail!("{line} in a snapshot");
        }
    };
    let (took, next) = (asked.elapsed(), Arc::new(AtomicU64::new(first)));
    let acks = acknowledge(stream, next.clone())?;
    Ok(Sink { input, first, took, next, _acks: acks })
}

fn text(input: &mut impl BufRead) -> Result<String> {
    Ok(String::from_utf8(wire::read_line(input)?)?)
}

/// Acknowledges `next` now and once a second, until the returned sender is dropped.
fn acknowledge(mut stream: TcpStream, next: Arc<AtomicU64>) -> Result<Sender<()>> {
    let (sender, stopped) = channel();
    let ack = move |stream: &mut TcpStream| write!(stream, "REPLCONF ACK {}\r\n", next.load(Ordering::Relaxed));
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
