//! Function libraries: their names, and the payload of `FUNCTION DUMP` and `FUNCTION RESTORE`.
//!
//! A payload is a row of libraries as they stand in a snapshot, then the format's version (two bytes) and the CRC-64 of all
//! before it (eight bytes), both little endian. It has no magic.

use super::crc::Crc64;
use super::cursor::{Cursor, Stop, Text};
use super::error::{Defect, RdbError};
use super::{FUNCTION_BYTES_MAX, Family, code, write};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// Version and checksum.
const FOOTER: usize = 10;

/// The sources of function libraries, in their order. One that was packed is owned.
pub type Sources<'p> = Vec<Cow<'p, [u8]>>;

/// The libraries in a function dump, and the version of its format.
///
/// The checksum has to fit: unlike that of a snapshot, zero does not stand for "not computed" here.
pub fn split_function_dump(payload: &[u8]) -> Result<(Sources<'_>, u16), RdbError> {
    let truncated = RdbError { offset: payload.len() as u64, defect: Defect::Truncated };
    let (body, footer) = payload.split_last_chunk::<FOOTER>().ok_or(truncated)?;
    let [low, high, sum @ ..] = *footer;
    let (stored, version) = (u64::from_le_bytes(sum), u16::from_le_bytes([low, high]));
    let mut crc = Crc64::new();
    crc.update(body);
    crc.update(&[low, high]);
    if crc.sum() != stored {
        let defect = Defect::Crc { stored, computed: crc.sum() };
        return Err(RdbError { offset: (payload.len() - FOOTER + 2) as u64, defect });
    }
    let mut sources = Vec::new();
    let mut cursor = Cursor::new(body, 0);
    while cursor.left() > 0 {
        let source = library(&mut cursor).map_err(|stop| match stop {
            Stop::Short(_) => RdbError { offset: body.len() as u64, defect: Defect::Truncated },
            Stop::Bad(at, defect) => RdbError { offset: at as u64, defect },
        })?;
        sources.push(source);
    }
    Ok((sources, version))
}

/// One library of a dump.
fn library<'p>(cursor: &mut Cursor<'p>) -> Result<Cow<'p, [u8]>, Stop> {
    match cursor.byte()? {
        code::FUNCTION2 => {}
        other => return Err(cursor.bad(Defect::Opcode { family: Family::Redis, code: other })),
    }
    match cursor.held("a function library", FUNCTION_BYTES_MAX)? {
        Text::Plain(bytes) => Ok(Cow::Borrowed(bytes)),
        other => {
            let mut source = Vec::new();
            other.decode(&mut source)?;
            Ok(Cow::Owned(source))
        }
    }
}

/// The payload of a function dump with these sources, none of them packed.
pub fn join_function_dump<S: AsRef<[u8]>>(sources: &[S], version: u16) -> Vec<u8> {
    let mut payload = Vec::new();
    for source in sources {
        write::write_function(&mut payload, source.as_ref());
    }
    payload.extend_from_slice(&version.to_le_bytes());
    let sum = Crc64::of(&payload);
    payload.extend_from_slice(&sum.to_le_bytes());
    payload
}

/// The name of a library as its source tells it: the first line is `#!<engine> name=<library>`.
///
/// Servers let quotes stand around words, and allow only ASCII letters, digits and underscores in the name. `None` if there
/// is no such line, no name in it, more than one, or one with other characters.
pub fn library_name(source: &[u8]) -> Option<&[u8]> {
    let line = source.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut names = words.skip(1).filter_map(|word| {
        let word = unquoted(word);
        let (key, name) = word.split_at_checked(5)?;
        key.eq_ignore_ascii_case(b"name=").then(|| unquoted(name))
    });
    let name = names.next().filter(|_| names.next().is_none())?;
    let plain = !name.is_empty() && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain.then_some(name)
}

/// `word` without the quotes around it.
fn unquoted(word: &[u8]) -> &[u8] {
    match word {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: [&[u8]; 2] = [b"#!lua name=one\nreturn 1", b"#!lua name=two\nreturn 2"];

    #[test]
    fn a_dump_comes_apart_as_it_was_joined() {
        let payload = join_function_dump(&SOURCES, 10);
        let (sources, version) = split_function_dump(&payload).unwrap();
        assert_eq!(sources, SOURCES);
        assert_eq!(version, 10);
        assert_eq!(split_function_dump(&join_function_dump::<&[u8]>(&[], 11)), Ok((Vec::new(), 11)));
    }

    #[test]
    fn a_packed_library_is_unpacked() {
        let mut payload = alloc::vec![code::FUNCTION2, 0xc3, 4, 5, 0, b'a', 0x40, 0, 10, 0];
        let sum = Crc64::of(&payload);
        payload.extend_from_slice(&sum.to_le_bytes());
        let (sources, _) = split_function_dump(&payload).unwrap();
        assert_eq!(sources, [b"aaaaa".as_slice()]);
    }

    #[test]
    fn a_damaged_dump_is_refused_wherever_the_damage_is() {
        let payload = join_function_dump(&SOURCES, 10);
        for end in 0..payload.len() {
            assert!(split_function_dump(&payload[..end]).is_err(), "cut at {end}");
        }
        for bit in 0..payload.len() * 8 {
            let mut damaged = payload.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(split_function_dump(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_dump_with_something_else_in_it_is_refused() {
        for body in [&[246, 1, b'x'][..], &[code::FUNCTION2, 9, b'x'], &[code::FUNCTION2, 0xc4]] {
            let mut payload = [body, &[10, 0]].concat();
            let sum = Crc64::of(&payload);
            payload.extend_from_slice(&sum.to_le_bytes());
            assert!(split_function_dump(&payload).is_err(), "{body:?}");
        }
    }

    #[test]
    fn names_are_found_where_servers_find_them() {
        let named: [(&[u8], &[u8]); 6] = [
            (b"#!lua name=mylib\nredis.call()", b"mylib"),
            (b"#!lua  NAME=My_Lib9 \r\n", b"My_Lib9"),
            (b"#!lua name=\"quoted\"\n", b"quoted"),
            (b"#!lua 'name=whole'\n", b"whole"),
            (b"#!js flags=x name=later", b"later"),
            (b"#!lua\tname=tab", b"tab"),
        ];
        for (source, name) in named {
            assert_eq!(library_name(source), Some(name), "{}", source.escape_ascii());
        }
        let unnamed: [&[u8]; 8] = [
            b"",
            b"name=x",
            b"#!lua\nname=x",
            b"#!name=x",
            b"#!lua name=",
            b"#!lua name=a-b",
            b"#!lua name=a name=b",
            b"#!lua name=\"\\x61\"",
        ];
        for source in unnamed {
            assert_eq!(library_name(source), None, "{}", source.escape_ascii());
        }
    }
}
