//! Commands that no key decides.

use alloc::format;
use alloc::vec::Vec;

use super::{Projection, Sink, Turn};
use crate::command::{Class, CommandId};
use crate::fault::{Fault, Party};
use crate::frame::Frame;
use crate::pipeline::FrameBatch;

/// Indices into [`crate::pipeline::FRAME_COMMANDS`].
const PUBLISH: u16 = 0;
const SPUBLISH: u16 = 1;

impl Projection {
    pub(super) fn keyless<S: Sink>(
        &mut self,
        turn: &mut Turn<'_, '_, S>,
        frame: &Frame,
        id: CommandId,
        class: Class,
    ) -> Result<(), Fault> {
        if !self.table.row(id).fits(frame.argc as usize) {
            self.failed += 1;
            return Ok(());
        }
        let streams = match class {
            Class::Flush => turn.only.map_or(0..self.shards, |only| only..only + 1),
            Class::Publish if !self.passes(turn, frame)? => return Ok(()),
            // An index over keys that a view has not, or has under other names, is of no use to it.
            Class::Catalog if !self.identity => return Ok(()),
            Class::Publish | Class::Catalog => turn.only.map_or(0..1, |only| only..only + 1),
            Class::Refuse(why) => {
                let what = if self.identity { "is of unknown streams" } else { "cannot be filtered" };
                return Err(Fault::new(Party::Upstream, format!("{} {what}: {why}", self.name(id))));
            }
            _ => return Err(Fault::new(Party::Upstream, format!("kevy never sends {}", self.name(id)))),
        };
        self.counts.frames_out += 1;
        for shard in streams {
            turn.sink.command(shard, &[turn.frames.bytes_of(frame)]);
        }
        Ok(())
    }

    /// Whether the plugins let a message pass.
    fn passes<S>(&self, turn: &mut Turn<'_, '_, S>, frame: &Frame) -> Result<bool, Fault> {
        let Some(pipeline) = turn.pipeline.as_deref_mut().filter(|_| self.decides_frames) else { return Ok(true) };
        let sharded = turn.frames.span(frame.name).eq_ignore_ascii_case(b"spublish");
        let command = if sharded { SPUBLISH } else { PUBLISH };
        let channel = turn.frames.span(frame.key);
        let mut keep = Vec::new();
        pipeline.frames(&FrameBatch::single(0, command, channel, frame.end - frame.start), &mut keep)?;
        Ok(keep.first() == Some(&true))
    }
}
