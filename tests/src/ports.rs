//! Loopback ports for servers under test.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

/// Below the kernel's ephemeral range, so that no outgoing connection can take a port between our look and its use.
const FIRST: u32 = 18_000;
const COUNT: u32 = 14_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on now. Each process starts its search elsewhere, so parallel test binaries rarely meet.
///
/// # Errors
/// None of the range is free.
pub fn free_port() -> Result<u16> {
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let start = std::process::id().wrapping_mul(2_654_435_761) % COUNT;
        let port = u16::try_from(FIRST + (start + step) % COUNT)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}
