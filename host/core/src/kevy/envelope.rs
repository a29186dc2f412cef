//! A live frame: a command in an envelope that gives its offset.

use super::error::Wrong;
use crate::frame::{self, Cursor, Scan};

/// A frame whose envelope has been read, and whose command has been cut by the end of a read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// Its offset.
    pub(super) offset: u64,
    /// Where in the gathered bytes the command begins.
    pub(super) body: usize,
    /// Where the scan of the command stands.
    pub(super) cursor: Cursor,
}

/// A frame at the beginning of some bytes.
pub(super) enum Opened {
    /// It is whole: its offset, where its command begins, and the scan of that.
    Whole { offset: u64, body: usize, cursor: Cursor },
    /// Its end, or even its envelope's, is still to come.
    Cut(Option<Cut>),
}

/// Opens the frame that `bytes` begin with.
#[inline]
pub(super) fn open(bytes: &[u8], bound: usize) -> Result<Opened, (usize, Wrong)> {
    let Some((offset, body)) = envelope(bytes)? else { return Ok(Opened::Cut(None)) };
    let inner = bytes.get(body..).unwrap_or_default();
    if let Some(cursor) = Cursor::quick(inner).filter(|cursor| cursor.at <= bound) {
        return Ok(Opened::Whole { offset, body, cursor });
    }
    let mut cursor = Cursor::default();
    Ok(match scan(&mut cursor, inner, body, bound)? {
        None => Opened::Whole { offset, body, cursor },
        Some(_) => Opened::Cut(Some(Cut { offset, body, cursor })),
    })
}

/// Goes on with a frame that was cut: how many bytes more it needs to have at least, `None` once it is whole.
pub(super) fn open_cut(cut: &mut Option<Cut>, bytes: &[u8], bound: usize) -> Result<Option<usize>, (usize, Wrong)> {
    let cut = match cut {
        Some(cut) => cut,
        None => match envelope(bytes)? {
            Some((offset, body)) => cut.insert(Cut { offset, body, cursor: Cursor::default() }),
            None => return Ok(Some(1)),
        },
    };
    scan(&mut cut.cursor, bytes.get(cut.body..).unwrap_or_default(), cut.body, bound)
}

/// Scans a command within its bound: how many bytes more it needs to have at least, `None` once it is whole.
fn scan(cursor: &mut Cursor, inner: &[u8], body: usize, bound: usize) -> Result<Option<usize>, (usize, Wrong)> {
    if inner.first().is_some_and(|&byte| byte != b'*') {
        return Err((body, Wrong::Frame("a command that is no array")));
    }
    let (size, need) = match cursor.scan(inner, None).map_err(|(at, what)| (body + at, Wrong::Frame(what)))? {
        Scan::Done => (cursor.at as u64, None),
        Scan::More(need) => (inner.len() as u64 + need, Some(need as usize)),
    };
    if size > bound as u64 {
        return Err((body, Wrong::FrameTooLarge { bytes: size, bound }));
    }
    Ok(need)
}

/// The offset in a frame's envelope, and where its command begins; `None` if the envelope does not end in `bytes`.
#[inline]
fn envelope(bytes: &[u8]) -> Result<Option<(u64, usize)>, (usize, Wrong)> {
    const HEAD: &[u8] = b"*2\r\n:";
    let Some(head) = bytes.get(..HEAD.len()) else {
        return if HEAD.starts_with(bytes) { Ok(None) } else { Err((0, Wrong::Frame(NO_ENVELOPE))) };
    };
    if head != HEAD {
        return Err((0, Wrong::Frame(NO_ENVELOPE)));
    }
    frame::number(bytes, HEAD.len()).map_err(|_| (0, Wrong::Frame(NO_OFFSET)))
}

const NO_ENVELOPE: &str = "it does not begin as an array of an offset and a command";
const NO_OFFSET: &str = "its offset is no number of 18 digits at most";
