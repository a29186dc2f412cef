//! A raw TCP relay, the limit of what any proxy in user space can do: bytes in, bytes out, nothing looked at.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::Result;

/// Bytes moved at once: as much as the pump of the core appends in one turn.
const BUFFER_BYTES: usize = 256 * 1024;

/// Relays every connection of `listen` to `upstream`, until it is killed.
pub(crate) fn run(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen)?;
    for downstream in listener.incoming() {
        let downstream = downstream?;
        let Ok(upstream) = TcpStream::connect(upstream) else { continue };
        downstream.set_nodelay(true)?;
        upstream.set_nodelay(true)?;
        let (from, to) = (downstream.try_clone()?, upstream.try_clone()?);
        thread::spawn(move || pour(from, to));
        thread::spawn(move || pour(upstream, downstream));
    }
    Ok(())
}

fn pour(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(length @ 1..) if to.write_all(&buffer[..length]).is_ok() => {}
            _ => {
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}
