//! Reading the small parts of a snapshot from a window of bytes: lengths, string heads, fixed fields.
//!
//! A read that meets the end of the window does not fail: it tells how many bytes the window has to have for it to get on.

use super::error::Defect;
use super::lzf;
use alloc::vec::Vec;
use core::fmt::Write;

/// Why a read gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The window is too short: with at least this many bytes the read gets further.
    Short(usize),
    /// The bytes are wrong, at this place in the window.
    Bad(usize, Defect),
}

/// The head of a string, and so how many bytes follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StringHead {
    /// This many bytes follow, and are the string.
    Plain(u64),
    /// Nothing follows: the string is this number in decimal.
    Number(i32),
    /// `packed` bytes follow, and unpack to `original`.
    Packed { packed: u64, original: u64 },
}

impl StringHead {
    /// Bytes that follow the head.
    #[inline]
    pub(crate) fn tail(self) -> u64 {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Number(_) => 0,
            Self::Packed { packed, .. } => packed,
        }
    }
}

/// A window of bytes, and how far it has been read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'w> {
    window: &'w [u8],
    at: usize,
}

impl<'w> Cursor<'w> {
    /// Begins to read `window` at `at`.
    #[inline]
    pub(crate) fn new(window: &'w [u8], at: usize) -> Self {
        Self { window, at }
    }

    /// How many bytes of the window have been read.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// How many bytes of the window are left.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        self.window.len().saturating_sub(self.at)
    }

    /// The error that the byte read last is wrong.
    #[cold]
    pub(crate) fn bad(&self, defect: Defect) -> Stop {
        Stop::Bad(self.at.saturating_sub(1), defect)
    }

    /// The next `count` bytes.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'w [u8], Stop> {
        let end = self.at.saturating_add(count);
        let bytes = self.window.get(self.at..end).ok_or(Stop::Short(end))?;
        self.at = end;
        Ok(bytes)
    }

    /// The next `N` bytes.
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        match self.window.get(self.at..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(Stop::Short(self.at.saturating_add(N))),
        }
    }

    /// Four bytes, little endian.
    #[inline]
    pub(crate) fn le_u32(&mut self) -> Result<u32, Stop> {
        self.array().map(u32::from_le_bytes)
    }

    /// A byte that says whether something is there: 0 or 1.
    #[inline]
    pub(crate) fn flag(&mut self) -> Result<bool, Stop> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.bad(Defect::Flag(other))),
        }
    }

    /// The next byte.
    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.window.get(self.at).ok_or(Stop::Short(self.at.saturating_add(1)))?;
        self.at += 1;
        Ok(byte)
    }

    /// A length: one byte below 64, two bytes below 16384, or a mark and four or eight bytes, big endian.
    #[inline]
    pub(crate) fn length(&mut self) -> Result<u64, Stop> {
        let first = self.byte()?;
        if first < 0x40 { Ok(u64::from(first)) } else { self.long_length(first) }
    }

    fn long_length(&mut self, first: u8) -> Result<u64, Stop> {
        match first {
            0x40..=0x7f => Ok(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            0x80 => Ok(u64::from(u32::from_be_bytes(self.array()?))),
            0x81 => Ok(u64::from_be_bytes(self.array()?)),
            _ => Err(self.bad(Defect::Length(first))),
        }
    }

    /// The head of a string.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<StringHead, Stop> {
        let first = self.byte()?;
        if first < 0x40 { Ok(StringHead::Plain(u64::from(first))) } else { self.long_string(first) }
    }

    fn long_string(&mut self, first: u8) -> Result<StringHead, Stop> {
        match first {
            0x40..=0x81 => Ok(StringHead::Plain(self.long_length(first)?)),
            0xc0 => Ok(StringHead::Number(i32::from(i8::from_le_bytes(self.array()?)))),
            0xc1 => Ok(StringHead::Number(i32::from(i16::from_le_bytes(self.array()?)))),
            0xc2 => Ok(StringHead::Number(i32::from_le_bytes(self.array()?))),
            0xc3 => Ok(StringHead::Packed { packed: self.length()?, original: self.length()? }),
            _ => Err(self.bad(Defect::StringEncoding(first))),
        }
    }

    /// A whole string of at most `bound` bytes (packed and unpacked), which errors call `what`.
    #[inline]
    pub(crate) fn held(&mut self, what: &'static str, bound: usize) -> Result<Text<'w>, Stop> {
        let start = self.at;
        let bounded = |bytes: u64| match usize::try_from(bytes) {
            Ok(bytes) if bytes <= bound => Ok(bytes),
            _ => Err(Stop::Bad(start, Defect::TooLong { what, bytes, bound })),
        };
        match self.string()? {
            StringHead::Plain(bytes) => Ok(Text::Plain(self.take(bounded(bytes)?)?)),
            StringHead::Number(number) => Ok(Text::Number(number)),
            StringHead::Packed { packed, original } => {
                let original = bounded(original)?;
                Ok(Text::Packed { bytes: self.take(bounded(packed)?)?, original, start })
            }
        }
    }
}

/// A whole string as it stands in a snapshot.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Text<'w> {
    /// The bytes themselves.
    Plain(&'w [u8]),
    /// A number whose decimal form is meant.
    Number(i32),
    /// LZF: the packed bytes, the length they unpack to, and where in the window they began.
    Packed { bytes: &'w [u8], original: usize, start: usize },
}

impl<'w> Text<'w> {
    /// The bytes that are meant, borrowed from the window or, if they had to be made, from `scratch`.
    #[inline]
    pub(crate) fn decode<'s>(self, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Stop>
    where
        'w: 's,
    {
        match self {
            Self::Plain(bytes) => Ok(bytes),
            Self::Number(number) => {
                let mut digits = Digits(scratch);
                digits.0.clear();
                // Writing to a vector cannot fail.
                let _ = write!(digits, "{number}");
                Ok(digits.0)
            }
            Self::Packed { bytes, original, start } => match lzf::unpack(bytes, original, scratch) {
                Ok(()) => Ok(scratch),
                Err(lzf::Broken) => Err(Stop::Bad(start, Defect::Lzf)),
            },
        }
    }
}

/// Lets a byte vector be written to as text.
struct Digits<'s>(&'s mut Vec<u8>);

impl Write for Digits<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
