//! Links that end gently: a socket that is closed while bytes of the peer are unread, or on their way, answers them with a
//! reset, and there are primaries that a reset ends. So it is first said that nothing more will come, and the peer's bytes
//! are read and dropped until it closes, too.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::Registry;
use mio::net::TcpStream;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use sluicegate_core::contract::LinkId;

/// A peer that does not close gets a reset after all.
const PATIENCE: Duration = Duration::from_secs(5);
/// One read, and how many of them one link has in a turn.
const READ_BYTES: usize = 64 * 1024;
const READS: usize = 16;

struct Farewell {
    stream: TcpStream,
    readable: bool,
    until: Instant,
}

/// The links that are ending.
#[derive(Default)]
pub(super) struct Farewells {
    links: BTreeMap<LinkId, Farewell>,
    buffer: Vec<u8>,
}

impl Farewells {
    /// Begins to end a link.
    pub(super) fn say(&mut self, link: LinkId, mut stream: TcpStream, registry: &Registry) {
        match stream.shutdown(Shutdown::Write) {
            // What came before is not told of again, so it is looked for.
            Ok(()) => {
                let until = Instant::now() + PATIENCE;
                self.links.insert(link, Farewell { stream, readable: true, until });
            }
            // The peer is gone already.
            Err(_) => drop(registry.deregister(&mut stream)),
        }
    }

    /// Something came.
    pub(super) fn ready(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.readable = true;
        }
    }

    /// Drops what came, and closes what has ended; `true` if there is more to drop at once.
    pub(super) fn turn(&mut self, registry: &Registry) -> bool {
        let (buffer, now) = (&mut self.buffer, Instant::now());
        self.links.retain(|_, link| {
            let over = link.drop_what_came(buffer) || now >= link.until;
            if over {
                // Closing takes it out of the queue in any case.
                let _ = registry.deregister(&mut link.stream);
            }
            !over
        });
        self.links.values().any(|link| link.readable)
    }

    /// Whether all have ended.
    pub(super) fn are_over(&self) -> bool {
        self.links.is_empty()
    }
}

impl Farewell {
    /// Whether the peer has closed, too.
    fn drop_what_came(&mut self, buffer: &mut Vec<u8>) -> bool {
        for _ in 0..READS {
            if !self.readable {
                return false;
            }
            buffer.clear();
            buffer.reserve_exact(READ_BYTES);
            match rustix::io::read(&self.stream, spare_capacity(buffer)) {
                Ok(0) => return true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.readable = false,
                Err(error) => {
                    let error = io::Error::from(error);
                    tracing::debug!(event = "hang-up", "the primary did not close its link, it failed: {error}");
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use mio::{Interest, Poll, Token};

    use super::*;

    /// A link that is registered as the reactor's are, and its peer.
    fn pair(poll: &Poll) -> (TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let near = std::net::TcpStream::connect(listener.local_addr().expect("its address")).expect("a link");
        near.set_nonblocking(true).expect("a link that does not block");
        let mut near = TcpStream::from_std(near);
        poll.registry().register(&mut near, Token(0), Interest::READABLE | Interest::WRITABLE).expect("a registration");
        (near, listener.accept().expect("the other end").0)
    }

    #[test]
    fn unread_bytes_do_not_turn_into_a_reset() {
        let poll = Poll::new().expect("an event queue");
        let (near, mut far) = pair(&poll);
        far.write_all(&[b'x'; 100_000]).expect("writing");
        let mut farewells = Farewells::default();
        farewells.say(LinkId(7), near, poll.registry());
        assert_eq!(far.read(&mut [0]).expect("an end, not a reset"), 0);
        far.write_all(b"more").expect("writing after the other's end");
        assert!(!farewells.are_over());
        drop(far);
        let until = Instant::now() + Duration::from_secs(3);
        while !farewells.are_over() && Instant::now() < until {
            farewells.ready(LinkId(7));
            farewells.turn(poll.registry());
        }
        assert!(farewells.are_over());
    }
}
