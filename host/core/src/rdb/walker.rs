//! A walk through a snapshot that arrives in pieces of any size.
//!
//! What has to be understood whole (a key's name, an aux field, a function library, the small parts between them) is
//! kept until it is complete, up to a bound; when it lies whole in what was pushed, it is not copied. Values pass by in the
//! pieces in which they were pushed.

use super::crc::Crc64;
use super::cursor::{Cursor, Stop};
use super::error::{Defect, RdbError};
use super::grammar::{KEY_META, MODULE_AUX, SLOT_IMPORT, Walk, layout};
use super::{AUX_BYTES_MAX, CrcKind, DATABASES_MAX, FUNCTION_BYTES_MAX, Family, KEY_BYTES_MAX, code};
use alloc::vec::Vec;

/// Memory that a walk keeps for parts cut by the end of a piece; what a large part took beyond it is given back.
const KEPT_BYTES: usize = 64 * 1024;

/// One part of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// The first nine bytes.
    Magic {
        /// Which family wrote it.
        family: Family,
        /// The version of the format.
        version: u32,
    },
    /// A fact about the snapshot.
    Aux {
        /// Its name.
        name: &'a [u8],
        /// Its value, decoded.
        value: &'a [u8],
    },
    /// The keys that follow belong to this database.
    Select(u32),
    /// A hint about the size of a table; true of the whole snapshot only.
    Hint,
    /// A function library, whole.
    Function {
        /// Its source, decoded.
        source: &'a [u8],
    },
    /// What a module keeps beside its keys begins. Pieces of it follow as [`Part::Opaque`].
    ModuleAux {
        /// Which module, and which version of its encoding.
        id: u64,
    },
    /// What is known of hash slots that are being imported begins. Pieces of it follow as [`Part::Opaque`].
    SlotImport,
    /// A piece of something that holds no key and is passed or dropped as it is.
    Opaque,
    /// An expiry, idle time or access frequency of the next key.
    Attribute,
    /// A piece of what modules keep of the next key.
    Metadata,
    /// A key: its type byte and its name, whole. Pieces of the value follow.
    Key {
        /// The name, decoded.
        name: &'a [u8],
        /// Whether an expiry came before it.
        expires: bool,
    },
    /// The first piece of the value of the last key, which is a module's.
    ModuleValue {
        /// Which module, and which version of its encoding.
        id: u64,
    },
    /// A piece of the value of the last key. Never empty.
    Value {
        /// Whether the value, and so the entry, ends with this piece.
        last: bool,
    },
    /// The end, with its checksum already verified.
    End(CrcKind),
}

/// Takes the parts of a snapshot in their order.
pub trait Sink {
    /// Why the walk has to stop.
    type Error: From<RdbError>;

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
    crc: Crc64,
    /// Bytes of the snapshot that have become parts.
    passed: u64,
    done: bool,
    failed: Option<RdbError>,
}

impl Walker {
    /// A walk that waits for the first byte of a snapshot.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the snapshot has ended as it should.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Bytes of the snapshot taken so far.
    pub fn bytes(&self) -> u64 {
        self.passed + self.cut.len() as u64
    }

    /// Where in the snapshot the next part begins.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Takes `input` up to the end of the snapshot and returns how many bytes that were: all of them unless the snapshot
    /// ended. After an error in the snapshot every further call gives the same error; after an error of the sink the part at
    /// hand is lost, and the walk must not go on.
    pub fn push<S: Sink>(&mut self, input: &[u8], sink: &mut S) -> Result<usize, S::Error> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        let joined = self.push_cut(input, sink)?;
        let rest = input.get(joined..).unwrap_or_default();
        Ok(joined + self.push_whole(rest, sink)?)
    }

    /// The snapshot's bytes have ended: an error unless the snapshot has, too.
    pub fn finish(&self) -> Result<(), RdbError> {
        match self.failed {
            Some(error) => Err(error),
            None if self.done => Ok(()),
            None => Err(RdbError { offset: self.bytes(), defect: Defect::Truncated }),
        }
    }

    /// Completes the part that the last piece cut off, and returns how many bytes of `input` that took.
    fn push_cut<S: Sink>(&mut self, input: &[u8], sink: &mut S) -> Result<usize, S::Error> {
        let mut taken = 0;
        while !self.cut.is_empty() {
            let missing = self.need.saturating_sub(self.cut.len());
            let more = input.get(taken..).unwrap_or_default();
            let more = more.get(..missing).unwrap_or(more);
            self.cut.extend_from_slice(more);
            taken += more.len();
            if more.len() < missing {
                break;
            }
            match self.parser.next(&self.cut) {
                Ok((used, part)) => {
                    let raw = self.cut.get(..used).unwrap_or_default();
                    if let Part::End(_) = part {
                        self.done = true;
                        verify(&mut self.crc, &[], raw)
                            .map_err(|defect| fail(&mut self.failed, self.passed, defect))?;
                    } else {
                        self.crc.update(raw);
                    }
                    sink.part(raw, part)?;
                    self.passed += used as u64;
                    self.cut.drain(..used);
                    self.cut.shrink_to(KEPT_BYTES);
                }
                Err(Stop::Short(need)) => self.need = need,
                Err(Stop::Bad(at, defect)) => {
                    return Err(fail(&mut self.failed, self.passed + at as u64, defect).into());
                }
            }
        }
        Ok(taken)
    }

    /// Takes parts straight from `input`, and keeps the beginning of one that it cuts off.
    fn push_whole<S: Sink>(&mut self, input: &[u8], sink: &mut S) -> Result<usize, S::Error> {
        if !self.cut.is_empty() {
            return Ok(0);
        }
        let (mut at, mut kept) = (0, 0);
        while !self.done {
            let window = input.get(at..).unwrap_or_default();
            match self.parser.next(window) {
                Ok((used, part)) => {
                    let raw = window.get(..used).unwrap_or_default();
                    if let Part::End(_) = part {
                        self.done = true;
                        let before = input.get(..at).unwrap_or_default();
                        verify(&mut self.crc, before, raw)
                            .map_err(|defect| fail(&mut self.failed, self.passed + at as u64, defect))?;
                    }
                    sink.part(raw, part)?;
                    at += used;
                }
                Err(Stop::Short(need)) => {
                    self.need = need;
                    self.cut.extend_from_slice(window);
                    kept = window.len();
                    break;
                }
                Err(Stop::Bad(wrong, defect)) => {
                    return Err(fail(&mut self.failed, self.passed + (at + wrong) as u64, defect).into());
                }
            }
        }
        if !self.done {
            self.crc.update(input.get(..at).unwrap_or_default());
        }
        self.passed += at as u64;
        Ok(at + kept)
    }
}

/// Remembers the first error.
#[cold]
fn fail(failed: &mut Option<RdbError>, offset: u64, defect: Defect) -> RdbError {
    *failed.get_or_insert(RdbError { offset, defect })
}

/// Compares the checksum at the end with that of all bytes, of which `before` have not been summed up yet.
fn verify(crc: &mut Crc64, before: &[u8], end: &[u8]) -> Result<(), Defect> {
    let Some((&code, stored)) = end.split_first() else { return Ok(()) };
    crc.update(before);
    crc.update(&[code]);
    let (stored, computed) = (stored.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)), crc.sum());
    if stored == 0 || stored == computed { Ok(()) } else { Err(Defect::Crc { stored, computed }) }
}

/// What comes next in a snapshot.
#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Magic,
    Between,
    Value,
    ModuleValue,
    Metadata,
    Opaque,
}

/// Reads one part at a time from a window that begins where the last part ended.
#[derive(Debug, Default)]
struct Parser {
    state: State,
    /// Where in a value or in something opaque it is, if it is in one.
    walk: Walk,
    family: Family,
    /// Attributes that have come since the last key, a bit each.
    attributes: u8,
    /// Where a name is decoded if it does not stand there as it is.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// The value type that begins with the id of a module.
const MODULE: u8 = 7;
/// The attribute bits that are expiries.
const EXPIRIES: u8 = 0b0011;

impl Parser {
    /// The part at the beginning of `window`, and its length in bytes.
    #[inline]
    fn next<'a>(&'a mut self, window: &'a [u8]) -> Result<(usize, Part<'a>), Stop> {
        match self.state {
            State::Between => self.between(window),
            State::Value => self.walk_on(window).map(|(used, last)| (used, Part::Value { last })),
            State::Opaque => self.walk_on(window).map(|(used, _)| (used, Part::Opaque)),
            State::Metadata => self.walk_on(window).map(|(used, _)| (used, Part::Metadata)),
            State::ModuleValue => {
                let mut cursor = Cursor::new(window, 0);
                let id = cursor.length()?;
                self.state = State::Value;
                Ok((cursor.at(), Part::ModuleValue { id }))
            }
            State::Magic => self.magic(window),
        }
    }

    /// Walks on through what cannot be held, and tells whether it has ended.
    #[inline]
    fn walk_on(&mut self, window: &[u8]) -> Result<(usize, bool), Stop> {
        let used = self.walk.go(window)?;
        let last = self.walk.is_done();
        if last {
            self.state = State::Between;
        }
        Ok((used, last))
    }

    fn magic<'a>(&mut self, window: &[u8]) -> Result<(usize, Part<'a>), Stop> {
        let magic = Cursor::new(window, 0).take(9)?;
        let (family, digits) = match (magic.strip_prefix(b"REDIS"), magic.strip_prefix(b"VALKEY")) {
            (Some(digits), _) => (Family::Redis, digits),
            (_, Some(digits)) => (Family::Valkey, digits),
            _ => return Err(Stop::Bad(0, Defect::Magic)),
        };
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(Stop::Bad(0, Defect::Magic));
        }
        let version = digits.iter().fold(0, |version, digit| version * 10 + u32::from(digit - b'0'));
        if !family.readable(version) {
            return Err(Stop::Bad(0, Defect::Version { family, version }));
        }
        self.family = family;
        self.state = State::Between;
        Ok((9, Part::Magic { family, version }))
    }

    /// A key, or one of the parts between keys.
    #[inline]
    fn between<'a>(&'a mut self, window: &'a [u8]) -> Result<(usize, Part<'a>), Stop> {
        let mut cursor = Cursor::new(window, 0);
        let first = cursor.byte()?;
        if let Some(layout) = layout(self.family, first) {
            let name = cursor.held("a key name", KEY_BYTES_MAX)?.decode(&mut self.name)?;
            let expires = self.attributes & EXPIRIES != 0;
            self.attributes = 0;
            self.state = if first == MODULE { State::ModuleValue } else { State::Value };
            self.walk.begin(layout);
            return Ok((cursor.at(), Part::Key { name, expires }));
        }
        self.opcode(first, cursor)
    }

    fn opcode<'a>(&'a mut self, first: u8, mut cursor: Cursor<'a>) -> Result<(usize, Part<'a>), Stop> {
        let attribute = |bit: u8, seen: u8| if seen & bit == 0 { Ok(seen | bit) } else { Err(Defect::Attribute) };
        let attributes = match first {
            code::EXPIRETIME => attribute(1, self.attributes),
            code::EXPIRETIME_MS => attribute(2, self.attributes),
            code::IDLE => attribute(4, self.attributes),
            code::FREQ => attribute(8, self.attributes),
            code::KEY_META if self.family == Family::Redis => attribute(16, self.attributes),
            _ if self.attributes != 0 && first >= code::SLOT_IMPORT => Err(Defect::Attribute),
            _ => Ok(0),
        };
        let attributes = attributes.map_err(|defect| cursor.bad(defect))?;
        let part = match first {
            code::EXPIRETIME => cursor.take(4).map(|_| Part::Attribute)?,
            code::EXPIRETIME_MS => cursor.take(8).map(|_| Part::Attribute)?,
            code::IDLE => cursor.length().map(|_| Part::Attribute)?,
            code::FREQ => cursor.take(1).map(|_| Part::Attribute)?,
            code::AUX => {
                let name = cursor.held("an aux field", AUX_BYTES_MAX)?;
                let value = cursor.held("an aux field", AUX_BYTES_MAX)?;
                Part::Aux { name: name.decode(&mut self.name)?, value: value.decode(&mut self.value)? }
            }
            code::SELECTDB => match cursor.length()? {
                number if number < DATABASES_MAX => Part::Select(number as u32),
                number => return Err(cursor.bad(Defect::Database(number))),
            },
            code::RESIZEDB => cursor.length().and_then(|_| cursor.length()).map(|_| Part::Hint)?,
            code::SLOT_INFO => {
                cursor.length().and_then(|_| cursor.length()).and_then(|_| cursor.length()).map(|_| Part::Hint)?
            }
            code::FUNCTION2 => {
                let source = cursor.held("a function library", FUNCTION_BYTES_MAX)?;
                Part::Function { source: source.decode(&mut self.value)? }
            }
            code::MODULE_AUX => {
                let id = cursor.length()?;
                self.state = State::Opaque;
                self.walk.begin(MODULE_AUX);
                Part::ModuleAux { id }
            }
            code::SLOT_IMPORT if self.family == Family::Valkey => {
                self.state = State::Opaque;
                self.walk.begin(SLOT_IMPORT);
                Part::SlotImport
            }
            code::KEY_META if self.family == Family::Redis => {
                self.state = State::Metadata;
                self.walk.begin(KEY_META);
                Part::Metadata
            }
            code::EOF => {
                let stored = u64::from_le_bytes(cursor.array()?);
                Part::End(if stored == 0 { CrcKind::Absent } else { CrcKind::Checked })
            }
            _ => return Err(cursor.bad(self.unknown(first))),
        };
        self.attributes = attributes;
        Ok((cursor.at(), part))
    }

    /// A byte that is neither a known type nor a known opcode: servers number types upwards and opcodes downwards.
    fn unknown(&self, first: u8) -> Defect {
        let family = self.family;
        if first < 0x80 { Defect::Type { family, kind: first } } else { Defect::Opcode { family, code: first } }
    }
}
