//! Ziplists, written: what servers before 7.0 keep pieces of lists in.
//!
//! Ten bytes of head (the whole length, where the last entry begins, and the count), then the entries, then 0xff. Before each
//! entry stands the length of the one before it.

use alloc::vec::Vec;

use crate::rdb::listpack::Entry;

/// The head, and the end mark.
const FRAME_BYTES: u64 = 10 + 1;
/// The end mark.
const END: u8 = 0xff;

/// A ziplist in the making.
#[derive(Debug)]
pub(super) struct Ziplist {
    bytes: Vec<u8>,
    /// Where the last entry begins, and its length.
    last: (usize, usize),
    count: u64,
}

impl Ziplist {
    pub(super) fn new() -> Self {
        Self { bytes: alloc::vec![0; 10], last: (10, 0), count: 0 }
    }

    pub(super) fn push(&mut self, entry: Entry<'_>) {
        let start = self.bytes.len();
        match u8::try_from(self.last.1) {
            Ok(short @ ..0xfe) => self.bytes.push(short),
            _ => {
                self.bytes.push(0xfe);
                self.bytes.extend_from_slice(&(self.last.1 as u32).to_le_bytes());
            }
        }
        match entry {
            Entry::Text(text) => {
                text_head(&mut self.bytes, text.len() as u32);
                self.bytes.extend_from_slice(text);
            }
            Entry::Number(number) => write_number(&mut self.bytes, number),
        }
        self.last = (start, self.bytes.len() - start);
        self.count += 1;
    }

    /// The bytes; `None` if they are more than a ziplist can have.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        self.bytes.push(END);
        let length = u32::try_from(self.bytes.len()).ok()?;
        write_head(self.bytes.get_mut(..10)?, length, self.last.0 as u32, self.count);
        Some(self.bytes)
    }
}

/// What stands before and behind a text of `length` bytes that is the only entry of a ziplist; `None` if it is too long for one.
pub(super) fn around(length: u64) -> Option<(Vec<u8>, u8)> {
    let mut before = alloc::vec![0; 10];
    // No entry stands before it.
    before.push(0);
    let short = u32::try_from(length).ok()?;
    text_head(&mut before, short);
    let total = u32::try_from(before.len() as u64 - 10 + FRAME_BYTES + length).ok()?;
    write_head(before.get_mut(..10)?, total, 10, 1);
    Some((before, END))
}

fn write_head(head: &mut [u8], length: u32, tail: u32, count: u64) {
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    let fields = length.to_le_bytes().into_iter().chain(tail.to_le_bytes()).chain(count.to_le_bytes());
    head.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
}

fn text_head(out: &mut Vec<u8>, length: u32) {
    match length {
        0..0x40 => out.push(length as u8),
        0x40..0x4000 => out.extend_from_slice(&(length as u16 | 0x4000).to_be_bytes()),
        _ => {
            out.push(0x80);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: i64) {
    let bytes = number.to_le_bytes();
    let (mark, width) = match number {
        0..=12 => (0xf1 + number as u8, 0),
        -0x80..=0x7f => (0xfe, 1),
        -0x8000..=0x7fff => (0xc0, 2),
        -0x80_0000..=0x7f_ffff => (0xf0, 3),
        -0x8000_0000..=0x7fff_ffff => (0xd0, 4),
        _ => (0xe0, 8),
    };
    out.push(mark);
    out.extend_from_slice(bytes.get(..width).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ziplist_is_written_as_servers_write_it() {
        let mut list = Ziplist::new();
        let numbers = [12i64, -1, 300, 70_000, 1 << 30, 1 << 40];
        numbers.iter().for_each(|number| list.push(Entry::Number(*number)));
        list.push(Entry::Text(b"ab"));
        let expected = [
            &[45, 0, 0, 0, 40, 0, 0, 0, 7, 0][..],
            &[0, 0xfd],
            &[2, 0xfe, 0xff],
            &[3, 0xc0, 0x2c, 1],
            &[4, 0xf0, 0x70, 0x11, 1],
            &[5, 0xd0, 0, 0, 0, 0x40],
            &[6, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0],
            &[10, 2, b'a', b'b'],
            &[0xff],
        ];
        assert_eq!(list.finish().unwrap(), expected.concat());
    }

    #[test]
    fn a_long_entry_makes_the_length_behind_it_long() {
        let mut list = Ziplist::new();
        list.push(Entry::Text(&[b'x'; 300]));
        list.push(Entry::Number(1));
        let bytes = list.finish().unwrap();
        assert_eq!(bytes[10..13], [0, 0x41, 0x2c]);
        assert_eq!(bytes[313..], [0xfe, 0x2f, 1, 0, 0, 0xf2, 0xff]);
    }

    #[test]
    fn what_stands_around_a_single_text_is_the_same() {
        for length in [0usize, 63, 64, 16_383, 16_384, 70_000] {
            let text = alloc::vec![b't'; length];
            let mut list = Ziplist::new();
            list.push(Entry::Text(&text));
            let (before, end) = around(length as u64).unwrap();
            assert_eq!([&before[..], &text, &[end]].concat(), list.finish().unwrap(), "{length}");
        }
        assert!(around(u64::from(u32::MAX)).is_none());
    }
}
