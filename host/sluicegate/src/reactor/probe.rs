//! Asks a replica that did not say so which version it is: Redis does not announce it, and a snapshot that it cannot load
//! would cost it all its data.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use sluicegate_core::contract::LinkId;
use sluicegate_core::limits;
use sluicegate_core::rdb::{Family, ServerVersion};

use super::{Event, Reports};

/// More of an INFO reply than this is not looked at.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// Asks at the address that the replica announced, and reports.
pub(super) fn probe(link: LinkId, ip: String, port: u16, reports: Reports) {
    let unknown = reports.clone();
    let asking = thread::Builder::new().name("probe".into()).spawn(move || {
        reports.send(Event::Probed(link, ask(&ip, port)));
    });
    if asking.is_err() {
        unknown.send(Event::Probed(link, None));
    }
}

fn ask(ip: &str, port: u16) -> Option<ServerVersion> {
    let patience = Duration::from_millis(limits::PROBE_MS);
    let address = (ip, port).to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.write_all(b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n").ok()?;
    stream.set_write_timeout(Some(patience)).ok()?;
    let until = Instant::now() + patience;
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    while reply.len() < REPLY_BYTES_MAX && Instant::now() < until {
        let read = stream.read(&mut chunk).ok().filter(|&read| read > 0)?;
        reply.extend_from_slice(&chunk[..read]);
        // The reply's own length is not needed: the fields looked for stand at its beginning.
        if let Some(version) = version(&String::from_utf8_lossy(&reply)) {
            return Some(version);
        }
        if reply.starts_with(b"-") {
            return None;
        }
    }
    None
}

/// Finds the version in INFO server. Valkey also names the Redis version that it is compatible with, and says so first.
fn version(info: &str) -> Option<ServerVersion> {
    // The process id stands behind both version fields: once it is there, they are whole.
    info.contains("\r\nprocess_id:").then_some(())?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    match field("valkey_version") {
        Some(version) => ServerVersion::parse(Family::Valkey, version),
        None if field("server_name") == Some("valkey") => None,
        None => ServerVersion::parse(Family::Redis, field("redis_version")?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_decides_which_version_counts() {
        let redis = "$9\r\n# Server\r\nredis_version:7.0.15\r\nos:Linux\r\nprocess_id:1\r\n";
        let valkey =
            "$9\r\n# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\nprocess_id:1\r\n";
        assert_eq!(version(redis), Some(ServerVersion { family: Family::Redis, major: 7, minor: 0 }));
        assert_eq!(version(valkey), Some(ServerVersion { family: Family::Valkey, major: 9, minor: 1 }));
        assert_eq!(version(&redis[..30]), None, "half a reply may still hide the family");
    }
}
