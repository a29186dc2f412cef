//! Cuts the upstream's bytes into frames.
//!
//! A frame is one command of the stream with the span of offsets that it covers; its bytes stay where they were read. Only a
//! frame that a read has cut in two is gathered in a buffer of its own. A frame larger than anyone wants to hold is not
//! gathered but skipped over, and reported, so that the place in the history stays known.

mod skip;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use crate::command::{CommandId, Table};
use crate::resp::{Args, Span};
use skip::Skip;

/// Frames of one batch at most, so that what is known of them stays in the first-level cache.
pub(crate) const BATCH_FRAMES: usize = 512;
/// The most arguments that RESP servers take from a primary.
const ARGS_MAX: u64 = i32::MAX as u64;
/// A claimed bulk length above this is garbage, not a large value.
const BULK_BYTES_MAX: u64 = 1 << 40;

/// One frame: positions count from the start of [`Frames::bytes`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Frame {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// How many arguments, the command's name included. 0 for an empty line, which counts in the offset and does nothing.
    pub argc: u32,
    /// The command (its sub-command, where it has one), where the table knows it.
    pub command: Option<CommandId>,
    /// The command's name.
    pub name: Span,
    /// Where the header (`$<length>\r\n`) of the first argument after the name begins.
    pub key_header: u32,
    /// The first argument after the name: the key, for most commands. Empty if there is none.
    pub key: Span,
}

/// Neighbouring frames of one buffer.
#[derive(Debug)]
pub struct Frames<'a> {
    /// The buffer that the frames lie in.
    pub bytes: &'a Bytes,
    /// The frames, in order. Of Redis' and Valkey's stream they are all there is; kevy's have an envelope before each.
    pub frames: &'a [Frame],
    /// Offset before the first byte of `bytes`.
    pub offset: u64,
}

impl Frames<'_> {
    /// The bytes of `frame`.
    #[inline]
    pub fn bytes_of(&self, frame: &Frame) -> &[u8] {
        self.bytes.get(frame.start as usize..frame.end as usize).unwrap_or(&[])
    }

    /// The bytes of `span`.
    #[inline]
    pub fn span(&self, span: Span) -> &[u8] {
        self.bytes.get(span.start as usize..span.end as usize).unwrap_or(&[])
    }

    /// All arguments of `frame`, with their spans put into `spans`.
    pub fn args<'s>(&'s self, frame: &Frame, spans: &'s mut Vec<Span>) -> Args<'s> {
        scan_args(self.bytes_of(frame), spans)
    }
}

/// The upstream's bytes are not a replication stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamError {
    /// Offset before the byte that is wrong.
    pub offset: u64,
    /// What was found.
    pub what: String,
}

/// Where the scan of an unfinished frame stands, relative to the frame's start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    /// How far it has been scanned; the frame's length once that is done.
    pub(crate) at: usize,
    /// How many arguments its header claims; 0 until that is read.
    pub(crate) argc: u32,
    args_left: u32,
    name: Span,
    key_header: u32,
    key: Span,
}

/// How far a scan came.
pub(crate) enum Scan {
    /// The frame is whole.
    Done,
    /// At least this many bytes more are needed.
    More(u64),
}

/// Where in the bytes something is wrong, and what.
pub(crate) type Wrong = (usize, &'static str);

/// Reads `<digits>\r\n` at `at`: the number and the place behind it.
#[inline(always)]
pub(crate) fn number(bytes: &[u8], at: usize) -> Result<Option<(u64, usize)>, Wrong> {
    // Nearly every length has one to three digits: these are read at once.
    if let Some(head) = bytes.get(at..).and_then(<[u8]>::first_chunk::<5>) {
        let digit = |byte: u8| u64::from(byte - b'0');
        match *head {
            [a @ b'0'..=b'9', b'\r', b'\n', ..] => return Ok(Some((digit(a), at + 3))),
            [a @ b'0'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', _] => return Ok(Some((digit(a) * 10 + digit(b), at + 4))),
            [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', b'\n'] => {
                return Ok(Some((digit(a) * 100 + digit(b) * 10 + digit(c), at + 5)));
            }
            _ => {}
        }
    }
    any_number(bytes, at)
}

#[cold]
fn any_number(bytes: &[u8], at: usize) -> Result<Option<(u64, usize)>, Wrong> {
    let mut n = 0u64;
    let mut i = at;
    loop {
        match bytes.get(i) {
            Some(digit @ b'0'..=b'9') if i - at < 18 => n = n * 10 + u64::from(digit - b'0'),
            Some(b'\r') if i > at => break,
            Some(_) => return Err((i, "a length that is no decimal number")),
            None => return Ok(None),
        }
        i += 1;
    }
    match bytes.get(i + 1) {
        Some(b'\n') => Ok(Some((n, i + 2))),
        Some(_) => Err((i + 1, "a line that does not end in CRLF")),
        None => Ok(None),
    }
}

impl Cursor {
    /// A frame that lies whole in `bytes` and has fewer than ten arguments: nearly all. `None` says nothing but "look closer".
    #[inline(always)]
    pub(crate) fn quick(bytes: &[u8]) -> Option<Self> {
        let [b'*', argc @ b'1'..=b'9', b'\r', b'\n', ..] = bytes else { return None };
        let mut cursor = Self { at: 4, argc: u32::from(argc - b'0'), ..Self::default() };
        for arg in 0..cursor.argc {
            if bytes.get(cursor.at) != Some(&b'$') {
                return None;
            }
            let (len, start) = number(bytes, cursor.at + 1).ok()??;
            let end = start.checked_add(usize::try_from(len).ok()?)?;
            if bytes.get(end..)?.first_chunk::<2>() != Some(b"\r\n") {
                return None;
            }
            let span = Span { start: start as u32, end: end as u32 };
            match arg {
                0 => cursor.name = span,
                1 => (cursor.key_header, cursor.key) = (cursor.at as u32, span),
                _ => {}
            }
            cursor.at = end + 2;
        }
        Some(cursor)
    }

    /// Goes on with the scan; `bytes` begin at the frame's start and may go beyond its end.
    #[inline]
    pub(crate) fn scan(&mut self, bytes: &[u8], mut spans: Option<&mut Vec<Span>>) -> Result<Scan, Wrong> {
        if self.argc == 0 {
            match self.open(bytes)? {
                Scan::Done if self.argc == 0 => return Ok(Scan::Done),
                Scan::Done => {}
                more => return Ok(more),
            }
        }
        while self.args_left > 0 {
            match bytes.get(self.at) {
                Some(b'$') => {}
                Some(_) => return Err((self.at, "an argument that is no bulk string")),
                None => return Ok(Scan::More(1)),
            }
            let Some((len, start)) = number(bytes, self.at + 1)? else { return Ok(Scan::More(1)) };
            if len > BULK_BYTES_MAX {
                return Err((self.at, "a bulk length beyond reason"));
            }
            let end = start as u64 + len;
            let next = end + 2;
            if next > bytes.len() as u64 {
                return Ok(Scan::More(next - bytes.len() as u64));
            }
            if bytes.get(end as usize..next as usize) != Some(b"\r\n") {
                return Err((end as usize, "a bulk string that does not end in CRLF"));
            }
            let span = Span { start: start as u32, end: end as u32 };
            match self.argc - self.args_left {
                0 => self.name = span,
                1 => (self.key_header, self.key) = (self.at as u32, span),
                _ => {}
            }
            if let Some(spans) = spans.as_deref_mut() {
                spans.push(span);
            }
            self.at = next as usize;
            self.args_left -= 1;
        }
        Ok(Scan::Done)
    }

    /// The array's header, or an empty line.
    #[inline]
    fn open(&mut self, bytes: &[u8]) -> Result<Scan, Wrong> {
        match bytes.first() {
            Some(b'*') => match number(bytes, 1)? {
                Some((0, _)) => Err((0, "an empty array")),
                Some((count, _)) if count > ARGS_MAX => Err((0, "an argument count beyond reason")),
                Some((count, at)) => {
                    (self.argc, self.args_left, self.at) = (count as u32, count as u32, at);
                    Ok(Scan::Done)
                }
                None => Ok(Scan::More(1)),
            },
            Some(b'\n') => {
                self.at = 1;
                Ok(Scan::Done)
            }
            Some(b'\r') => match bytes.get(1) {
                Some(b'\n') => {
                    self.at = 2;
                    Ok(Scan::Done)
                }
                Some(_) => Err((1, "a line that does not end in CRLF")),
                None => Ok(Scan::More(1)),
            },
            Some(_) => Err((0, "an inline command, or what is left of a broken frame")),
            None => Ok(Scan::More(1)),
        }
    }
}

/// What [`Scanner::next`] found.
#[derive(Debug)]
pub enum Scanned<'a> {
    /// Whole frames.
    Frames(Frames<'a>),
    /// A frame larger than the bound begins at this offset; its bytes are skipped, and no frame will stand for it.
    Oversized {
        /// Offset before the frame.
        offset: u64,
        /// The size that is known so far, in bytes.
        bytes: u64,
    },
}

/// Cuts a stream into frames, whatever the sizes of its reads.
#[derive(Debug)]
pub struct Scanner {
    table: Arc<Table>,
    chunk: Bytes,
    at: usize,
    /// Offset before `chunk[at]`.
    offset: u64,
    partial: BytesMut,
    cursor: Cursor,
    skip: Option<Skip>,
    frames: Vec<Frame>,
    recent: Recent,
    whole: Bytes,
    /// Frames above this are not held.
    frame_bytes_max: usize,
}

impl Scanner {
    /// A scanner whose next byte is the one behind `offset`.
    pub fn new(table: Arc<Table>, offset: u64, frame_bytes_max: usize) -> Self {
        Self {
            table,
            chunk: Bytes::new(),
            at: 0,
            offset,
            partial: BytesMut::new(),
            cursor: Cursor::default(),
            skip: None,
            frames: Vec::with_capacity(BATCH_FRAMES),
            recent: Recent::default(),
            whole: Bytes::new(),
            frame_bytes_max: frame_bytes_max.min(u32::MAX as usize),
        }
    }

    /// Offset behind the last whole frame that was given out.
    pub fn frame_end(&self) -> u64 {
        match &self.skip {
            Some(skip) => skip.start,
            None => self.offset - self.partial.len() as u64,
        }
    }

    /// Takes the next bytes of the stream. All that was taken before must have been scanned with [`Scanner::next`].
    pub fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.at >= self.chunk.len(), "a chunk is scanned to its end before the next one comes");
        self.chunk = chunk;
        self.at = 0;
    }

    /// The next frames, or `None` when more bytes are needed.
    #[allow(clippy::should_implement_trait, reason = "it lends, which an iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Scanned<'_>>, StreamError> {
        if self.skip.is_some() && !self.skip_on()? {
            return Ok(None);
        }
        if !self.partial.is_empty() {
            return self.finish_partial();
        }
        self.scan_chunk()
    }

    fn scan_chunk(&mut self) -> Result<Option<Scanned<'_>>, StreamError> {
        self.frames.clear();
        let first = self.at;
        let first_offset = self.offset;
        while self.frames.len() < BATCH_FRAMES && self.at < self.chunk.len() {
            let rest = &self.chunk[self.at..];
            if let Some(cursor) = Cursor::quick(rest).filter(|cursor| cursor.at <= self.frame_bytes_max) {
                let command = self.recent.resolve(&self.table, &cursor, rest);
                self.frames.push(frame(command, &cursor, self.at));
                self.at += cursor.at;
                self.offset += cursor.at as u64;
                continue;
            }
            let mut cursor = Cursor::default();
            match cursor.scan(rest, None) {
                // What is too large must not depend on how the reads fell: also a frame that came whole is refused.
                Ok(Scan::Done) if cursor.at > self.frame_bytes_max => {
                    if !self.frames.is_empty() {
                        break;
                    }
                    let (offset, bytes) = (self.offset, cursor.at as u64);
                    self.at += cursor.at;
                    self.offset += bytes;
                    return Ok(Some(Scanned::Oversized { offset, bytes }));
                }
                Ok(Scan::Done) => {
                    self.frames.push(frame(resolve(&self.table, &cursor, rest), &cursor, self.at));
                    self.at += cursor.at;
                    self.offset += cursor.at as u64;
                }
                Ok(Scan::More(_)) => {
                    self.cursor = cursor;
                    self.partial.extend_from_slice(rest);
                    self.offset += rest.len() as u64;
                    self.at = self.chunk.len();
                }
                Err(wrong) if self.frames.is_empty() => return Err(error(self.offset, wrong)),
                // What stands before the fault is sound: it is given out first.
                Err(_) => break,
            }
        }
        if self.frames.is_empty() {
            return if self.partial.is_empty() { Ok(None) } else { self.finish_partial() };
        }
        let offset = first_offset - first as u64;
        Ok(Some(Scanned::Frames(Frames { bytes: &self.chunk, frames: &self.frames, offset })))
    }

    fn finish_partial(&mut self) -> Result<Option<Scanned<'_>>, StreamError> {
        loop {
            match self.cursor.scan(&self.partial, None) {
                Ok(Scan::Done) => break,
                Ok(Scan::More(need)) => {
                    let size = self.partial.len() as u64 + need;
                    if size > self.frame_bytes_max as u64 {
                        return Ok(Some(self.begin_skip(size)));
                    }
                    let take = (need as usize).min(self.chunk.len() - self.at);
                    if take == 0 {
                        return Ok(None);
                    }
                    self.partial.extend_from_slice(&self.chunk[self.at..self.at + take]);
                    self.at += take;
                    self.offset += take as u64;
                }
                Err(wrong) => return Err(error(self.frame_end(), wrong)),
            }
        }
        let offset = self.frame_end();
        self.whole = self.partial.split().freeze();
        self.frames.clear();
        let command = resolve(&self.table, &self.cursor, &self.whole);
        self.frames.push(frame(command, &self.cursor, 0));
        self.cursor = Cursor::default();
        Ok(Some(Scanned::Frames(Frames { bytes: &self.whole, frames: &self.frames, offset })))
    }

    /// Gives the unfinished frame up and goes on behind it.
    fn begin_skip(&mut self, size: u64) -> Scanned<'static> {
        let offset = self.frame_end();
        // The bulk that is under way: its header has been read, and some of its bytes.
        let tail = self.partial.split_off(self.cursor.at.min(self.partial.len()));
        let args_left = if self.cursor.argc == 0 { 0 } else { self.cursor.args_left };
        let mut skip = Skip::new(offset, args_left);
        skip.take(&tail);
        self.partial = BytesMut::new();
        self.cursor = Cursor::default();
        self.skip = Some(skip);
        Scanned::Oversized { offset, bytes: size }
    }

    /// `true` when the skipped frame has ended.
    fn skip_on(&mut self) -> Result<bool, StreamError> {
        let Some(skip) = self.skip.as_mut() else { return Ok(true) };
        let rest = &self.chunk[self.at..];
        let taken = skip.take(rest).ok_or_else(|| error(self.offset, (0, "garbage inside a large frame")))?;
        self.at += taken;
        self.offset += taken as u64;
        let ended = skip.has_ended();
        if ended {
            self.skip = None;
        }
        Ok(ended)
    }
}

/// The command that was looked up last. Streams say the same one again and again.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// Its name as it was written, at most eight bytes, and their number.
    name: (u64, u32),
    id: Option<CommandId>,
}

impl Recent {
    #[inline(always)]
    pub(crate) fn resolve(&mut self, table: &Table, cursor: &Cursor, bytes: &[u8]) -> Option<CommandId> {
        let (start, len) = (cursor.name.start as usize, cursor.name.end - cursor.name.start);
        let word = bytes.get(start..).and_then(<[u8]>::first_chunk::<8>).filter(|_| (1..=8).contains(&len));
        let Some(word) = word else { return resolve(table, cursor, bytes) };
        let name = (u64::from_le_bytes(*word) & (u64::MAX >> (64 - 8 * len)), len);
        if self.name == name {
            return self.id;
        }
        let id = resolve(table, cursor, bytes)?;
        // Only where the name alone says which row it is.
        if table.row(id).first_key_only {
            (self.name, self.id) = (name, Some(id));
        }
        Some(id)
    }
}

/// The command of a frame, where the table knows it.
#[inline]
pub(crate) fn resolve(table: &Table, cursor: &Cursor, bytes: &[u8]) -> Option<CommandId> {
    let spans = [cursor.name, cursor.key];
    table.resolve(Args { frame: bytes, spans: spans.get(..cursor.argc.min(2) as usize).unwrap_or(&[]) })
}

/// The frame that was scanned, `start` bytes into its buffer.
#[inline(always)]
pub(crate) fn frame(command: Option<CommandId>, cursor: &Cursor, start: usize) -> Frame {
    let shift = |span: Span| Span { start: span.start + start as u32, end: span.end + start as u32 };
    Frame {
        start: start as u32,
        end: (start + cursor.at) as u32,
        argc: cursor.argc,
        command,
        name: shift(cursor.name),
        key_header: cursor.key_header + start as u32,
        key: shift(cursor.key),
    }
}

fn error(frame_start: u64, (at, what): Wrong) -> StreamError {
    StreamError { offset: frame_start + at as u64, what: what.into() }
}

/// The arguments of a frame that is known to be whole.
pub fn scan_args<'a>(frame: &'a [u8], spans: &'a mut Vec<Span>) -> Args<'a> {
    spans.clear();
    let mut cursor = Cursor::default();
    // A frame that was scanned or written here ends without an error; a broken one just has fewer arguments.
    let _ = cursor.scan(frame, Some(spans));
    Args { frame, spans }
}
