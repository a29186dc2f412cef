//! A view's snapshot, made of the upstream's as it is read.
//!
//! Entries are held until a batch of keys is worth asking about, or until they take up [`HELD_BYTES`]: from then on the
//! value of the last one passes or is skipped as it comes. An entry that is kept goes out as the bytes it came in.

use super::crc::Crc64;
use super::down::Down;
use super::error::{Defect, RdbError};
use super::functions::library_name;
use super::{KEY_META_BYTES_MAX, Part, Sink, Target, Walker, code, write};
use crate::pipeline::{Answers, BATCH_KEY_BYTES, FRAME_COMMANDS, Fate, FrameBatch, KeyBatch, Pipeline};
use crate::rewrite::{HELD_BYTES, unanswered};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

/// What a library is called in a batch of frames.
const FUNCTION: u16 = 2;
const _: () = assert!(matches!(FRAME_COMMANDS[FUNCTION as usize].as_bytes(), b"function"));

/// The history that the view's snapshot is a point of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The view's own replication id: 40 hexadecimal digits.
    pub repl_id: [u8; 40],
    /// The view's own offset.
    pub repl_offset: u64,
    /// The database that is selected in the view's stream at that offset.
    pub stream_db: u32,
}

/// Counts of what a rewrite did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RewriteStats {
    /// Keys that went out under their own name.
    pub kept: u64,
    /// Keys that did not go out.
    pub dropped: u64,
    /// Keys that went out under another name.
    pub renamed: u64,
    /// Function libraries that went out.
    pub functions_kept: u64,
    /// Function libraries that did not go out.
    pub functions_dropped: u64,
    /// Bytes taken.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
}

/// Why a view's snapshot cannot be made.
pub type RewriteError = crate::rewrite::RewriteError<RdbError>;

impl From<RdbError> for RewriteError {
    fn from(error: RdbError) -> Self {
        Self::Snapshot(error)
    }
}

/// Makes one view's snapshot of one snapshot of the upstream.
#[derive(Debug)]
pub struct Rewriter {
    walker: Walker,
    body: Body,
    /// What comes behind it, where the view's snapshot is to have another format.
    down: Option<Box<Stage>>,
    failed: Option<RewriteError>,
}

/// The view's snapshot on its way to another format.
#[derive(Debug)]
struct Stage {
    down: Down,
    /// What the rewriter made in the call under way.
    made: Vec<u8>,
    /// Bytes written in all.
    written: u64,
}

impl Rewriter {
    /// A rewriter that waits for the first byte of the upstream's snapshot.
    pub fn new(head: Head) -> Self {
        Self { walker: Walker::new(), body: Body::new(head), down: None, failed: None }
    }

    /// The same for a server that reads `target` and not the upstream's format; see [`fit`](super::fit). The view's snapshot is
    /// made first, and what there is of it written down.
    pub fn to(head: Head, target: Target) -> Self {
        let stage = Stage { down: Down::new(target), made: Vec::new(), written: 0 };
        Self { down: Some(Box::new(stage)), ..Self::new(head) }
    }

    /// Takes `input` up to the end of the snapshot and appends the view's bytes to `out`; returns how many bytes were taken:
    /// all of them unless the snapshot ended. `out` grows by no more than `input`, the longest names of a batch, and what
    /// was held of earlier input (see [`HELD_BYTES`]). After an error every further call gives the same error.
    pub fn push(
        &mut self,
        input: &[u8],
        pipeline: &mut dyn Pipeline,
        out: &mut Vec<u8>,
    ) -> Result<usize, RewriteError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(mut stage) = self.down.take() else { return self.rewrite(input, pipeline, out) };
        stage.made.clear();
        let before = out.len();
        let taken = self.rewrite(input, pipeline, &mut stage.made).and_then(|taken| {
            let written = stage.down.push(&stage.made, out);
            written.map_err(|error| self.failed.insert(error).clone()).map(|()| taken)
        });
        stage.written += (out.len() - before) as u64;
        self.down = Some(stage);
        taken
    }

    fn rewrite(&mut self, input: &[u8], pipeline: &mut dyn Pipeline, out: &mut Vec<u8>) -> Result<usize, RewriteError> {
        let unsummed = out.len();
        let mut pass = Pass { body: &mut self.body, pipeline, out, offset: self.walker.passed(), unsummed };
        match self.walker.push(input, &mut pass) {
            Ok(taken) => {
                pass.sum_up();
                self.body.stats.bytes_in = self.walker.bytes();
                self.body.stats.bytes_out += (out.len() - unsummed) as u64;
                Ok(taken)
            }
            Err(error) => Err(self.failed.insert(error).clone()),
        }
    }

    /// Whether the view's snapshot is complete.
    pub fn is_done(&self) -> bool {
        self.failed.is_none() && self.walker.is_done()
    }

    /// The input has ended: an error unless the snapshot has ended, too.
    pub fn finish(&self) -> Result<(), RewriteError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.walker.finish().map_err(RewriteError::Snapshot),
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> RewriteStats {
        let written = self.down.as_ref().map(|stage| stage.written);
        RewriteStats { bytes_out: written.unwrap_or(self.body.stats.bytes_out), ..self.body.stats }
    }
}

/// Where a held entry lies in the held bytes. It ends where the next one starts.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Its first byte: an attribute, or the type.
    start: usize,
    /// The first byte of its name's encoding.
    name: usize,
    /// The first byte of its value.
    value: usize,
}

/// What becomes of the pieces of the value that is coming in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// They are held: its key has not been asked about.
    Held,
    /// They go out.
    Passed,
    /// They do not.
    Skipped,
}

/// What outlives a call.
#[derive(Debug)]
struct Body {
    head: Head,
    /// Whether the fields of `head` have been written.
    headed: bool,
    /// The attributes of the next key: one of each kind at most, so never more than a few dozen bytes and its metadata.
    attributes: Vec<u8>,
    /// The bytes of the entries in `batch`.
    held: Vec<u8>,
    entries: Vec<Entry>,
    batch: KeyBatch,
    answers: Answers,
    open: Open,
    /// The database that the output has selected.
    selected: Option<u32>,
    crc: Crc64,
    stats: RewriteStats,
}

impl Body {
    fn new(head: Head) -> Self {
        Self {
            head,
            headed: false,
            attributes: Vec::new(),
            held: Vec::new(),
            entries: Vec::new(),
            batch: KeyBatch::new(0),
            answers: Answers::default(),
            open: Open::Held,
            selected: None,
            crc: Crc64::new(),
            stats: RewriteStats::default(),
        }
    }
}

/// One call: the body, and what is lent for the call.
struct Pass<'a> {
    body: &'a mut Body,
    pipeline: &'a mut dyn Pipeline,
    out: &'a mut Vec<u8>,
    /// Where in the snapshot the part at hand begins.
    offset: u64,
    /// Where in `out` the bytes begin that are not yet in the checksum.
    unsummed: usize,
}

impl Sink for Pass<'_> {
    type Error = RewriteError;

    #[inline]
    fn part(&mut self, raw: &[u8], part: Part<'_>) -> Result<(), RewriteError> {
        match part {
            Part::Key { name, .. } => self.key(raw, name)?,
            Part::Value { last } => self.value(raw, last)?,
            Part::ModuleValue { .. } => self.value(raw, false)?,
            Part::Metadata => self.metadata(raw)?,
            Part::Attribute => self.body.attributes.extend_from_slice(raw),
            Part::Magic { .. } => self.out.extend_from_slice(raw),
            Part::Aux { name, .. } => {
                // It stays where it is, also between keys.
                self.ask()?;
                self.aux(raw, name);
            }
            Part::Select(db) => {
                self.ask()?;
                self.body.batch.reset(db);
            }
            // True of the whole snapshot: a view of a few keys would make its replica reserve memory for all.
            Part::Hint => {}
            Part::Function { source } => self.function(raw, source)?,
            Part::Opaque | Part::ModuleAux { .. } | Part::SlotImport => {
                self.ask()?;
                self.head();
                self.out.extend_from_slice(raw);
            }
            Part::End(_) => {
                self.ask()?;
                self.head();
                self.out.push(code::EOF);
                self.sum_up();
                self.out.extend_from_slice(&self.body.crc.sum().to_le_bytes());
                self.unsummed = self.out.len();
            }
        }
        self.offset += raw.len() as u64;
        Ok(())
    }
}

impl Pass<'_> {
    /// Brings the checksum up to the end of the output.
    fn sum_up(&mut self) {
        self.body.crc.update(self.out.get(self.unsummed..).unwrap_or_default());
        self.unsummed = self.out.len();
    }

    /// Writes the view's own place in its history, once. Servers put these fields before `aof-base` and the first key.
    fn head(&mut self) {
        if self.body.headed {
            return;
        }
        self.body.headed = true;
        let head = self.body.head;
        write::write_aux(self.out, b"repl-stream-db", format!("{}", head.stream_db).as_bytes());
        write::write_aux(self.out, b"repl-id", &head.repl_id);
        write::write_aux(self.out, b"repl-offset", format!("{}", head.repl_offset).as_bytes());
    }

    /// Passes the fields that say nothing of keys. Of a field that is not known, that cannot be said.
    fn aux(&mut self, raw: &[u8], name: &[u8]) {
        match name {
            b"redis-ver" | b"valkey-ver" | b"redis-bits" | b"ctime" | b"used-mem" => {}
            b"repl-stream-db" | b"repl-id" | b"repl-offset" => return self.head(),
            b"aof-base" | b"aof-preamble" | b"lua" => self.head(),
            _ => return,
        }
        self.out.extend_from_slice(raw);
    }

    fn function(&mut self, raw: &[u8], source: &[u8]) -> Result<(), RewriteError> {
        self.ask()?;
        self.head();
        if self.passes(source)? {
            self.body.stats.functions_kept += 1;
            self.out.extend_from_slice(raw);
        } else {
            self.body.stats.functions_dropped += 1;
        }
        Ok(())
    }

    /// Whether the view has a function library. A plugin is asked by name alone.
    fn passes(&mut self, source: &[u8]) -> Result<bool, RewriteError> {
        if !self.pipeline.traits().decides_frames {
            return Ok(true);
        }
        let name = library_name(source).ok_or(RdbError { offset: self.offset, defect: Defect::Unnamed })?;
        let mut keep = Vec::with_capacity(1);
        self.pipeline.frames(&FrameBatch::single(0, FUNCTION, name, 0), &mut keep)?;
        keep.first().copied().ok_or_else(|| unanswered(1, keep.len()).into())
    }

    fn key(&mut self, raw: &[u8], name: &[u8]) -> Result<(), RewriteError> {
        let crowded = self.body.batch.keys.len().saturating_add(name.len()) > BATCH_KEY_BYTES;
        if crowded || self.body.held.len().saturating_add(raw.len()) > HELD_BYTES {
            self.ask()?;
        }
        let body = &mut *self.body;
        let start = body.held.len();
        body.held.extend_from_slice(&body.attributes);
        body.attributes.clear();
        // The type byte stands before the name.
        let name_at = body.held.len() + 1;
        body.held.extend_from_slice(raw);
        body.entries.push(Entry { start, name: name_at, value: body.held.len() });
        body.batch.push(name);
        Ok(())
    }

    /// What modules keep of the next key goes where the key goes.
    fn metadata(&mut self, raw: &[u8]) -> Result<(), RewriteError> {
        let bytes = self.body.attributes.len().saturating_add(raw.len());
        if bytes > KEY_META_BYTES_MAX {
            let defect =
                Defect::TooLong { what: "the metadata of a key", bytes: bytes as u64, bound: KEY_META_BYTES_MAX };
            return Err(RdbError { offset: self.offset, defect }.into());
        }
        self.body.attributes.extend_from_slice(raw);
        Ok(())
    }

    fn value(&mut self, raw: &[u8], last: bool) -> Result<(), RewriteError> {
        if self.body.open == Open::Held && self.body.held.len().saturating_add(raw.len()) > HELD_BYTES {
            self.body.open = if self.ask()? { Open::Passed } else { Open::Skipped };
        }
        match self.body.open {
            Open::Held => self.body.held.extend_from_slice(raw),
            Open::Passed => self.out.extend_from_slice(raw),
            Open::Skipped => {}
        }
        if last {
            self.body.open = Open::Held;
            if self.body.batch.is_full() {
                self.ask()?;
            }
        }
        Ok(())
    }

    /// Asks about the held keys and writes what is kept of their entries. Tells whether the last of them is kept.
    fn ask(&mut self) -> Result<bool, RewriteError> {
        let body = &mut *self.body;
        if body.batch.is_empty() {
            return Ok(false);
        }
        self.pipeline.keys(&body.batch, &mut body.answers)?;
        if body.answers.len() != body.batch.len() {
            return Err(unanswered(body.batch.len(), body.answers.len()).into());
        }
        self.head();
        let last_kept = self.settle();
        let body = &mut *self.body;
        body.batch.reset(body.batch.db);
        body.entries.clear();
        body.held.clear();
        body.held.shrink_to(HELD_BYTES);
        Ok(last_kept)
    }

    /// Writes what the answers leave of the held entries, in as few pieces as it can.
    fn settle(&mut self) -> bool {
        let Body { entries, answers, held, selected, batch, stats, .. } = &mut *self.body;
        let out = &mut *self.out;
        let mut select = |out: &mut Vec<u8>| {
            if *selected != Some(batch.db) {
                *selected = Some(batch.db);
                write::write_select(out, batch.db);
            }
        };
        // Held bytes before this are written or dropped.
        let mut settled = 0;
        let mut last_kept = false;
        for (index, entry) in entries.iter().enumerate() {
            let fate = answers.get(index);
            last_kept = fate != Fate::Drop;
            match fate {
                Fate::Keep => {
                    select(out);
                    stats.kept += 1;
                }
                Fate::Drop => {
                    out.extend_from_slice(held.get(settled..entry.start).unwrap_or_default());
                    settled = entries.get(index + 1).map_or(held.len(), |next| next.start);
                    stats.dropped += 1;
                }
                Fate::Rename(name) => {
                    select(out);
                    out.extend_from_slice(held.get(settled..entry.name).unwrap_or_default());
                    write::write_string(out, name);
                    settled = entry.value;
                    stats.renamed += 1;
                }
            }
        }
        out.extend_from_slice(held.get(settled..).unwrap_or_default());
        last_kept
    }
}
