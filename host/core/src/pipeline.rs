//! The questions that a view asks of its plugins, and the answers.
//!
//! The core never sees an engine. It packs keys into columns, calls a [`Pipeline`] once per batch and reads the answers;
//! whether the other side is a row of WebAssembly components, a native filter or a simulator's model makes no difference.
//! An answer depends on the database, the key and the settings alone, so that the same question is answered alike in the
//! live stream and in a snapshot.

use alloc::string::String;
use alloc::vec::Vec;

/// Most keys in one batch: enough to make the cost of a call small beside the keys, small enough for the first-level cache.
pub const BATCH_KEYS_MAX: usize = 512;
/// Bytes of keys at which a batch is closed early. A single longer key still forms a batch of its own.
pub const BATCH_KEY_BYTES: usize = 64 * 1024;

/// Keys of one database, in the order of the stream or of the snapshot: an arena and its offsets.
#[derive(Debug, Default, Clone)]
pub struct KeyBatch {
    /// The logical database of every key in the batch.
    pub db: u32,
    /// Key `i` is `keys[offsets[i]..offsets[i + 1]]`. Starts with 0 and has one entry more than there are keys.
    pub offsets: Vec<u32>,
    /// The keys, one after the other.
    pub keys: Vec<u8>,
}

impl KeyBatch {
    /// An empty batch for database `db`.
    pub fn new(db: u32) -> Self {
        let mut batch = Self::default();
        batch.reset(db);
        batch
    }

    /// Empties the batch, keeping its memory.
    pub fn reset(&mut self, db: u32) {
        self.db = db;
        self.keys.clear();
        self.offsets.clear();
        self.offsets.push(0);
    }

    /// Adds a key and returns its index.
    #[inline]
    pub fn push(&mut self, key: &[u8]) -> usize {
        let index = self.len();
        self.keys.extend_from_slice(key);
        self.offsets.push(self.keys.len() as u32);
        index
    }

    /// How many keys the batch holds.
    #[inline]
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether the batch holds no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the batch should be asked before another key is added.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() >= BATCH_KEYS_MAX || self.keys.len() >= BATCH_KEY_BYTES
    }

    /// Key `index`; empty if there is no such key.
    #[inline]
    pub fn get(&self, index: usize) -> &[u8] {
        match (self.offsets.get(index), self.offsets.get(index + 1)) {
            (Some(&from), Some(&to)) => self.keys.get(from as usize..to as usize).unwrap_or(&[]),
            _ => &[],
        }
    }
}

/// What becomes of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate<'a> {
    /// The view has the key under its own name.
    Keep,
    /// The view does not have the key.
    Drop,
    /// The view has the key under this name.
    Rename(&'a [u8]),
}

const KEEP: u8 = 0;
const DROP: u8 = 1;
const RENAME: u8 = 2;

/// The answers to one [`KeyBatch`], by index.
#[derive(Debug, Default, Clone)]
pub struct Answers {
    fates: Vec<u8>,
    spans: Vec<(u32, u32)>,
    names: Vec<u8>,
}

impl Answers {
    /// Forgets all answers and keeps every one of `keys` keys under its own name.
    pub fn keep_all(&mut self, keys: usize) {
        self.fates.clear();
        self.fates.resize(keys, KEEP);
        self.spans.clear();
        self.names.clear();
    }

    /// How many keys are answered for.
    pub fn len(&self) -> usize {
        self.fates.len()
    }

    /// Whether no key is answered for.
    pub fn is_empty(&self) -> bool {
        self.fates.is_empty()
    }

    /// The answer for key `index`. A key that was never asked about is dropped.
    #[inline]
    pub fn get(&self, index: usize) -> Fate<'_> {
        match self.fates.get(index) {
            Some(&KEEP) => Fate::Keep,
            Some(&RENAME) => match self.spans.get(index) {
                Some(&(from, to)) => Fate::Rename(self.names.get(from as usize..to as usize).unwrap_or(&[])),
                None => Fate::Drop,
            },
            _ => Fate::Drop,
        }
    }

    /// Drops key `index`.
    #[inline]
    pub fn drop_key(&mut self, index: usize) {
        if let Some(fate) = self.fates.get_mut(index) {
            *fate = DROP;
        }
    }

    /// Gives key `index` the name `name`.
    #[inline]
    pub fn rename_key(&mut self, index: usize, name: &[u8]) {
        if index >= self.fates.len() {
            return;
        }
        if self.spans.len() < self.fates.len() {
            self.spans.resize(self.fates.len(), (0, 0));
        }
        let from = self.names.len() as u32;
        self.names.extend_from_slice(name);
        self.spans[index] = (from, self.names.len() as u32);
        self.fates[index] = RENAME;
    }

    /// Gives many keys names at once: for each its index and the place of its name in `names`.
    pub fn rename_keys(&mut self, names: &[u8], keys: impl Iterator<Item = (usize, (u32, u32))>) {
        let base = self.names.len() as u32;
        self.names.extend_from_slice(names);
        self.spans.resize(self.fates.len(), (0, 0));
        for (index, (from, to)) in keys {
            if let (Some(span), Some(fate)) = (self.spans.get_mut(index), self.fates.get_mut(index)) {
                *span = (base + from, base + to);
                *fate = RENAME;
            }
        }
    }
}

/// Frames that no key decides: PUBLISH by channel, function libraries by name.
#[derive(Debug, Default, Clone)]
pub struct FrameBatch {
    /// The database that is selected where the frames stand.
    pub db: u32,
    /// For each frame: the command's lower-case name as registered with [`Pipeline`] implementors by [`FRAME_COMMANDS`].
    pub commands: Vec<u16>,
    /// Subject `i` is `subjects[subject_offsets[i]..subject_offsets[i + 1]]`; starts with 0.
    pub subject_offsets: Vec<u32>,
    /// A channel, or a function library's name.
    pub subjects: Vec<u8>,
    /// The whole length of each frame in bytes; 0 for function libraries.
    pub sizes: Vec<u32>,
}

/// The commands that a [`FrameBatch`] names by index.
pub const FRAME_COMMANDS: [&str; 3] = ["publish", "spublish", "function"];

impl FrameBatch {
    /// A batch of one frame: most frames of this kind come alone.
    pub fn single(db: u32, command: u16, subject: &[u8], size: u32) -> Self {
        Self {
            db,
            commands: alloc::vec![command],
            subject_offsets: alloc::vec![0, subject.len() as u32],
            subjects: subject.to_vec(),
            sizes: alloc::vec![size],
        }
    }
}

/// A plugin (or the room it lives in) failed in a way that its policy does not cover: the view has to halt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFault {
    /// The plugin's name in the configuration.
    pub plugin: String,
    /// What happened, in words for the operator.
    pub what: String,
}

/// What is known of a pipeline without asking it about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// Every plugin declares that its answers do not depend on the database.
    pub db_independent: bool,
    /// At least one plugin decides about frames without keys.
    pub decides_frames: bool,
    /// At least one plugin can give a key another name.
    pub renames: bool,
    /// At least one plugin was told to drop or pass what it cannot answer, so the view may be inexact.
    pub inexact: bool,
}

/// The ordered plugins of one view, ready to be asked.
///
/// Implementations check all that comes back from a plugin (length, order, range, size) before it is put into `answers`,
/// and prove every name: the inverse of a name must be the key it was made of.
pub trait Pipeline: Send {
    /// Answers for every key of `batch`. On `Ok`, `answers.len() == batch.len()`.
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault>;

    /// Answers for every frame of `batch`: `keep[i]` tells whether frame `i` passes. On `Ok`, the lengths agree.
    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault>;

    /// What is known of the pipeline in advance.
    fn traits(&self) -> Traits;
}

/// No plugin at all: every key and every frame is kept as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepAll;

impl Pipeline for KeepAll {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        answers.keep_all(batch.len());
        Ok(())
    }

    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        keep.clear();
        keep.resize(batch.commands.len(), true);
        Ok(())
    }

    fn traits(&self) -> Traits {
        Traits { db_independent: true, decides_frames: false, renames: false, inexact: false }
    }
}
