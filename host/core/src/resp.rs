//! RESP as a replication stream has it: arrays of bulk strings, byte for byte, with bounded claims.
//!
//! The scanner finds where a frame ends and where its arguments lie, and copies nothing. It believes no length that the
//! bytes themselves do not back: a claim above its bound is an error, a claim within it costs nothing until the bytes come.

pub mod reply;

use alloc::vec::Vec;

/// Where one argument lies, relative to the start of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// The arguments of one frame: spans over its bytes, the command's name first.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    /// The whole frame.
    pub frame: &'a [u8],
    /// Where its arguments lie.
    pub spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// How many arguments there are, the command's name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no argument at all.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `index`, if there is one.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let span = self.spans.get(index)?;
        self.frame.get(span.start as usize..span.end as usize)
    }

    /// Whether argument `index` is there and is `word`, without regard to case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// All arguments from `from` on.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let frame = self.frame;
        self.spans.get(from..).unwrap_or(&[]).iter().filter_map(move |s| frame.get(s.start as usize..s.end as usize))
    }
}

/// Reads a decimal number without a sign, of at most 19 digits. `None` for anything else.
pub fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 19 {
        return None;
    }
    bytes.iter().try_fold(0u64, |n, &b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

/// Reads a decimal number with an optional minus sign.
pub fn signed_decimal(bytes: &[u8]) -> Option<i64> {
    match bytes.strip_prefix(b"-") {
        Some(rest) => i64::try_from(decimal(rest)?).ok().map(|n| -n),
        None => i64::try_from(decimal(bytes)?).ok(),
    }
}

/// The value of a field of INFO: what stands behind `name:` on a line of its own.
pub(crate) fn info_field<'a>(info: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut lines = info.split(|&byte| byte == b'\n');
    lines.find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":")).map(<[u8]>::trim_ascii)
}

/// Appends `n` in decimal.
pub fn write_decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends an array header: `*<count>\r\n`.
pub fn write_array(out: &mut Vec<u8>, count: usize) {
    out.push(b'*');
    write_decimal(out, count as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends a bulk string: `$<length>\r\n<bytes>\r\n`.
pub fn write_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    write_decimal(out, bytes.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole command as an array of bulk strings.
pub fn write_command(out: &mut Vec<u8>, args: &[&[u8]]) {
    write_array(out, args.len());
    for arg in args {
        write_bulk(out, arg);
    }
}

/// Appends AUTH; without a user, in the form that servers of any age know.
pub(crate) fn write_auth(out: &mut Vec<u8>, user: Option<&str>, password: &str) {
    match user {
        Some(user) => write_command(out, &[b"AUTH", user.as_bytes(), password.as_bytes()]),
        None => write_command(out, &[b"AUTH", password.as_bytes()]),
    }
}
