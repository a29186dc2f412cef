//! The live stream as a view sees it.
//!
//! Plugins say what becomes of each key; this station knows what commands do with keys and builds from both the frames of
//! the view: as they are, rewritten, as a subset, or not at all. Where no frame can be right (a command that no table knows)
//! the view halts and names the command.
//!
//! The output of a transaction is held until its EXEC and goes out whole or, when nothing of it is kept, not at all.
//!
//! **Repair.** A kept key whose new value depends on a key that the view does not have is *tainted*: its value has to come
//! from the primary, true at some later place of the stream, the *fence*. Until the projection is there, the key is taken for
//! a dropped one, and what touches it is held back; see [`Projection::ask`] and [`Projection::restore`].

mod emit;
mod explain;
mod floor;
mod keyed;
mod keyless;
mod markdown;
mod mixed;
mod repair;
mod taint;
mod tape;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::command::{Class, CommandId, KeyAt, KeySpec, Service, Table};
use crate::fault::{Fault, Party};
use crate::frame::{Frame, Frames};
use crate::pipeline::{Answers, Fate, KeyBatch, Pipeline, Traits};
use crate::rdb::ServerVersion;
use crate::resp::{self, Span};
use crate::rope::Rope;
use crate::settings::CrossKey;
use emit::Emitter;
use floor::Floor;
use taint::Taints;

pub use explain::{EXPIRY, Explained, NamedKey, Outcome, Subject, VALUE, Words, explain};
pub use markdown::{Scope, markdown};

/// What the projection of one view may use.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes that one transaction may hold back.
    pub transaction_bytes_max: usize,
    /// Arguments that a command with several keys may have.
    pub args_max: usize,
    /// The highest RDB version that a RESTORE payload may carry: an older replica drops a newer one without a word.
    pub restore_version_max: u32,
    /// What becomes of a kept key whose value depends on a dropped one.
    pub cross_key: CrossKey,
    /// Keys whose values may be unknown at once.
    pub tainted_keys_max: usize,
    /// The lowest server that the view serves: what it does not know is said in another way, or halts the view.
    pub floor: Option<ServerVersion>,
}

/// How much passed, for INFO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands that came in, without SELECT, MULTI, EXEC and empty lines.
    pub frames_in: u64,
    /// Commands of which at least a part went out.
    pub frames_out: u64,
    /// Keys whose values were fetched from the primary.
    pub repaired: u64,
}

/// The state of one view's projection. It is a function of the upstream's bytes since the snapshot, and of nothing else.
#[derive(Debug)]
pub struct Projection {
    table: Arc<Table>,
    traits: Traits,
    /// No plugin: every command passes, known or not.
    identity: bool,
    /// The upstream sends expiries relative to the moment of arrival (redis 6.2).
    relative_expiries: bool,
    bounds: Bounds,
    /// RESTORE and RESTORE-ASKING.
    restores: [Option<CommandId>; 2],
    /// The database that the upstream has selected.
    db: u32,
    emitter: Emitter,
    taints: Taints,
    floor: Option<Box<Floor>>,
    /// The databases that changed places in the transaction under way.
    swapped: Vec<(u32, u32)>,
    counts: Counts,
    batch: KeyBatch,
    answers: Answers,
    places: Vec<KeyAt>,
    spans: Vec<Span>,
    scratch: Vec<u8>,
}

impl Projection {
    /// A projection that begins behind a snapshot, where the upstream has database `db` selected.
    pub fn new(
        table: Arc<Table>,
        pipeline: Option<&dyn Pipeline>,
        relative_expiries: bool,
        bounds: Bounds,
        db: u32,
    ) -> Self {
        let none = Traits { db_independent: true, decides_frames: false, renames: false, inexact: false };
        Self {
            floor: bounds.floor.map(|version| Box::new(Floor::new(table.clone(), version))),
            restores: [table.find(b"restore"), table.find(b"restore-asking")],
            table,
            traits: pipeline.map_or(none, Pipeline::traits),
            identity: pipeline.is_none(),
            relative_expiries,
            bounds,
            db,
            emitter: Emitter::default(),
            taints: Taints::default(),
            swapped: Vec::new(),
            counts: Counts::default(),
            batch: KeyBatch::default(),
            answers: Answers::default(),
            places: Vec::new(),
            spans: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// How much passed so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The database that replicas have selected behind all that was put out; `None`: they have not been told of any.
    pub fn selected(&self) -> Option<u32> {
        self.emitter.selected()
    }

    /// Forgets the transaction that is under way: the upstream's history never had it. `db` is what was selected before it.
    pub fn abandon_transaction(&mut self, db: u32) {
        self.emitter.abandon();
        self.db = db;
        while let Some((one, other)) = self.swapped.pop() {
            self.taints.swap(one, other);
        }
    }

    /// Projects `frames` and appends what the view has of them to `out`. What was appended before an error is sound.
    pub fn project(
        &mut self,
        frames: &Frames<'_>,
        pipeline: Option<&mut (dyn Pipeline + '_)>,
        unix_ms: u64,
        out: &mut Rope,
    ) -> Result<(), Fault> {
        let Some(mut floor) = self.floor.take() else { return self.project_all(frames, pipeline, unix_ms, out) };
        let projected = self.project_all(frames, pipeline, unix_ms, &mut floor.made);
        // What it made stands before what it could not make.
        let passed = floor.pass(out).and(projected);
        self.floor = Some(floor);
        passed
    }

    fn project_all(
        &mut self,
        frames: &Frames<'_>,
        pipeline: Option<&mut (dyn Pipeline + '_)>,
        unix_ms: u64,
        out: &mut Rope,
    ) -> Result<(), Fault> {
        let mut turn = Turn { frames, pipeline, unix_ms, upstream: frames.offset, out };
        let mut next = 0;
        while next < frames.frames.len() {
            let end = self.gather(frames, next);
            self.question(&mut turn)?;
            let mut key = 0;
            for frame in frames.frames.get(next..end).unwrap_or(&[]) {
                turn.upstream = frames.offset + u64::from(frame.start);
                if let Err(fault) = self.apply(&mut turn, frame, &mut key) {
                    self.emitter.flush(frames.bytes, turn.out);
                    return Err(fault);
                }
                self.emitter.end_frame(frames.bytes, turn.out);
            }
            next = end;
        }
        self.emitter.flush(frames.bytes, turn.out);
        Ok(())
    }

    /// Collects the keys of the frames from `from` on, as far as one question can hold them: one past the last frame.
    fn gather(&mut self, frames: &Frames<'_>, from: usize) -> usize {
        self.batch.reset(self.db);
        if self.identity {
            return frames.frames.len();
        }
        for (index, frame) in frames.frames.iter().enumerate().skip(from) {
            let Some(row) = frame.command.map(|id| self.table.row(id)) else { continue };
            if row.first_key_only {
                if self.batch.is_full() {
                    return index;
                }
                self.batch.push(frames.span(frame.key));
            } else if row.class == Class::Service(Service::Select) {
                match selected(frames, frame) {
                    Some(db) if self.batch.is_empty() => self.batch.db = db,
                    Some(db) if db == self.batch.db => {}
                    _ => return index.max(from + 1),
                }
            } else if row.keys != KeySpec::NONE {
                if !self.batch.is_empty() && self.batch.is_full() {
                    return index;
                }
                // An error is found again, and told, when the frame's turn comes.
                if self.places_of(frames, frame).is_ok() {
                    let args = frames.args(frame, &mut self.spans);
                    for place in &self.places {
                        self.batch.push(args.get(place.arg as usize).unwrap_or(&[]));
                    }
                }
            }
        }
        frames.frames.len()
    }

    /// Finds where the keys of `frame` are.
    fn places_of(&mut self, frames: &Frames<'_>, frame: &Frame) -> Result<(), Fault> {
        self.places.clear();
        let Some(id) = frame.command else { return Ok(()) };
        if frame.argc as usize > self.bounds.args_max {
            return Err(Fault::new(
                Party::Upstream,
                format!(
                    "{} with {} arguments is above the bound of {}",
                    self.name(id),
                    frame.argc,
                    self.bounds.args_max
                ),
            ));
        }
        let args = frames.args(frame, &mut self.spans);
        crate::command::keys(self.table.row(id), args, &mut self.places)
            .map_err(|error| Fault::new(Party::Upstream, format!("{error}")))
    }

    fn question(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        if self.batch.is_empty() {
            self.answers.keep_all(0);
            return Ok(());
        }
        let Some(pipeline) = turn.pipeline.as_deref_mut() else { return Ok(()) };
        let asked = pipeline.keys(&self.batch, &mut self.answers).map_err(Fault::from).and_then(|()| {
            if self.answers.len() == self.batch.len() {
                return Ok(());
            }
            Err(Fault::new(Party::Own, format!("{} answers for {} keys", self.answers.len(), self.batch.len())))
        });
        asked.inspect_err(|_| self.emitter.flush(turn.frames.bytes, turn.out))
    }

    /// Puts out what the view has of one frame. `key` is the index of the frame's first answer and moves behind its last.
    #[inline]
    fn apply(&mut self, turn: &mut Turn<'_, '_>, frame: &Frame, key: &mut usize) -> Result<(), Fault> {
        let Some(id) = frame.command else { return self.unknown(turn, frame) };
        let row = self.table.row(id);
        if row.first_key_only && !self.identity {
            *key += 1;
            self.counts.frames_in += 1;
            if !row.fits(frame.argc as usize) {
                return Err(arity(&row.name, frame.argc));
            }
            if !self.taints.is_empty() {
                self.overlay(turn, self.db, turn.frames.span(frame.key), *key - 1);
            }
            if self.restores.contains(&frame.command) {
                self.check_restore(turn.frames, frame, *key - 1)?;
            }
            if self.relative_expiries {
                return self.single_absolute(turn, frame, *key - 1);
            }
            match self.answers.get(*key - 1) {
                Fate::Drop => {}
                Fate::Keep => {
                    self.counts.frames_out += 1;
                    self.emitter.keep(turn.frames.bytes, turn.out, self.db, frame);
                }
                Fate::Rename(name) => {
                    self.counts.frames_out += 1;
                    self.emitter.rename(turn.frames.bytes, turn.out, self.db, frame, name);
                }
            }
            return self.bounded();
        }
        self.apply_rare(turn, frame, id, key)?;
        self.bounded()
    }

    /// A transaction that outgrows its bound cannot be held back, and must not be split.
    #[inline]
    fn bounded(&self) -> Result<(), Fault> {
        if self.emitter.held() > self.bounds.transaction_bytes_max {
            return Err(Fault::new(
                Party::Operator,
                format!("a transaction outgrew limits.transaction ({} bytes)", self.bounds.transaction_bytes_max),
            ));
        }
        Ok(())
    }

    fn unknown(&mut self, turn: &mut Turn<'_, '_>, frame: &Frame) -> Result<(), Fault> {
        if frame.argc == 0 {
            return Ok(());
        }
        self.counts.frames_in += 1;
        if self.identity {
            self.keep(turn, frame);
            return Ok(());
        }
        Err(Fault::new(
            Party::Upstream,
            format!(
                "unknown command {}: no table tells what it does to which keys",
                printable(turn.frames.span(frame.name))
            ),
        ))
    }

    /// Puts the frame out as it is.
    fn keep(&mut self, turn: &mut Turn<'_, '_>, frame: &Frame) {
        self.counts.frames_out += 1;
        self.emitter.keep(turn.frames.bytes, turn.out, self.db, frame);
    }

    /// Puts out a frame made anew.
    fn put(&mut self, turn: &mut Turn<'_, '_>, frame: &[u8]) {
        self.counts.frames_out += 1;
        self.emitter.put(turn.frames.bytes, turn.out, self.db, frame);
    }

    fn name(&self, id: CommandId) -> String {
        self.table.row(id).name.to_uppercase()
    }
}

/// The name that the view has for `key`, whose answer is number `index`.
fn named<'a>(answers: &'a Answers, index: usize, key: &'a [u8]) -> &'a [u8] {
    match answers.get(index) {
        Fate::Rename(name) => name,
        _ => key,
    }
}

/// What one call of [`Projection::project`] works with.
struct Turn<'t, 'p> {
    frames: &'t Frames<'t>,
    pipeline: Option<&'t mut (dyn Pipeline + 'p)>,
    unix_ms: u64,
    /// Where the frame under way begins in the upstream's history.
    upstream: u64,
    out: &'t mut Rope,
}

/// The database that a SELECT frame names.
fn selected(frames: &Frames<'_>, frame: &Frame) -> Option<u32> {
    resp::decimal(frames.span(frame.key)).and_then(|db| u32::try_from(db).ok()).filter(|_| frame.argc == 2)
}

fn arity(name: &str, argc: u32) -> Fault {
    Fault::new(
        Party::Upstream,
        format!("{} with {argc} arguments is not what the command table knows", name.to_uppercase()),
    )
}

/// At most 64 bytes of a peer's words, fit for a log line.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let shown = bytes.get(..64).unwrap_or(bytes);
    let mut text: String = shown.escape_ascii().map(char::from).collect();
    if bytes.len() > shown.len() {
        text.push('…');
    }
    text
}
