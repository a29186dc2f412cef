//! Replies of a server, RESP2, as a client reads them: incremental, bounded, iterative.
//!
//! Two layers. [`Scanner`] cuts bytes into [`Item`]s and keeps nothing but the beginning of a line; [`Builder`] puts items
//! together to a [`Reply`] within [`Bounds`]. Who wants to decide upon each announced length, or to skip, uses both;
//! [`Reader`] is both in one. Each byte is looked at once and copied once, however the reads are cut: a bulk goes from the
//! read into its own memory, which grows as the bytes come and never ahead of them by what a peer claims.

use alloc::format;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use super::{decimal, signed_decimal};
use crate::fault::{Fault, Party};
use crate::limits;

/// The most that is set aside for an announced length before its bytes are there. Bytes.
const CLAIM_BYTES_MAX: usize = 64 * 1024;
/// The most values that are set aside for an announced array before they are there.
const CLAIM_VALUES_MAX: usize = 1024;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`, without the sign.
    Simple(Bytes),
    /// `-ERR …`, without the sign.
    Error(Bytes),
    /// `:1`
    Integer(i64),
    /// A bulk string.
    Bulk(Bytes),
    /// `$-1` or `*-1`
    Null,
    /// Replies in a reply.
    Array(Vec<Reply>),
}

/// What one reply may be at most. All bounds hold when a length is announced, before its bytes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Arrays within each other; 0: none at all.
    pub depth: usize,
    /// Members of all arrays of the reply together.
    pub values: usize,
    /// One bulk. Bytes.
    pub bulk_bytes: usize,
    /// All bulks and lines of the reply together. Bytes.
    pub bytes: usize,
}

/// What of a reply has a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// [`Bounds::depth`]
    Depth,
    /// [`Bounds::values`]
    Values,
    /// [`Bounds::bulk_bytes`]
    Bulk,
    /// [`Bounds::bytes`]
    Bytes,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Depth => "arrays within each other",
            Self::Values => "members of arrays",
            Self::Bulk => "bytes of one bulk",
            Self::Bytes => "bytes in all",
        })
    }
}

/// Why a reply is not read on. The link cannot be used any more: where the next reply begins is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyError {
    /// This is not RESP2.
    Malformed(&'static str),
    /// More was announced than is taken.
    TooLarge {
        /// What is too large.
        what: Measure,
        /// What was announced.
        claimed: u64,
        /// The bound that it exceeds.
        bound: usize,
    },
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "the primary's reply is not RESP: {what}"),
            Self::TooLarge { what, claimed, bound } => {
                write!(f, "the primary announces a reply with {claimed} {what}, of which at most {bound} are taken")
            }
        }
    }
}

impl From<ReplyError> for Fault {
    fn from(error: ReplyError) -> Self {
        Self::new(Party::Upstream, format!("{error}"))
    }
}

/// A piece of a reply, as soon as it can be told.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// `+…`
    Simple(Bytes),
    /// `-…`
    Error(Bytes),
    /// `:…`
    Integer(i64),
    /// `$-1` or `*-1`
    Null,
    /// So many replies follow.
    Array(u64),
    /// A bulk of so many bytes follows, in [`Item::Part`]s, closed by [`Item::End`].
    Bulk(u64),
    /// Bytes of the bulk; never empty.
    Part(&'a [u8]),
    /// The bulk is whole.
    End,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// A line: a whole value, or the header of one.
    Line,
    /// In a bulk: bytes left.
    Body(u64),
    /// Behind the body; whether its `\r` was seen.
    Tail(bool),
}

/// Cuts a server's bytes into items.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// The beginning of a line that a read cut off.
    line: Vec<u8>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { state: State::Line, line: Vec::new() }
    }
}

impl Scanner {
    /// The next item, taken off the front of `input`; `None` when `input` is used up.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, ReplyError> {
        match self.state {
            State::Line => self.line(input),
            State::Body(left) if left > 0 => {
                let (part, rest) = input.split_at((input.len() as u64).min(left) as usize);
                *input = rest;
                self.state = State::Body(left - part.len() as u64);
                Ok((!part.is_empty()).then_some(Item::Part(part)))
            }
            State::Body(_) => self.tail(false, input),
            State::Tail(returned) => self.tail(returned, input),
        }
    }

    fn tail<'a>(&mut self, mut returned: bool, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, ReplyError> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            match (returned, byte) {
                (false, b'\r') => returned = true,
                (true, b'\n') => {
                    self.state = State::Line;
                    return Ok(Some(Item::End));
                }
                _ => return Err(ReplyError::Malformed("a bulk is not followed by a line's end")),
            }
        }
        self.state = State::Tail(returned);
        Ok(None)
    }

    fn line<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, ReplyError> {
        let end = memchr::memchr(b'\n', input);
        let (piece, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
        *input = rest;
        if self.line.len() + piece.len() > limits::REPLY_LINE_BYTES_MAX {
            return Err(ReplyError::Malformed("a line longer than any real one"));
        }
        if end.is_none() {
            self.line.extend_from_slice(piece);
            return Ok(None);
        }
        let item = if self.line.is_empty() {
            item(piece)
        } else {
            self.line.extend_from_slice(piece);
            item(&self.line)
        }?;
        self.line.clear();
        if let Item::Bulk(length) = item {
            self.state = State::Body(length);
        }
        Ok(Some(item))
    }
}

/// Reads one whole line.
fn item(line: &[u8]) -> Result<Item<'static>, ReplyError> {
    let malformed = |what| move || ReplyError::Malformed(what);
    let line = line.strip_suffix(b"\r\n").ok_or_else(malformed("a line that ends without a carriage return"))?;
    let length = |text: &[u8], what| match text {
        b"-1" => Ok(None),
        text => decimal(text).map(Some).ok_or_else(malformed(what)),
    };
    match line.split_first() {
        Some((b'+', text)) => Ok(Item::Simple(Bytes::copy_from_slice(text))),
        Some((b'-', text)) => Ok(Item::Error(Bytes::copy_from_slice(text))),
        Some((b':', text)) => {
            signed_decimal(text).map(Item::Integer).ok_or_else(malformed("an integer that is no number"))
        }
        Some((b'$', text)) => Ok(length(text, "a bulk of no length")?.map_or(Item::Null, Item::Bulk)),
        Some((b'*', text)) => Ok(length(text, "an array of no length")?.map_or(Item::Null, Item::Array)),
        _ => Err(ReplyError::Malformed("a line that begins with none of + - : $ *")),
    }
}

/// Puts items together to replies.
#[derive(Debug, Default)]
pub struct Builder {
    /// The arrays that are open, the outermost first, each with the number of members that it lacks.
    open: Vec<(usize, Vec<Reply>)>,
    /// The bulk that arrives, and its announced length.
    bulk: Vec<u8>,
    length: usize,
    /// Announced so far in this reply: members, bytes.
    values: usize,
    bytes: usize,
    /// Whether anything of the reply has come.
    begun: bool,
}

impl Builder {
    /// Whether the next item begins a reply.
    pub fn is_between(&self) -> bool {
        !self.begun
    }

    /// Adds an item; the reply, if it is whole now. `bounds` are those of the reply that the item belongs to.
    pub fn add(&mut self, item: Item<'_>, bounds: &Bounds) -> Result<Option<Reply>, ReplyError> {
        self.begun = true;
        match item {
            Item::Simple(text) => {
                self.announce(text.len() as u64, bounds)?;
                Ok(self.close(Reply::Simple(text)))
            }
            Item::Error(text) => {
                self.announce(text.len() as u64, bounds)?;
                Ok(self.close(Reply::Error(text)))
            }
            Item::Integer(number) => Ok(self.close(Reply::Integer(number))),
            Item::Null => Ok(self.close(Reply::Null)),
            Item::Array(count) => self.array(count, bounds),
            Item::Bulk(length) => {
                within(Measure::Bulk, length, bounds.bulk_bytes)?;
                self.length = self.announce(length, bounds)?;
                Ok(None)
            }
            Item::Part(part) => {
                self.grow(part.len());
                self.bulk.extend_from_slice(part);
                Ok(None)
            }
            Item::End => {
                let bulk = core::mem::take(&mut self.bulk);
                Ok(self.close(Reply::Bulk(Bytes::from(bulk))))
            }
        }
    }

    /// Counts announced bytes.
    fn announce(&mut self, length: u64, bounds: &Bounds) -> Result<usize, ReplyError> {
        let length = within(Measure::Bytes, length, bounds.bytes.saturating_sub(self.bytes))?;
        self.bytes += length;
        Ok(length)
    }

    fn array(&mut self, count: u64, bounds: &Bounds) -> Result<Option<Reply>, ReplyError> {
        within(Measure::Depth, self.open.len() as u64 + 1, bounds.depth)?;
        let count = within(Measure::Values, count, bounds.values.saturating_sub(self.values))?;
        self.values += count;
        if count == 0 {
            return Ok(self.close(Reply::Array(Vec::new())));
        }
        self.open.push((count, Vec::with_capacity(count.min(CLAIM_VALUES_MAX))));
        Ok(None)
    }

    /// Makes room for `more` bytes of the bulk: at least double, so that all copies together stay linear, and never more
    /// than was announced, so that a bulk that is kept wastes nothing.
    fn grow(&mut self, more: usize) {
        let needed = self.bulk.len() + more;
        if needed > self.bulk.capacity() {
            let room = self.bulk.capacity().saturating_mul(2).max(CLAIM_BYTES_MAX).min(self.length).max(needed);
            self.bulk.reserve_exact(room - self.bulk.len());
        }
    }

    /// A value is whole: it closes every array whose last member it is.
    fn close(&mut self, mut reply: Reply) -> Option<Reply> {
        while let Some((missing, mut members)) = self.open.pop() {
            members.push(reply);
            if missing > 1 {
                self.open.push((missing - 1, members));
                return None;
            }
            reply = Reply::Array(members);
        }
        (self.values, self.bytes, self.begun) = (0, 0, false);
        Some(reply)
    }
}

fn within(what: Measure, claimed: u64, bound: usize) -> Result<usize, ReplyError> {
    match usize::try_from(claimed) {
        Ok(fits) if fits <= bound => Ok(fits),
        _ => Err(ReplyError::TooLarge { what, claimed, bound }),
    }
}

/// Reads whole replies within fixed bounds.
#[derive(Debug)]
pub struct Reader {
    scanner: Scanner,
    builder: Builder,
    bounds: Bounds,
}

impl Reader {
    /// A reader at the beginning of a reply.
    pub fn new(bounds: Bounds) -> Self {
        Self { scanner: Scanner::default(), builder: Builder::default(), bounds }
    }

    /// The next whole reply, taken off the front of `input`; `None` when `input` is used up before its end. After an error
    /// the link is of no use any more.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Reply>, ReplyError> {
        while let Some(item) = self.scanner.next(input)? {
            if let Some(reply) = self.builder.add(item, &self.bounds)? {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }
}
