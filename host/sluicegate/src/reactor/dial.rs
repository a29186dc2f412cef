//! Connects to the primary, on a thread: names and connections may take their time.

use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use super::{Event, Reports};

/// One address gets this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the port that lies so far behind the primary's first one, and reports.
pub(super) fn dial(index: usize, (host, first): &(String, u16), reports: &Reports) {
    let Some(port) = u16::try_from(index).ok().and_then(|index| first.checked_add(index)) else {
        return reports.send(Event::Dialed(index, Err(format!("no port lies {index} behind {first}"))));
    };
    let (host, report) = (host.clone(), reports.clone());
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
