//! The thread whose ticks stop a plugin that does not end. It rests while no plugin is asked.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// Ticks without a call after which the thread rests. Waking it costs a caller some microseconds, so it is not done for
/// every gap between two calls.
const QUIET_TICKS: u32 = 200;

/// What the thread and those who ask plugins share.
#[derive(Default)]
pub(crate) struct Ticker {
    /// Calls under way.
    calls: AtomicUsize,
    /// The thread rests, or is about to. Set before `calls` is read, as `calls` is raised before this is read: one of the
    /// two sides always sees the other.
    resting: AtomicBool,
    thread: OnceLock<Thread>,
}

/// A call under way; ends when dropped.
pub(crate) struct Call(Arc<Ticker>);

/// What a tick moves.
pub(crate) trait Clockwork: Send + Sync + 'static {
    /// Engines whose plugins look at their deadline once an epoch.
    fn engines(&self) -> impl Iterator<Item = &Engine>;
}

impl Ticker {
    /// Starts the thread; it ends when `clockwork` is gone and [`Ticker::wake`] was called.
    pub(crate) fn start<C: Clockwork>(self: &Arc<Self>, clockwork: Weak<C>, tick: Duration) -> std::io::Result<()> {
        let ticker = Arc::clone(self);
        let ticking = move || {
            let mut quiet = 0;
            while let Some(clockwork) = clockwork.upgrade() {
                clockwork.engines().for_each(Engine::increment_epoch);
                drop(clockwork);
                thread::sleep(tick);
                quiet = if ticker.calls.load(SeqCst) == 0 { quiet + 1 } else { 0 };
                if quiet >= QUIET_TICKS {
                    ticker.rest();
                    quiet = 0;
                }
            }
        };
        let thread = thread::Builder::new().name("plugin-ticker".into()).spawn(ticking)?;
        let _ = self.thread.set(thread.thread().clone());
        Ok(())
    }

    /// A call begins.
    pub(crate) fn call(self: &Arc<Self>) -> Call {
        self.calls.fetch_add(1, SeqCst);
        if self.resting.load(SeqCst) {
            self.wake();
        }
        Call(Arc::clone(self))
    }

    /// Ends the thread's rest, if it rests.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn rest(&self) {
        self.resting.store(true, SeqCst);
        if self.calls.load(SeqCst) == 0 {
            // Woken without a call it ticks on for a while, which does no harm.
            thread::park();
        }
        self.resting.store(false, SeqCst);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, SeqCst);
    }
}
