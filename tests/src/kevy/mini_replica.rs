//! A kevy replica that does what a story says, keeps all that it is given, and is stricter than a real one: whatever would
//! make a real replica drop its link, or fetch a snapshot that it need not, is an error here.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::client::encode;
use crate::mini_replica::{Cut, command, find};
use crate::wait::PATIENCE;

/// What the primary said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// `+ACK [generation] offset`
    Ack,
    /// `+PING generation next`
    Ping,
    /// A piece of a snapshot, or one of its marks.
    Snapshot,
    /// A live frame.
    Frame,
}

/// The link of one shard.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    /// What was read and is not understood yet.
    unread: Vec<u8>,
    /// The handshake names a generation, and so must the answer.
    names_generations: bool,
    /// The generation of what is held; 0: nothing.
    pub generation: u64,
    /// What `+ACK` said.
    promised: Option<u64>,
    /// The offset of the next frame.
    pub next: u64,
    /// The snapshots that came, each whole.
    pub snapshots: Vec<Vec<u8>>,
    arriving: Option<Vec<u8>>,
    /// The live frames that came.
    pub frames: Vec<Vec<Vec<u8>>>,
    /// Signs of life that came.
    pub pings: usize,
    /// It acknowledges, as all replicas from 3.17 on do. An older one does not, and takes no sign of life.
    pub acks: bool,
    closed: bool,
}

impl Link {
    /// Connects and says `REPLICATE FROM generation offset`, or without a generation as the older replicas do.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn ask(addr: SocketAddr, generation: Option<u64>, offset: u64) -> Result<Self> {
        let mut link = Self::silent(addr)?;
        let mut words = vec!["REPLICATE".to_owned(), "FROM".to_owned()];
        words.extend(generation.map(|generation| generation.to_string()));
        words.extend([offset.to_string(), "ID".to_owned(), "a-small-replica".to_owned()]);
        link.names_generations = generation.is_some();
        link.generation = generation.unwrap_or(0);
        link.next = offset;
        link.send(&encode(&words))?;
        Ok(link)
    }

    /// Connects and says nothing.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn silent(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        Ok(Self {
            stream,
            unread: Vec::new(),
            names_generations: true,
            generation: 0,
            promised: None,
            next: 0,
            snapshots: Vec::new(),
            arriving: None,
            frames: Vec::new(),
            pings: 0,
            acks: true,
            closed: false,
        })
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads what comes within `patience` and says what it was; `None` if the link has ended.
    ///
    /// # Errors
    /// It is not what a primary may say there.
    pub fn read(&mut self, patience: Duration) -> Result<Option<Vec<Said>>> {
        if self.closed {
            return Ok(None);
        }
        self.stream.set_read_timeout(Some(patience))?;
        let mut buffer = vec![0; 256 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                self.closed = true
            }
            Err(error) => return Err(error.into()),
        }
        if self.closed {
            return Ok(None);
        }
        let (unread, mut said) = (std::mem::take(&mut self.unread), Vec::new());
        let mut rest = unread.as_slice();
        while let Some((event, after)) = self.take(rest)? {
            rest = after;
            said.push(event);
        }
        self.unread = rest.to_vec();
        if self.acks && self.arriving.is_none() && said.iter().any(|said| *said != Said::Ack) {
            self.ack(self.next);
        }
        Ok(Some(said))
    }

    /// Acknowledges an offset, true or not. A link that has ended is found out by reading.
    pub fn ack(&mut self, next: u64) {
        self.send(format!("REPLCONF ACK {next}\r\n").as_bytes()).ok();
    }

    /// Says that no more will come, and reads to the end: primaries up to 3.18 die of anything else.
    ///
    /// # Errors
    /// As [`Link::read_to_close`].
    pub fn hang_up(mut self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.acks = false;
        self.read_to_close(PATIENCE)
    }

    /// Waits until there is something to read, and leaves it there.
    ///
    /// # Errors
    /// Nothing comes within `patience`.
    pub fn wait_unread(&self, patience: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(patience))?;
        ensure!(self.stream.peek(&mut [0])? > 0, "the link was closed");
        Ok(())
    }

    /// Reads until the other side closes.
    ///
    /// # Errors
    /// It does not within `patience`, or says what it must not.
    pub fn read_to_close(&mut self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        while self.read(Duration::from_millis(200))?.is_some() {
            ensure!(start.elapsed() < patience, "the link was not closed");
        }
        Ok(())
    }

    /// Reads until `wanted` holds.
    ///
    /// # Errors
    /// It does not within `patience`, or the link ends.
    pub fn read_until(&mut self, patience: Duration, wanted: impl Fn(&Self) -> bool) -> Result<()> {
        let start = Instant::now();
        while !wanted(self) {
            ensure!(start.elapsed() < patience, "what was wanted did not come: {self:?}");
            self.read(Duration::from_millis(50))?.context("the link was closed before that came")?;
        }
        Ok(())
    }

    /// Whether this has come, in a snapshot or a frame.
    pub fn has(&self, text: &[u8]) -> bool {
        let framed = self.frames.iter().flatten().any(|word| find(word, text).is_some());
        framed || self.snapshots.iter().chain(&self.arriving).any(|body| find(body, text).is_some())
    }

    /// The same, but for frames before `seen`, which moves on.
    fn has_behind(&self, text: &[u8], seen: &mut usize) -> bool {
        let new = self.frames.get(*seen..).unwrap_or_default();
        *seen = self.frames.len();
        let framed = new.iter().flatten().any(|word| find(word, text).is_some());
        framed || self.snapshots.iter().chain(&self.arriving).any(|body| find(body, text).is_some())
    }

    fn take<'a>(&mut self, bytes: &'a [u8]) -> Result<Cut<'a, Said>> {
        match bytes.first() {
            None => Ok(None),
            Some(b'+') => self.line(bytes),
            Some(b'$') => self.piece(bytes),
            Some(b'*') => self.frame(bytes),
            Some(_) => bail!("a primary does not say {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)])),
        }
    }

    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<Cut<'a, Said>> {
        let Some(end) = find(bytes, b"\r\n") else {
            ensure!(bytes.len() < 256, "a line without an end");
            return Ok(None);
        };
        let line = std::str::from_utf8(&bytes[..end])?;
        let words: Vec<_> = line.split(' ').collect();
        let said = match words.as_slice() {
            ["+ACK", numbers @ ..] if self.promised.is_none() => {
                let numbers: Vec<u64> = numbers.iter().map(|n| n.parse()).collect::<Result<_, _>>()?;
                match numbers.as_slice() {
                    [generation, offset] if self.names_generations => {
                        ensure!(*generation != 0, "generation 0 is nobody's");
                        ensure!(*offset == self.next, "{offset} is no echo of {}", self.next);
                        self.promised = Some(*generation);
                    }
                    [offset] if !self.names_generations => {
                        ensure!(*offset == self.next, "{offset} is no echo of {}", self.next);
                        self.promised = Some(0);
                    }
                    _ => bail!("{line:?} does not answer the handshake"),
                }
                Said::Ack
            }
            ["+PING", generation, next] => {
                ensure!(self.names_generations || self.acks, "a replica that never acknowledges dies of a +PING");
                let (generation, next): (u64, u64) = (generation.parse()?, next.parse()?);
                ensure!(self.promised.is_some(), "+PING before +ACK");
                ensure!(self.arriving.as_ref().is_none_or(Vec::is_empty), "+PING between the pieces of a snapshot");
                ensure!(
                    self.promised == Some(generation) || !self.names_generations,
                    "the generation changes on a live link: a real replica drops it and fetches a second snapshot"
                );
                ensure!(
                    self.generation == 0 || self.arriving.is_some() || next >= self.next,
                    "+PING goes back to {next}"
                );
                self.pings += 1;
                Said::Ping
            }
            ["+SNAPSHOT"] => {
                ensure!(self.promised.is_some() && self.arriving.is_none(), "+SNAPSHOT has no place there");
                self.arriving = Some(Vec::new());
                Said::Snapshot
            }
            ["+SNAPSHOT_END", next] => {
                self.snapshots.push(self.arriving.take().context("a snapshot ends that has not begun")?);
                self.next = next.parse()?;
                self.generation = self.promised.unwrap_or(0);
                Said::Snapshot
            }
            _ => bail!("the primary said {line:?}"),
        };
        Ok(Some((said, &bytes[end + 2..])))
    }

    fn piece<'a>(&mut self, bytes: &'a [u8]) -> Result<Cut<'a, Said>> {
        let body = self.arriving.as_mut().context("a piece of no snapshot")?;
        let Some(end) = find(bytes, b"\r\n") else { return Ok(None) };
        let length: usize = std::str::from_utf8(&bytes[1..end])?.parse()?;
        ensure!((1..=65_536).contains(&length), "a piece of {length} bytes");
        let Some((piece, rest)) = bytes[end + 2..].split_at_checked(length) else { return Ok(None) };
        let Some((behind, rest)) = rest.split_at_checked(2) else { return Ok(None) };
        ensure!(behind == b"\r\n", "a piece ends with CRLF");
        body.extend_from_slice(piece);
        Ok(Some((Said::Snapshot, rest)))
    }

    fn frame<'a>(&mut self, bytes: &'a [u8]) -> Result<Cut<'a, Said>> {
        ensure!(self.arriving.is_none(), "a frame inside a snapshot");
        let promised = self.promised.context("a frame before +ACK")?;
        ensure!(
            !self.names_generations || self.generation == promised,
            "frames of generation {promised}, to one who holds {}",
            self.generation
        );
        let Some(rest) = bytes.strip_prefix(b"*2\r\n:") else {
            ensure!(bytes.len() < 5, "a frame begins with *2 and its offset");
            return Ok(None);
        };
        let Some(end) = find(rest, b"\r\n") else { return Ok(None) };
        let offset: u64 = std::str::from_utf8(&rest[..end])?.parse()?;
        let Some((words, rest)) = command(&rest[end + 2..])? else { return Ok(None) };
        ensure!(offset == self.next, "frame {offset} where {} is next", self.next);
        ensure!(i64::try_from(offset).is_ok(), "no replica reads {offset}");
        self.next += 1;
        self.frames.push(words);
        Ok(Some((Said::Frame, rest)))
    }
}

/// A replica of all the shards of a view. Like a real one it comes back when a link ends, with the place that it has.
#[derive(Debug)]
pub struct MiniReplica {
    base: SocketAddr,
    /// One for each shard.
    pub links: Vec<Link>,
    /// How often a link was made again.
    pub reconnects: usize,
}

impl MiniReplica {
    /// Connects to `shards` ports from `base` on, with nothing, and takes the snapshots.
    ///
    /// # Errors
    /// They do not come.
    pub fn join(base: SocketAddr, shards: u16, patience: Duration) -> Result<Self> {
        let links = (0..shards).map(|shard| Link::ask(port(base, shard), Some(0), 0)).collect::<Result<_>>()?;
        let mut replica = Self { base, links, reconnects: 0 };
        let start = Instant::now();
        while replica.links.iter().any(|link| link.generation == 0) {
            ensure!(start.elapsed() < patience, "no snapshots came within {patience:?}");
            replica.read()?;
        }
        Ok(replica)
    }

    /// Reads what comes on all links in a moment, and makes those that have ended again.
    ///
    /// # Errors
    /// What comes is not what a primary may say there.
    pub fn read(&mut self) -> Result<()> {
        for (shard, link) in self.links.iter_mut().enumerate() {
            let read = link.read(Duration::from_millis(10)).with_context(|| format!("shard {shard}"))?;
            if read.is_some() {
                continue;
            }
            std::thread::sleep(Duration::from_millis(50));
            // While nobody listens, the old link stays what it is: closed.
            if let Ok(again) = Link::ask(port(self.base, shard as u16), Some(link.generation), link.next) {
                let old = std::mem::replace(link, again);
                // What it holds it holds; a snapshot would replace it.
                (link.snapshots, link.frames) = (old.snapshots, old.frames);
                self.reconnects += 1;
            }
        }
        Ok(())
    }

    /// Reads until this has come on some link.
    ///
    /// # Errors
    /// It does not within `patience`.
    pub fn read_until(&mut self, text: &[u8], patience: Duration) -> Result<()> {
        let start = Instant::now();
        let mut seen = vec![0; self.links.len()];
        // Large frames are looked at once.
        while !self.links.iter().zip(&mut seen).any(|(link, seen)| link.has_behind(text, seen)) {
            ensure!(start.elapsed() < patience, "{:?} did not come", String::from_utf8_lossy(text));
            self.read()?;
        }
        Ok(())
    }

    /// Whether this has come on some link.
    pub fn has(&self, text: &[u8]) -> bool {
        self.links.iter().any(|link| link.has(text))
    }

    /// Snapshots taken, over all links.
    pub fn snapshots(&self) -> usize {
        self.links.iter().map(|link| link.snapshots.len()).sum()
    }
}

fn port(base: SocketAddr, shard: u16) -> SocketAddr {
    SocketAddr::new(base.ip(), base.port() + shard)
}
