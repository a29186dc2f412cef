//! Blocking RESP, as little of it as a canned primary and a counting replica need.

use std::io::{BufRead, Read};

use anyhow::{Context, Result, bail, ensure};
use sluicegate_core::resp;

/// One command as its sender framed it: the arguments, the name first.
pub(crate) type Command = Vec<Vec<u8>>;

/// A command as an array of bulk strings.
pub(crate) fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    resp::write_command(&mut out, args);
    out
}

/// Reads one line without its end. An empty result is a keepalive newline.
pub(crate) fn read_line(input: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    let read = input.take(64 * 1024).read_until(b'\n', &mut line)?;
    ensure!(read > 0, "the peer closed the connection");
    ensure!(line.pop() == Some(b'\n'), "a line without an end: {}", line.escape_ascii());
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

/// Reads one command from a replica; an empty command is a keepalive newline, `None` the end of the connection.
pub(crate) fn read_command(input: &mut impl BufRead) -> Result<Option<Command>> {
    if input.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let header = read_line(input)?;
    let Some(count) = header.strip_prefix(b"*") else {
        ensure!(header.is_empty(), "not a command: {}", header.escape_ascii());
        return Ok(Some(Vec::new()));
    };
    let count = resp::decimal(count).context("a command without a count")?;
    ensure!(count <= 64, "a command of {count} arguments");
    let mut args = Vec::new();
    for _ in 0..count {
        args.push(read_bulk(input)?);
    }
    Ok(Some(args))
}

fn read_bulk(input: &mut impl BufRead) -> Result<Vec<u8>> {
    let header = read_line(input)?;
    let Some(length) = header.strip_prefix(b"$").and_then(resp::decimal) else {
        bail!("not a bulk string: {}", header.escape_ascii());
    };
    ensure!(length <= 64 * 1024, "a bulk string of {length} bytes");
    let mut bytes = vec![0; length as usize + 2];
    input.read_exact(&mut bytes)?;
    ensure!(bytes.ends_with(b"\r\n"), "a bulk string without an end");
    bytes.truncate(length as usize);
    Ok(bytes)
}

/// One whole frame at the front of some bytes of a replication stream.
pub(crate) struct Frame<'a> {
    /// Its arguments, the command's name first.
    pub(crate) args: Vec<&'a [u8]>,
    /// Its length in bytes.
    pub(crate) len: usize,
}

/// The frame at the front of `bytes`; `None` until all of it is there.
pub(crate) fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>> {
    let mut at = 0;
    let Some(count) = header(bytes, &mut at, b'*')? else { return Ok(None) };
    let mut args = Vec::with_capacity(count.min(16));
    for _ in 0..count {
        let Some(length) = header(bytes, &mut at, b'$')? else { return Ok(None) };
        let Some(arg) = bytes.get(at..at + length + 2) else { return Ok(None) };
        ensure!(arg.ends_with(b"\r\n"), "a bulk string without an end: {}", arg.escape_ascii());
        args.push(&arg[..length]);
        at += length + 2;
    }
    Ok(Some(Frame { args, len: at }))
}

fn header(bytes: &[u8], at: &mut usize, kind: u8) -> Result<Option<usize>> {
    let rest = &bytes[*at..];
    let Some(end) = rest.iter().position(|&b| b == b'\n') else { return Ok(None) };
    let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
    let number = line.strip_prefix(&[kind]).and_then(resp::decimal);
    let number = number.with_context(|| format!("expected {}<number>, got {}", kind as char, line.escape_ascii()))?;
    *at += end + 1;
    Ok(Some(number as usize))
}
