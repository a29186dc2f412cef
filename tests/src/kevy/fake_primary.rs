//! A kevy primary that plays a script: right answers, wrong ones, gaps and garbage.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::snapshot::{Snapshot, frame, shipped};
use crate::client::{Reply, read_line, read_reply};
use crate::ports::free_ports;
use crate::wait::{PATIENCE, wait_for};

/// The generation of each of its shards is this and the number of the shard.
pub const GENERATION: u64 = 6_044_966_812_509_400;

/// What is said to one connection behind its handshake.
#[derive(Debug, Clone)]
pub struct Session {
    /// `+ACK` comes first, as it should.
    greets: bool,
    says: Vec<u8>,
    /// The offset of the frame that follows.
    next: u64,
    close: bool,
}

impl Session {
    /// A right answer to one who holds nothing: the snapshot, and the offset of the next frame.
    pub fn good(body: &[u8], next: u64) -> Self {
        Self { greets: true, says: shipped(body, next), next, close: false }
    }

    /// `+ACK`, then these bytes.
    pub fn then(says: impl Into<Vec<u8>>) -> Self {
        Self { greets: true, says: says.into(), next: 0, close: false }
    }

    /// These bytes where `+ACK` should stand.
    pub fn instead(says: impl Into<Vec<u8>>) -> Self {
        Self { greets: false, says: says.into(), next: 0, close: false }
    }

    /// Closes the connection behind the answer.
    pub fn then_close(self) -> Self {
        Self { close: true, ..self }
    }
}

/// A handshake that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// To which shard.
    pub shard: usize,
    /// The words behind `REPLICATE FROM`: generation and offset, or the offset alone.
    pub place: Vec<u64>,
    /// What the replica calls itself.
    pub id: String,
}

#[derive(Debug, Default)]
struct Shard {
    script: Vec<Session>,
    link: Option<TcpStream>,
    next: u64,
    acks: Vec<u64>,
}

#[derive(Debug)]
struct Shared {
    shards: Vec<Mutex<Shard>>,
    requests: Mutex<Vec<Request>>,
    /// How many words a handshake must have; others are met with a silent close, as all versions do.
    words: AtomicUsize,
    closing: AtomicBool,
}

/// The fake primary. Connections to a shard play its sessions in order; the last one is played again and again. Who names the
/// very place at which the last session's stream stands just goes on.
#[derive(Debug)]
pub struct FakePrimary {
    base: u16,
    shared: Arc<Shared>,
}

impl FakePrimary {
    /// Listens on ports of its own, one for each shard. The script is that of shard 0; each other one has an empty store.
    ///
    /// # Errors
    /// No ports can be had.
    pub fn start(shards: u16, script: Vec<Session>) -> Result<Self> {
        let base = free_ports(shards)?;
        let empty = || Shard { script: vec![Session::good(&Snapshot::default().end(), 0)], ..Shard::default() };
        let shared = Arc::new(Shared {
            shards: (0..shards).map(|_| Mutex::new(empty())).collect(),
            requests: Mutex::default(),
            words: AtomicUsize::new(6),
            closing: AtomicBool::new(false),
        });
        let fake = Self { base, shared };
        fake.play(0, script);
        for shard in 0..usize::from(shards) {
            let listener = TcpListener::bind(fake.shard_addr(shard))?;
            let shared = Arc::clone(&fake.shared);
            std::thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    if shared.closing.load(Ordering::SeqCst) {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    // A broken connection is the script's, or the proxy's, way to end a session.
                    std::thread::spawn(move || serve(stream, shard, &shared).ok());
                }
            });
        }
        Ok(fake)
    }

    /// Where its first shard listens.
    pub fn addr(&self) -> SocketAddr {
        self.shard_addr(0)
    }

    fn shard_addr(&self, shard: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.base + shard as u16))
    }

    /// Answers handshakes of the older dialects instead: five words, no generation.
    pub fn speak_without_generations(&self) {
        self.shared.words.store(5, Ordering::SeqCst);
    }

    /// A shard plays this from now on.
    pub fn play(&self, shard: usize, script: Vec<Session>) {
        self.shared.shard(shard).script = script;
    }

    /// The handshakes so far, those included that were met with silence.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.shared.requests).clone()
    }

    /// Waits until so many handshakes have come in all.
    ///
    /// # Errors
    /// They do not within the usual patience.
    pub fn wait_requests(&self, count: usize) -> Result<()> {
        wait_for(&format!("{count} handshakes"), PATIENCE, || Ok(self.requests().len() >= count))
            .with_context(|| format!("they were {:?}", self.requests()))
    }

    /// Waits until all that a shard has sent is acknowledged.
    ///
    /// # Errors
    /// It is not within the usual patience.
    pub fn wait_acked(&self, shard: usize) -> Result<()> {
        wait_for("an acknowledgement of all frames", PATIENCE, || {
            let shard = self.shared.shard(shard);
            Ok(shard.acks.last() == Some(&shard.next))
        })
        .with_context(|| format!("acknowledged: {:?}", self.shared.shard(shard).acks))
    }

    /// Sends a command as the next frame of a shard.
    ///
    /// # Errors
    /// Nobody is connected.
    pub fn write<A: AsRef<[u8]>>(&self, shard: usize, words: &[A]) -> Result<()> {
        let offset = self.next(shard);
        self.shared.shard(shard).next += 1;
        self.send(shard, &frame(offset, words))
    }

    /// The offset of a shard's next frame.
    pub fn next(&self, shard: usize) -> u64 {
        self.shared.shard(shard).next
    }

    /// Sends any bytes on the newest connection to a shard.
    ///
    /// # Errors
    /// It is closed, or there is none.
    pub fn send(&self, shard: usize, bytes: &[u8]) -> Result<()> {
        let link = self.shared.shard(shard).link.as_ref().map(TcpStream::try_clone);
        Ok(link.context("nobody is connected")??.write_all(bytes)?)
    }

    /// Says that it lives, as all do from 3.17 on.
    ///
    /// # Errors
    /// Nobody is connected.
    pub fn ping(&self, shard: usize) -> Result<()> {
        self.send(shard, format!("+PING {} {}\r\n", GENERATION + shard as u64, self.next(shard)).as_bytes())
    }

    /// Closes the newest connection to a shard.
    pub fn cut(&self, shard: usize) {
        if let Some(link) = self.shared.shard(shard).link.take() {
            link.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Drop for FakePrimary {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        for shard in 0..self.shared.shards.len() {
            self.cut(shard);
            drop(TcpStream::connect_timeout(&self.shard_addr(shard), Duration::from_secs(1)));
        }
    }
}

impl Shared {
    fn shard(&self, shard: usize) -> MutexGuard<'_, Shard> {
        locked(&self.shards[shard])
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: TcpStream, index: usize, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let words: Vec<String> = read_reply(&mut reader)?.items().iter().map(Reply::text).collect();
    let place: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let id = words.last().cloned().unwrap_or_default();
    locked(&shared.requests).push(Request { shard: index, place: place.clone(), id });
    if words.len() != shared.words.load(Ordering::SeqCst) {
        return Ok(());
    }
    let asked = place.last().copied().unwrap_or(0);
    let generation = GENERATION + index as u64;
    let mut shard = shared.shard(index);
    let session = if shard.script.len() > 1 { shard.script.remove(0) } else { shard.script[0].clone() };
    let ours = place.len() == 1 || place.first() == Some(&generation);
    // Without a generation nothing is claimed by 0.
    let claims = place.len() == 2 || asked > 0;
    let goes_on = ours && claims && asked == shard.next && session.greets && !session.close;
    if !goes_on {
        shard.next = session.next;
        shard.acks.clear();
    }
    let named = if place.len() == 2 { format!("{generation} ") } else { String::new() };
    let greeting = if session.greets { format!("+ACK {named}{asked}\r\n") } else { String::new() };
    // Nobody else may write to the link before that.
    writer.write_all(greeting.as_bytes())?;
    if !goes_on {
        writer.write_all(&session.says)?;
    }
    shard.link = Some(writer.try_clone()?);
    drop(shard);
    if session.close {
        writer.shutdown(Shutdown::Both)?;
        return Ok(());
    }
    // Whatever comes that is no acknowledgement is dropped, as a primary does.
    while let Ok(line) = read_line(&mut reader) {
        if let Some(next) = line.strip_prefix("REPLCONF ACK ") {
            shared.shard(index).acks.push(next.parse()?);
        }
    }
    drain(reader)
}

fn drain(mut reader: BufReader<TcpStream>) -> Result<()> {
    let mut sink = [0; 1024];
    while reader.read(&mut sink)? > 0 {}
    Ok(())
}
