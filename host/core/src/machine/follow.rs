//! What the primary says, and what follows from it for the views.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Machine;
use super::acks::{held_back_from, serve_frames, write_ack};
use super::segment::frame_bytes_max;
use crate::command::Learned;
use crate::contract::{Level, LinkId, Output};
use crate::fault::{Fault, Party};
use crate::frame::{Frames, Scanned, Scanner};
use crate::position::ReplId;
use crate::snapshot::Framing;
use crate::upstream::{Heard, Phase};
use crate::view::State;

impl Machine {
    pub(super) fn connected(&mut self, link: LinkId) {
        if self.upstream.phase() != Phase::Dialing {
            // An attempt that was given up has come through all the same.
            self.outputs.push_back(Output::Close(link));
            return;
        }
        let hello = self.upstream.connected(self.now.mono_ms);
        self.up_link = Some(link);
        self.up_out = Default::default();
        self.up_out.push_copy(&hello);
        let to = self.upstream_name();
        self.note(Level::Debug, "upstream-connected", format!("connected to the primary {to}"));
    }

    pub(super) fn dial_failed(&mut self, why: &str) {
        if self.upstream.phase() != Phase::Dialing {
            return;
        }
        let wait = self.upstream.lost(self.now.mono_ms, false);
        let to = self.upstream_name();
        self.note(
            Level::Warn,
            "upstream-unreachable",
            format!("cannot reach the primary {to}: {why}; next attempt in {wait} ms"),
        );
    }

    /// The link to the primary is gone, by the network or by the primary.
    pub(super) fn upstream_lost(&mut self, why: &str) {
        let phase = self.upstream.phase();
        self.forget_link();
        let wait = self.upstream.lost(self.now.mono_ms, false);
        let during = match phase {
            Phase::Streaming => "in the live stream",
            Phase::Copying(_) | Phase::Verifying => "in the middle of a snapshot",
            _ => "during the handshake",
        };
        let text = format!("link to the primary lost {during}: {why}; next attempt in {wait} ms");
        self.note(Level::Warn, "upstream-lost", text);
    }

    /// The primary did something that cannot be gone on with.
    pub(super) fn upstream_failed(&mut self, fault: &Fault) {
        self.leave_upstream(fault, fault.whose == Party::Upstream && self.follow.is_none());
    }

    /// Closes the link; `broken`: what came is why, and coming back at once would bring the same.
    pub(super) fn leave_upstream(&mut self, fault: &Fault, broken: bool) {
        if let Some(link) = self.up_link {
            self.outputs.push_back(Output::Close(link));
        }
        self.forget_link();
        if self.follow.is_none() {
            self.refresh_dropped("there is no place in a history any more");
        }
        let wait = self.upstream.lost(self.now.mono_ms, broken);
        self.note(Level::Warn, "upstream-failed", format!("{fault}; next attempt in {wait} ms"));
    }

    pub(super) fn forget_link(&mut self) {
        self.forget_orders();
        self.forget_packing();
        self.up_link = None;
        self.up_out = Default::default();
        self.promised = None;
        if let Some(arriving) = self.arriving.take() {
            self.outputs.push_back(Output::SpoolAbort(arriving.id));
        }
    }

    /// Closes the link so that the next one asks for a snapshot.
    pub(super) fn want_fresh_snapshot(&mut self, why: &str) {
        self.fresh_wanted = Some(why.into());
        self.last_fresh = Some(self.now.mono_ms);
        self.upstream_failed(&Fault::new(Party::Own, format!("a fresh snapshot is needed: {why}")));
    }

    pub(super) fn upstream_silent(&mut self) {
        let silent = self.upstream.settings().timeout_ms;
        self.upstream_failed(&Fault::new(Party::Upstream, format!("the primary was silent for more than {silent} ms")));
    }

    /// Works off everything that the primary has said.
    pub(super) fn listen(&mut self) {
        let mut out = Vec::new();
        loop {
            match self.upstream.hear(&mut out) {
                Ok(Some(heard)) => {
                    if let Err(fault) = self.heard(heard, &mut out) {
                        return self.upstream_failed(&fault);
                    }
                }
                Ok(None) if self.upstream.is_introduced() => self.introduced(&mut out),
                Ok(None) => break,
                Err(fault) => return self.upstream_failed(&fault),
            }
            if self.up_link.is_none() {
                return;
            }
        }
        if !out.is_empty() {
            self.up_out.push_copy(&out);
        }
    }

    /// What commands do matters only where a view looks into them.
    fn introduced(&mut self, out: &mut Vec<u8>) {
        if self.asks_to_resume(out) {
            return;
        }
        if self.views.iter().any(|view| !view.settings().pipeline.is_empty()) {
            self.upstream.learn(out);
        } else {
            self.choose_question(out);
        }
    }

    /// A table replaces the present one when the next segment begins: until then frames are held that were read by it.
    fn commands_known(&mut self, learned: Result<Vec<Learned>, String>) {
        let table = match learned {
            Ok(learned) => self.builtin.with_learned(&learned),
            Err(why) => {
                let text = format!("{why}; views halt at commands of modules (an ACL at the primary needs +command)");
                return self.note(Level::Warn, "commands-unknown", text);
            }
        };
        let more = table.rows().len() - self.builtin.rows().len();
        let known = self.next_table.as_ref().unwrap_or(&self.table);
        if table.rows() == known.rows() {
            return;
        }
        let when = if self.follow.is_some() { ", from the next snapshot on" } else { "" };
        self.next_table = Some(Arc::new(table));
        self.note(
            Level::Info,
            "commands-learned",
            format!("the primary describes {more} commands beyond the table{when}"),
        );
    }

    fn choose_question(&mut self, out: &mut Vec<u8>) {
        if self.follow.is_some() && self.fresh_wanted.is_none() {
            self.upstream.inquire(out);
        } else {
            self.upstream.ask(self.resumable_place(), out);
        }
    }

    fn heard(&mut self, heard: Heard, out: &mut Vec<u8>) -> Result<(), Fault> {
        match heard {
            Heard::Commands(learned) => {
                self.commands_known(learned);
                self.choose_question(out);
            }
            Heard::Ids { id, second, limit } => {
                self.cut_back(id, second, limit);
                let place = self.follow.as_ref().map(|follow| (follow.id, follow.read + 1));
                self.upstream.ask(place, out);
            }
            Heard::FullResync { id, offset } => self.segment_ends(id, offset),
            Heard::Continue(id) => self.continues(id, out)?,
            Heard::Snapshot(Framing::Packed { token, first }) => self.packed_begins(token, first)?,
            Heard::Snapshot(framing) => self.snapshot_begins(framing),
            Heard::SnapshotBytes(bytes) => {
                if let Some(arriving) = &mut self.arriving {
                    arriving.received += bytes.len() as u64;
                    arriving.unwritten += bytes.len();
                    self.outputs.push_back(Output::SpoolWrite(arriving.id, bytes));
                }
            }
            Heard::SnapshotEnd => {}
            Heard::Stream(bytes) => self.stream(bytes, out)?,
            Heard::Chunk(chunk) => self.unpack(chunk),
        }
        Ok(())
    }

    /// Our id may be the primary's second one by now, good only up to a limit. What we have read beyond it is cut off if it
    /// is nothing but an unfinished frame or transaction: nobody has applied it.
    fn cut_back(&mut self, id: Option<ReplId>, second: Option<ReplId>, limit: i64) {
        let Some(follow) = &mut self.follow else { return };
        let limit = u64::try_from(limit).unwrap_or(0);
        let beyond = id != Some(follow.id) && second == Some(follow.id) && follow.read + 1 > limit;
        if !beyond || follow.applied + 1 > limit {
            return;
        }
        let cut = follow.read - follow.applied;
        let (applied, db) = (follow.applied, follow.applied_db);
        follow.read = applied;
        follow.db = db;
        follow.in_transaction = false;
        follow.scanner = Scanner::new(self.table.clone(), applied, frame_bytes_max(&self.views));
        let taken_back: Vec<usize> = self
            .views
            .iter_mut()
            .enumerate()
            .filter_map(|(index, view)| view.cut_back(applied, db).then_some(index))
            .collect();
        for index in taken_back {
            self.close_view(index);
        }
        self.note(
            Level::Info,
            "upstream-cut-back",
            format!("a new primary never had the last {cut} bytes, which nobody had applied: cut off"),
        );
    }

    fn continues(&mut self, id: Option<ReplId>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.resume();
        let Some(follow) = &mut self.follow else {
            return Err(Fault::new(Party::Upstream, "the primary says +CONTINUE where a snapshot was asked for"));
        };
        self.stats.upstream_partial_syncs += 1;
        let (read, applied) = (follow.read, follow.applied);
        let renamed = id.filter(|id| *id != follow.id);
        if let Some(id) = renamed {
            follow.id = id;
            self.refresh_renamed(read);
            self.rename_origin(id);
            for index in 0..self.views.len() {
                // As a chained replica does: its replicas come back and learn the new id.
                if self.views.get_mut(index).is_some_and(|view| view.upstream_renamed(id)) {
                    self.close_view(index);
                }
            }
        }
        let under = renamed.map_or_else(Default::default, |id| format!(" under the new id {}", id.short()));
        self.note(Level::Info, "partial-sync", format!("the primary goes on behind offset {read}{under}"));
        write_ack(out, held_back_from(&self.views).map_or(applied, |held| held.min(applied)));
        Ok(())
    }

    /// Takes stream bytes: every view gets its part before anything else happens.
    pub(super) fn stream(&mut self, bytes: Bytes, out: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(follow) = &mut self.follow else {
            return Err(Fault::new(Party::Upstream, "stream bytes without a place in a history"));
        };
        let began = follow.read;
        follow.scanner.push(bytes.clone());
        let mut halted: Vec<(usize, Fault)> = Vec::new();
        let scanned = loop {
            match follow.scanner.next() {
                Ok(Some(Scanned::Frames(frames))) => {
                    let mut from = 0;
                    while from < frames.frames.len() {
                        let to = self.refresh.watch.cut(&self.table, &frames, from);
                        let part = Frames { frames: frames.frames.get(from..to).unwrap_or(&[]), ..frames };
                        let begins = part.frames.first().map(|first| part.offset + u64::from(first.start));
                        if let Some(begins) = begins.filter(|_| !follow.in_transaction) {
                            self.refresh.watch.pass(begins, &self.views);
                        }
                        for (index, view) in self.views.iter_mut().enumerate() {
                            if let Err(fault) = view.project(&part, self.now.mono_ms, self.now.unix_ms) {
                                halted.push((index, fault));
                            }
                        }
                        let place = &mut (follow.applied, follow.applied_db, follow.db, follow.in_transaction);
                        let held = held_back_from(&self.views);
                        self.ack_owed = serve_frames(&self.table, &part, place, held, out).or(self.ack_owed);
                        (follow.applied, follow.applied_db, follow.db, follow.in_transaction) = *place;
                        from = to;
                    }
                }
                Ok(Some(Scanned::Oversized { offset, bytes })) => {
                    for (index, view) in self.views.iter_mut().enumerate() {
                        halted.extend(view.refuse_oversized(offset, bytes).map(|fault| (index, fault)));
                    }
                }
                Ok(None) => break Ok(bytes.len()),
                Err(error) => break Err((follow.scanner.frame_end().saturating_sub(began) as usize, error)),
            }
        };
        if !follow.in_transaction {
            // A frame that was skipped over has no place in what was given out, yet it is behind us.
            (follow.applied, follow.applied_db) = (follow.scanner.frame_end(), follow.db);
        }
        let sound = *scanned.as_ref().unwrap_or_else(|(sound, _)| sound);
        let whole = if sound == bytes.len() { bytes } else { bytes.slice(..sound.min(bytes.len())) };
        follow.read = began + whole.len() as u64;
        let (applied, settled) = (follow.applied, !follow.in_transaction);
        for view in &mut self.views {
            view.relay(&whole, &mut self.scratch);
            if settled && *view.state() == State::Live {
                view.checkpoint(applied);
            }
        }
        for (index, fault) in &halted {
            self.view_halted(*index, fault);
        }
        self.watch_the_end();
        self.adopt_refresh();
        self.order_values();
        scanned.map(drop).map_err(|(_, error)| {
            // As a replica does: a broken stream leaves no place to go on from.
            self.follow = None;
            Fault::new(Party::Upstream, format!("the stream is broken at offset {}: {}", error.offset, error.what))
        })
    }

    fn upstream_name(&self) -> alloc::string::String {
        format!("{}:{}", self.settings.upstream.host, self.settings.upstream.port)
    }
}

/// Bytes for people.
pub(crate) fn human(bytes: u64) -> alloc::string::String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut rest, mut unit) = (bytes, 0, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        (rest, whole) = (whole % 1024 * 10 / 1024, whole / 1024);
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{whole} {name}") } else { format!("{whole}.{rest} {name}") }
}
