//! What happens because time passes, or because the program ends.

use alloc::format;
use alloc::vec::Vec;

use super::Machine;
use crate::contract::{Level, LinkId, Output};
use crate::kevy::Dialect;
use crate::kevy::up::Phase;
use crate::kevy::{replica, wire};
use crate::limits;

/// How often time is looked at. Milliseconds.
pub(super) const TICK_MS: u64 = 100;
/// A dial or a handshake without an answer is given up after this long. Real replicas wait as long. Milliseconds.
const GREETING_MS: u64 = 5_000;
/// A primary that speaks of frames and does not send them for this long never will: one larger than its pump's turn stops
/// its stream for good, while the link looks well. Milliseconds.
pub(super) const OWED_MS: u64 = 3_000;

/// Frames that were received are gone from the primary's backlog after this long; it looks every 100 ms. Milliseconds.
const RECEIVED_MS: u64 = 500;

impl Machine {
    pub(super) fn tick(&mut self) {
        let now = self.now.mono_ms;
        for (index, shard) in self.shards.iter_mut().enumerate() {
            if matches!(shard.phase, Phase::Idle(at) if now >= at) && !self.stopping {
                shard.phase = Phase::Dialing(now);
                self.outputs.push_back(Output::Dial(index));
            }
        }
        if now < self.ticked + TICK_MS {
            return;
        }
        self.ticked = now;
        (0..self.shards.len()).for_each(|index| self.look_after(index));
        if now >= self.pinged + limits::ACK_EVERY_MS {
            self.pinged = now;
            self.shards.iter_mut().for_each(crate::kevy::up::Shard::acknowledge);
            let links: Vec<LinkId> = self.replicas.keys().copied().collect();
            links.into_iter().for_each(|link| self.ping(link));
            self.poke_the_silent();
        }
        self.close_the_overdue();
    }

    /// A replica of the second dialect acknowledges when it gets something, which is how it is told from the first; until it
    /// has had a sign of life it calls its link down. Where nothing is written, it is given a frame that does nothing.
    fn poke_the_silent(&mut self) {
        for replica in self.replicas.values_mut() {
            let unheard = replica.phase == replica::Phase::Streaming && !replica.dialect.has_heartbeat();
            if !unheard || core::mem::replace(&mut replica.poked, true) {
                continue;
            }
            if let Some(stream) = self.views.get_mut(replica.view).and_then(|view| view.stream_mut(replica.shard)) {
                stream.push(&[wire::PLACEHOLDER]);
                stream.settle();
            }
        }
    }

    /// Notices a shard that says nothing.
    fn look_after(&mut self, index: usize) {
        let now = self.now.mono_ms;
        let timeout = self.settings.upstream.timeout_ms;
        let Some(shard) = self.shards.get_mut(index) else { return };
        let silent = now.saturating_sub(shard.heard);
        let has_heartbeat = shard.dialect.is_some_and(Dialect::has_heartbeat);
        match shard.phase {
            Phase::Dialing(since) if now >= since + GREETING_MS => self.dial_failed(index, "no answer"),
            Phase::Greeting(since) if now >= since + GREETING_MS => {
                self.outputs.extend(shard.link.map(Output::HangUp));
                self.upstream_lost(
                    index,
                    "the handshake is not answered (an encrypted port does that, and kevy 1.18 to 2.0 with io_uring)",
                );
            }
            Phase::Copying(_) | Phase::Live if silent >= timeout && has_heartbeat => {
                self.outputs.extend(shard.link.map(Output::HangUp));
                self.upstream_lost(index, "it says nothing any more (upstream.timeout)");
            }
            Phase::Live if shard.receives_since.is_some_and(|since| now >= since + RECEIVED_MS) => {
                shard.received = true;
                let text = format!(
                    "{} gives its frames from the first on, as if it had held nothing before: it is asked again without them",
                    self.upstream_name(index)
                );
                self.note(Level::Warn, "upstream-unsaid", text);
                self.hang_up(index, false);
            }
            Phase::Live if shard.awaits && shard.unsaid_since.is_some_and(|since| now >= since + GREETING_MS) => {
                shard.unsaid_since = None;
                let text = format!(
                    "{} has answered and says nothing of what it holds: kevy up to 3.18 may do so when it was killed, until its \
                     next write; write to it",
                    self.upstream_name(index)
                );
                self.note(Level::Warn, "upstream-unsaid", text);
            }
            _ => {}
        }
    }

    /// A primary of the newest dialect can be made to send a snapshot, which carries what its stream cannot.
    pub(super) fn owed(&mut self, index: usize) {
        let name = self.upstream_name(index);
        let Some(shard) = self.shards.get_mut(index) else { return };
        shard.owed_since = None;
        if shard.dialect == Some(Dialect::K3) {
            let text = format!(
                "{name} speaks of frames that it does not send, as for one above 256 KiB: a snapshot is asked for"
            );
            self.note(Level::Warn, "upstream-wedged", text);
            return self.refresh(index, "its stream is stuck");
        }
        let text = format!(
            "{name} speaks of frames from {} on that it does not send, as for one above 256 KiB; a primary of this version \
             cannot be asked for a snapshot, restart it",
            shard.next
        );
        self.note(Level::Error, "upstream-wedged", text);
    }

    fn close_the_overdue(&mut self) {
        let now = self.now.mono_ms;
        let mut overdue: Vec<(LinkId, &'static str)> = Vec::new();
        for (link, replica) in &self.replicas {
            let stalled_ms =
                self.views.get(replica.view).map_or(limits::REPLICA_STALLED_MS, |view| view.settings().stalled_ms);
            let stuck = now.saturating_sub(replica.last_progress);
            let silent = now.saturating_sub(replica.last_heard);
            let speaks = replica.phase == replica::Phase::Streaming && replica.dialect.has_heartbeat();
            if replica.phase == replica::Phase::Talking && now - replica.since > limits::HANDSHAKE_MS {
                let answered = "it says nothing";
                let why = if replica.asked.is_none() { answered } else { "no snapshot of the primary came in time" };
                overdue.push((*link, why));
            } else if !replica.outbox.is_empty() && stuck > stalled_ms {
                overdue.push((*link, "it takes no byte of what waits for it"));
            } else if speaks
                && silent > limits::LINK_TIMEOUT_MS
                && (replica.outbox.is_empty() || stuck > limits::LINK_TIMEOUT_MS)
            {
                overdue.push((*link, "nothing was heard of it, not even an acknowledgement"));
            }
        }
        for (link, why) in overdue {
            let text = format!("{} is closed: {why}", self.replica_name(link));
            self.note(Level::Warn, "replica-closed", text);
            self.drop_link(link);
        }
        self.ship_next();
    }

    /// The program ends: streaming replicas get what is there, all others are closed at once.
    pub(super) fn shutdown(&mut self) {
        if self.stopping {
            return;
        }
        self.note(Level::Info, "stopping", "stopping: replicas get what is there, then links close".into());
        self.stopping = true;
        for index in 0..self.shards.len() {
            self.hang_up(index, false);
        }
        let unfinished = self.replicas.iter().filter(|(_, replica)| replica.phase != replica::Phase::Streaming);
        for link in unfinished.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.drop_link(link);
        }
    }
}
