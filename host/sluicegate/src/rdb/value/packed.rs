//! The blobs in which servers keep small collections: listpacks, ziplists, intsets.

use std::str;

use sluicegate_core::rdb::listpack;

pub(super) use sluicegate_core::rdb::listpack::{Broken, Entry};

/// A score.
pub(super) fn number(entry: Entry<'_>) -> Option<f64> {
    match entry {
        Entry::Number(number) => Some(number as f64),
        Entry::Text(text) => str::from_utf8(text).ok()?.parse().ok(),
    }
}

/// A time, a count or a flag.
pub(super) fn integer(entry: Entry<'_>) -> Option<i64> {
    match entry {
        Entry::Number(number) => Some(number),
        Entry::Text(text) => str::from_utf8(text).ok()?.parse().ok(),
    }
}

/// The entries of a blob, one after the other; an error is the last of them.
pub(super) enum Entries<'b> {
    Listpack(listpack::Entries<'b>),
    Other { left: &'b [u8], next: fn(&mut &'b [u8]) -> Result<Option<Entry<'b>>, Broken> },
}

impl<'b> Iterator for Entries<'b> {
    type Item = Result<Entry<'b>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let (left, next) = match self {
            Self::Listpack(entries) => return entries.next().map(Ok),
            Self::Other { left, next } => (left, next),
        };
        let entry = next(left);
        if entry.is_err() {
            *next = |_| Ok(None);
        }
        entry.transpose()
    }
}

/// The entries of a listpack.
pub(super) fn listpack(blob: &[u8]) -> Result<Entries<'_>, Broken> {
    Ok(Entries::Listpack(listpack::entries(blob)?.1))
}

/// The entries of a ziplist: its size, where its last entry is, and their number, entries, 255.
pub(super) fn ziplist(blob: &[u8]) -> Result<Entries<'_>, Broken> {
    let size = unsigned(blob.get(..4).ok_or(Broken)?);
    if size as usize != blob.len() || blob.len() <= 10 || blob.last() != Some(&255) {
        return Err(Broken);
    }
    Ok(Entries::Other { left: &blob[10..], next: ziplist_entry })
}

/// The entries of an intset: the width of a number, and how many there are.
pub(super) fn intset(blob: &[u8]) -> Result<Entries<'_>, Broken> {
    let mut left = blob;
    let (width, count) = (take(&mut left, 4)?, unsigned(take(&mut left, 4)?));
    let width = unsigned(width);
    if left.len() as u64 != u64::from(width) * u64::from(count) {
        return Err(Broken);
    }
    let next = match width {
        2 => |left: &mut &[u8]| one_number(left, 2),
        4 => |left: &mut &[u8]| one_number(left, 4),
        8 => |left: &mut &[u8]| one_number(left, 8),
        _ => return Err(Broken),
    };
    Ok(Entries::Other { left, next })
}

fn one_number<'b>(left: &mut &[u8], width: usize) -> Result<Option<Entry<'b>>, Broken> {
    if left.is_empty() {
        return Ok(None);
    }
    take(left, width).map(|bytes| Some(Entry::Number(signed(bytes))))
}

fn ziplist_entry<'b>(left: &mut &'b [u8]) -> Result<Option<Entry<'b>>, Broken> {
    // The length of the entry before, for those who read backwards.
    match take(left, 1)?[0] {
        255 if left.is_empty() => return Ok(None),
        255 => return Err(Broken),
        254 => _ = take(left, 4)?,
        _ => {}
    }
    let first = take(left, 1)?[0];
    Ok(Some(match first {
        0..0x40 => Entry::Text(take(left, first.into())?),
        0x40..0x80 => {
            let length = usize::from(first & 0x3f) << 8 | usize::from(take(left, 1)?[0]);
            Entry::Text(take(left, length)?)
        }
        0x80 => {
            let length = take(left, 4)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            Entry::Text(take(left, length)?)
        }
        0xc0 => Entry::Number(signed(take(left, 2)?)),
        0xd0 => Entry::Number(signed(take(left, 4)?)),
        0xe0 => Entry::Number(signed(take(left, 8)?)),
        0xf0 => Entry::Number(signed(take(left, 3)?)),
        0xfe => Entry::Number(signed(take(left, 1)?)),
        0xf1..=0xfd => Entry::Number(i64::from(first & 0xf) - 1),
        _ => return Err(Broken),
    }))
}

fn take<'b>(left: &mut &'b [u8], count: usize) -> Result<&'b [u8], Broken> {
    let (taken, rest) = left.split_at_checked(count).ok_or(Broken)?;
    *left = rest;
    Ok(taken)
}

/// Up to four bytes, the lowest first.
fn unsigned(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Up to eight bytes, the lowest first; the highest has the sign.
fn signed(bytes: &[u8]) -> i64 {
    let sign = bytes.last().map_or(0, |byte| i64::from(byte.cast_signed() >> 7));
    bytes.iter().rev().fold(sign, |number, byte| number << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(entries: Result<Entries<'_>, Broken>) -> Result<Vec<String>, Broken> {
        let text = |entry| match entry {
            Entry::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Entry::Number(number) => number.to_string(),
        };
        entries?.map(|entry| entry.map(text)).collect()
    }

    fn listpack_of(entries: &[u8]) -> Vec<u8> {
        let size = (entries.len() + 7) as u32;
        [&size.to_le_bytes()[..], &[255; 2], entries, &[255]].concat()
    }

    fn ziplist_of(entries: &[u8]) -> Vec<u8> {
        let size = (entries.len() + 11) as u32;
        [&size.to_le_bytes()[..], &[0; 6], entries, &[255]].concat()
    }

    #[test]
    fn every_form_of_a_listpack_entry_is_read() {
        let entries = [
            &[127, 1, 0x81, b'a', 2, 0xdf, 0xff, 2, 0xc1, 0, 2, 0xe0, 1, b'b', 3][..],
            &[0xf0, 1, 0, 0, 0, b'c', 6, 0xf1, 0, 0x80, 3, 0xf2, 0xff, 0xff, 0xff, 4],
            &[0xf3, 1, 0, 0, 0, 5, 0xf4, 0, 0, 0, 0, 0, 0, 0, 0x80, 9],
        ]
        .concat();
        let lowest = i64::MIN.to_string();
        let read = ["127", "a", "-1", "256", "b", "c", "-32768", "-1", "1", lowest.as_str()];
        assert_eq!(texts(listpack(&listpack_of(&entries))).expect("sound"), read);
    }

    #[test]
    fn the_length_behind_a_listpack_entry_takes_more_bytes_the_longer_it_is() {
        for (length, behind) in [(10, &[12][..]), (125, &[127]), (126, &[0x01, 0x80]), (4000, &[0x1f, 0xa2])] {
            let entry = [&[0xe0 | (length >> 8) as u8, length as u8][..], &vec![b'x'; length], behind].concat();
            let found = texts(listpack(&listpack_of(&[&entry[..], &[7, 1]].concat())));
            assert_eq!(found.expect("sound"), ["x".repeat(length), "7".into()], "{length}");
        }
    }

    #[test]
    fn every_form_of_a_ziplist_entry_is_read() {
        let entries = [
            &[0, 1, b'a', 3, 0x40, 1, b'b', 254, 4, 0, 0, 0, 0x80, 0, 0, 0, 1, b'c', 9, 0xc0, 1, 1][..],
            &[4, 0xd0, 0xff, 0xff, 0xff, 0xff, 6, 0xe0, 2, 0, 0, 0, 0, 0, 0, 0, 10, 0xf0, 0, 0, 0x80, 5, 0xfe, 0x80],
            &[3, 0xf1, 2, 0xfd],
        ]
        .concat();
        let read = ["a", "b", "c", "257", "-1", "2", "-8388608", "-128", "0", "12"];
        assert_eq!(texts(ziplist(&ziplist_of(&entries))).expect("sound"), read);
    }

    #[test]
    fn intsets_have_numbers_of_one_width() {
        let of = |width: u8, numbers: &[u8], count: u8| [&[width, 0, 0, 0, count, 0, 0, 0], numbers].concat();
        assert_eq!(texts(intset(&of(2, &[1, 0, 0xff, 0xff], 2))).expect("sound"), ["1", "-1"]);
        assert_eq!(texts(intset(&of(4, &[1, 0, 0, 0], 1))).expect("sound"), ["1"]);
        for broken in [of(3, &[1, 0, 0], 1), of(2, &[1, 0], 2), of(2, &[1], 1), vec![2, 0, 0]] {
            assert_eq!(texts(intset(&broken)), Err(Broken), "{broken:?}");
        }
    }

    /// Whatever is wrong with a blob, reading it ends, and nothing is read that is not there.
    #[test]
    fn damaged_blobs_end_in_time() {
        let listpacks = listpack_of(&[0x83, b'a', b'b', b'c', 4, 0xf1, 1, 2, 3, 5, 1]);
        let ziplists = ziplist_of(&[0, 3, b'a', b'b', b'c', 5, 0xc0, 1, 1, 4, 0xf3]);
        for (blob, read) in [(listpacks, listpack as fn(&[u8]) -> Result<Entries<'_>, Broken>), (ziplists, ziplist)] {
            assert_eq!(texts(read(&blob)).map(|texts| texts.len()), Ok(3));
            for end in 0..blob.len() {
                assert_eq!(texts(read(&blob[..end])), Err(Broken), "cut at {end}");
            }
            for bit in 0..blob.len() * 8 {
                let mut damaged = blob.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(texts(read(&damaged)).map_or(0, |texts| texts.len()) <= blob.len(), "bit {bit}");
            }
        }
    }
}
