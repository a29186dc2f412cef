//! kevy's live stream as a view sees it.
//!
//! As in [`crate::projection`], plugins say what becomes of each key, and this station makes of it what the view has of
//! each command. What is different is kevy: one database and no transactions, but several streams, one for each shard,
//! and a command belongs into the stream of its key's shard. So commands go out one by one, each with its stream;
//! whoever takes them numbers them. A command whose keys belong into several streams is parted where its keys are
//! independent of each other, and otherwise halts the view, as does one that joins kept keys with dropped ones.
//!
//! kevy also sends what its clients asked for in vain. A command that its table cannot make out has had no effect on
//! the primary, so it is left out and counted.
//!
//! kevy sends expiries relative to its own clock, and a replica that reads them from a backlog would keep its keys too
//! long: every view has them absolute, counted from their arrival. An expiry under a condition (`SET … NX EX`), one that
//! kevy itself refuses, and a GETEX, which fails on other types and says so to nobody here, pass as they are.

mod bulk;
mod deadline;
mod keyed;
mod keyless;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::route::{Routing, shard_of};
use crate::command::{Class, CommandId, KeyAt, Service, Table};
use crate::fault::{Fault, Party};
use crate::frame::{Frame, Frames};
use crate::limits::FRAME_ARGS_MAX;
use crate::pipeline::{Answers, Fate, KeyBatch, Pipeline};
use crate::projection::{Counts, printable};
use crate::resp::Span;
use bulk::Head;
use deadline::Form;

/// Takes the commands of a view, one by one.
pub trait Sink {
    /// The next command of stream `shard`, in pieces.
    fn command(&mut self, shard: usize, pieces: &[&[u8]]);
}

/// The state of one view's projection. What goes out is a function of what came in and when, and of nothing else.
#[derive(Debug)]
pub struct Projection {
    table: Arc<Table>,
    /// No plugin: every command passes, known or not, as long as its stream is.
    identity: bool,
    /// At least one plugin decides about messages.
    decides_frames: bool,
    shards: usize,
    routing: Routing,
    /// For each row of the table.
    forms: Vec<Form>,
    counts: Counts,
    failed: u64,
    batch: KeyBatch,
    answers: Answers,
    places: Vec<KeyAt>,
    spans: Vec<Span>,
    streams: Vec<Option<usize>>,
    scratch: Vec<u8>,
}

/// What one call of [`Projection::project`] works with.
struct Turn<'t, 'p, S> {
    frames: &'t Frames<'t>,
    pipeline: Option<&'t mut (dyn Pipeline + 'p)>,
    /// The stream that everything goes to, whatever its keys are.
    only: Option<usize>,
    unix_ms: u64,
    sink: &'t mut S,
}

impl Projection {
    /// A projection onto `shards` streams, which `routing` divides the keys between. Frames have to come from scanners
    /// with this `table`, which is [`Table::kevy`]. `field_deadlines` says that all replicas know `HPEXPIREAT` (kevy
    /// from 3.17 on does); without, expiries of hash fields stay relative.
    pub fn new(
        table: Arc<Table>,
        pipeline: Option<&dyn Pipeline>,
        shards: usize,
        routing: Routing,
        field_deadlines: bool,
    ) -> Self {
        Self {
            forms: table.rows().iter().map(|row| Form::of(row.name, field_deadlines)).collect(),
            table,
            identity: pipeline.is_none(),
            decides_frames: pipeline.is_some_and(|pipeline| pipeline.traits().decides_frames),
            shards,
            routing,
            counts: Counts::default(),
            failed: 0,
            batch: KeyBatch::default(),
            answers: Answers::default(),
            places: Vec::new(),
            spans: Vec::new(),
            streams: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// How much passed so far. A command that goes out as several counts once.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many commands were left out because they can have had no effect on the primary.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Projects `frames`, which arrived at `unix_ms`, and hands what the view has of them to `sink`. Every command goes
    /// to stream `home`, whatever its keys are called, or without `home` to that of its keys. What was handed out
    /// before an error is sound.
    pub fn project<S: Sink>(
        &mut self,
        frames: &Frames<'_>,
        pipeline: Option<&mut (dyn Pipeline + '_)>,
        home: Option<usize>,
        unix_ms: u64,
        sink: &mut S,
    ) -> Result<(), Fault> {
        let only = home.or((self.shards <= 1).then_some(0));
        let mut turn = Turn { frames, pipeline, only, unix_ms, sink };
        if let Some(shard) = only.filter(|_| self.identity) {
            return frames.frames.iter().try_for_each(|frame| self.identically(&mut turn, frame, shard));
        }
        let mut next = 0;
        while next < frames.frames.len() {
            let end = self.gather(frames, next);
            self.ask(&mut turn)?;
            let mut key = 0;
            for frame in frames.frames.get(next..end).unwrap_or(&[]) {
                self.apply(&mut turn, frame, &mut key)?;
            }
            next = end;
        }
        Ok(())
    }

    /// Collects the keys of the frames from `from` on, as far as one question can hold them: one past the last frame.
    fn gather(&mut self, frames: &Frames<'_>, from: usize) -> usize {
        self.batch.reset(0);
        if self.identity {
            return frames.frames.len();
        }
        for (index, frame) in frames.frames.iter().enumerate().skip(from) {
            let Some(id) = frame.command else { continue };
            let row = self.table.row(id);
            if row.first_key_only {
                if frame.argc < 2 {
                    continue;
                }
                if self.batch.is_full() {
                    return index;
                }
                self.batch.push(frames.span(frame.key));
            } else if by_key(row.class) {
                if self.batch.is_full() {
                    return index;
                }
                // What cannot be placed is found again when the frame's turn comes.
                if self.place(frames, frame, id) == Ok(true) {
                    let args = frames.args(frame, &mut self.spans);
                    for place in &self.places {
                        self.batch.push(args.get(place.arg as usize).unwrap_or(&[]));
                    }
                }
            }
        }
        frames.frames.len()
    }

    /// Finds where the keys of `frame` are. `false` if the frame does not have the shape of its command.
    fn place(&mut self, frames: &Frames<'_>, frame: &Frame, id: CommandId) -> Result<bool, Fault> {
        self.places.clear();
        if frame.argc as usize > FRAME_ARGS_MAX {
            let (name, argc) = (self.name(id), frame.argc);
            let what = format!("{name} with {argc} arguments is above the bound of {FRAME_ARGS_MAX}");
            return Err(Fault::new(Party::Upstream, what));
        }
        let args = frames.args(frame, &mut self.spans);
        Ok(crate::command::keys(self.table.row(id), args, &mut self.places).is_ok())
    }

    fn ask<S>(&mut self, turn: &mut Turn<'_, '_, S>) -> Result<(), Fault> {
        self.answers.keep_all(0);
        if self.batch.is_empty() {
            return Ok(());
        }
        let Some(pipeline) = turn.pipeline.as_deref_mut() else {
            return Err(Fault::new(Party::Own, "a view with plugins was given none"));
        };
        pipeline.keys(&self.batch, &mut self.answers)?;
        if self.answers.len() == self.batch.len() {
            return Ok(());
        }
        Err(Fault::new(Party::Own, format!("{} answers for {} keys", self.answers.len(), self.batch.len())))
    }

    /// Puts out what the view has of one frame. `key` is the index of the frame's first answer and moves behind its
    /// last.
    #[inline]
    fn apply<S: Sink>(&mut self, turn: &mut Turn<'_, '_, S>, frame: &Frame, key: &mut usize) -> Result<(), Fault> {
        let Some(id) = frame.command else { return self.unknown(turn, frame) };
        if !self.table.row(id).first_key_only {
            return self.apply_rare(turn, frame, id, key);
        }
        self.counts.frames_in += 1;
        // Its key alone decides: whether the rest is what the command takes does not matter.
        if frame.argc < 2 {
            self.failed += 1;
            return Ok(());
        }
        let index = *key;
        *key += 1;
        self.single(turn, frame, id, frame.key_header, frame.key, index);
        Ok(())
    }

    /// Puts out a command with one key, whose header begins at `header` and whose answer is number `index`.
    #[inline]
    fn single<S: Sink>(
        &mut self,
        turn: &mut Turn<'_, '_, S>,
        frame: &Frame,
        id: CommandId,
        header: u32,
        key: Span,
        index: usize,
    ) {
        let frames = turn.frames;
        let (name, renamed) = match fate(self.identity, &self.answers, index) {
            Fate::Drop => return,
            Fate::Keep => (frames.span(key), false),
            Fate::Rename(name) => (name, true),
        };
        self.counts.frames_out += 1;
        let shard = turn.only.unwrap_or_else(|| shard_of(name, self.shards, self.routing));
        let form = self.form(id);
        if form.fits(frame.argc) {
            let to = (shard, &mut *turn.sink);
            if deadline::put(form, (frames, frame), &mut self.spans, name, turn.unix_ms, to) {
                return;
            }
        }
        if !renamed {
            return turn.sink.command(shard, &[frames.bytes_of(frame)]);
        }
        let head = frames.span(Span { start: frame.start, end: header });
        let tail = frames.span(Span { start: key.end, end: frame.end });
        turn.sink.command(shard, &[head, Head::new(name.len()).text(), name, tail]);
    }

    /// Puts out a command of a view without plugins whose stream is known beforehand.
    #[inline]
    fn identically<S: Sink>(&mut self, turn: &mut Turn<'_, '_, S>, frame: &Frame, shard: usize) -> Result<(), Fault> {
        if let Some(id) = frame.command {
            match self.table.row(id).class {
                Class::Service(service) => return self.service(service, id),
                _ if self.form(id).fits(frame.argc) => {
                    self.counts.frames_in += 1;
                    self.single(turn, frame, id, frame.key_header, frame.key, 0);
                    return Ok(());
                }
                _ => {}
            }
        }
        self.counts.frames_in += 1;
        self.counts.frames_out += 1;
        turn.sink.command(shard, &[turn.frames.bytes_of(frame)]);
        Ok(())
    }

    fn unknown<S: Sink>(&mut self, turn: &mut Turn<'_, '_, S>, frame: &Frame) -> Result<(), Fault> {
        self.counts.frames_in += 1;
        let name = printable(turn.frames.span(frame.name));
        Err(Fault::new(Party::Upstream, format!("unknown command {name}: no table tells what it does to which keys")))
    }

    /// kevy's stream has signs of life, which stand for nothing, and no other business of its own.
    fn service(&self, service: Service, id: CommandId) -> Result<(), Fault> {
        match service {
            Service::Ping => Ok(()),
            _ => Err(Fault::new(Party::Upstream, format!("kevy never sends {}", self.name(id)))),
        }
    }

    #[inline]
    fn form(&self, id: CommandId) -> Form {
        self.forms.get(usize::from(id.0)).copied().unwrap_or(Form::None)
    }

    fn name(&self, id: CommandId) -> String {
        self.table.row(id).name.to_uppercase()
    }
}

/// Whether plugins are asked for the keys of such commands.
fn by_key(class: Class) -> bool {
    matches!(class, Class::Single | Class::Subset | Class::Pairs | Class::Cross(_) | Class::CrossDatabase(_))
}

/// The answer number `index`; without plugins every key is kept.
#[inline]
fn fate(identity: bool, answers: &Answers, index: usize) -> Fate<'_> {
    if identity { Fate::Keep } else { answers.get(index) }
}
