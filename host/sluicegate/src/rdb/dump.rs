//! A dump file, part by part: the walker is pushed bytes, and here its parts are pulled.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use sluicegate_core::rdb::{self, CrcKind, Family, RdbError, Sink, Walker};

use super::progress::Progress;
use super::text;

/// Bytes that are read at once, and so about what is held of a dump. A part that has to be whole may take more for a moment.
pub(super) const PIECE_BYTES: usize = 256 * 1024;
/// The attribute that is an expiry in milliseconds.
const EXPIRES_MS: u8 = 252;
/// The attribute that is an expiry in seconds.
const EXPIRES_S: u8 = 253;

/// A part of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Who wrote it, and the version of its format.
    Magic(Family, u32),
    /// A fact about it: name and value.
    Aux(Vec<u8>, Vec<u8>),
    /// The number of the database that the keys which follow belong to.
    Select(u32),
    /// A function library's source.
    Function(Vec<u8>),
    /// A key; its value is to be read by [`Dump::value`], or is passed over.
    Key(Key),
    /// The end, with what its checksum was worth.
    End(CrcKind),
}

/// A key, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: Vec<u8>,
    /// The byte that says of which type it is, and in which encoding.
    pub(super) kind: u8,
    /// Unix milliseconds.
    pub(super) expires_ms: Option<i64>,
}

/// A dump that is being read.
pub(super) struct Dump {
    /// As it is called in messages.
    name: String,
    file: File,
    walker: Walker,
    parts: Parts,
    /// What was read last.
    input: Vec<u8>,
    /// The piece of a value that is to be read next, in `parts.bytes`.
    piece: Range<usize>,
    /// Whether the value at hand has no further piece.
    is_last: bool,
    /// Bytes of the value at hand so far, as they stand in the file.
    pub(super) value_bytes: u64,
    progress: Progress,
}

impl Dump {
    /// Opens a dump. `doing`: what a person who waits is told.
    pub(super) fn open(path: &Path, doing: &'static str) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        let bytes = file.metadata().map_or(0, |about| about.len());
        Ok(Self {
            progress: Progress::new(doing, bytes),
            name,
            file,
            walker: Walker::new(),
            parts: Parts::default(),
            input: vec![0; PIECE_BYTES],
            piece: 0..0,
            is_last: true,
            value_bytes: 0,
        })
    }

    /// The next part; `None` behind the end. What is left of a value is passed over.
    pub(super) fn next(&mut self) -> io::Result<Option<Part>> {
        while !self.is_last {
            self.next_piece()?;
        }
        self.piece = 0..0;
        loop {
            match self.parts.queue.pop_front() {
                Some(Queued::Part(part)) => {
                    if let Part::Key(_) = part {
                        (self.is_last, self.value_bytes) = (false, 0);
                    }
                    return Ok(Some(part));
                }
                // Of a value that was read already.
                Some(Queued::Piece(..)) => {}
                None if self.walker.is_done() => return self.at_end().map(|()| None),
                None => self.fill()?,
            }
        }
    }

    /// The value of the key that came last.
    pub(super) fn value(&mut self) -> ValueReader<'_> {
        ValueReader(self)
    }

    /// What is wrong with the value of the key that came last.
    pub(super) fn broken_value(&self, key: &Key, what: &io::Error) -> io::Error {
        damage(&self.name, format!("the value of \"{}\" is broken: {what}", text(&key.name)))
    }

    fn next_piece(&mut self) -> io::Result<()> {
        loop {
            match self.parts.queue.pop_front() {
                Some(Queued::Piece(piece, is_last)) => {
                    self.value_bytes += piece.len() as u64;
                    (self.piece, self.is_last) = (piece, is_last);
                    return Ok(());
                }
                // The walker gives a value's pieces one behind the other.
                Some(Queued::Part(_)) => return Err(damage(&self.name, "a value without its end")),
                None => self.fill()?,
            }
        }
    }

    /// Reads on.
    fn fill(&mut self) -> io::Result<()> {
        let read = read(&mut self.file, &mut self.input, &self.name)?;
        self.parts.bytes.clear();
        self.parts.bytes.shrink_to(PIECE_BYTES);
        if read == 0 {
            return self.walker.finish().map_err(|error| damaged(&self.name, &error));
        }
        let taken = self.walker.push(&self.input[..read], &mut self.parts);
        let taken = taken.map_err(|error| damaged(&self.name, &error))?;
        self.progress.add(read as u64);
        if taken < read { Err(goes_on(&self.name, self.walker.bytes())) } else { Ok(()) }
    }

    fn at_end(&mut self) -> io::Result<()> {
        match read(&mut self.file, &mut [0], &self.name)? {
            0 => Ok(()),
            _ => Err(goes_on(&self.name, self.walker.bytes())),
        }
    }
}

/// Reads into all of `input` unless the file ends. `name`: the file, for a message.
pub(super) fn read(file: &mut File, input: &mut [u8], name: &str) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = input.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("cannot read {name}: {error}"))),
        }
    }
    Ok(filled)
}

/// What is wrong with a dump, and where.
pub(super) fn damaged(name: &str, error: &RdbError) -> io::Error {
    damage(name, format!("at byte {}, {}", error.offset, error.defect))
}

/// Something is behind the end. An append-only file that begins with a snapshot has commands there.
pub(super) fn goes_on(name: &str, end: u64) -> io::Error {
    damage(name, format!("it goes on behind its end at byte {end}; is it an append-only file?"))
}

fn damage(name: &str, what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{name} cannot be used: {what}"))
}

/// What the walker made of one piece of the file.
#[derive(Default)]
struct Parts {
    queue: VecDeque<Queued>,
    /// What the pieces of values point into.
    bytes: Vec<u8>,
    expires_ms: Option<i64>,
    /// Whether the last key's value has not ended.
    in_value: bool,
}

enum Queued {
    Part(Part),
    /// Of a value; whether it is the last.
    Piece(Range<usize>, bool),
}

impl Sink for Parts {
    type Error = RdbError;

    fn part(&mut self, raw: &[u8], part: rdb::Part<'_>) -> Result<(), RdbError> {
        let part = match part {
            rdb::Part::Value { last } => {
                self.piece(raw, last);
                return Ok(());
            }
            rdb::Part::Key { name, .. } => {
                let kind = raw.first().copied().unwrap_or_default();
                self.in_value = true;
                Part::Key(Key { name: name.to_vec(), kind, expires_ms: self.expires_ms.take() })
            }
            rdb::Part::Attribute => {
                self.expires_ms = expiry(raw).or(self.expires_ms);
                return Ok(());
            }
            rdb::Part::Magic { family, version } => Part::Magic(family, version),
            rdb::Part::Aux { name, value } => Part::Aux(name.to_vec(), value.to_vec()),
            rdb::Part::Select(db) => Part::Select(db),
            rdb::Part::Function { source } => Part::Function(source.to_vec()),
            rdb::Part::End(crc) => Part::End(crc),
            // What stands between a key and the end of its value belongs to it, whatever it is called.
            _ if self.in_value => {
                self.piece(raw, false);
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.queue.push_back(Queued::Part(part));
        Ok(())
    }
}

impl Parts {
    fn piece(&mut self, raw: &[u8], is_last: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(raw);
        self.queue.push_back(Queued::Piece(start..self.bytes.len(), is_last));
        self.in_value = !is_last;
    }
}

fn expiry(raw: &[u8]) -> Option<i64> {
    match raw.split_first()? {
        (&EXPIRES_MS, time) => Some(i64::from_le_bytes(time.try_into().ok()?)),
        (&EXPIRES_S, time) => Some(i64::from(i32::from_le_bytes(time.try_into().ok()?)) * 1000),
        _ => None,
    }
}

/// Reads a value as it stands in the file; ends where the value ends.
pub(super) struct ValueReader<'d>(&'d mut Dump);

impl BufRead for ValueReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.0.piece.is_empty() && !self.0.is_last {
            self.0.next_piece()?;
        }
        Ok(&self.0.parts.bytes[self.0.piece.clone()])
    }

    fn consume(&mut self, count: usize) {
        self.0.piece.start = self.0.piece.end.min(self.0.piece.start + count);
    }
}

impl Read for ValueReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut come = self.fill_buf()?;
        let read = come.read(out)?;
        self.consume(read);
        Ok(read)
    }
}
