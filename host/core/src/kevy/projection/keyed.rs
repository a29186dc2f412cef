//! Commands with several keys, or with a key in an unusual place.

use alloc::format;
use alloc::string::String;

use super::{Projection, Sink, Turn, by_key, fate};
use crate::command::{self, Class, CommandId, Role};
use crate::fault::{Fault, Party};
use crate::frame::Frame;
use crate::kevy::route::shard_of;
use crate::pipeline::{Answers, Fate};
use crate::projection::printable;
use crate::resp::{self, Span};

/// Keys that a message names at most.
const NAMED_MAX: usize = 8;

impl Projection {
    pub(super) fn apply_rare<S: Sink>(
        &mut self,
        turn: &mut Turn<'_, '_, S>,
        frame: &Frame,
        id: CommandId,
        key: &mut usize,
    ) -> Result<(), Fault> {
        let class = self.table.row(id).class;
        if let Class::Service(service) = class {
            return self.service(service, id);
        }
        self.counts.frames_in += 1;
        if !by_key(class) {
            return self.keyless(turn, frame, id, class);
        }
        if !self.place(turn.frames, frame, id)? {
            self.failed += 1;
            return Ok(());
        }
        let first = *key;
        *key += self.places.len();
        self.keyed(turn, frame, id, class, first)
    }

    /// A command whose keys are in `places` and whose answers begin with number `first`.
    fn keyed<S: Sink>(
        &mut self,
        turn: &mut Turn<'_, '_, S>,
        frame: &Frame,
        id: CommandId,
        class: Class,
        first: usize,
    ) -> Result<(), Fault> {
        let (mut kept, mut writes, mut renamed) = (0, false, false);
        for (i, place) in self.places.iter().enumerate() {
            let fate = fate(self.identity, &self.answers, first + i);
            kept += usize::from(fate != Fate::Drop);
            writes |= fate != Fate::Drop && place.role != Role::Read;
            renamed |= matches!(fate, Fate::Rename(_));
        }
        if !writes {
            return Ok(());
        }
        if let [place] = self.places[..] {
            let span = self.spans.get(place.arg as usize).copied().unwrap_or_default();
            let span = Span { start: frame.start + span.start, end: frame.start + span.end };
            let header = self.header_of(place.arg, frame);
            self.single(turn, frame, id, header, span, first);
            return Ok(());
        }
        self.find_streams(turn, frame, first);
        if matches!(class, Class::Subset | Class::Pairs) {
            return self.parted(turn, frame, id, class, first, kept == self.places.len() && !renamed);
        }
        if kept < self.places.len() {
            return Err(self.mixed(turn, frame, id, first, "it joins kept keys with dropped ones"));
        }
        let args = turn.frames.args(frame, &mut self.spans);
        if self.table.row(id).name == "sort" && command::sort_reads_patterns(args) {
            return Err(self.mixed(turn, frame, id, first, "its patterns read keys that nobody named"));
        }
        let Some(shard) = self.one_stream() else {
            return Err(self.mixed(turn, frame, id, first, "it joins keys of several streams"));
        };
        self.counts.frames_out += 1;
        if renamed {
            self.replace_keys(turn, frame, first);
            turn.sink.command(shard, &[&self.scratch]);
        } else {
            turn.sink.command(shard, &[turn.frames.bytes_of(frame)]);
        }
        Ok(())
    }

    /// Where the header of argument `arg` begins: behind the argument before it.
    fn header_of(&self, arg: u32, frame: &Frame) -> u32 {
        let before = (arg as usize).checked_sub(1).and_then(|before| self.spans.get(before));
        frame.start + before.map_or(0, |span| span.end + 2)
    }

    /// Finds the stream of each kept key.
    fn find_streams<S>(&mut self, turn: &Turn<'_, '_, S>, frame: &Frame, first: usize) {
        let args = turn.frames.args(frame, &mut self.spans);
        self.streams.clear();
        for (i, place) in self.places.iter().enumerate() {
            let key = args.get(place.arg as usize).unwrap_or(&[]);
            let stream = match fate(self.identity, &self.answers, first + i) {
                Fate::Drop => None,
                Fate::Keep => Some(turn.only.unwrap_or_else(|| shard_of(key, self.shards, self.routing))),
                Fate::Rename(name) => Some(turn.only.unwrap_or_else(|| shard_of(name, self.shards, self.routing))),
            };
            self.streams.push(stream);
        }
    }

    /// The stream of all keys, if it is one.
    fn one_stream(&self) -> Option<usize> {
        let one = *self.streams.first()?;
        one.filter(|_| self.streams.iter().all(|&stream| stream == one))
    }

    /// The frame with its keys replaced by their names, into the scratch buffer.
    fn replace_keys<S>(&mut self, turn: &Turn<'_, '_, S>, frame: &Frame, first: usize) {
        let args = turn.frames.args(frame, &mut self.spans);
        self.scratch.clear();
        resp::write_array(&mut self.scratch, args.len());
        let mut places = self.places.iter().enumerate().peekable();
        // Some commands name a key behind the others' options, none names one out of order.
        for (index, arg) in args.iter_from(0).enumerate() {
            match places.next_if(|(_, place)| place.arg as usize == index) {
                Some((i, _)) => resp::write_bulk(&mut self.scratch, named(&self.answers, first + i, arg)),
                None => resp::write_bulk(&mut self.scratch, arg),
            }
        }
    }

    /// DEL, UNLINK, MSET: for each stream the kept keys that belong there, with their values. `whole` says that all are
    /// kept under their own names.
    fn parted<S: Sink>(
        &mut self,
        turn: &mut Turn<'_, '_, S>,
        frame: &Frame,
        id: CommandId,
        class: Class,
        first: usize,
        whole: bool,
    ) -> Result<(), Fault> {
        let frames = turn.frames;
        if let Some(shard) = self.one_stream().filter(|_| whole) {
            self.counts.frames_out += 1;
            turn.sink.command(shard, &[frames.bytes_of(frame)]);
            return Ok(());
        }
        let words = if class == Class::Pairs { 2 } else { 1 };
        if self.places.first().is_none_or(|place| place.arg != 1)
            || 1 + words * self.places.len() != frame.argc as usize
        {
            return Err(self.mixed(turn, frame, id, first, "kevy has no such command"));
        }
        let args = frames.args(frame, &mut self.spans);
        self.counts.frames_out += 1;
        while let Some(shard) = self.streams.iter().copied().flatten().next() {
            let keys = self.streams.iter().filter(|&&stream| stream == Some(shard)).count();
            self.scratch.clear();
            resp::write_array(&mut self.scratch, 1 + words * keys);
            resp::write_bulk(&mut self.scratch, args.get(0).unwrap_or(&[]));
            for (i, place) in self.places.iter().enumerate() {
                let Some(stream) = self.streams.get_mut(i).filter(|stream| **stream == Some(shard)) else { continue };
                *stream = None;
                let at = place.arg as usize;
                resp::write_bulk(&mut self.scratch, named(&self.answers, first + i, args.get(at).unwrap_or(&[])));
                if words == 2 {
                    resp::write_bulk(&mut self.scratch, args.get(at + 1).unwrap_or(&[]));
                }
            }
            turn.sink.command(shard, &[&self.scratch]);
        }
        Ok(())
    }

    /// A frame that nothing right can be made of.
    fn mixed<S>(&mut self, turn: &Turn<'_, '_, S>, frame: &Frame, id: CommandId, first: usize, why: &str) -> Fault {
        let name = self.name(id);
        let args = turn.frames.args(frame, &mut self.spans);
        let mut keys = String::new();
        // Only the names of kept keys are told: a dropped one is nobody's business here.
        for (i, place) in self.places.iter().enumerate().take(NAMED_MAX) {
            let key = args.get(place.arg as usize).unwrap_or(&[]);
            match fate(self.identity, &self.answers, first + i) {
                Fate::Drop => keys.push_str(" (a dropped key)"),
                _ => keys.push_str(&format!(" {}", printable(key))),
            }
        }
        Fault::new(Party::Upstream, format!("{name}{keys} cannot be made right for this view: {why}"))
    }
}

/// The name that the view has for `key`, whose answer is number `index`. Without plugins there are no answers.
fn named<'a>(answers: &'a Answers, index: usize, key: &'a [u8]) -> &'a [u8] {
    match answers.get(index) {
        Fate::Rename(name) => name,
        _ => key,
    }
}
