//! Connects to the primary, on a thread: names and connections may take their time.

use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use super::{Event, Reports};

/// One address gets this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects, and reports.
pub(super) fn dial((host, port): (String, u16), reports: Reports) {
    let failed = reports.clone();
    let dialing = thread::Builder::new().name("dial".into()).spawn(move || {
        reports.send(Event::Dialed(connect(&host, port)));
    });
    if let Err(error) = dialing {
        failed.send(Event::Dialed(Err(format!("no thread to connect from: {error}"))));
    }
}

fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| format!("cannot resolve {host}: {error}"))?;
    let mut last = format!("{host} has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}
