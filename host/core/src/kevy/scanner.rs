//! What a primary says, whatever the sizes of the reads.
//!
//! Frames are handed out many at a time and stay where they were read; only one that a read has cut in two is gathered.
//! Pieces of a snapshot are passed on as they come, in pieces of the reads. Every byte is looked at once.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use super::envelope::{Cut, Opened, open, open_cut};
use super::error::{WireError, Wrong};
use super::wire::{CHUNK_BYTES_MAX, CHUNK_END, LINE_BYTES_MAX, excerpt, number};
use crate::command::Table;
use crate::frame::{self, BATCH_FRAMES, Frame, Frames, Recent};

/// What a primary said.
#[derive(Debug)]
pub enum Event<'a> {
    /// The answer to the handshake: always first, never again.
    Ack {
        /// The generation of what follows; [`K3`](super::Dialect::K3) only.
        generation: Option<u64>,
        /// The offset that was asked for: an echo, not a promise.
        offset: u64,
    },
    /// A sign of life.
    Ping {
        /// The generation of the stream at this place; 0 if it is not said.
        generation: u64,
        /// The offset of the next frame.
        next: u64,
    },
    /// Live frames: the commands without their envelopes.
    Frames {
        /// The offset of the first; each of the others has the offset behind the one before it. Whether there is a gap
        /// before the first is for the caller to see.
        first: u64,
        /// The commands; [`Frames::offset`] counts the bytes of the link.
        frames: Frames<'a>,
    },
    /// A snapshot begins. The stream may do that at any time, and may begin anew at an earlier offset behind it.
    SnapshotBegin,
    /// The next bytes of the snapshot; never empty.
    Snapshot(Bytes),
    /// The snapshot has ended, and the next frame has this offset.
    SnapshotEnd(u64),
}

/// Where in the conversation the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before `+ACK`.
    Greeting,
    /// Between frames.
    Live,
    /// Between the pieces of a snapshot.
    Snapshot,
    /// In a piece of a snapshot, with so many bytes to come.
    Chunk(usize),
    /// Behind a piece; this has to follow.
    ChunkEnd(&'static [u8]),
}

/// What was found, before the frames are lent out.
enum Found {
    Event(Event<'static>),
    /// Frames in the chunk; the first has this offset.
    Batch(u64),
    /// One frame that had to be gathered, with this offset.
    Gathered(u64),
}

/// Reads the primary's side of a link.
#[derive(Debug)]
pub struct Scanner {
    table: Arc<Table>,
    state: State,
    chunk: Bytes,
    at: usize,
    /// Bytes of the link before `chunk`.
    before: u64,
    /// A line or frame that a read has cut in two.
    partial: BytesMut,
    cut: Option<Cut>,
    frames: Vec<Frame>,
    recent: Recent,
    whole: Bytes,
    frame_bytes_max: usize,
    failed: Option<WireError>,
}

impl Scanner {
    /// A scanner that waits for the answer to a handshake, and takes commands of at most `frame_bytes_max` bytes.
    pub fn new(table: Arc<Table>, frame_bytes_max: usize) -> Self {
        Self {
            table,
            state: State::Greeting,
            chunk: Bytes::new(),
            at: 0,
            before: 0,
            partial: BytesMut::new(),
            cut: None,
            frames: Vec::with_capacity(BATCH_FRAMES),
            recent: Recent::default(),
            whole: Bytes::new(),
            frame_bytes_max: frame_bytes_max.min(u32::MAX as usize),
            failed: None,
        }
    }

    /// Takes the next bytes of the link. All that was taken before must have been scanned with [`Scanner::next`].
    pub fn push(&mut self, chunk: Bytes) {
        debug_assert!(
            self.at >= self.chunk.len() || self.failed.is_some(),
            "a chunk is scanned to its end before the next one comes"
        );
        self.before += self.chunk.len() as u64;
        self.chunk = chunk;
        self.at = 0;
    }

    /// What was said next, or `None` when more bytes are needed. After an error every further call gives the same error.
    #[allow(clippy::should_implement_trait, reason = "it lends, which an iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let (first, bytes, offset) = match self.find() {
            Ok(None) => return Ok(None),
            Ok(Some(Found::Event(event))) => return Ok(Some(event)),
            Ok(Some(Found::Batch(first))) => (first, &self.chunk, self.before),
            Ok(Some(Found::Gathered(first))) => (first, &self.whole, self.position() - self.whole.len() as u64),
            Err(error) => return Err(self.failed.insert(error).clone()),
        };
        Ok(Some(Event::Frames { first, frames: Frames { bytes, frames: &self.frames, offset } }))
    }

    /// Whether a snapshot has begun and not ended.
    pub fn in_snapshot(&self) -> bool {
        matches!(self.state, State::Snapshot | State::Chunk(_) | State::ChunkEnd(_))
    }

    /// Bytes of the link that have been scanned.
    pub fn position(&self) -> u64 {
        self.before + self.at as u64
    }

    fn find(&mut self) -> Result<Option<Found>, WireError> {
        loop {
            let rest = self.chunk.get(self.at..).unwrap_or_default();
            let Some(&byte) = rest.first() else { return Ok(None) };
            match self.state {
                State::Chunk(left) => {
                    let end = self.at + left.min(rest.len());
                    let piece = self.chunk.slice(self.at..end);
                    let left = left - piece.len();
                    self.state = if left > 0 { State::Chunk(left) } else { State::ChunkEnd(CHUNK_END) };
                    self.at = end;
                    return Ok(Some(Found::Event(Event::Snapshot(piece))));
                }
                State::ChunkEnd([expected, behind @ ..]) => {
                    if byte != *expected {
                        return Err(self.wrong(Wrong::ChunkEnd));
                    }
                    self.at += 1;
                    self.state = if behind.is_empty() { State::Snapshot } else { State::ChunkEnd(behind) };
                }
                State::ChunkEnd([]) => self.state = State::Snapshot,
                State::Greeting | State::Live | State::Snapshot => {
                    match self.partial.first().copied().unwrap_or(byte) {
                        b'*' if self.state == State::Live => return self.live(),
                        b'$' if self.state == State::Snapshot => match self.line()? {
                            Some((at, line)) => self.begin_chunk(at, &line)?,
                            None => return Ok(None),
                        },
                        b'+' => match self.line()? {
                            Some((at, line)) => return self.say(at, &line).map(|event| Some(Found::Event(event))),
                            None => return Ok(None),
                        },
                        b'*' if self.state == State::Snapshot => return Err(self.wrong(Wrong::FrameInSnapshot)),
                        _ if self.state == State::Greeting => return Err(self.wrong(Wrong::Greeting)),
                        _ => return Err(self.wrong(Wrong::Line)),
                    }
                }
            }
        }
    }

    /// The next line with its end, and its place on the link.
    fn line(&mut self) -> Result<Option<(u64, Bytes)>, WireError> {
        let start = self.position() - self.partial.len() as u64;
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let room = LINE_BYTES_MAX - self.partial.len();
        let window = rest.get(..room).unwrap_or(rest);
        let Some(end) = memchr(b'\n', window) else {
            self.partial.extend_from_slice(window);
            self.at += window.len();
            if self.partial.len() == LINE_BYTES_MAX {
                return Err(WireError { at: start, wrong: Wrong::LineTooLong, found: excerpt(&self.partial) });
            }
            return Ok(None);
        };
        let (from, to) = (self.at, self.at + end + 1);
        self.at = to;
        if self.partial.is_empty() {
            return Ok(Some((start, self.chunk.slice(from..to))));
        }
        self.partial.extend_from_slice(self.chunk.get(from..to).unwrap_or_default());
        Ok(Some((start, self.partial.split().freeze())))
    }

    /// What a line that begins with a plus says.
    fn say(&mut self, at: u64, line: &[u8]) -> Result<Event<'static>, WireError> {
        let wrong = if self.state == State::Greeting { Wrong::Greeting } else { Wrong::Line };
        let said = line.strip_suffix(b"\r\n").and_then(spoken);
        let (event, state) = match (said, self.state) {
            (Some(event @ Event::Ack { .. }), State::Greeting) => (event, State::Live),
            (Some(event @ Event::Ping { .. }), State::Live | State::Snapshot) => (event, self.state),
            (Some(event @ Event::SnapshotBegin), State::Live) => (event, State::Snapshot),
            (Some(event @ Event::SnapshotEnd(_)), State::Snapshot) => (event, State::Live),
            _ => return Err(WireError { at, wrong, found: excerpt(line) }),
        };
        self.state = state;
        Ok(event)
    }

    fn begin_chunk(&mut self, at: u64, line: &[u8]) -> Result<(), WireError> {
        let length = line.strip_prefix(b"$").and_then(|line| line.strip_suffix(b"\r\n")).and_then(number);
        match length.and_then(|length| usize::try_from(length).ok()) {
            Some(length @ 1..=CHUNK_BYTES_MAX) => {
                self.state = State::Chunk(length);
                Ok(())
            }
            _ => Err(WireError { at, wrong: Wrong::ChunkLength, found: excerpt(line) }),
        }
    }

    /// As many frames as lie whole in the chunk, or the one that began in an earlier chunk.
    fn live(&mut self) -> Result<Option<Found>, WireError> {
        if !self.partial.is_empty() {
            return self.finish_partial();
        }
        self.frames.clear();
        let mut first = 0;
        while self.frames.len() < BATCH_FRAMES {
            let rest = self.chunk.get(self.at..).unwrap_or_default();
            if rest.first() != Some(&b'*') {
                break;
            }
            match open(rest, self.frame_bytes_max) {
                Ok(Opened::Whole { offset, body, cursor }) => {
                    if self.frames.is_empty() {
                        first = offset;
                    } else if Some(offset) != first.checked_add(self.frames.len() as u64) {
                        break;
                    }
                    let inner = rest.get(body..).unwrap_or_default();
                    let command = self.recent.resolve(&self.table, &cursor, inner);
                    self.frames.push(frame::frame(command, &cursor, self.at + body));
                    self.at += body + cursor.at;
                }
                Ok(Opened::Cut(cut)) => {
                    self.partial.extend_from_slice(rest);
                    self.at = self.chunk.len();
                    self.cut = cut;
                    break;
                }
                Err((at, wrong)) if self.frames.is_empty() => return Err(self.wrong_at(at, wrong)),
                // What stands before the fault is sound: it is given out first.
                Err(_) => break,
            }
        }
        if self.frames.is_empty() { Ok(None) } else { Ok(Some(Found::Batch(first))) }
    }

    /// Gathers the frame that a read has cut, byte by byte only where its length is not known yet.
    fn finish_partial(&mut self) -> Result<Option<Found>, WireError> {
        let cut = loop {
            let need = match open_cut(&mut self.cut, &self.partial, self.frame_bytes_max) {
                Ok(Some(need)) => need,
                Ok(None) => break self.cut.take(),
                Err((at, wrong)) => {
                    let start = self.position() - self.partial.len() as u64;
                    let found = excerpt(self.partial.get(at..).unwrap_or_default());
                    return Err(WireError { at: start + at as u64, wrong, found });
                }
            };
            let rest = self.chunk.get(self.at..).unwrap_or_default();
            let more = rest.get(..need).unwrap_or(rest);
            if more.is_empty() {
                return Ok(None);
            }
            self.partial.extend_from_slice(more);
            self.at += more.len();
        };
        let Some(Cut { offset, body, cursor }) = cut else { return Ok(None) };
        self.whole = self.partial.split().freeze();
        let command = frame::resolve(&self.table, &cursor, self.whole.get(body..).unwrap_or_default());
        self.frames.clear();
        self.frames.push(frame::frame(command, &cursor, body));
        Ok(Some(Found::Gathered(offset)))
    }

    /// The error that what stands next is wrong.
    #[cold]
    fn wrong(&self, wrong: Wrong) -> WireError {
        self.wrong_at(0, wrong)
    }

    #[cold]
    fn wrong_at(&self, behind: usize, wrong: Wrong) -> WireError {
        let found = excerpt(self.chunk.get(self.at + behind..).unwrap_or_default());
        WireError { at: self.position() + behind as u64, wrong, found }
    }
}

/// What a line says, its plus included and its end taken off.
fn spoken(line: &[u8]) -> Option<Event<'static>> {
    let mut words = line.split(|&byte| byte == b' ');
    let word = words.next()?;
    let one = words.next().map(number);
    let two = words.next().map(number);
    if words.next().is_some() {
        return None;
    }
    match (word, one, two) {
        (b"+ACK", Some(Some(offset)), None) => Some(Event::Ack { generation: None, offset }),
        (b"+ACK", Some(generation @ Some(_)), Some(Some(offset))) => Some(Event::Ack { generation, offset }),
        (b"+PING", Some(Some(next)), None) => Some(Event::Ping { generation: 0, next }),
        (b"+PING", Some(Some(generation)), Some(Some(next))) => Some(Event::Ping { generation, next }),
        (b"+SNAPSHOT", None, None) => Some(Event::SnapshotBegin),
        (b"+SNAPSHOT_END", Some(Some(next)), None) => Some(Event::SnapshotEnd(next)),
        _ => None,
    }
}
