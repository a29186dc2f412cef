//! A load on a thread of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::Workload;
use crate::client::Client;

/// What writes.
pub trait Load: Send + 'static {
    /// Sends about `count` commands.
    ///
    /// # Errors
    /// The connection broke, or a reply shows that the load made no sense.
    fn write(&mut self, client: &mut Client, count: usize) -> Result<()>;

    /// Commands sent so far.
    fn sent(&self) -> u64;
}

impl Load for Workload {
    fn write(&mut self, client: &mut Client, count: usize) -> Result<()> {
        self.write(client, count)
    }

    fn sent(&self) -> u64 {
        self.sent()
    }
}

/// A workload on a thread of its own.
#[derive(Debug)]
pub struct Writer<L = Workload> {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<L>>>,
}

impl<L: Load> Writer<L> {
    /// Writes until told to stop, at most so many commands a second.
    pub fn start(mut load: L, addr: SocketAddr, per_second: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(load.sent()));
        let (stop_seen, sent_seen) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(addr)?;
            let (start, already) = (Instant::now(), load.sent());
            while !stop_seen.load(Ordering::SeqCst) {
                load.write(&mut client, 64)?;
                sent_seen.store(load.sent(), Ordering::SeqCst);
                let due = Duration::from_secs_f64((load.sent() - already) as f64 / per_second as f64);
                std::thread::sleep(due.saturating_sub(start.elapsed()));
            }
            Ok(load)
        });
        Self { stop, sent, thread: Some(thread) }
    }

    /// Commands sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Stops it and hands the load back, to go on elsewhere.
    ///
    /// # Errors
    /// What ended the writer before.
    pub fn stop(mut self) -> Result<L> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().ok_or_else(|| anyhow!("stopped twice"))?;
        thread.join().map_err(|_| anyhow!("the writer panicked"))?
    }
}

impl<L> Drop for Writer<L> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}
