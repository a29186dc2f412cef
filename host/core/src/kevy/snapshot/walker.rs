//! A walk through a snapshot that arrives in pieces of any size.
//!
//! Heads and key names are kept until they are whole, up to a bound; when they lie whole in what was pushed, they are not
//! copied. Values pass by in the pieces in which they were pushed.

use super::error::{Defect, SnapshotError, Stop};
use super::{AUX, CURSOR_BYTES, KEY_BYTES_MAX, MAGIC, Record, VERSION_CURSOR, VERSIONS, code};
use crate::rdb;
use crate::rdb::cursor::Cursor;
use crate::rdb::grammar::Walk;
use alloc::vec::Vec;

/// Memory that a walk keeps for parts cut by the end of a piece; what a large part took beyond it is given back.
const KEPT_BYTES: usize = 64 * 1024;

/// One part of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// What it begins with.
    Head {
        /// The version of the format.
        version: u8,
    },
    /// The head of a record, up to its key's name. Pieces of the rest follow.
    Key {
        /// What record it is.
        record: Record,
        /// The name, whole.
        name: &'a [u8],
        /// Whether the key expires.
        expires: bool,
    },
    /// A piece of the rest of the last record. Never empty.
    Value {
        /// Whether the record ends with this piece.
        last: bool,
    },
    /// The mark behind the records: a trailer may follow.
    End,
    /// A piece of what the server has put into the trailer for itself. Never empty.
    Aux,
}

/// Takes the parts of a snapshot in their order.
pub trait Sink {
    /// Why the walk has to stop.
    type Error: From<SnapshotError>;

    /// Takes one part; `raw` are its bytes as they stand in the snapshot.
    fn part(&mut self, raw: &[u8], part: Part<'_>) -> Result<(), Self::Error>;
}

/// A walk through one snapshot.
#[derive(Debug, Default)]
pub struct Walker {
    parser: Parser,
    /// The beginning of a part that was cut off by the end of the last piece.
    cut: Vec<u8>,
    /// How many bytes `cut` has to have before the part can be read further.
    need: usize,
    /// Bytes of the snapshot that have become parts.
    passed: u64,
    failed: Option<SnapshotError>,
}

impl Walker {
    /// A walk that waits for the first byte of a snapshot.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the snapshot may end here.
    pub fn is_complete(&self) -> bool {
        self.failed.is_none() && self.cut.is_empty() && self.parser.ended && self.parser.state == State::Between
    }

    /// Bytes of the snapshot taken so far.
    pub fn bytes(&self) -> u64 {
        self.passed + self.cut.len() as u64
    }

    /// Takes the next bytes of the snapshot. After an error in the snapshot every further call gives the same error; after
    /// an error of the sink the part at hand is lost, and the walk must not go on.
    pub fn push<S: Sink>(&mut self, input: &[u8], sink: &mut S) -> Result<(), S::Error> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        let rest = self.push_cut(input, sink)?;
        self.push_whole(rest, sink)
    }

    /// The snapshot's bytes have ended: an error unless it may end here.
    pub fn finish(&self) -> Result<(), SnapshotError> {
        match self.failed {
            Some(error) => Err(error),
            None if self.is_complete() => Ok(()),
            None => Err(SnapshotError { offset: self.bytes(), defect: Defect::Common(rdb::Defect::Truncated) }),
        }
    }

    /// Completes the part that the last piece cut off, and returns what that left of `input`.
    fn push_cut<'i, S: Sink>(&mut self, mut input: &'i [u8], sink: &mut S) -> Result<&'i [u8], S::Error> {
        while !self.cut.is_empty() {
            let missing = self.need.saturating_sub(self.cut.len());
            let (more, rest) = input.split_at(missing.min(input.len()));
            self.cut.extend_from_slice(more);
            input = rest;
            if more.len() < missing {
                break;
            }
            match self.parser.next(&self.cut) {
                Ok((used, part)) => {
                    sink.part(self.cut.get(..used).unwrap_or_default(), part)?;
                    self.passed += used as u64;
                    self.cut.drain(..used);
                    self.cut.shrink_to(KEPT_BYTES);
                }
                Err(Stop::Short(need)) => self.need = need,
                Err(Stop::Bad(at, defect)) => return Err(self.fail(at, defect).into()),
            }
        }
        Ok(input)
    }

    /// Takes parts straight from `input`, and keeps the beginning of one that it cuts off.
    fn push_whole<S: Sink>(&mut self, mut input: &[u8], sink: &mut S) -> Result<(), S::Error> {
        while !input.is_empty() {
            match self.parser.next(input) {
                Ok((used, part)) => {
                    let (raw, rest) = input.split_at(used);
                    sink.part(raw, part)?;
                    self.passed += used as u64;
                    input = rest;
                }
                Err(Stop::Short(need)) => {
                    self.need = need;
                    self.cut.extend_from_slice(input);
                    break;
                }
                Err(Stop::Bad(at, defect)) => return Err(self.fail(at, defect).into()),
            }
        }
        Ok(())
    }

    /// Remembers the error at this place behind what has passed.
    #[cold]
    fn fail(&mut self, at: usize, defect: Defect) -> SnapshotError {
        *self.failed.insert(SnapshotError { offset: self.passed + at as u64, defect })
    }
}

/// What comes next in a snapshot.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Between,
    Value,
    Aux,
}

/// Reads one part at a time from a window that begins where the last part ended.
#[derive(Debug, Default)]
struct Parser {
    state: State,
    version: u8,
    /// The records have ended: what comes is the trailer.
    ended: bool,
    /// The trailer has had its one [`Part::Aux`].
    aux: bool,
    /// Where in a record it is, if it is in one.
    walk: Walk,
}

impl Parser {
    /// The part at the beginning of `window`, and its length in bytes.
    #[inline]
    fn next<'a>(&mut self, window: &'a [u8]) -> Result<(usize, Part<'a>), Stop> {
        match self.state {
            State::Between => self.between(window),
            State::Value => self.walk_on(window).map(|(used, last)| (used, Part::Value { last })),
            State::Aux => self.walk_on(window).map(|(used, _)| (used, Part::Aux)),
            State::Head => self.head(window),
        }
    }

    /// Walks on through what is not held, and tells whether it has ended.
    #[inline]
    fn walk_on(&mut self, window: &[u8]) -> Result<(usize, bool), Stop> {
        let used = self.walk.go(window)?;
        let last = self.walk.is_done();
        if last {
            self.state = State::Between;
        }
        Ok((used, last))
    }

    fn head<'a>(&mut self, window: &'a [u8]) -> Result<(usize, Part<'a>), Stop> {
        let mut cursor = Cursor::new(window, 0);
        // What cannot become a snapshot is refused at its first wrong byte.
        if window.iter().zip(MAGIC).any(|(byte, expected)| byte != expected) {
            return Err(Stop::Bad(0, Defect::Magic));
        }
        cursor.take(MAGIC.len())?;
        let version = cursor.byte()?;
        if !VERSIONS.contains(&version) {
            return Err(Stop::Bad(MAGIC.len(), Defect::Version(version)));
        }
        if version >= VERSION_CURSOR {
            cursor.take(CURSOR_BYTES)?;
        }
        (self.state, self.version) = (State::Between, version);
        Ok((cursor.at(), Part::Head { version }))
    }

    /// The head of a record, or what stands between records.
    #[inline]
    fn between<'a>(&mut self, window: &'a [u8]) -> Result<(usize, Part<'a>), Stop> {
        let mut cursor = Cursor::new(window, 0);
        let first = cursor.byte()?;
        let Some(record) = Record::of(first, self.version, self.ended) else { return self.other(first) };
        let expires = record.is_key() && cursor.flag()?;
        if expires {
            cursor.take(8)?;
        }
        let at = cursor.at();
        let length = cursor.le_u32()? as usize;
        if length > KEY_BYTES_MAX {
            let (what, bytes, bound) = ("a key name", length as u64, KEY_BYTES_MAX);
            return Err(Stop::Bad(at, Defect::Common(rdb::Defect::TooLong { what, bytes, bound })));
        }
        let name = cursor.take(length)?;
        self.state = State::Value;
        self.walk.begin(record.layout());
        Ok((cursor.at(), Part::Key { record, name, expires }))
    }

    /// What belongs to no key.
    fn other<'a>(&mut self, first: u8) -> Result<(usize, Part<'a>), Stop> {
        match first {
            code::END if !self.ended => {
                self.ended = true;
                Ok((1, Part::End))
            }
            code::AUX if self.ended && !self.aux => {
                self.aux = true;
                self.state = State::Aux;
                self.walk.begin(AUX);
                Ok((1, Part::Aux))
            }
            _ if self.ended => Err(Stop::Bad(0, Defect::Trailer(first))),
            code::SEGMENT => Err(Stop::Bad(0, Defect::Segment)),
            _ => Err(Stop::Bad(0, Defect::Record { version: self.version, code: first })),
        }
    }
}
