//! The small parts of a value: lengths, strings, scores.

use std::io::{self, BufRead, Read};

use crate::rdb::dump::ValueReader;

/// How far back packed bytes can refer. Bytes.
const WINDOW: usize = 8 * 1024;
/// Unpacked bytes that are held before they are given away.
const HELD: usize = 64 * 1024;

/// How a string begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Head {
    /// So many bytes follow.
    Plain(u64),
    /// The string is this number in decimal.
    Number(i32),
    /// So many packed bytes follow, which unpack to so many.
    Packed(u64, u64),
}

impl Head {
    /// How long the string is. Bytes.
    pub(super) fn length(self) -> u64 {
        match self {
            Self::Plain(bytes) | Self::Packed(_, bytes) => bytes,
            Self::Number(number) => number.to_string().len() as u64,
        }
    }
}

/// Reads a value. The walker has found all lengths to be right, so what does not fit is a broken file all the same.
pub(super) struct Wire<'d>(pub(super) ValueReader<'d>);

impl Wire<'_> {
    /// The next bytes.
    pub(super) fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.array().map(|[byte]| byte)
    }

    /// A length, or a number that is written as one.
    pub(super) fn length(&mut self) -> io::Result<u64> {
        match self.head()? {
            Head::Plain(length) => Ok(length),
            _ => Err(broken("a string stands where a length should")),
        }
    }

    /// How a string begins.
    pub(super) fn head(&mut self) -> io::Result<Head> {
        Ok(match self.byte()? {
            short @ ..0x40 => Head::Plain(u64::from(short)),
            first @ 0x40..=0x7f => Head::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            0x80 => Head::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            0x81 => Head::Plain(u64::from_be_bytes(self.array()?)),
            0xc0 => Head::Number(i8::from_le_bytes(self.array()?).into()),
            0xc1 => Head::Number(i16::from_le_bytes(self.array()?).into()),
            0xc2 => Head::Number(i32::from_le_bytes(self.array()?)),
            0xc3 => Head::Packed(self.length()?, self.length()?),
            _ => return Err(broken("a byte begins neither a length nor a string")),
        })
    }

    /// Gives away the bytes of a string as they come, so that it may be of any size.
    pub(super) fn pour(&mut self, head: Head, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
        match head {
            Head::Plain(bytes) => pour(&mut (&mut self.0).take(bytes), sink),
            Head::Number(number) => {
                sink(number.to_string().as_bytes());
                Ok(())
            }
            Head::Packed(packed, original) => unpack(&mut (&mut self.0).take(packed), original, sink),
        }
    }

    /// Gives away all that is left of the value.
    pub(super) fn rest(&mut self, sink: impl FnMut(&[u8])) -> io::Result<()> {
        pour(&mut self.0, sink)
    }

    /// A score in decimal behind its length, or a mark for one that has no digits.
    pub(super) fn score(&mut self) -> io::Result<f64> {
        let length = match self.byte()? {
            253 => return Ok(f64::NAN),
            254 => return Ok(f64::INFINITY),
            255 => return Ok(f64::NEG_INFINITY),
            length => u64::from(length),
        };
        let mut text = String::new();
        (&mut self.0).take(length).read_to_string(&mut text)?;
        text.trim().parse().map_err(|_| broken("a score is no number"))
    }
}

fn pour(from: &mut impl BufRead, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
    loop {
        let piece = from.fill_buf()?;
        if piece.is_empty() {
            return Ok(());
        }
        sink(piece);
        let taken = piece.len();
        from.consume(taken);
    }
}

/// Unpacks all of `from`. A control byte below 32 announces so many bytes and one more; any other refers back: three bits of
/// length (7: a byte more follows), thirteen bits of distance.
fn unpack(from: &mut impl Read, original: u64, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
    let mut out: Vec<u8> = Vec::with_capacity(HELD + WINDOW);
    // Bytes of `out` that were given away, and those before them.
    let (mut given, mut before) = (0, 0u64);
    let mut byte = [0];
    while from.read(&mut byte)? == 1 {
        let control = usize::from(byte[0]);
        if control < 32 {
            let mut literals = [0; 32];
            from.read_exact(&mut literals[..=control])?;
            out.extend_from_slice(&literals[..=control]);
        } else {
            let mut length = (control >> 5) + 2;
            if length == 9 {
                from.read_exact(&mut byte)?;
                length += usize::from(byte[0]);
            }
            from.read_exact(&mut byte)?;
            let distance = ((control & 31) << 8 | usize::from(byte[0])) + 1;
            let start = out.len().checked_sub(distance).ok_or_else(|| broken("packed bytes refer to nothing"))?;
            (start..start + length).for_each(|at| out.push(out[at]));
        }
        if before + out.len() as u64 > original {
            break;
        }
        if out.len() >= HELD {
            sink(&out[given..]);
            let surplus = out.len() - WINDOW;
            out.drain(..surplus);
            (given, before) = (WINDOW, before + surplus as u64);
        }
    }
    if before + out.len() as u64 != original {
        return Err(broken("packed bytes do not unpack to the length they claim"));
    }
    sink(&out[given..]);
    Ok(())
}

fn broken(what: &'static str) -> io::Error {
    io::Error::other(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(packed: &[u8], original: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        unpack(&mut { packed }, original, |piece| out.extend_from_slice(piece)).map(|()| out)
    }

    #[test]
    fn packed_bytes_unpack_however_long_they_are() -> io::Result<()> {
        assert_eq!(unpacked(&[1, b'a', b'b', 0xe0, 3, 1], 14)?, b"ababababababab");
        // A byte, and then references to it of 264 bytes each: far beyond what is held.
        let (times, mut packed) = (2_000, vec![0, b'x']);
        (0..times).for_each(|_| packed.extend_from_slice(&[0xe0, 255, 0]));
        let length = 1 + times * 264;
        assert_eq!(unpacked(&packed, length as u64)?, vec![b'x'; length]);
        Ok(())
    }

    #[test]
    fn what_does_not_unpack_as_it_claims_is_refused() {
        let cases: [(&[u8], u64); 5] =
            [(&[0, b'a'], 2), (&[1, b'a', b'b'], 1), (&[0x20, 0], 3), (&[5, b'a'], 6), (&[0, b'a', 0xe0], 9)];
        for (packed, original) in cases {
            assert!(unpacked(packed, original).is_err(), "{packed:?}");
        }
    }
}
