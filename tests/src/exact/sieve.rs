//! A relay for one replication link that understands what passes: it counts the stream's commands, and can falsify those of
//! one name, which is how a story proves that its comparison can fail.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;

/// Commands whose rows are those of their sub-commands.
const GROUPS: [&str; 5] = ["cluster", "function", "replconf", "script", "xgroup"];

/// What is done to the frames of one name.
#[derive(Debug, Clone)]
pub enum Tamper {
    /// They do not arrive.
    Drop(String),
    /// They arrive twice.
    Twice(String),
    /// The first argument behind the name is read as another key: its last byte is changed.
    OtherKey(String),
}

impl Tamper {
    fn name(&self) -> &str {
        match self {
            Self::Drop(name) | Self::Twice(name) | Self::OtherKey(name) => name,
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    /// How many frames there were of each name.
    counts: BTreeMap<String, u64>,
    tamper: Option<Tamper>,
    /// Frames that were tampered with.
    tampered: u64,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    seen: Mutex<Seen>,
    closing: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The relay; when it is dropped it takes no more links, and those that are up end with their peers.
#[derive(Debug)]
pub(crate) struct Sieve {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Sieve {
    /// Listens on a loopback port of its own and relays to the primary, or proxy, at `target`.
    ///
    /// # Errors
    /// No port can be had.
    pub(crate) fn new(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared { target, seen: Mutex::default(), closing: AtomicBool::new(false) });
        let inner = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                if inner.closing.load(Ordering::SeqCst) {
                    return;
                }
                // A target that is down looks like one: the peer's connection is closed.
                let Ok(far) = TcpStream::connect_timeout(&inner.target, Duration::from_secs(2)) else { continue };
                relay(near, far, &inner);
            }
        });
        Ok(Self { addr, shared })
    }

    /// Where to connect instead of the target.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How often each command stood in the stream; sub-commands as the table writes them.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.shared.seen().counts.clone()
    }

    /// From now on does this to the frames of one name.
    pub(crate) fn tamper(&self, tamper: Tamper) {
        self.shared.seen().tamper = Some(tamper);
    }

    /// How many frames were tampered with.
    pub(crate) fn tampered(&self) -> u64 {
        self.shared.seen().tampered
    }
}

impl Drop for Sieve {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then ends.
        drop(TcpStream::connect(self.addr));
    }
}

fn relay(near: TcpStream, far: TcpStream, shared: &Arc<Shared>) {
    near.set_nodelay(true).ok();
    far.set_nodelay(true).ok();
    let (Ok(near_read), Ok(far_read)) = (near.try_clone(), far.try_clone()) else { return };
    std::thread::spawn(move || pump(near_read, far, |bytes, out| out.extend_from_slice(bytes)));
    let shared = Arc::clone(shared);
    let mut reading = Reading { part: Part::Replies, held: Vec::new() };
    std::thread::spawn(move || pump(far_read, near, |bytes, out| reading.push(bytes, &shared, out)));
}

fn pump(mut from: TcpStream, mut to: TcpStream, mut pass: impl FnMut(&[u8], &mut Vec<u8>)) {
    let (mut buffer, mut out) = (vec![0; 64 * 1024], Vec::new());
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        out.clear();
        pass(&buffer[..count], &mut out);
        if to.write_all(&out).is_err() {
            break;
        }
    }
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}

/// Where a link is.
enum Part {
    /// Replies: to the handshake, or to anything else on a link that never becomes one of replication.
    Replies,
    /// A snapshot was promised; its head is to come.
    Head,
    /// So many bytes of the snapshot are to come.
    Snapshot(usize),
    /// The snapshot, up to this mark.
    Marked(Vec<u8>),
    Stream,
}

struct Reading {
    part: Part,
    /// Bytes that wait for the rest of what they begin.
    held: Vec<u8>,
}

impl Reading {
    fn push(&mut self, bytes: &[u8], shared: &Shared, out: &mut Vec<u8>) {
        self.held.extend_from_slice(bytes);
        let mut done = 0;
        while let Some(len) = self.step(done, shared, out) {
            done += len;
        }
        self.held.drain(..done);
    }

    /// Deals with the next whole piece from `at` and returns its length, or `None` if that is not all here.
    fn step(&mut self, at: usize, shared: &Shared, out: &mut Vec<u8>) -> Option<usize> {
        let rest = &self.held[at..];
        if rest.is_empty() {
            return None;
        }
        match &mut self.part {
            Part::Replies | Part::Head => {
                let len = rest.iter().position(|&byte| byte == b'\n')? + 1;
                let line = rest[..len].trim_ascii();
                out.extend_from_slice(&rest[..len]);
                match self.part {
                    Part::Head => self.part = after_head(line),
                    _ if line.starts_with(b"+FULLRESYNC") => self.part = Part::Head,
                    _ if line.starts_with(b"+CONTINUE") => self.part = Part::Stream,
                    _ => {}
                }
                Some(len)
            }
            Part::Snapshot(left) => {
                let len = rest.len().min(*left);
                out.extend_from_slice(&rest[..len]);
                *left -= len;
                if *left == 0 {
                    self.part = Part::Stream;
                }
                Some(len)
            }
            Part::Marked(mark) => {
                let end = rest.windows(mark.len()).position(|window| window == mark.as_slice());
                let len = match end {
                    Some(end) => end + mark.len(),
                    // The mark may have begun in the last bytes.
                    None => rest.len().saturating_sub(mark.len() - 1),
                };
                out.extend_from_slice(&rest[..len]);
                if end.is_some() {
                    self.part = Part::Stream;
                }
                (len > 0).then_some(len)
            }
            Part::Stream => {
                let (len, words) = frame(rest)?;
                pass(&rest[..len], &words, &mut shared.seen(), out);
                Some(len)
            }
        }
    }
}

/// What comes behind a line that may be the head of a snapshot; primaries send empty ones while they prepare it.
fn after_head(line: &[u8]) -> Part {
    let Some(text) = line.strip_prefix(b"$").map(String::from_utf8_lossy) else { return Part::Head };
    match (text.strip_prefix("EOF:"), text.parse()) {
        (Some(mark), _) => Part::Marked(mark.as_bytes().to_vec()),
        (None, Ok(0)) => Part::Stream,
        (None, Ok(len)) => Part::Snapshot(len),
        (None, Err(_)) => Part::Head,
    }
}

/// The length of the frame at the start of `bytes` and where its arguments are.
fn frame(bytes: &[u8]) -> Option<(usize, Vec<std::ops::Range<usize>>)> {
    let number = |at: usize| -> Option<(usize, usize)> {
        let len = bytes.get(at..)?.iter().position(|&byte| byte == b'\r')?;
        bytes.get(at + len + 1)?;
        let text = std::str::from_utf8(bytes.get(at + 1..at + len)?).ok()?;
        Some((text.parse().ok()?, at + len + 2))
    };
    let (count, mut at) = number(0)?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let (len, start) = number(at)?;
        bytes.get(start + len + 1)?;
        words.push(start..start + len);
        at = start + len + 2;
    }
    Some((at, words))
}

fn pass(frame: &[u8], words: &[std::ops::Range<usize>], seen: &mut Seen, out: &mut Vec<u8>) {
    let word = |index: usize| {
        words.get(index).map_or_else(String::new, |at| String::from_utf8_lossy(&frame[at.clone()]).to_lowercase())
    };
    let mut name = word(0);
    if GROUPS.contains(&name.as_str()) {
        name = format!("{name}|{}", word(1));
    }
    let tamper = seen.tamper.clone().filter(|tamper| tamper.name() == name);
    *seen.counts.entry(name).or_default() += 1;
    seen.tampered += u64::from(tamper.is_some());
    match tamper {
        None => out.extend_from_slice(frame),
        Some(Tamper::Drop(_)) => {}
        Some(Tamper::Twice(_)) => {
            out.extend_from_slice(frame);
            out.extend_from_slice(frame);
        }
        Some(Tamper::OtherKey(_)) => {
            let start = out.len();
            out.extend_from_slice(frame);
            if let Some(last) = words.get(1).and_then(|at| out.get_mut(start + at.end - 1)) {
                *last ^= 1;
            }
        }
    }
}
