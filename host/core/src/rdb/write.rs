//! The small parts of a snapshot, written: what a rewritten snapshot, a model primary and tests are built of.

use super::crc::Crc64;
use super::{Family, code};
use alloc::vec::Vec;

/// Appends the nine bytes that begin a snapshot. Of a version too long for its digits only the low ones are written.
pub fn write_magic(out: &mut Vec<u8>, family: Family, version: u32) {
    let (word, digits): (&[u8], u32) = match family {
        Family::Redis => (b"REDIS", 4),
        Family::Valkey => (b"VALKEY", 3),
    };
    out.extend_from_slice(word);
    out.extend((0..digits).rev().map(|place| b'0' + (version / 10u32.pow(place) % 10) as u8));
}

/// Appends a length (or a number that is written as one) in its shortest form.
pub fn write_len(out: &mut Vec<u8>, length: u64) {
    match (u8::try_from(length), u16::try_from(length), u32::try_from(length)) {
        (Ok(short @ ..0x40), ..) => out.push(short),
        (_, Ok(middle @ ..0x4000), _) => out.extend_from_slice(&(middle | 0x4000).to_be_bytes()),
        (.., Ok(long)) => {
            out.push(0x80);
            out.extend_from_slice(&long.to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// Appends a string in its plain form: its length, then its bytes. Servers read this form wherever a string can stand.
pub fn write_string(out: &mut Vec<u8>, bytes: &[u8]) {
    write_len(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends an aux field.
pub fn write_aux(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(code::AUX);
    write_string(out, name);
    write_string(out, value);
}

/// Appends the mark that the keys which follow belong to database `db`.
pub fn write_select(out: &mut Vec<u8>, db: u32) {
    out.push(code::SELECTDB);
    write_len(out, u64::from(db));
}

/// Appends an expiry for the next key, in Unix milliseconds.
pub fn write_expiry(out: &mut Vec<u8>, unix_ms: i64) {
    out.push(code::EXPIRETIME_MS);
    out.extend_from_slice(&unix_ms.to_le_bytes());
}

/// Appends a key whose value is a string.
pub fn write_string_key(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.push(0);
    write_string(out, key);
    write_string(out, value);
}

/// Appends a function library.
pub fn write_function(out: &mut Vec<u8>, source: &[u8]) {
    out.push(code::FUNCTION2);
    write_string(out, source);
}

/// Appends the end mark and the checksum of `out` as a whole: `out` has to hold the snapshot from its first byte.
pub fn write_end(out: &mut Vec<u8>) {
    out.push(code::EOF);
    let sum = Crc64::of(out);
    out.extend_from_slice(&sum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_their_shortest_form() {
        let cases: [(u64, &[u8]); 7] = [
            (5, &[0x05]),
            (63, &[0x3f]),
            (64, &[0x40, 64]),
            (100, &[0x40, 100]),
            (16383, &[0x7f, 0xff]),
            (65536, &[0x80, 0, 1, 0, 0]),
            (1 << 32, &[0x81, 0, 0, 0, 1, 0, 0, 0, 0]),
        ];
        for (length, bytes) in cases {
            let mut out = Vec::new();
            write_len(&mut out, length);
            assert_eq!(out, bytes, "{length}");
        }
    }

    #[test]
    fn the_magic_has_nine_bytes_in_both_families() {
        for (family, version, magic) in [(Family::Redis, 11, b"REDIS0011"), (Family::Valkey, 80, b"VALKEY080")] {
            let mut out = Vec::new();
            write_magic(&mut out, family, version);
            assert_eq!(out, magic);
        }
    }
}
