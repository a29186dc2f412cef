//! Ports that nobody listens on.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::bail;

/// Below the range from which systems take ports for outgoing connections: nobody gets one of these by chance between our
/// look and its use.
const FIRST: u16 = 18_000;
const LAST: u16 = 31_999;

/// Gives out ports of this machine, none of them twice.
pub(super) struct Ports {
    next: u16,
    left: u16,
}

impl Ports {
    /// Each process begins elsewhere, so demos that run at once rarely meet.
    pub(super) fn new() -> Self {
        let count = LAST - FIRST + 1;
        let place = std::process::id().wrapping_mul(2_654_435_761) % u32::from(count);
        Self { next: FIRST + u16::try_from(place).unwrap_or_default(), left: count }
    }

    /// The first of so many ports in a row.
    pub(super) fn take(&mut self, count: u16) -> anyhow::Result<SocketAddr> {
        while self.left > 0 {
            if LAST - self.next < count {
                self.next = FIRST;
            }
            let row = self.next..self.next + count;
            self.next = row.end;
            self.left = self.left.saturating_sub(count);
            let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if row.clone().all(|port| TcpListener::bind(address(port)).is_ok()) {
                return Ok(address(row.start));
            }
        }
        bail!("no {count} free ports in a row between {FIRST} and {LAST}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_no_port_that_is_taken() -> anyhow::Result<()> {
        let mut ports = Ports { next: LAST - 4, left: 100 };
        let first = ports.take(2)?;
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first.port() + 3));
        let second = ports.take(3)?;
        assert!(second.port() == FIRST || second.port() > first.port() + 3, "{first} {second}");
        assert!(Ports { next: FIRST, left: 0 }.take(1).is_err());
        Ok(())
    }
}
