//! A TCP relay with faults on demand, to be put on either side of the proxy.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::ports::free_ports;

/// How long a target that must not be reset may go on talking after its link was cut.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Which way bytes flow: to the side that listens (`Up`: what the dialling peer sends) or back (`Down`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the peer that connected to the tap, to the target.
    Up,
    /// From the target to the peer that connected: snapshots and streams, on a replication link.
    Down,
}

/// The faults of one way.
#[derive(Debug, Clone, Copy)]
struct Faults {
    /// Bytes that still pass before every link is cut.
    cut_after: Option<u64>,
    /// Bytes that still pass before one is damaged.
    damage_after: Option<u64>,
    /// The largest single write.
    chunk: usize,
    /// Nothing passes.
    stalled: bool,
    /// Bytes a second.
    rate: Option<u64>,
}

impl Faults {
    const NONE: Self = Self { cut_after: None, damage_after: None, chunk: usize::MAX, stalled: false, rate: None };
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    faults: [Faults; 2],
    links: Vec<(u64, TcpStream, TcpStream)>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    accepted: AtomicU64,
    passed: [AtomicU64; 2],
    closing: AtomicBool,
    /// The target is never reset: it hears that no more will come, and is read to its end.
    gentle: bool,
}

/// The relay. Dropped: all links are cut and nobody is accepted any more.
#[derive(Debug)]
pub struct Tap {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Tap {
    /// Listens on a loopback port of its own and relays to `target`.
    ///
    /// # Errors
    /// No port can be had.
    pub fn new(target: SocketAddr) -> Result<Self> {
        Self::on(TcpListener::bind("127.0.0.1:0")?, target, false)
    }

    /// One for each of the `count` ports from `target` on, on as many ports in a row.
    ///
    /// # Errors
    /// The ports cannot be had.
    pub fn row(target: SocketAddr, count: u16) -> Result<Vec<Self>> {
        Self::in_a_row(target, count, false)
    }

    /// The same for targets that die of a reset, as a kevy primary up to 3.18 does: it is only ever hung up on.
    ///
    /// # Errors
    /// The ports cannot be had.
    pub fn gentle_row(target: SocketAddr, count: u16) -> Result<Vec<Self>> {
        Self::in_a_row(target, count, true)
    }

    fn in_a_row(target: SocketAddr, count: u16, gentle: bool) -> Result<Vec<Self>> {
        let first = free_ports(count)?;
        let behind = |shard| SocketAddr::new(target.ip(), target.port() + shard);
        let listeners = (0..count).map(|shard| (shard, TcpListener::bind(("127.0.0.1", first + shard))));
        listeners.map(|(shard, listener)| Self::on(listener?, behind(shard), gentle)).collect()
    }

    fn on(listener: TcpListener, target: SocketAddr, gentle: bool) -> Result<Self> {
        let addr = listener.local_addr()?;
        let state = State { target, faults: [Faults::NONE; 2], links: Vec::new() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            accepted: AtomicU64::new(0),
            passed: [AtomicU64::new(0), AtomicU64::new(0)],
            closing: AtomicBool::new(false),
            gentle,
        });
        let inner = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &inner));
        Ok(Self { addr, shared })
    }

    /// Where to connect instead of the target.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Later links go to another target; those that are up stay.
    pub fn repoint(&self, target: SocketAddr) {
        self.shared.lock().target = target;
    }

    /// Cuts every link now; new ones are welcome. Returns how many there were.
    pub fn cut(&self) -> usize {
        let links = cut_all(&mut self.shared.lock(), self.shared.far_end());
        self.shared.changed.notify_all();
        links
    }

    /// Cuts every link once `bytes` more have passed that way; bytes up to there are delivered.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.change(way, |faults| faults.cut_after = Some(bytes));
    }

    /// Flips a bit of the byte that follows `bytes` more that way.
    pub fn damage_after(&self, way: Way, bytes: u64) {
        self.change(way, |faults| faults.damage_after = Some(bytes));
    }

    /// Passes at most `bytes` in one write.
    pub fn chunk(&self, way: Way, bytes: usize) {
        self.change(way, |faults| faults.chunk = bytes.max(1));
    }

    /// Lets nothing pass, without closing anything; or lets it pass again.
    pub fn stall(&self, way: Way, stalled: bool) {
        self.change(way, |faults| faults.stalled = stalled);
    }

    /// Passes at most so many bytes a second.
    pub fn rate(&self, way: Way, bytes_per_second: Option<u64>) {
        self.change(way, |faults| faults.rate = bytes_per_second.map(|rate| rate.max(1)));
    }

    /// Takes all faults back.
    pub fn heal(&self) {
        self.shared.lock().faults = [Faults::NONE; 2];
        self.shared.changed.notify_all();
    }

    /// Links that are up.
    pub fn live(&self) -> usize {
        self.shared.lock().links.len()
    }

    /// Links that ever were.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Bytes that ever passed that way.
    pub fn passed(&self, way: Way) -> u64 {
        self.shared.passed[way as usize].load(Ordering::SeqCst)
    }

    fn change(&self, way: Way, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.lock().faults[way as usize]);
        self.shared.changed.notify_all();
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.cut();
        self.shared.changed.notify_all();
        // Wakes the accepting thread, which then ends.
        drop(TcpStream::connect(self.addr));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the link to the target is ended.
    fn far_end(&self) -> Shutdown {
        if self.gentle { Shutdown::Write } else { Shutdown::Both }
    }

    /// Takes a permit to pass some of `wanted` bytes; zero means that the link is to be cut.
    fn permit(&self, way: Way, id: u64, wanted: usize) -> (usize, Option<Duration>) {
        let mut state = self.lock();
        while state.faults[way as usize].stalled && state.links.iter().any(|link| link.0 == id) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let faults = &mut state.faults[way as usize];
        let mut granted = wanted.min(faults.chunk);
        let pause = faults.rate.map(|rate| {
            granted = granted.min(usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1));
            Duration::from_secs_f64(granted as f64 / rate as f64)
        });
        if let Some(left) = &mut faults.cut_after {
            granted = granted.min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= granted as u64;
        }
        (granted, pause)
    }

    /// What becomes of bytes on their way.
    fn damage<'a>(&self, way: Way, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut state = self.lock();
        let after = &mut state.faults[way as usize].damage_after;
        let Some(left) = after else { return bytes.into() };
        if let Some(rest) = left.checked_sub(bytes.len() as u64) {
            *left = rest;
            return bytes.into();
        }
        let mut damaged = bytes.to_vec();
        damaged[usize::try_from(*left).unwrap_or(0)] ^= 0x20;
        *after = None;
        damaged.into()
    }

    /// Cuts if the permitted bytes have all passed.
    fn cut_if_due(&self, way: Way) {
        let mut state = self.lock();
        if state.faults[way as usize].cut_after == Some(0) {
            state.faults[way as usize].cut_after = None;
            cut_all(&mut state, self.far_end());
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((near, _)) = listener.accept() {
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let target = shared.lock().target;
        // A target that is down looks like one: the peer's connection is closed.
        let Ok(far) = TcpStream::connect_timeout(&target, Duration::from_secs(2)) else { continue };
        let id = shared.accepted.fetch_add(1, Ordering::SeqCst);
        near.set_nodelay(true).ok();
        far.set_nodelay(true).ok();
        let clones = (near.try_clone(), far.try_clone(), near.try_clone(), far.try_clone());
        let (Ok(near_kept), Ok(far_kept), Ok(near_read), Ok(far_read)) = clones else { continue };
        shared.lock().links.push((id, near_kept, far_kept));
        relay(near_read, far, Way::Up, id, shared);
        relay(far_read, near, Way::Down, id, shared);
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, way: Way, id: u64, shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if pass(&buffer[..count], &mut to, way, id, &shared).is_none() {
                break;
            }
        }
        let mut state = shared.lock();
        // The peer's other half has nobody left to talk to.
        state.links.retain(|link| link.0 != id);
        drop(state);
        shared.changed.notify_all();
        match way {
            Way::Up => {
                from.shutdown(Shutdown::Both).ok();
                to.shutdown(shared.far_end()).ok();
            }
            Way::Down => {
                to.shutdown(Shutdown::Both).ok();
                if shared.gentle {
                    hear_out(&mut from, &mut buffer);
                }
                from.shutdown(Shutdown::Both).ok();
            }
        }
    });
}

fn pass(mut bytes: &[u8], to: &mut TcpStream, way: Way, id: u64, shared: &Shared) -> Option<()> {
    while !bytes.is_empty() {
        let (granted, pause) = shared.permit(way, id, bytes.len());
        let (now, later) = bytes.split_at_checked(granted)?;
        to.write_all(&shared.damage(way, now)).ok()?;
        shared.passed[way as usize].fetch_add(granted as u64, Ordering::SeqCst);
        shared.cut_if_due(way);
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
        bytes = later;
    }
    Some(())
}

/// Reads to the end and drops what comes: to close with something unread is to reset.
fn hear_out(from: &mut TcpStream, buffer: &mut [u8]) {
    from.shutdown(Shutdown::Write).ok();
    from.set_read_timeout(Some(LAST_WORDS)).ok();
    let start = Instant::now();
    while let Ok(1..) = from.read(buffer) {
        if start.elapsed() > LAST_WORDS {
            return;
        }
    }
}

fn cut_all(state: &mut State, far_end: Shutdown) -> usize {
    let links = std::mem::take(&mut state.links);
    for (_, near, far) in &links {
        near.shutdown(Shutdown::Both).ok();
        far.shutdown(far_end).ok();
    }
    links.len()
}
