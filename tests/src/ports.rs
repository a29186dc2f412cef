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
    free_ports(1)
}

/// The first of so many ports in a row that nobody listens on now.
///
/// # Errors
/// There are none.
pub fn free_ports(count: u16) -> Result<u16> {
    let own = std::process::id().wrapping_mul(2_654_435_761) % COUNT;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(count.into(), Ordering::Relaxed);
        let port = u16::try_from(FIRST + own.wrapping_add(step) % COUNT)?;
        let ports = port..port + count;
        let inside = u32::from(ports.end) <= FIRST + COUNT;
        if inside && ports.into_iter().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(port);
        }
    }
    bail!("no {count} free ports in a row between {FIRST} and {}", FIRST + COUNT)
}
