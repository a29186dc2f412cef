//! What is said on a replication link, and its bounds.
//!
//! Lines are ASCII and end in CRLF, numbers are unsigned and decimal. Only a replica's handshake is an array of bulk
//! strings, and the command inside a live frame.

use alloc::string::String;
use alloc::vec::Vec;

use crate::resp;

/// The longest line of a primary (`+…` or `$…`), its CRLF included.
pub const LINE_BYTES_MAX: usize = 256;
/// The longest handshake of a replica.
pub const HANDSHAKE_BYTES_MAX: usize = 4 * 1024;
/// Bytes without a line end that a replica may send behind its handshake.
pub const ACK_LINE_BYTES_MAX: usize = 64 * 1024;
/// The longest piece of a snapshot, without its header. Replicas refuse longer ones, and empty ones.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// What stands in a frame that has to be there for its offset alone. Every version takes it and does nothing.
pub const PLACEHOLDER: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// What ends each piece of a snapshot.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Appends a replica's handshake: it holds the frames before `offset`. With a generation it speaks
/// [`K3`](super::Dialect::K3), without one the older dialects. Generation 0 claims nothing.
pub fn write_request(out: &mut Vec<u8>, generation: Option<u64>, offset: u64, id: &str) {
    let (mut of, mut from) = (Vec::new(), Vec::new());
    resp::write_decimal(&mut from, offset);
    match generation {
        None => resp::write_command(out, &[b"REPLICATE", b"FROM", &from, b"ID", id.as_bytes()]),
        Some(generation) => {
            resp::write_decimal(&mut of, generation);
            resp::write_command(out, &[b"REPLICATE", b"FROM", &of, &from, b"ID", id.as_bytes()]);
        }
    }
}

/// Appends the answer to a handshake: `+ACK [<generation> ]<offset>`. The offset is the one that was asked for.
pub fn write_ack(out: &mut Vec<u8>, generation: Option<u64>, offset: u64) {
    match generation {
        None => write_line(out, b"+ACK ", &[offset]),
        Some(generation) => write_line(out, b"+ACK ", &[generation, offset]),
    }
}

/// Appends a primary's sign of life: `+PING <generation> <next>`, where `next` is the offset of the next frame.
pub fn write_ping(out: &mut Vec<u8>, generation: u64, next: u64) {
    write_line(out, b"+PING ", &[generation, next]);
}

/// Appends a replica's acknowledgement: `REPLCONF ACK <next>`, the offset that it expects next.
pub fn write_replconf_ack(out: &mut Vec<u8>, next: u64) {
    write_line(out, b"REPLCONF ACK ", &[next]);
}

/// Appends what stands before the command in a live frame.
pub fn write_envelope(out: &mut Vec<u8>, offset: u64) {
    write_line(out, b"*2\r\n:", &[offset]);
}

/// Appends the line before the first piece of a snapshot.
pub fn write_snapshot_begin(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+SNAPSHOT\r\n");
}

/// Appends what stands before a piece of a snapshot; [`CHUNK_END`] stands behind it. `bytes` is 1 to [`CHUNK_BYTES_MAX`].
pub fn write_chunk_header(out: &mut Vec<u8>, bytes: usize) {
    debug_assert!((1..=CHUNK_BYTES_MAX).contains(&bytes), "replicas refuse a piece of {bytes} bytes");
    write_line(out, b"$", &[bytes as u64]);
}

/// Appends the line behind the last piece: the next frame will have this offset.
pub fn write_snapshot_end(out: &mut Vec<u8>, next: u64) {
    write_line(out, b"+SNAPSHOT_END ", &[next]);
}

fn write_line(out: &mut Vec<u8>, word: &[u8], numbers: &[u64]) {
    out.extend_from_slice(word);
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        resp::write_decimal(out, *number);
    }
    out.extend_from_slice(b"\r\n");
}

/// A number as peers write it. Generations take all 64 bits.
pub(super) fn number(word: &[u8]) -> Option<u64> {
    // The parser of the language would take a plus sign.
    word.first().filter(|byte| byte.is_ascii_digit())?;
    core::str::from_utf8(word).ok()?.parse().ok()
}

/// What a peer said, short enough for a log and with nothing in it that a terminal would obey.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    /// Enough to recognise a protocol by.
    const SHOWN: usize = 48;
    let line = memchr::memchr(b'\n', bytes).map_or(bytes, |end| bytes.get(..end).unwrap_or(bytes)).trim_ascii_end();
    let mut text = alloc::format!("{}", line.get(..SHOWN).unwrap_or(line).escape_ascii());
    if line.len() > SHOWN {
        text.push('…');
    }
    text
}
