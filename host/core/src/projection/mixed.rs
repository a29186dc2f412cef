//! Commands that join kept keys with dropped ones.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Projection, Turn, named, printable};
use crate::command::{self, CommandId, Mixed, Rest, Role};
use crate::fault::{Fault, Party};
use crate::frame::Frame;
use crate::pipeline::{Answers, Fate, KeyBatch};
use crate::resp::{self, Args};

/// Keys that a message names at most.
const NAMED_MAX: usize = 8;

impl Projection {
    /// What is left of the frame for each kept key that it writes.
    pub(super) fn mixed(
        &mut self,
        turn: &mut Turn<'_, '_>,
        frame: &Frame,
        id: CommandId,
        first: usize,
        mixed: Mixed,
    ) -> Result<(), Fault> {
        let Some(target) = self.target() else { return Ok(()) };
        for i in 0..self.places.len() {
            let written = self.places.get(i).is_some_and(|place| place.role != Role::Read);
            if !written || self.answers.get(first + i) == Fate::Drop {
                continue;
            }
            let rest = if i == target { mixed.target } else { mixed.source };
            if rest == Rest::Repair {
                self.repair(turn, frame, id, first, i)?;
            } else if self.rest(turn, frame, first, i, rest) {
                self.put_scratch(turn);
            }
        }
        Ok(())
    }

    /// The target is kept, and its new value cannot be made of what the view has.
    pub(super) fn repair_target(
        &mut self,
        turn: &mut Turn<'_, '_>,
        frame: &Frame,
        id: CommandId,
        first: usize,
    ) -> Result<(), Fault> {
        match self.target().filter(|target| self.answers.get(first + target) != Fate::Drop) {
            Some(target) => self.repair(turn, frame, id, first, target),
            None => Ok(()),
        }
    }

    /// The last key that the frame writes.
    fn target(&self) -> Option<usize> {
        self.places.iter().rposition(|place| place.role != Role::Read)
    }

    fn repair(
        &mut self,
        turn: &mut Turn<'_, '_>,
        frame: &Frame,
        id: CommandId,
        first: usize,
        place: usize,
    ) -> Result<(), Fault> {
        let at = self.places.get(place).map_or(0, |place| place.arg as usize);
        let key = turn.frames.args(frame, &mut self.spans).get(at).unwrap_or(&[]).to_vec();
        let name = named(&self.answers, first + place, &key).to_vec();
        if !self.taint(turn, self.db, &key, &name)? {
            return Err(self.cannot(turn, frame, id, first, "it joins kept keys with dropped ones"));
        }
        Ok(())
    }

    /// What is left of the frame for the kept key in `place`, into the scratch buffer. `false`: nothing.
    fn rest(&mut self, turn: &Turn<'_, '_>, frame: &Frame, first: usize, place: usize, rest: Rest) -> bool {
        let at = self.places.get(place).map_or(0, |place| place.arg as usize);
        let args = turn.frames.args(frame, &mut self.spans);
        let name = named(&self.answers, first + place, args.get(at).unwrap_or(&[]));
        let third = args.get(3).unwrap_or(&[]);
        let left = third.eq_ignore_ascii_case(b"left");
        let command: &[&[u8]] = match rest {
            Rest::Nothing | Rest::Repair => return false,
            Rest::Del => &[b"DEL", name],
            Rest::SetRemove => &[b"SREM", name, third],
            Rest::SetAdd => &[b"SADD", name, third],
            Rest::Pop if left => &[b"LPOP", name],
            Rest::Pop => &[b"RPOP", name],
        };
        self.scratch.clear();
        resp::write_command(&mut self.scratch, command);
        true
    }

    /// MOVE and COPY: the second key may live in another database, where its answer may differ.
    pub(super) fn other_database(
        &mut self,
        turn: &mut Turn<'_, '_>,
        frame: &Frame,
        id: CommandId,
        first: usize,
        mixed: Mixed,
    ) -> Result<(), Fault> {
        let row = self.table.row(id);
        let args = turn.frames.args(frame, &mut self.spans);
        let other = command::other_database(row, args)
            .map_err(|error| Fault::new(Party::Upstream, format!("{error}")))?
            .unwrap_or(self.db);
        let moves = row.name == "move";
        let target_at = if moves { 1 } else { 2 };
        let target = args.get(target_at).unwrap_or(&[]).to_vec();
        let there = self.answer_there(turn, other, &target)?;
        let args = turn.frames.args(frame, &mut self.spans);
        let source = named(&self.answers, first, args.get(1).unwrap_or(&[]));
        let name = named(&there, 0, &target).to_vec();
        let source_kept = self.answers.get(first) != Fate::Drop;
        let target_kept = there.get(0) != Fate::Drop;
        if source_kept && target_kept && (!moves || source == name) {
            let copy: Vec<&[u8]> = replaced(args, source, &name, target_at);
            self.scratch.clear();
            resp::write_command(&mut self.scratch, &copy);
            self.put_scratch(turn);
            return Ok(());
        }
        if target_kept && !self.taint(turn, other, &target, &name)? {
            return Err(self.cannot(turn, frame, id, first, "it joins a kept key with a dropped one"));
        }
        if source_kept && self.rest(turn, frame, first, 0, mixed.source) {
            self.put_scratch(turn);
        }
        Ok(())
    }

    /// What becomes of `key` in database `db`.
    fn answer_there(&mut self, turn: &mut Turn<'_, '_>, db: u32, key: &[u8]) -> Result<Answers, Fault> {
        let mut batch = KeyBatch::new(db);
        batch.push(key);
        let mut there = Answers::default();
        match turn.pipeline.as_deref_mut() {
            Some(pipeline) => pipeline.keys(&batch, &mut there)?,
            None => there.keep_all(1),
        }
        if self.touched(turn, db, key) {
            there.drop_key(0);
        }
        Ok(there)
    }

    /// A frame that nothing right can be made of.
    pub(super) fn cannot(
        &mut self,
        turn: &Turn<'_, '_>,
        frame: &Frame,
        id: CommandId,
        first: usize,
        why: &str,
    ) -> Fault {
        let name = self.name(id);
        let args = turn.frames.args(frame, &mut self.spans);
        let mut keys = String::new();
        // Only the names of kept keys are told: a dropped one is nobody's business here.
        for (i, place) in self.places.iter().enumerate().take(NAMED_MAX) {
            let key = args.get(place.arg as usize).unwrap_or(&[]);
            match self.answers.get(first + i) {
                Fate::Drop => keys.push_str(" (a dropped key)"),
                _ => keys.push_str(&format!(" {}", printable(key))),
            }
        }
        Fault::new(Party::Upstream, format!("{name}{keys} cannot be made right for this view: {why}"))
    }
}

/// The frame with other names for its source, argument 1, and its target, which may be the same argument.
fn replaced<'a>(args: Args<'a>, source: &'a [u8], target: &'a [u8], target_at: usize) -> Vec<&'a [u8]> {
    let names = |(index, arg)| match index {
        1 => source,
        _ if index == target_at => target,
        _ => arg,
    };
    args.iter_from(0).enumerate().map(names).collect()
}
