//! The connection that newer snapshots come on.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Watch;
use crate::contract::{Level, LinkId, Output};
use crate::fault::{Fault, Party};
use crate::machine::{Arriving, Machine};
use crate::outbox::Outbox;
use crate::position::ReplId;
use crate::snapshot::{Format, Framing};
use crate::upstream::{Heard, Phase};

impl Machine {
    pub(in crate::machine) fn refresh_connected(&mut self, link: LinkId) {
        if self.refresh.upstream.phase() != Phase::Dialing {
            self.outputs.push_back(Output::Close(link));
            return;
        }
        let hello = self.refresh.upstream.connected(self.now.mono_ms);
        self.refresh.link = Some(link);
        self.refresh.out = Outbox::default();
        self.refresh.out.push_copy(&hello);
    }

    pub(in crate::machine) fn refresh_dial_failed(&mut self, why: &str) {
        if self.refresh.upstream.phase() == Phase::Dialing {
            self.refresh_failed(&Fault::new(Party::Upstream, format!("cannot reach the primary: {why}")));
        }
    }

    /// The connection is gone, by the network or by the primary.
    pub(in crate::machine) fn refresh_lost(&mut self, why: &str) {
        self.refresh.link = None;
        if let (Some(arriving), Phase::Copying(None) | Phase::Verifying) =
            (&self.refresh.arriving, self.refresh.upstream.phase())
        {
            // A primary of which nothing else is wanted closes right behind the last byte. Whether that has come is known
            // when all that did come is on the disk.
            self.outputs.push_back(Output::SpoolEnd(arriving.id));
            return;
        }
        self.refresh_failed(&Fault::new(Party::Upstream, format!("link to the primary lost: {why}")));
    }

    pub(in crate::machine) fn refresh_said(&mut self, bytes: Bytes) {
        self.refresh.upstream.push(bytes, self.now.mono_ms);
        self.refresh_listen();
    }

    /// Works off what the primary has said on the connection.
    fn refresh_listen(&mut self) {
        let mut out = Vec::new();
        while self.refresh.link.is_some() {
            match self.refresh.upstream.hear(&mut out) {
                Ok(Some(heard)) => {
                    if let Err(fault) = self.refresh_heard(heard) {
                        return self.refresh_failed(&fault);
                    }
                }
                Ok(None) if self.refresh.upstream.is_introduced() => self.ask_for_refresh(&mut out),
                Ok(None) => break,
                Err(fault) => return self.refresh_failed(&fault),
            }
        }
        if !out.is_empty() {
            self.refresh.out.push_copy(&out);
        }
    }

    fn ask_for_refresh(&mut self, out: &mut Vec<u8>) {
        self.refresh.upstream.ask(None, out);
        self.refresh.asked = true;
        self.refresh.not_earlier = self.now.mono_ms.saturating_add(self.refresh.settings.every_ms);
        self.refresh.not_before = self.refresh.not_earlier;
        self.refresh.served.fill(false);
        self.refresh.watch = Watch::Any(VecDeque::new());
        self.watch_the_end();
        let why = self.refresh.wanted.clone().unwrap_or_default();
        self.note(Level::Info, "refresh-start", format!("a newer snapshot is taken while the stream goes on: {why}"));
    }

    fn refresh_heard(&mut self, heard: Heard) -> Result<(), Fault> {
        match heard {
            Heard::FullResync { id, offset } => self.refresh_promised(id, offset),
            Heard::Snapshot(framing) => {
                self.refresh_begins(framing);
                Ok(())
            }
            Heard::SnapshotBytes(bytes) => {
                if let Some(arriving) = &mut self.refresh.arriving {
                    arriving.received += bytes.len() as u64;
                    arriving.unwritten += bytes.len();
                    self.outputs.push_back(Output::SpoolWrite(arriving.id, bytes));
                }
                Ok(())
            }
            Heard::SnapshotEnd => Ok(()),
            Heard::Commands(_) | Heard::Ids { .. } | Heard::Continue(_) | Heard::Stream(_) | Heard::Chunk(_) => {
                Err(Fault::new(Party::Own, "an answer that no snapshot needs"))
            }
        }
    }

    /// The primary says where the snapshot stands.
    fn refresh_promised(&mut self, id: ReplId, offset: u64) -> Result<(), Fault> {
        let Some(follow) = self.follow.as_ref().filter(|follow| follow.id == id) else {
            let what = format!("its snapshot is of the history {}, which is not the one that is followed", id.short());
            return Err(Fault::new(Party::Upstream, what));
        };
        if self.refresh.watch.aim(offset, follow.read) {
            return Ok(());
        }
        let what = format!(
            "its snapshot stands for offset {offset}, and the stream, which is at {}, was not watched there: another replica's save may have been joined",
            follow.read
        );
        self.refresh_missed(&vec![true; self.views.len()]);
        Err(Fault::new(Party::Upstream, what))
    }

    fn refresh_begins(&mut self, framing: Framing) {
        let id = self.fresh_spool();
        self.refresh.arriving = Some(Arriving::new(id, framing, self.now.mono_ms));
        self.outputs.push_back(Output::SpoolOpen(id, Format::Rdb(framing)));
    }

    pub(super) fn hang_up_refresh(&mut self) {
        if let Some(link) = self.refresh.link.take() {
            self.outputs.push_back(Output::Close(link));
        }
        self.refresh.out = Outbox::default();
        if let Some(arriving) = self.refresh.arriving.take() {
            self.outputs.push_back(Output::SpoolAbort(arriving.id));
        }
    }
}
