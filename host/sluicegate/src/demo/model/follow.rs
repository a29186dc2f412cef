//! A model server as a replica: the handshake, the snapshot, then the stream, acknowledged every second.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Connection, Shared, words};
use crate::client::{Value, broken};

const ACK_EVERY: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// No snapshot of the demo is larger.
const SNAPSHOT_BYTES_MAX: usize = 1 << 20;

/// Follows the view at `of` until the process ends.
pub(super) fn follow(shared: &Arc<Shared>, of: SocketAddr, own_port: u16) {
    loop {
        // Refused, not ready yet, or cut: a replica tries again.
        let _ = follow_once(shared, of, own_port);
        shared.lock().is_in_sync = false;
        thread::sleep(RETRY_AFTER);
    }
}

fn follow_once(shared: &Arc<Shared>, of: SocketAddr, own_port: u16) -> io::Result<()> {
    let mut link = Connection::open(of)?;
    link.stream().set_read_timeout(None)?;
    let port = own_port.to_string();
    for words in [&["PING"] as &[&str], &["REPLCONF", "listening-port", &port], &["REPLCONF", "capa", "psync2"]] {
        link.send(words)?;
        if let Value::Error(text) = link.value()? {
            return Err(broken(text));
        }
    }
    link.send(&["PSYNC", "?", "-1"])?;
    let granted = text_line(&mut link)?;
    let mut granted = granted.strip_prefix("+FULLRESYNC ").ok_or_else(|| broken(&granted))?.split(' ');
    let (history, offset) = (granted.next().unwrap_or_default().to_owned(), granted.next().unwrap_or_default());
    let offset: u64 = offset.parse().map_err(broken)?;
    let head = text_line(&mut link)?;
    let length: usize = head.strip_prefix('$').unwrap_or_default().parse().map_err(broken)?;
    if length > SNAPSHOT_BYTES_MAX {
        return Err(broken(format!("a snapshot of {length} bytes")));
    }
    let snapshot = link.exactly(length)?;
    {
        let mut dataset = shared.lock();
        dataset.load(&snapshot).map_err(broken)?;
        (dataset.history, dataset.offset, dataset.is_in_sync) = (history, offset, true);
    }
    acknowledge(shared, &link)?;
    stream(shared, link, offset)
}

/// Applies the stream. A transaction takes effect as a whole, at its EXEC.
fn stream(shared: &Shared, mut link: Connection, start: u64) -> io::Result<()> {
    let before = link.bytes_read;
    let mut transaction: Option<Vec<Vec<String>>> = None;
    loop {
        let command = words(&link.value()?);
        let mut dataset = shared.lock();
        match (command.first().map(|verb| verb.to_ascii_uppercase()).as_deref(), &mut transaction) {
            (Some("MULTI"), _) => transaction = Some(Vec::new()),
            (Some("EXEC"), _) => {
                for held in transaction.take().unwrap_or_default() {
                    dataset.apply(&held);
                }
            }
            (_, Some(held)) => held.push(command),
            (_, None) => {
                dataset.apply(&command);
            }
        }
        dataset.offset = start + (link.bytes_read - before);
    }
}

/// Tells regularly how far this replica is, until the link breaks.
fn acknowledge(shared: &Arc<Shared>, link: &Connection) -> io::Result<()> {
    let mut link = Connection::new(link.stream().try_clone()?)?;
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        loop {
            let offset = shared.lock().offset.to_string();
            if link.send(&["REPLCONF", "ACK", &offset]).is_err() {
                return;
            }
            thread::sleep(ACK_EVERY);
        }
    });
    Ok(())
}

/// The next line that says something: a primary that is not ready yet sends empty ones.
fn text_line(link: &mut Connection) -> io::Result<String> {
    loop {
        let line = link.line()?;
        if !line.is_empty() {
            return Ok(line);
        }
    }
}
