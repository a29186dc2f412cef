//! A tiny primary and tiny replicas, for machines without a Redis or Valkey server: strings only, in memory, one thread a
//! connection. They speak to the proxy as real ones do: a snapshot, then the stream.

mod dataset;
mod follow;
mod lead;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::client::{Connection, Value};
use dataset::Dataset;

/// A model server. Its threads end with the process.
pub(super) struct Model {
    address: SocketAddr,
}

/// What a model server holds, shared by its threads.
struct Shared {
    dataset: Mutex<Dataset>,
}

impl Model {
    /// Starts a primary.
    pub(super) fn primary() -> io::Result<Self> {
        let shared = Arc::new(Shared { dataset: Mutex::new(Dataset::primary()) });
        let pinging = Arc::clone(&shared);
        thread::spawn(move || lead::ping(&pinging));
        Self::serve(shared)
    }

    /// Starts a replica of the view at `of`.
    pub(super) fn replica(of: SocketAddr) -> io::Result<Self> {
        let shared = Arc::new(Shared { dataset: Mutex::new(Dataset::replica()) });
        let model = Self::serve(Arc::clone(&shared))?;
        let port = model.address.port();
        thread::spawn(move || follow::follow(&shared, of, port));
        Ok(model)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn serve(shared: Arc<Shared>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A connection that breaks is the other side's end of it; the server goes on.
                thread::spawn(move || Connection::new(stream).and_then(|connection| lead::serve(&shared, connection)));
            }
        });
        Ok(Self { address })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Dataset> {
        self.dataset.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The words of a command.
fn words(value: &Value) -> Vec<String> {
    value.elements().iter().map(Value::text).collect()
}
