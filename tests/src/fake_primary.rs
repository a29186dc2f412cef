//! A primary that plays a script: right answers, wrong ones, lies and garbage.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::{Reply, read_reply};
use crate::wait::{PATIENCE, wait_for};

/// A replication id that the fake primary uses.
pub const ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// One connection's script.
#[derive(Debug, Clone, Default)]
pub struct Session {
    ping: Option<Vec<u8>>,
    psync: Vec<u8>,
    close: bool,
}

impl Session {
    /// Answers PSYNC with these bytes, which may go on with a snapshot and stream.
    pub fn psync(bytes: impl Into<Vec<u8>>) -> Self {
        Self { psync: bytes.into(), ..Self::default() }
    }

    /// A right answer: a full resync at `offset`, the snapshot with its length, then `stream`.
    pub fn full(offset: i64, snapshot: &[u8], stream: &[u8]) -> Self {
        let mut bytes = format!("+FULLRESYNC {ID} {offset}\r\n${}\r\n", snapshot.len()).into_bytes();
        bytes.extend_from_slice(snapshot);
        bytes.extend_from_slice(stream);
        Self::psync(bytes)
    }

    /// Answers PING with this line, and goes no further.
    pub fn ping(line: &str) -> Self {
        Self { ping: Some(format!("{line}\r\n").into_bytes()), ..Self::default() }
    }

    /// Closes the connection behind the answer.
    pub fn then_close(mut self) -> Self {
        self.close = true;
        self
    }
}

#[derive(Debug, Default)]
struct Seen {
    connections: usize,
    psyncs: Vec<(String, i64)>,
    acks: Vec<i64>,
    link: Option<TcpStream>,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Vec<Session>>,
    seen: Mutex<Seen>,
    closing: AtomicBool,
}

/// The fake primary. Connections that reach PSYNC play the sessions in order; the last one is played again and again.
#[derive(Debug)]
pub struct FakePrimary {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl FakePrimary {
    /// Listens on a loopback port of its own.
    ///
    /// # Errors
    /// No port can be had.
    pub fn start(script: Vec<Session>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let shared =
            Arc::new(Shared { script: Mutex::new(script), seen: Mutex::default(), closing: AtomicBool::new(false) });
        let inner = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if inner.closing.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&inner);
                // A broken connection is the script's, or the proxy's, way to end a session.
                std::thread::spawn(move || serve(stream, &shared).ok());
            }
        });
        Ok(Self { addr, shared })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Plays this from now on.
    pub fn play(&self, script: Vec<Session>) {
        *locked(&self.shared.script) = script;
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        locked(&self.shared.seen).connections
    }

    /// The PSYNC requests so far: id and offset.
    pub fn psyncs(&self) -> Vec<(String, i64)> {
        locked(&self.shared.seen).psyncs.clone()
    }

    /// The offsets acknowledged so far, in order.
    pub fn acks(&self) -> Vec<i64> {
        locked(&self.shared.seen).acks.clone()
    }

    /// Waits until an offset has been acknowledged.
    ///
    /// # Errors
    /// It is not within the usual patience.
    pub fn wait_ack(&self, offset: i64) -> Result<()> {
        wait_for(&format!("an ACK of {offset}"), PATIENCE, || Ok(self.acks().contains(&offset)))
            .with_context(|| format!("acknowledged: {:?}", self.acks()))
    }

    /// Waits until so many PSYNC requests have come in all.
    ///
    /// # Errors
    /// They do not within the usual patience.
    pub fn wait_psyncs(&self, count: usize) -> Result<()> {
        wait_for(&format!("{count} PSYNC requests"), PATIENCE, || Ok(self.psyncs().len() >= count))
    }

    /// Sends stream bytes on the newest connection.
    ///
    /// # Errors
    /// It is closed, or there is none.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        let link = locked(&self.shared.seen).link.as_ref().map(TcpStream::try_clone);
        Ok(link.context("nobody is connected")??.write_all(bytes)?)
    }

    /// Closes the newest connection.
    pub fn cut(&self) {
        if let Some(link) = locked(&self.shared.seen).link.take() {
            link.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Drop for FakePrimary {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.cut();
        drop(TcpStream::connect_timeout(&self.addr, Duration::from_secs(1)));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    locked(&shared.seen).connections += 1;
    loop {
        // A replica may send lone newlines at any time, as a sign of life.
        while reader.fill_buf()?.first() == Some(&b'\n') {
            reader.consume(1);
        }
        let words: Vec<String> = read_reply(&mut reader)?.items().iter().map(Reply::text).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let verb = words.first().map(|verb| verb.to_uppercase()).unwrap_or_default();
        match (verb.as_str(), words.as_slice()) {
            ("PING", _) => {
                let refusal = locked(&shared.script).first().and_then(|session| session.ping.clone());
                if let Some(line) = refusal {
                    next_session(shared);
                    writer.write_all(&line)?;
                    return drain(reader);
                }
                writer.write_all(b"+PONG\r\n")?;
            }
            ("PSYNC", [_, id, offset]) => {
                locked(&shared.seen).psyncs.push(((*id).to_owned(), offset.parse()?));
                let session = next_session(shared);
                locked(&shared.seen).link = Some(writer.try_clone()?);
                writer.write_all(&session.psync)?;
                if session.close {
                    writer.shutdown(Shutdown::Both)?;
                    return Ok(());
                }
            }
            ("REPLCONF", [_, "ACK" | "ack", offset, ..]) => locked(&shared.seen).acks.push(offset.parse()?),
            ("INFO", _) => {
                writer.write_all(&bulk("# Server\r\nredis_version:7.0.15\r\n# Replication\r\nrole:master\r\n"))?
            }
            _ => writer.write_all(b"+OK\r\n")?,
        }
    }
}

/// The session whose turn it is; the last one stays.
fn next_session(shared: &Shared) -> Session {
    let mut script = locked(&shared.script);
    if script.len() > 1 { script.remove(0) } else { script.first().cloned().unwrap_or_default() }
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

fn drain(mut reader: BufReader<TcpStream>) -> Result<()> {
    let mut sink = [0; 1024];
    while reader.read(&mut sink)? > 0 {}
    Ok(())
}
