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
        match class {
            // Of the keys that came from there, some may be in every stream, among those of other shards.
            Class::Flush if turn.mixes => {
                let what = "empties one shard of the primary, and this view does not keep its keys apart";
                return Err(Fault::new(Party::Upstream, format!("{} {what}", self.name(id))));
            }
            Class::Publish if !self.passes(turn, frame)? => return Ok(()),
            // An index over keys that a view has not, or has under other names, is of no use to it; where shards are mixed
            // no snapshot has the catalog, and a replica forgets its own over every snapshot without one.
            Class::Catalog if !self.identity || turn.mixes => return Ok(()),
            Class::Flush | Class::Publish | Class::Catalog => {}
            Class::Refuse(why) => {
                let what = if self.identity { "is of unknown streams" } else { "cannot be filtered" };
                return Err(Fault::new(Party::Upstream, format!("{} {what}: {why}", self.name(id))));
            }
            _ => return Err(Fault::new(Party::Upstream, format!("kevy never sends {}", self.name(id)))),
        }
        self.counts.frames_out += 1;
        turn.sink.command(turn.only.unwrap_or(0), &[turn.frames.bytes_of(frame)]);
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
