//! Listpacks, read: what servers since 7.0 keep small hashes, sorted sets, sets, and pieces of lists and streams in.
//!
//! Six bytes of head (the whole length, and the count if it is below 65535), then the entries, then 0xff. Behind each entry
//! stands its length, for those who read backwards; here it is only checked.

/// The bytes are no listpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// These bytes.
    Text(&'a [u8]),
    /// The decimal form of this number.
    Number(i64),
}

/// The count that says "too many to be told".
const COUNT_UNKNOWN: u16 = u16::MAX;
/// What stands behind the last entry.
const END: u8 = 0xff;

/// The entries of the listpack `blob`, and how many there are: all of it is looked at before the first is given.
///
/// # Errors
/// It does not hold together, or is not as long, or does not have as many entries, as it says.
pub fn entries(blob: &[u8]) -> Result<(usize, Entries<'_>), Broken> {
    let (head, rest) = blob.split_first_chunk::<6>().ok_or(Broken)?;
    let [a, b, c, d, low, high] = *head;
    let (body, end) = rest.split_last().map(|(end, body)| (body, *end)).ok_or(Broken)?;
    if u32::from_le_bytes([a, b, c, d]) as usize != blob.len() || end != END {
        return Err(Broken);
    }
    let (mut count, mut left) = (0usize, body);
    while !left.is_empty() {
        left = entry(left).ok_or(Broken)?.1;
        count += 1;
    }
    match u16::from_le_bytes([low, high]) {
        COUNT_UNKNOWN => {}
        told if usize::from(told) == count => {}
        _ => return Err(Broken),
    }
    Ok((count, Entries(body)))
}

/// The entries of a sound listpack, in order.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (entry, rest) = entry(self.0)?;
        self.0 = rest;
        Some(entry)
    }
}

/// The first entry of `bytes`, and what follows it.
fn entry(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (entry, after) = match first {
        0..0x80 => (Entry::Number(i64::from(first)), rest),
        0x80..0xc0 => text(rest, usize::from(first & 0x3f))?,
        0xc0..0xe0 => {
            let (&low, after) = rest.split_first()?;
            // Thirteen bits with a sign.
            let bits = (u16::from(first & 0x1f) << 8 | u16::from(low)) << 3;
            (Entry::Number(i64::from(bits.cast_signed() >> 3)), after)
        }
        0xe0..0xf0 => {
            let (&low, after) = rest.split_first()?;
            text(after, usize::from(first & 0x0f) << 8 | usize::from(low))?
        }
        0xf0 => {
            let (length, after) = rest.split_first_chunk::<4>()?;
            text(after, u32::from_le_bytes(*length) as usize)?
        }
        0xf1 => number::<2>(rest)?,
        0xf2 => number::<3>(rest)?,
        0xf3 => number::<4>(rest)?,
        0xf4 => number::<8>(rest)?,
        _ => return None,
    };
    Some((entry, behind(after, bytes.len() - after.len())?))
}

fn text(bytes: &[u8], length: usize) -> Option<(Entry<'_>, &[u8])> {
    bytes.split_at_checked(length).map(|(text, after)| (Entry::Text(text), after))
}

/// A number of `N` bytes, little endian, with a sign.
fn number<const N: usize>(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (digits, after) = bytes.split_first_chunk::<N>()?;
    let sign = if digits.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [sign; 8];
    wide.iter_mut().zip(digits).for_each(|(wide, digit)| *wide = *digit);
    Some((Entry::Number(i64::from_le_bytes(wide)), after))
}

/// Steps over the length of an entry that stands behind it: seven bits a byte, the most significant first.
fn behind(bytes: &[u8], length: usize) -> Option<&[u8]> {
    let (told, after) = bytes.split_at_checked(width(length))?;
    let told = told.iter().fold(0u64, |sum, byte| sum << 7 | u64::from(byte & 0x7f));
    (told == length as u64).then_some(after)
}

/// How many bytes the length behind an entry has (`lpEncodeBacklenBytes` in the servers' listpack.c). The last number that
/// would go into two or more bytes takes one more.
fn width(length: usize) -> usize {
    match length {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// A listpack of entries that are given as they are written, without the length behind them.
    pub(in crate::rdb) fn listpack(entries: &[&[u8]]) -> Vec<u8> {
        let mut out = alloc::vec![0; 6];
        for entry in entries {
            out.extend_from_slice(entry);
            let width = width(entry.len());
            for place in (0..width).rev() {
                let mark = if place + 1 == width { 0 } else { 0x80 };
                out.push((entry.len() >> (7 * place)) as u8 & 0x7f | mark);
            }
        }
        out.push(END);
        let length = out.len() as u32;
        out[..4].copy_from_slice(&length.to_le_bytes());
        out[4..6].copy_from_slice(&(entries.len() as u16).to_le_bytes());
        out
    }

    #[test]
    fn every_encoding_is_read() {
        let long = [&[0xe1, 0][..], &[b'x'; 256]].concat();
        let longest = [&[0xf0, 0, 0x10, 0, 0][..], &[b'y'; 4096]].concat();
        let written: [&[u8]; 12] = [
            &[0],
            &[127],
            &[0x80],
            &[0x82, b'a', b'b'],
            &[0xc0, 128],
            &[0xdf, 0xff],
            &long,
            &longest,
            &[0xf1, 0, 0x80],
            &[0xf2, 0xff, 0xff, 0x7f],
            &[0xf3, 0, 0, 0, 0x80],
            &[0xf4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ];
        let blob = listpack(&written);
        let (count, found) = entries(&blob).unwrap();
        assert_eq!(count, written.len());
        let expected = [
            Entry::Number(0),
            Entry::Number(127),
            Entry::Text(b""),
            Entry::Text(b"ab"),
            Entry::Number(128),
            Entry::Number(-1),
            Entry::Text(&[b'x'; 256]),
            Entry::Text(&[b'y'; 4096]),
            Entry::Number(-32768),
            Entry::Number(8_388_607),
            Entry::Number(-2_147_483_648),
            Entry::Number(i64::MAX),
        ];
        assert!(found.eq(expected));
    }

    /// As redis-server 7.0 writes them: `RPUSH l <16 378 bytes>` makes an entry of 16,383 bytes, with `00 ff ff` behind.
    #[test]
    fn the_length_behind_an_entry_is_as_wide_as_servers_write_it() {
        for (text, behind) in [
            (122, &[127][..]),
            (123, &[0x01, 0x80]),
            (16_377, &[0x7f, 0xfe]),
            (16_378, &[0x00, 0xff, 0xff]),
            (16_379, &[0x01, 0x80, 0x80]),
            (2_097_145, &[0x7f, 0xff, 0xfe]),
            (2_097_146, &[0x00, 0xff, 0xff, 0xff]),
        ] {
            let entry = [&[0xf0][..], &(text as u32).to_le_bytes(), &alloc::vec![b'x'; text]].concat();
            let length = (6 + entry.len() + behind.len() + 1) as u32;
            let blob = [&length.to_le_bytes()[..], &[1, 0], &entry, behind, &[END]].concat();
            let (count, mut found) = entries(&blob).expect("sound");
            assert_eq!((count, found.next()), (1, Some(Entry::Text(&entry[5..]))), "{text} bytes");
        }
    }

    #[test]
    fn a_count_may_be_unknown_but_not_wrong() {
        let mut blob = listpack(&[&[1], &[2]]);
        blob[4..6].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(entries(&blob).unwrap().0, 2);
        blob[4..6].copy_from_slice(&[3, 0]);
        assert_eq!(entries(&blob).err(), Some(Broken));
    }

    #[test]
    fn what_is_cut_or_damaged_is_refused_or_read_but_never_trusted() {
        let blob = listpack(&[&[1], &[0x82, b'a', b'b'], &[0xf1, 7, 7], &[0xe0, 1, b'z']]);
        for end in 0..blob.len() {
            assert_eq!(entries(&blob[..end]).err(), Some(Broken), "cut at {end}");
        }
        for bit in 0..blob.len() * 8 {
            let mut damaged = blob.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok((count, found)) = entries(&damaged) {
                assert_eq!(found.count(), count, "bit {bit}");
            }
        }
    }
}
