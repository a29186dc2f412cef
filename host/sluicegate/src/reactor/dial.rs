//! Connects to the primary, on a thread: names and connections may take their time.

use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use super::{Event, Reports};

/// One address gets this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the primary listens.
#[derive(Debug, Clone)]
pub(crate) struct Primary {
    /// A name or an address.
    pub(crate) host: String,
    /// Its port, or the first of them.
    pub(crate) port: u16,
    /// Each connection goes to a port of its own, from `port` on.
    pub(crate) many_ports: bool,
}

impl Primary {
    /// The port of connection number `index`.
    fn port(&self, index: usize) -> Result<u16, String> {
        let behind = if self.many_ports { index } else { 0 };
        let port = u16::try_from(behind).ok().and_then(|behind| self.port.checked_add(behind));
        port.ok_or_else(|| format!("no port lies {behind} behind {}", self.port))
    }
}

/// Makes connection number `index`, and reports.
pub(super) fn dial(index: usize, primary: &Primary, reports: &Reports) {
    let port = match primary.port(index) {
        Ok(port) => port,
        Err(why) => return reports.send(Event::Dialed(index, Err(why))),
    };
    let (host, report) = (primary.host.clone(), reports.clone());
    let dialing = thread::Builder::new().name("dial".into()).spawn(move || {
        report.send(Event::Dialed(index, connect(&host, port)));
    });
    if let Err(error) = dialing {
        reports.send(Event::Dialed(index, Err(format!("no thread to connect from: {error}"))));
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
