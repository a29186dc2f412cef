//! The door: what the shell says and asks.

use alloc::vec::Vec;

use super::refresh::REFRESH_PORT;
use super::repair::FETCH_PORT;
use super::{Arriving, Machine, clock, log};
use crate::contract::{Drive, Input, LinkId, Now, Output};
use crate::limits;
use crate::outbox::Outbox;
use crate::replica::Phase;
use crate::upstream;

impl Drive for Machine {
    fn handle(&mut self, now: Now, input: Input) {
        self.now = now;
        match input {
            Input::Connected(FETCH_PORT, link) => self.values_connected(link),
            Input::Connected(REFRESH_PORT, link) => self.refresh_connected(link),
            Input::Connected(_, link) => self.connected(link),
            Input::DialFailed(FETCH_PORT, why) => self.values_dial_failed(&why),
            Input::DialFailed(REFRESH_PORT, why) => self.refresh_dial_failed(&why),
            Input::DialFailed(_, why) => self.dial_failed(&why),
            Input::Accepted { link, view, peer, .. } => self.accepted(link, view, peer),
            Input::Bytes(link, bytes) if self.up_link == Some(link) => {
                self.upstream.push(bytes, now.mono_ms);
                self.listen();
            }
            Input::Bytes(link, bytes) if self.repair.link == Some(link) => self.values_said(&bytes),
            Input::Bytes(link, bytes) if self.refresh.link == Some(link) => self.refresh_said(bytes),
            Input::Bytes(link, bytes) => self.said(link, &bytes),
            Input::Closed(link, why) if self.up_link == Some(link) => self.upstream_lost(&why),
            Input::Closed(link, why) if self.repair.link == Some(link) => self.values_lost(&why),
            Input::Closed(link, why) if self.refresh.link == Some(link) => self.refresh_lost(&why),
            Input::Closed(link, why) => self.replica_lost(link, &why),
            Input::SpoolWritten(id, bytes) => {
                let arriving = self.arriving.iter_mut().chain(&mut self.refresh.arriving);
                for arriving in arriving.filter(|arriving| arriving.id == id) {
                    arriving.unwritten = arriving.unwritten.saturating_sub(bytes);
                }
            }
            Input::Spooled(id, outcome) => self.spooled(id, outcome),
            Input::SpoolDamaged(id, what) => self.spool_damaged(id, &what),
            Input::Log(id, report) => self.log_reported(id, report),
            Input::SpoolPaused(id, chunks, fault) => self.spool_paused(id, chunks, fault),
            Input::Packed(link, outcome) => self.packed(link, outcome),
            Input::Unpacked(link, outcome) => self.unpacked(link, outcome),
            Input::ShipLength(link, length) => self.ship_length(link, length),
            Input::ShipBytes(link, bytes) => self.ship_bytes(link, bytes),
            Input::ShipEnded(link, outcome) => self.ship_ended(link, outcome),
            Input::Walking(view) => self.walking(view),
            Input::Probed(link, version) => self.probed(link, version),
            Input::Tick => self.tick(),
            Input::Shutdown => self.shutdown(),
        }
        self.order_logs();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn outbox(&mut self, link: LinkId) -> Option<&mut Outbox> {
        if self.up_link == Some(link) {
            return Some(&mut self.up_out);
        }
        if self.repair.link == Some(link) {
            return Some(&mut self.repair.out);
        }
        if self.refresh.link == Some(link) {
            return Some(&mut self.refresh.out);
        }
        self.replicas.get_mut(&link).map(|replica| &mut replica.outbox)
    }

    fn links_with_output(&self, links: &mut Vec<LinkId>) {
        links.clear();
        links.extend(self.up_link.filter(|_| !self.up_out.is_empty()));
        links.extend(self.repair.link.filter(|_| !self.repair.out.is_empty()));
        links.extend(self.refresh.link.filter(|_| !self.refresh.out.is_empty()));
        links.extend(self.replicas.iter().filter(|(_, replica)| !replica.outbox.is_empty()).map(|(link, _)| *link));
    }

    /// What the disk does not keep up with is not read further, be it a snapshot or the stream.
    fn wants_read(&self, link: LinkId) -> bool {
        let keeps_up = |arriving: &Option<Arriving>| {
            arriving.as_ref().is_none_or(|arriving| arriving.unwritten < limits::SPOOL_UNWRITTEN_BYTES_MAX)
        };
        if self.refresh.link == Some(link) {
            return !self.stopping && self.refresh.wants_read();
        }
        if self.up_link != Some(link) {
            return true;
        }
        !self.stopping
            && self.upstream.phase() != upstream::Phase::Verifying
            && !self.upstream.is_full()
            && keeps_up(&self.arriving)
            && self.unlogged_bytes() < limits::LOG_UNWRITTEN_BYTES_MAX
    }

    fn ship_room(&self, link: LinkId) -> usize {
        self.replicas.get(&link).filter(|replica| replica.phase == Phase::Shipping).map_or(0, |replica| {
            let cap = self.views.get(replica.view).map_or(0, |view| view.settings().replica_output_bytes / 2);
            cap.saturating_sub(replica.outbox.len())
        })
    }

    fn pump(&mut self) {
        self.hold_backlogs();
        // What is asked for below may be under way to the disk.
        self.order_logs();
        let mut behind = Vec::new();
        for (link, replica) in &mut self.replicas {
            replica.note_progress(self.now.mono_ms);
            if !replica.phase.has_place() {
                continue;
            }
            let Some(view) = self.views.get(replica.view) else { continue };
            if replica.cursor < view.backlog().oldest() {
                behind.push(*link);
                continue;
            }
            let mut budget = limits::PUMP_BYTES_MAX;
            while replica.phase == Phase::Streaming
                && replica.packing.is_none()
                && budget > 0
                && replica.outbox.len() < view.settings().replica_output_bytes / 2
            {
                if replica.cursor < view.backlog().start() {
                    self.outputs.extend(log::read(*link, replica, view));
                    break;
                }
                let Some(bytes) = view.backlog().read(replica.cursor, budget).filter(|bytes| !bytes.is_empty()) else {
                    break;
                };
                budget -= bytes.len();
                replica.cursor += bytes.len() as u64;
                replica.outbox.push(bytes);
            }
        }
        for link in behind {
            self.fell_behind(link);
        }
        self.pack_streams();
        self.close_the_leaving();
    }

    fn next_wakeup(&self) -> u64 {
        let tick = self.ticked + clock::TICK_MS;
        match self.upstream.phase() {
            upstream::Phase::Idle(at) if !self.stopping => tick.min(at.max(self.now.mono_ms)),
            _ => tick,
        }
    }

    fn is_drained(&self) -> bool {
        self.stopping
            && self.replicas.values().all(|replica| {
                let end = self.views.get(replica.view).map_or(0, |view| view.backlog().end());
                replica.outbox.is_empty() && (replica.phase != Phase::Streaming || replica.cursor >= end)
            })
    }
}
