//! A view's snapshot, made of the upstream's as it is read.
//!
//! Records are held until a batch of keys is worth asking about, or until they take up [`HELD_BYTES`]: from then on the
//! rest of the last one passes or is skipped as it comes. A record that is kept goes out as the bytes it came in. What is
//! said of a key outside its own record is asked about like the key, and so shares its fate.

use super::error::SnapshotError;
use super::{Part, Record, Sink, Walker, write_end, write_head};
use crate::kevy::route::Share;
use crate::pipeline::{Answers, BATCH_KEY_BYTES, Fate, KeyBatch, Pipeline};
use crate::rewrite::{HELD_BYTES, unanswered};
use alloc::vec::Vec;

/// How much of a snapshot is written. What the server has put there for itself never is: it is about keys that a view does
/// not have, or has under other names, and no view that is not the primary's own bytes follows its changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    #[default]
    Whole,
    /// The records alone, so that those of several snapshots can be put between one [`write_head`] of the latest version
    /// and one [`write_end`].
    Records,
    /// What stands behind the records and is about keys, to be put behind the [`write_end`].
    Trailer,
}

impl Extent {
    fn has(self, record: Record) -> bool {
        match self {
            Self::Whole => true,
            Self::Records => record != Record::GroupReads,
            Self::Trailer => record == Record::GroupReads,
        }
    }
}

/// Counts of what a rewrite did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RewriteStats {
    /// Keys that went out under their own name.
    pub kept: u64,
    /// Keys that the view does not have.
    pub dropped: u64,
    /// Keys that went out under another name.
    pub renamed: u64,
    /// Keys that the view has in another shard.
    pub elsewhere: u64,
    /// Records behind the others that were left to an [`Extent::Trailer`].
    pub behind: u64,
    /// Bytes taken.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
}

/// Why a view's snapshot cannot be made.
pub type RewriteError = crate::rewrite::RewriteError<SnapshotError>;

impl From<SnapshotError> for RewriteError {
    fn from(error: SnapshotError) -> Self {
        Self::Snapshot(error)
    }
}

/// Makes one view's snapshot of one snapshot of the upstream.
#[derive(Debug)]
pub struct Rewriter {
    walker: Walker,
    body: Body,
    failed: Option<RewriteError>,
}

impl Rewriter {
    /// A rewriter that waits for the first byte of the upstream's snapshot, and writes so much of it. With a share it
    /// writes only the records of keys whose new names lie there.
    pub fn new(extent: Extent, share: Option<Share>) -> Self {
        Self { walker: Walker::new(), body: Body::new(extent, share), failed: None }
    }

    /// Takes the next bytes of the snapshot and appends the view's to `out`, which grows by no more than `input`, the
    /// longest names of a batch, and what was held of earlier input (see [`HELD_BYTES`]). After an error every further
    /// call gives the same error.
    pub fn push(&mut self, input: &[u8], pipeline: &mut dyn Pipeline, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        self.with(pipeline, out, |walker, pass| walker.push(input, pass))
    }

    /// The upstream has ended the transfer: writes what is still held, or gives an error if the snapshot was not whole.
    pub fn finish(&mut self, pipeline: &mut dyn Pipeline, out: &mut Vec<u8>) -> Result<RewriteStats, RewriteError> {
        self.with(pipeline, out, |walker, pass| {
            walker.finish()?;
            pass.ask().map(drop)
        })?;
        Ok(self.body.stats)
    }

    /// What was done so far.
    pub fn stats(&self) -> RewriteStats {
        self.body.stats
    }

    fn with(
        &mut self,
        pipeline: &mut dyn Pipeline,
        out: &mut Vec<u8>,
        act: impl FnOnce(&mut Walker, &mut Pass<'_>) -> Result<(), RewriteError>,
    ) -> Result<(), RewriteError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let before = out.len();
        let acted = act(&mut self.walker, &mut Pass { body: &mut self.body, pipeline, out });
        self.body.stats.bytes_in = self.walker.bytes();
        self.body.stats.bytes_out += (out.len() - before) as u64;
        acted.map_err(|error| self.failed.insert(error).clone())
    }
}

/// Where a held record lies in the held bytes. It ends where the next one starts.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Its first byte.
    start: usize,
    /// The length before its key's name.
    name: usize,
    /// The first byte behind the name.
    value: usize,
    is_key: bool,
}

/// What becomes of the pieces of the record that is coming in.
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
    extent: Extent,
    share: Option<Share>,
    /// The bytes of the records in `batch`.
    held: Vec<u8>,
    entries: Vec<Entry>,
    batch: KeyBatch,
    answers: Answers,
    open: Open,
    stats: RewriteStats,
}

impl Body {
    fn new(extent: Extent, share: Option<Share>) -> Self {
        Self {
            extent,
            share,
            held: Vec::new(),
            entries: Vec::new(),
            batch: KeyBatch::new(0),
            answers: Answers::default(),
            open: Open::Held,
            stats: RewriteStats::default(),
        }
    }
}

/// One call: the body, and what is lent for the call.
struct Pass<'a> {
    body: &'a mut Body,
    pipeline: &'a mut dyn Pipeline,
    out: &'a mut Vec<u8>,
}

impl Sink for Pass<'_> {
    type Error = RewriteError;

    #[inline]
    fn part(&mut self, raw: &[u8], part: Part<'_>) -> Result<(), RewriteError> {
        let extent = self.body.extent;
        match part {
            Part::Key { record, name, .. } if extent.has(record) => self.key(raw, name, record.is_key())?,
            Part::Key { record, .. } => {
                self.body.open = Open::Skipped;
                self.body.stats.behind += u64::from(record == Record::GroupReads);
            }
            Part::Value { last } => self.value(raw, last)?,
            // The primary's own place in its history, if the head names one, is not the view's.
            Part::Head { version } if extent == Extent::Whole => write_head(self.out, version),
            Part::End => {
                self.ask()?;
                if extent == Extent::Whole {
                    write_end(self.out);
                }
            }
            Part::Head { .. } | Part::Aux => {}
        }
        Ok(())
    }
}

impl Pass<'_> {
    fn key(&mut self, raw: &[u8], name: &[u8], is_key: bool) -> Result<(), RewriteError> {
        let crowded = self.body.batch.keys.len().saturating_add(name.len()) > BATCH_KEY_BYTES;
        if crowded || self.body.held.len().saturating_add(raw.len()) > HELD_BYTES {
            self.ask()?;
        }
        let body = &mut *self.body;
        let start = body.held.len();
        body.held.extend_from_slice(raw);
        let value = body.held.len();
        // The name stands last, behind its length in four bytes.
        let name_at = value.saturating_sub(name.len() + 4);
        body.entries.push(Entry { start, name: name_at, value, is_key });
        body.batch.push(name);
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

    /// Asks about the held keys and writes what is kept of their records. Tells whether the last of them is kept.
    fn ask(&mut self) -> Result<bool, RewriteError> {
        let body = &mut *self.body;
        if body.batch.is_empty() {
            return Ok(false);
        }
        self.pipeline.keys(&body.batch, &mut body.answers)?;
        if body.answers.len() != body.batch.len() {
            return Err(unanswered(body.batch.len(), body.answers.len()).into());
        }
        let last_kept = body.settle(self.out);
        body.batch.reset(0);
        body.batch.keys.shrink_to(BATCH_KEY_BYTES);
        body.entries.clear();
        body.held.clear();
        body.held.shrink_to(HELD_BYTES);
        Ok(last_kept)
    }
}

impl Body {
    /// Writes what the answers leave of the held records, in as few pieces as it can.
    fn settle(&mut self, out: &mut Vec<u8>) -> bool {
        // Held bytes before this are written or dropped.
        let mut settled = 0;
        let mut last_kept = false;
        for (index, entry) in self.entries.iter().enumerate() {
            let fate = self.answers.get(index);
            let name = match fate {
                Fate::Keep => Some(self.batch.get(index)),
                Fate::Rename(name) => Some(name),
                Fate::Drop => None,
            };
            last_kept = name.is_some_and(|name| self.share.is_none_or(|share| share.holds(name)));
            if entry.is_key {
                let stats = &mut self.stats;
                let count = match fate {
                    Fate::Drop => &mut stats.dropped,
                    _ if !last_kept => &mut stats.elsewhere,
                    Fate::Keep => &mut stats.kept,
                    Fate::Rename(_) => &mut stats.renamed,
                };
                *count += 1;
            }
            match fate {
                Fate::Keep if last_kept => {}
                Fate::Rename(name) if last_kept => {
                    out.extend_from_slice(self.held.get(settled..entry.name).unwrap_or_default());
                    out.extend_from_slice(&(name.len() as u32).to_le_bytes());
                    out.extend_from_slice(name);
                    settled = entry.value;
                }
                _ => {
                    out.extend_from_slice(self.held.get(settled..entry.start).unwrap_or_default());
                    settled = self.entries.get(index + 1).map_or(self.held.len(), |next| next.start);
                }
            }
        }
        out.extend_from_slice(self.held.get(settled..).unwrap_or_default());
        last_kept
    }
}
