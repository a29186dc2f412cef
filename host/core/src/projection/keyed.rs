//! Commands with several keys, or with keys in an unusual place.

use alloc::format;
use alloc::vec::Vec;

use super::{Projection, Turn, named, printable};
use crate::command::{self, Class, CommandId, Role};
use crate::fault::{Fault, Party};
use crate::frame::{Frame, Frames};
use crate::pipeline::Fate;
use crate::resp;

impl Projection {
    pub(super) fn apply_rare(
        &mut self,
        turn: &mut Turn<'_, '_>,
        frame: &Frame,
        id: CommandId,
        key: &mut usize,
    ) -> Result<(), Fault> {
        let class = self.table.row(id).class;
        if let Class::Service(service) = class {
            return self.service(turn, frame, service);
        }
        self.counts.frames_in += 1;
        if self.identity {
            return self.identically(turn, frame, id, class);
        }
        match class {
            Class::Single | Class::Subset | Class::Pairs | Class::Cross(_) | Class::CrossDatabase(_) => {
                self.places_of(turn.frames, frame)?;
                let first = *key;
                *key += self.places.len();
                if !self.taints.is_empty() {
                    self.overlay_all(turn, frame, first);
                }
                self.keyed(turn, frame, id, class, first)
            }
            _ => self.keyless(turn, frame, id, class),
        }
    }

    fn keyed(
        &mut self,
        turn: &mut Turn<'_, '_>,
        frame: &Frame,
        id: CommandId,
        class: Class,
        first: usize,
    ) -> Result<(), Fault> {
        if self.relative_expiries && self.rewrite_expiry(turn, frame, id)? {
            return match self.places.len() {
                1 => self.renamed_scratch(turn, first),
                // No server that sends relative expiries has a command which gives one to several keys.
                _ => Err(self.cannot(turn, frame, id, first, "its relative expiry belongs to several keys")),
            };
        }
        if let Class::CrossDatabase(mixed) = class {
            return self.other_database(turn, frame, id, first, mixed);
        }
        let kept = (0..self.places.len()).filter(|i| self.answers.get(first + i) != Fate::Drop).count();
        let renamed = (0..self.places.len()).any(|i| matches!(self.answers.get(first + i), Fate::Rename(_)));
        match class {
            _ if kept == 0 => Ok(()),
            Class::Cross(_) if self.reads_patterns(turn, frame, id) => self.repair_target(turn, frame, id, first),
            _ if kept == self.places.len() && !renamed => {
                self.keep(turn, frame);
                Ok(())
            }
            _ if kept == self.places.len() => {
                self.replace_keys(turn, frame, first);
                self.put_scratch(turn);
                Ok(())
            }
            Class::Subset => {
                self.subset(turn, frame, first, kept);
                self.put_scratch(turn);
                Ok(())
            }
            Class::Pairs => {
                self.pairs(turn, frame, first, kept);
                self.put_scratch(turn);
                Ok(())
            }
            Class::Cross(mixed) => self.mixed(turn, frame, id, first, mixed),
            _ => Ok(()),
        }
    }

    fn reads_patterns(&mut self, turn: &Turn<'_, '_>, frame: &Frame, id: CommandId) -> bool {
        self.table.row(id).name == "sort"
            && self.places.iter().any(|place| place.role != Role::Read)
            && command::sort_reads_patterns(turn.frames.args(frame, &mut self.spans))
    }

    /// The frame with its keys replaced by their names, into the scratch buffer.
    fn replace_keys(&mut self, turn: &Turn<'_, '_>, frame: &Frame, first: usize) {
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

    /// DEL, UNLINK: the kept keys.
    fn subset(&mut self, turn: &Turn<'_, '_>, frame: &Frame, first: usize, kept: usize) {
        let args = turn.frames.args(frame, &mut self.spans);
        self.scratch.clear();
        resp::write_array(&mut self.scratch, 1 + kept);
        resp::write_bulk(&mut self.scratch, args.get(0).unwrap_or(&[]));
        for (i, place) in self.places.iter().enumerate() {
            if self.answers.get(first + i) != Fate::Drop {
                let key = args.get(place.arg as usize).unwrap_or(&[]);
                resp::write_bulk(&mut self.scratch, named(&self.answers, first + i, key));
            }
        }
    }

    /// MSET, MSETNX, MSETEX: the kept keys with their values, what stands before and behind as it is.
    fn pairs(&mut self, turn: &Turn<'_, '_>, frame: &Frame, first: usize, kept: usize) {
        let args = turn.frames.args(frame, &mut self.spans);
        let head = self.places.first().map_or(1, |place| place.arg as usize);
        let tail = self.places.last().map_or(head, |place| place.arg as usize + 2);
        self.scratch.clear();
        resp::write_array(&mut self.scratch, args.len() - 2 * (self.places.len() - kept));
        resp::write_bulk(&mut self.scratch, args.get(0).unwrap_or(&[]));
        if head == 2 {
            let mut count = Vec::new();
            resp::write_decimal(&mut count, kept as u64);
            resp::write_bulk(&mut self.scratch, &count);
        }
        for (i, place) in self.places.iter().enumerate() {
            if self.answers.get(first + i) != Fate::Drop {
                let at = place.arg as usize;
                resp::write_bulk(&mut self.scratch, named(&self.answers, first + i, args.get(at).unwrap_or(&[])));
                resp::write_bulk(&mut self.scratch, args.get(at + 1).unwrap_or(&[]));
            }
        }
        for arg in args.iter_from(tail) {
            resp::write_bulk(&mut self.scratch, arg);
        }
    }

    /// A single-key frame from an upstream that may send relative expiries.
    pub(super) fn single_absolute(
        &mut self,
        turn: &mut Turn<'_, '_>,
        frame: &Frame,
        index: usize,
    ) -> Result<(), Fault> {
        let Some(id) = frame.command else { return Ok(()) };
        if self.answers.get(index) == Fate::Drop {
            return Ok(());
        }
        if self.rewrite_expiry(turn, frame, id)? {
            return self.renamed_scratch(turn, index);
        }
        self.counts.frames_out += 1;
        match self.answers.get(index) {
            Fate::Rename(name) => self.emitter.rename(turn.frames.bytes, turn.out, self.db, frame, name),
            _ => self.emitter.keep(turn.frames.bytes, turn.out, self.db, frame),
        }
        self.bounded()
    }

    /// A RESTORE carries a value in the primary's own format, which a replica may be too old for; it would drop it and go on.
    pub(super) fn check_restore(&mut self, frames: &Frames<'_>, frame: &Frame, index: usize) -> Result<(), Fault> {
        let payload = frames.args(frame, &mut self.spans).get(3).unwrap_or(&[]);
        if self.answers.get(index) == Fate::Drop {
            return Ok(());
        }
        let what = format!("RESTORE {}", printable(frames.span(frame.key)));
        check_payload(&what, payload, self.bounds.restore_version_max)
    }

    /// `true` if the frame's expiry was relative; its absolute form is in the scratch buffer then.
    pub(super) fn rewrite_expiry(&mut self, turn: &Turn<'_, '_>, frame: &Frame, id: CommandId) -> Result<bool, Fault> {
        let args = turn.frames.args(frame, &mut self.spans);
        self.scratch.clear();
        command::absolute(self.table.row(id), args, turn.unix_ms, &mut self.scratch)
            .map_err(|error| Fault::new(Party::Upstream, format!("{error}")))
    }

    /// Puts out the scratch frame, whose keys are those of the frame it was made of, under their names.
    fn renamed_scratch(&mut self, turn: &mut Turn<'_, '_>, first: usize) -> Result<(), Fault> {
        let made = core::mem::take(&mut self.scratch);
        let mut spans = Vec::new();
        let args = crate::frame::scan_args(&made, &mut spans);
        let key = args.get(1).unwrap_or(&[]);
        match self.answers.get(first) {
            Fate::Drop => {}
            Fate::Keep => self.put(turn, &made),
            Fate::Rename(_) => {
                let mut frame = Vec::with_capacity(made.len());
                resp::write_array(&mut frame, args.len());
                for (index, arg) in args.iter_from(0).enumerate() {
                    let arg = if index == 1 { named(&self.answers, first, key) } else { arg };
                    resp::write_bulk(&mut frame, arg);
                }
                self.put(turn, &frame);
            }
        }
        self.scratch = made;
        self.bounded()
    }

    pub(super) fn put_scratch(&mut self, turn: &mut Turn<'_, '_>) {
        let made = core::mem::take(&mut self.scratch);
        self.put(turn, &made);
        self.scratch = made;
    }
}

/// Whether every replica of a view can load a dump: its version is at most the one that they were let in with.
pub(super) fn check_payload(what: &str, payload: &[u8], most: u32) -> Result<(), Fault> {
    // The version stands before the eight bytes of the checksum.
    let version = payload.last_chunk::<10>().map_or(0, |foot| u32::from(u16::from_le_bytes([foot[0], foot[1]])));
    if version <= most {
        return Ok(());
    }
    Err(Fault::new(
        Party::Upstream,
        format!("{what} with a payload of RDB version {version}: replicas of this view were promised at most {most}"),
    ))
}
