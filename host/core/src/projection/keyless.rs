//! Commands that no key decides: the stream's own service frames, whole-database commands, channels, functions.

use alloc::format;
use alloc::vec::Vec;

use super::keyed::check_payload;
use super::{Projection, Turn, arity, selected};
use crate::command::{Class, CommandId, Service};
use crate::fault::{Fault, Party};
use crate::frame::Frame;
use crate::pipeline::FrameBatch;
use crate::rdb;
use crate::resp;

/// Sentinels find each other through this channel; passed on, it would merge groups that watch different servers.
const SENTINEL_HELLO: &[u8] = b"__sentinel__:hello";

/// Indices into [`crate::pipeline::FRAME_COMMANDS`].
const PUBLISH: u16 = 0;
const SPUBLISH: u16 = 1;
const FUNCTION: u16 = 2;

impl Projection {
    pub(super) fn service(&mut self, turn: &mut Turn<'_, '_>, frame: &Frame, service: Service) -> Result<(), Fault> {
        let bytes = turn.frames.bytes;
        match service {
            Service::Select => match selected(turn.frames, frame) {
                Some(db) => self.db = db,
                None => return Err(Fault::new(Party::Upstream, "SELECT of something that is no database")),
            },
            Service::Multi if !self.emitter.multi(bytes, turn.out) => {
                return Err(Fault::new(Party::Upstream, "MULTI inside a transaction"));
            }
            Service::Exec if !self.emitter.exec(bytes, turn.out) => {
                return Err(Fault::new(Party::Upstream, "EXEC without MULTI"));
            }
            Service::Ping if !self.emitter.in_transaction() && !self.emitter.is_taping() => {
                self.emitter.keep_anywhere(bytes, turn.out, frame)
            }
            Service::Exec => self.taints.end_transaction(),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn keyless(
        &mut self,
        turn: &mut Turn<'_, '_>,
        frame: &Frame,
        id: CommandId,
        class: Class,
    ) -> Result<(), Fault> {
        let row = self.table.row(id);
        if !row.fits(frame.argc as usize) {
            return Err(arity(row.name, frame.argc));
        }
        match class {
            Class::Flush => {
                let db = Some(self.db).filter(|_| row.name == "flushdb");
                self.touch_database(turn, db);
                self.keep(turn, frame);
            }
            Class::Script => self.keep(turn, frame),
            Class::SwapDb if self.traits.db_independent => {
                let args = turn.frames.args(frame, &mut self.spans);
                let db = |at| args.get(at).and_then(resp::decimal).and_then(|db| u32::try_from(db).ok());
                let (Some(one), Some(other)) = (db(1), db(2)) else {
                    return Err(Fault::new(Party::Upstream, "SWAPDB of something that is no database"));
                };
                self.swap_databases(turn, one, other);
                self.keep_anywhere(turn, frame);
            }
            Class::SwapDb => {
                return Err(Fault::new(
                    Party::Upstream,
                    "SWAPDB in a view whose plugins tell databases apart: every key would need a new answer",
                ));
            }
            Class::Publish => return self.publish(turn, frame),
            Class::Function => return self.function(turn, frame),
            Class::Refuse(why) => {
                return Err(Fault::new(Party::Upstream, format!("{} cannot be filtered: {why}", self.name(id))));
            }
            _ => return Err(Fault::new(Party::Own, format!("no rule for {}", self.name(id)))),
        }
        Ok(())
    }

    /// In a view without plugins, but with a history of its own.
    pub(super) fn identically(
        &mut self,
        turn: &mut Turn<'_, '_>,
        frame: &Frame,
        id: CommandId,
        class: Class,
    ) -> Result<(), Fault> {
        if self.relative_expiries && self.rewrite_expiry(turn, frame, id)? {
            self.put_scratch(turn);
        } else if class != Class::Publish || turn.frames.span(frame.key) != SENTINEL_HELLO {
            self.keep(turn, frame);
        }
        Ok(())
    }

    fn keep_anywhere(&mut self, turn: &mut Turn<'_, '_>, frame: &Frame) {
        self.counts.frames_out += 1;
        self.emitter.keep_anywhere(turn.frames.bytes, turn.out, frame);
    }

    fn publish(&mut self, turn: &mut Turn<'_, '_>, frame: &Frame) -> Result<(), Fault> {
        let name = turn.frames.span(frame.name);
        let command = if name.eq_ignore_ascii_case(b"spublish") { SPUBLISH } else { PUBLISH };
        let channel = turn.frames.span(frame.key);
        if channel != SENTINEL_HELLO && self.passes(turn, command, channel, frame.end - frame.start)? {
            self.keep_anywhere(turn, frame);
        }
        Ok(())
    }

    /// FUNCTION LOAD, DELETE, FLUSH, RESTORE: plugins are asked by the library's name alone.
    fn function(&mut self, turn: &mut Turn<'_, '_>, frame: &Frame) -> Result<(), Fault> {
        let mut spans = Vec::new();
        let frames = turn.frames;
        let args = frames.args(frame, &mut spans);
        if args.is(1, "restore") {
            check_payload("FUNCTION RESTORE", args.get(2).unwrap_or(&[]), self.bounds.restore_version_max)?;
        }
        if !self.traits.decides_frames {
            self.keep_anywhere(turn, frame);
            return Ok(());
        }
        let passes = match args.get(1).map(<[u8]>::to_ascii_lowercase).as_deref() {
            Some(b"load") => {
                let source = args.len().checked_sub(1).and_then(|last| args.get(last)).unwrap_or(&[]);
                let library = rdb::functions::library_name(source)
                    .ok_or_else(|| Fault::new(Party::Upstream, "FUNCTION LOAD of a library without a name"))?;
                self.passes(turn, FUNCTION, library, 0)?
            }
            Some(b"delete") => self.passes(turn, FUNCTION, args.get(2).unwrap_or(&[]), 0)?,
            Some(b"flush") => true,
            Some(b"restore") => return self.function_restore(turn, frame, args),
            _ => return Err(Fault::new(Party::Upstream, "a FUNCTION subcommand that no table knows")),
        };
        if passes {
            self.keep_anywhere(turn, frame);
        }
        Ok(())
    }

    /// FUNCTION RESTORE carries many libraries: each is asked about by itself, and the rest is packed anew.
    fn function_restore(&mut self, turn: &mut Turn<'_, '_>, frame: &Frame, args: resp::Args<'_>) -> Result<(), Fault> {
        let payload = args.get(2).unwrap_or(&[]);
        let (libraries, version) = rdb::functions::split_function_dump(payload)
            .map_err(|error| Fault::new(Party::Upstream, format!("FUNCTION RESTORE: {error}")))?;
        let mut kept = Vec::with_capacity(libraries.len());
        for source in &libraries {
            let library = rdb::functions::library_name(source)
                .ok_or_else(|| Fault::new(Party::Upstream, "FUNCTION RESTORE of a library without a name"))?;
            if self.passes(turn, FUNCTION, library, 0)? {
                kept.push(&source[..]);
            }
        }
        if kept.len() == libraries.len() {
            self.keep_anywhere(turn, frame);
            return Ok(());
        }
        let packed = rdb::functions::join_function_dump(&kept, version);
        self.scratch.clear();
        resp::write_array(&mut self.scratch, args.len());
        for (index, arg) in args.iter_from(0).enumerate() {
            resp::write_bulk(&mut self.scratch, if index == 2 { &packed } else { arg });
        }
        self.counts.frames_out += 1;
        self.emitter.put_anywhere(turn.frames.bytes, turn.out, &self.scratch);
        Ok(())
    }

    fn passes(&self, turn: &mut Turn<'_, '_>, command: u16, subject: &[u8], size: u32) -> Result<bool, Fault> {
        let Some(pipeline) = turn.pipeline.as_deref_mut().filter(|_| self.traits.decides_frames) else {
            return Ok(true);
        };
        let mut keep = Vec::new();
        pipeline.frames(&FrameBatch::single(self.db, command, subject, size), &mut keep)?;
        Ok(keep.first() == Some(&true))
    }
}
