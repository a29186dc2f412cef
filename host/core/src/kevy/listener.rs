//! What a replica says: its handshake, then acknowledgements.

use core::fmt;

use alloc::string::String;
use alloc::vec::Vec;

use memchr::memchr;

use super::wire::{ACK_LINE_BYTES_MAX, HANDSHAKE_BYTES_MAX, excerpt, number};
use crate::frame::{Cursor, Scan, scan_args};

/// What a replica asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The generation of what it holds, 0 if it holds nothing. A replica that names none speaks
    /// [`K1`](super::Dialect::K1), or [`K2`](super::Dialect::K2): which one, its first acknowledgement will tell.
    pub generation: Option<u64>,
    /// The offset of the frame that it expects.
    pub offset: u64,
    /// What it calls itself. Replicas of the older dialects all have the same name.
    pub id: String,
}

/// What a replica said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Its handshake: always first, never again.
    Replicate(Asked),
    /// It has received all frames before this offset.
    Ack(u64),
    /// A line that means nothing to us: printable, and cut short.
    Unknown(String),
}

/// The bytes are not what a replica says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskError {
    /// It speaks something else altogether; what it said is printable, and cut short.
    Foreign(String),
    /// Its first command is another one.
    Command(String),
    /// REPLICATE with this many words, its name included.
    Words(usize),
    /// Another word stands where this one has to.
    Keyword {
        /// What has to stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// Something else stands where a number has to.
    Number {
        /// What the number means.
        what: &'static str,
        /// What stands there.
        found: String,
    },
    /// An empty name, or one that is not UTF-8.
    Id(String),
    /// The handshake does not end within [`HANDSHAKE_BYTES_MAX`] bytes.
    TooLong,
    /// No line end within [`ACK_LINE_BYTES_MAX`] bytes behind the handshake.
    LineTooLong,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(found) => write!(f, "it said `{found}`, and no kevy replica begins like that"),
            Self::Command(found) => {
                let who = if is_redis(found) { ", as Redis and Valkey replicas do," } else { "" };
                write!(f, "it said `{found}`{who} where a kevy replica says REPLICATE")
            }
            Self::Words(words) => write!(f, "REPLICATE has 5 or 6 words, and it said {words}"),
            Self::Keyword { expected, found } => write!(f, "REPLICATE has `{found}` where {expected} has to stand"),
            Self::Number { what, found } => write!(f, "REPLICATE has `{found}` where {what} has to stand"),
            Self::Id(found) => write!(f, "REPLICATE names the replica `{found}`, which is no text"),
            Self::TooLong => write!(f, "its handshake does not end within {HANDSHAKE_BYTES_MAX} bytes"),
            Self::LineTooLong => write!(f, "it sent {ACK_LINE_BYTES_MAX} bytes that are no line"),
        }
    }
}

impl core::error::Error for AskError {}

fn is_redis(command: &str) -> bool {
    ["ping", "psync", "sync", "replconf", "auth"].iter().any(|word| command.eq_ignore_ascii_case(word))
}

/// Reads the replica's side of a link.
#[derive(Debug, Default)]
pub struct Listener {
    /// The beginning of a handshake or line that was cut.
    held: Vec<u8>,
    /// Where in a handshake that is an array the scan stands.
    cursor: Cursor,
    greeted: bool,
    failed: Option<AskError>,
}

impl Listener {
    /// A listener that waits for a handshake.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was said next, with its bytes taken off `input`; `None` once `input` is used up. After an error every further
    /// call gives the same error.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Said>, AskError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let said = if self.greeted { self.line(input) } else { self.handshake(input) };
        said.map_err(|error| self.failed.insert(error).clone())
    }

    fn handshake(&mut self, input: &mut &[u8]) -> Result<Option<Said>, AskError> {
        let asked = match self.held.first().or(input.first()) {
            None => None,
            Some(b'*') => self.array(input)?,
            Some(byte) if byte.is_ascii_alphabetic() => self.inline(input)?,
            Some(_) => return Err(AskError::Foreign(excerpt(input))),
        };
        if asked.is_some() {
            self.greeted = true;
            self.held = Vec::new();
        }
        Ok(asked.map(Said::Replicate))
    }

    fn array(&mut self, input: &mut &[u8]) -> Result<Option<Asked>, AskError> {
        let room = HANDSHAKE_BYTES_MAX - self.held.len();
        let taken = input.get(..room).unwrap_or(input);
        self.held.extend_from_slice(taken);
        let used = match self.cursor.scan(&self.held, None) {
            Ok(Scan::Done) => self.cursor.at,
            Ok(Scan::More(need)) if self.held.len() as u64 + need > HANDSHAKE_BYTES_MAX as u64 => {
                return Err(AskError::TooLong);
            }
            Ok(Scan::More(_)) => {
                *input = &[];
                return Ok(None);
            }
            Err(_) => return Err(AskError::Foreign(excerpt(&self.held))),
        };
        // What was taken along behind the handshake stays with the caller.
        *input = input.get(taken.len() - (self.held.len() - used)..).unwrap_or_default();
        let mut spans = Vec::new();
        let args = scan_args(&self.held, &mut spans);
        let words: Vec<&[u8]> = args.iter_from(0).collect();
        asked(&words).map(Some)
    }

    fn inline(&mut self, input: &mut &[u8]) -> Result<Option<Asked>, AskError> {
        let Some(line) = take_line(&mut self.held, input, HANDSHAKE_BYTES_MAX).ok_or(AskError::TooLong)? else {
            return Ok(None);
        };
        let line = if self.held.is_empty() { line } else { &self.held };
        asked(&words(line)).map(Some)
    }

    fn line(&mut self, input: &mut &[u8]) -> Result<Option<Said>, AskError> {
        let Some(line) = take_line(&mut self.held, input, ACK_LINE_BYTES_MAX).ok_or(AskError::LineTooLong)? else {
            return Ok(None);
        };
        let line = if self.held.is_empty() { line } else { &self.held };
        let said = match words(line).as_slice() {
            [replconf, ack, next] if is(replconf, "REPLCONF") && is(ack, "ACK") => number(next).map(Said::Ack),
            _ => None,
        };
        let said = said.unwrap_or_else(|| Said::Unknown(excerpt(line)));
        self.held.clear();
        Ok(Some(said))
    }
}

/// Takes the next line off `input`. A line that began earlier is completed in `held` and stands there, whole; one that
/// does not end yet is put there. The outer `None` says that it is too long.
#[allow(clippy::option_option, reason = "the outer one becomes an error at once")]
fn take_line<'i>(held: &mut Vec<u8>, input: &mut &'i [u8], bound: usize) -> Option<Option<&'i [u8]>> {
    let room = bound - held.len();
    let window = input.get(..room).unwrap_or(input);
    let Some(end) = memchr(b'\n', window) else {
        held.extend_from_slice(window);
        *input = &[];
        return (held.len() < bound).then_some(None);
    };
    let (line, rest) = input.split_at(end + 1);
    *input = rest;
    if !held.is_empty() {
        held.extend_from_slice(line);
    }
    Some(Some(line))
}

/// The words of a line, as many as it takes to see that there are too many.
fn words(line: &[u8]) -> Vec<&[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).take(8).collect()
}

fn is(word: &[u8], expected: &str) -> bool {
    word.eq_ignore_ascii_case(expected.as_bytes())
}

/// What the words of a handshake ask for.
fn asked(words: &[&[u8]]) -> Result<Asked, AskError> {
    if let Some(verb) = words.first().filter(|verb| !is(verb, "REPLICATE")) {
        return Err(AskError::Command(excerpt(verb)));
    }
    let (from, generation, offset, keyword, id) = match *words {
        [_, from, offset, keyword, id] => (from, None, offset, keyword, id),
        [_, from, generation, offset, keyword, id] => (from, Some(generation), offset, keyword, id),
        _ => return Err(AskError::Words(words.len())),
    };
    for (expected, word) in [("FROM", from), ("ID", keyword)] {
        if !is(word, expected) {
            return Err(AskError::Keyword { expected, found: excerpt(word) });
        }
    }
    let read = |what, word| number(word).ok_or_else(|| AskError::Number { what, found: excerpt(word) });
    let generation = generation.map(|word| read("a generation", word)).transpose()?;
    let offset = read("an offset", offset)?;
    match core::str::from_utf8(id) {
        Ok(name) if !name.is_empty() => Ok(Asked { generation, offset, id: name.into() }),
        _ => Err(AskError::Id(excerpt(id))),
    }
}
