//! The head of a container: what it is, and which codec unpacks it.

use alloc::vec::Vec;
use core::str;

use super::Defect;
use crate::limits;

const MAGIC: &[u8] = b"SLUICEPACK1";

/// Whether this is the name of a format: 1 to [`limits::FORMAT_NAME_BYTES_MAX`] lower-case letters, digits and `-._`, so that
/// it can stand in a line of a protocol, in a file's name and in a log.
pub fn is_format(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    (1..=limits::FORMAT_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)
}

/// Appends the head of a container in `format`, which must be [a format's name](is_format).
pub fn write_head(format: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    // A name is at most 64 bytes long.
    out.push(format.len() as u8);
    out.extend_from_slice(format.as_bytes());
}

/// Reads the head that `bytes` begin with: the format and the head's length. `None`: the head is longer than `bytes`.
///
/// # Errors
/// The bytes do not begin as a container.
pub fn read_head(bytes: &[u8]) -> Result<Option<(&str, usize)>, Defect> {
    let known = bytes.len().min(MAGIC.len());
    if bytes.get(..known) != MAGIC.get(..known) {
        return Err(Defect::Magic);
    }
    let Some((&length, rest)) = bytes.get(MAGIC.len()..).and_then(<[u8]>::split_first) else { return Ok(None) };
    let length = usize::from(length);
    if !(1..=limits::FORMAT_NAME_BYTES_MAX).contains(&length) {
        return Err(Defect::Name);
    }
    let Some(name) = rest.get(..length) else { return Ok(None) };
    match str::from_utf8(name) {
        Ok(name) if is_format(name) => Ok(Some((name, MAGIC.len() + 1 + length))),
        _ => Err(Defect::Name),
    }
}
