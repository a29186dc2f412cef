//! Sockets: what is ready, what was read, what could be written.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use sluicegate_core::contract::{Drive, LinkId};
use sluicegate_core::outbox::Outbox;

use super::LINKS;

/// Bytes of one read at most: one turn of one link.
const READ_BYTES: usize = 256 * 1024;
/// Pieces of one vectored write at most.
const WRITE_PIECES: usize = 64;

struct Link {
    stream: TcpStream,
    readable: bool,
    writable: bool,
    /// The peer will send no more: the end comes behind what is still to be read, without an event of its own.
    hung_up: bool,
}

/// What a read gave.
pub(super) enum Read {
    /// Bytes.
    Bytes(Bytes),
    /// Nothing for now.
    Nothing,
    /// The link is gone; why, in words.
    Closed(String),
}

/// All links.
#[derive(Default)]
pub(super) struct Links {
    links: BTreeMap<LinkId, Link>,
    next: u64,
    /// The read buffer, while nobody else holds it.
    buffer: Vec<u8>,
    list: Vec<LinkId>,
}

impl Links {
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// Takes over a connection that a thread has made.
    pub(super) fn adopt(&mut self, stream: std::net::TcpStream, registry: &Registry) -> io::Result<LinkId> {
        stream.set_nonblocking(true)?;
        self.add(TcpStream::from_std(stream), registry)
    }

    pub(super) fn add(&mut self, mut stream: TcpStream, registry: &Registry) -> io::Result<LinkId> {
        let id = LinkId(self.next);
        self.next += 1;
        stream.set_nodelay(true)?;
        let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(30));
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        registry.register(&mut stream, Token(LINKS + id.0 as usize), Interest::READABLE | Interest::WRITABLE)?;
        self.links.insert(id, Link { stream, readable: true, writable: true, hung_up: false });
        Ok(id)
    }

    pub(super) fn close(&mut self, link: LinkId, registry: &Registry) {
        if let Some(mut link) = self.links.remove(&link) {
            // Closing takes it out of the queue in any case.
            let _ = registry.deregister(&mut link.stream);
        }
    }

    /// Hands a link's socket over to somebody else. It stays registered.
    pub(super) fn give_up(&mut self, link: LinkId) -> Option<TcpStream> {
        self.links.remove(&link).map(|link| link.stream)
    }

    pub(super) fn ready(&mut self, link: LinkId, event: &Event) {
        if let Some(link) = self.links.get_mut(&link) {
            link.hung_up |= event.is_read_closed() || event.is_error();
            link.readable |= event.is_readable() || link.hung_up;
            link.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        }
    }

    pub(super) fn readable(&self) -> Vec<LinkId> {
        self.links.iter().filter(|(_, link)| link.readable).map(|(id, _)| *id).collect()
    }

    /// Whether some link could be read or written right now.
    pub(super) fn has_work(&mut self, machine: &mut dyn Drive) -> bool {
        self.links.iter().any(|(id, link)| {
            link.readable && machine.wants_read(*id)
                || link.writable && machine.outbox(*id).is_some_and(|outbox| !outbox.is_empty())
        })
    }

    /// One read.
    pub(super) fn read(&mut self, link: LinkId) -> Read {
        let Some(link) = self.links.get_mut(&link) else { return Read::Nothing };
        self.buffer.clear();
        self.buffer.reserve_exact(READ_BYTES);
        match rustix::io::read(&link.stream, spare_capacity(&mut self.buffer)) {
            Ok(0) => Read::Closed("the peer closed it".into()),
            Ok(read) => {
                // A read that fills less than it could has emptied the socket; what comes later is a new event.
                link.readable = link.hung_up || read == self.buffer.capacity();
                Read::Bytes(self.take_buffer(read))
            }
            Err(Errno::AGAIN) => {
                link.readable = false;
                Read::Nothing
            }
            Err(Errno::INTR) => Read::Nothing,
            Err(error) => Read::Closed(io::Error::from(error).to_string()),
        }
    }

    /// Hands the buffer out, or a copy where it holds little: a few bytes must not keep a large buffer alive.
    fn take_buffer(&mut self, read: usize) -> Bytes {
        if read < READ_BYTES / 16 {
            return Bytes::copy_from_slice(&self.buffer);
        }
        Bytes::from(std::mem::take(&mut self.buffer))
    }

    /// Takes a read buffer back, if nobody kept a part of it.
    pub(super) fn recycle(&mut self, bytes: Bytes) {
        if self.buffer.capacity() == 0
            && let Ok(whole) = bytes.try_into_mut()
        {
            self.buffer = whole.into();
        }
    }

    /// Writes what the link takes; `true` if it could take more.
    pub(super) fn write(&mut self, link: LinkId, outbox: &mut Outbox) -> Result<bool, String> {
        let Some(link) = self.links.get_mut(&link).filter(|link| link.writable) else { return Ok(false) };
        let mut slices = [IoSlice::new(&[]); WRITE_PIECES];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(outbox.pieces(WRITE_PIECES)) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        match link.stream.write_vectored(&slices[..count]) {
            Ok(0) => Err("the peer takes nothing any more".into()),
            Ok(written) => {
                outbox.advance(written);
                link.writable = written == offered;
                Ok(link.writable && !outbox.is_empty())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                link.writable = false;
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A list to be filled and put back: saves an allocation a turn.
    pub(super) fn take_list(&mut self) -> Vec<LinkId> {
        std::mem::take(&mut self.list)
    }

    pub(super) fn put_list(&mut self, list: Vec<LinkId>) {
        self.list = list;
    }
}

/// Opens a port.
pub(super) fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(TcpListener::from_std(socket.into()))
}
