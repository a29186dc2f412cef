//! A canned primary with one shard, of the newest dialect: it greets whatever connects, sends a snapshot of one key and
//! hands the link to the bench, which then writes the stream as fast as it is read.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::body;
use super::stream::{FIRST, GENERATION};
use crate::wire;

/// A primary on a port of the loopback.
pub(crate) struct Primary {
    address: SocketAddr,
    links: Receiver<Result<Link>>,
}

/// A replica that has its snapshot.
pub(crate) struct Link {
    /// Where the stream is written.
    pub(crate) stream: TcpStream,
    /// The offsets that it acknowledges, as they come.
    acks: Receiver<u64>,
}

impl Primary {
    /// Listens, and serves every replica that comes.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sender, links) = channel();
        thread::spawn(move || accept(&listener, &sender));
        Ok(Self { address, links })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the replica that says that it has the snapshot.
    pub(crate) fn link(&self, within: Duration) -> Result<Link> {
        let link = self.links.recv_timeout(within).context("no replica came to the canned primary in time")??;
        link.wait_acked(FIRST, within)?;
        Ok(link)
    }

    /// Fails if another replica came since, or the same one again: the figures would then be of something else.
    pub(crate) fn check_undisturbed(&self) -> Result<()> {
        match self.links.try_recv() {
            Err(_) => Ok(()),
            Ok(Ok(_)) => bail!("a second snapshot was asked of the canned primary"),
            Ok(Err(error)) => Err(error),
        }
    }
}

impl Link {
    /// Waits until it says that it has all frames before `next`.
    pub(crate) fn wait_acked(&self, next: u64, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let acked = self.acks.recv_timeout(left).with_context(|| format!("{next} is not acknowledged"))?;
            ensure!(acked <= next, "{acked} is acknowledged before it was sent");
            if acked == next {
                return Ok(());
            }
        }
    }
}

fn accept(listener: &TcpListener, links: &Sender<Result<Link>>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        let links = links.clone();
        thread::spawn(move || {
            if let Err(error) = serve(stream, &links) {
                let _ = links.send(Err(error.context("a replica of the canned primary")));
            }
        });
    }
}

/// Answers one connection until it ends. One that says nothing may come and go, as may one that breaks once it streams:
/// that is seen where the stream ends.
fn serve(stream: TcpStream, links: &Sender<Result<Link>>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    let Ok(Some(request)) = wire::read_command(&mut input) else { return Ok(()) };
    let shown = || request.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
    let fresh = matches!(&request[..], [verb, from, generation, offset, id, _]
        if verb == b"REPLICATE" && from == b"FROM" && generation == b"0" && offset == b"0" && id == b"ID");
    ensure!(fresh, "it asks for {}", shown());

    let sign = format!("+PING {GENERATION} {FIRST}\r\n");
    let mut out = format!("+ACK {GENERATION} 0\r\n+SNAPSHOT\r\n{sign}").into_bytes();
    let mut snapshot = body::begin();
    body::write_string(&mut snapshot, b"user:in-the-snapshot", b"value");
    snapshot.push(body::END);
    write!(out, "${}\r\n", snapshot.len())?;
    out.extend_from_slice(&snapshot);
    write!(out, "\r\n+SNAPSHOT_END {FIRST}\r\n{sign}")?;
    (&stream).write_all(&out)?;

    let (sender, acks) = channel();
    // Nobody may care any more.
    let _ = links.send(Ok(Link { stream, acks }));
    while let Ok(line) = wire::read_line(&mut input) {
        let line = std::str::from_utf8(&line)?;
        let acked = line.strip_prefix("REPLCONF ACK ").with_context(|| format!("it says {line:?}"))?.parse()?;
        let _ = sender.send(acked);
    }
    Ok(())
}
