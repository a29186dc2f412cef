//! The upstream's snapshot while it arrives: verified to the last byte, and described.

use super::error::RdbError;
use super::{CrcKind, Family, Kinds, Part, Sink, Walker};
use alloc::string::String;

/// What is in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The family in its magic.
    pub family: Family,
    /// The version of its format.
    pub version: u32,
    /// Its length, magic and checksum included.
    pub bytes: u64,
    /// How many keys it has, over all databases.
    pub keys: u64,
    /// How many of the keys have an expiry.
    pub expires: u64,
    /// How many function libraries it has.
    pub functions: u64,
    /// What of it not every server can load.
    pub kinds: Kinds,
    /// The server that wrote it, as it calls itself (`redis-ver` or `valkey-ver`).
    pub server_version: Option<String>,
    /// The history that it is a point of, if it says so: 40 hexadecimal digits.
    pub repl_id: Option<[u8; 40]>,
    /// The offset of that point, if it says so.
    pub repl_offset: Option<i64>,
    /// The database that is selected in the stream at that point. Without it the stream begins with a SELECT of its own.
    pub repl_stream_db: Option<u32>,
    /// What its checksum was worth.
    pub crc: CrcKind,
}

/// Takes a snapshot in pieces of any size and finds its end.
#[derive(Debug)]
pub struct Intake {
    walker: Walker,
    /// The summary so far; whole once the walker is done.
    summary: Summary,
}

impl Default for Intake {
    fn default() -> Self {
        Self::new()
    }
}

impl Intake {
    /// An intake that waits for the first byte.
    pub fn new() -> Self {
        let summary = Summary {
            family: Family::Redis,
            version: 0,
            bytes: 0,
            keys: 0,
            expires: 0,
            functions: 0,
            kinds: Kinds::default(),
            server_version: None,
            repl_id: None,
            repl_offset: None,
            repl_stream_db: None,
            crc: CrcKind::Absent,
        };
        Self { walker: Walker::new(), summary }
    }

    /// Takes `bytes` up to the end of the snapshot and returns how many that were: all of them unless the snapshot ended.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, RdbError> {
        let taken = self.walker.push(bytes, &mut self.summary)?;
        self.summary.bytes = self.walker.bytes();
        Ok(taken)
    }

    /// The upstream has ended the transfer: an error unless the snapshot has ended, too.
    pub fn finish(&self) -> Result<(), RdbError> {
        self.walker.finish()
    }

    /// Whether the snapshot has ended as it should.
    pub fn is_done(&self) -> bool {
        self.walker.is_done()
    }

    /// What is in the snapshot, once it has ended.
    pub fn summary(&self) -> Option<&Summary> {
        self.is_done().then_some(&self.summary)
    }

    /// Bytes taken so far.
    pub fn bytes(&self) -> u64 {
        self.walker.bytes()
    }

    /// Keys seen so far.
    pub fn keys(&self) -> u64 {
        self.summary.keys
    }

    /// Function libraries seen so far.
    pub fn functions(&self) -> u64 {
        self.summary.functions
    }
}

impl Sink for Summary {
    type Error = RdbError;

    #[inline]
    fn part(&mut self, raw: &[u8], part: Part<'_>) -> Result<(), RdbError> {
        match part {
            Part::Key { expires, .. } => {
                self.keys += 1;
                self.kinds.note_type(raw.first().copied().unwrap_or(0));
                self.expires += u64::from(expires);
            }
            Part::Magic { family, version } => (self.family, self.version) = (family, version),
            Part::Aux { name, value } => self.aux(name, value),
            Part::Function { .. } => self.functions += 1,
            Part::End(crc) => self.crc = crc,
            Part::ModuleValue { id } | Part::ModuleAux { id } => self.kinds.note_module(id),
            Part::SlotImport => self.kinds.slot_imports = true,
            Part::Metadata => self.kinds.key_metadata = true,
            Part::Value { .. } | Part::Attribute | Part::Select(_) | Part::Hint | Part::Opaque => {}
        }
        Ok(())
    }
}

impl Summary {
    /// A field that says something in a form it does not have is worth as little as one that is missing.
    fn aux(&mut self, name: &[u8], value: &[u8]) {
        let text = core::str::from_utf8(value).ok();
        match name {
            b"redis-ver" | b"valkey-ver" => self.server_version = text.map(String::from),
            b"repl-id" => {
                self.repl_id = value.try_into().ok().filter(|id: &[u8; 40]| id.iter().all(u8::is_ascii_hexdigit));
            }
            b"repl-offset" => self.repl_offset = text.and_then(|text| text.parse().ok()),
            b"repl-stream-db" => self.repl_stream_db = text.and_then(|text| text.parse().ok()),
            _ => {}
        }
    }
}
