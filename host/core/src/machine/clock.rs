//! What happens because time passes, or because the program ends.

use alloc::format;
use alloc::vec::Vec;

use super::Machine;
use crate::contract::{Drive, Level, LinkId, Output};
use crate::limits;
use crate::replica::Phase;
use crate::upstream;

/// How often time is looked at. Milliseconds.
pub(super) const TICK_MS: u64 = 100;

impl Machine {
    pub(super) fn tick(&mut self) {
        let now = self.now.mono_ms;
        if let upstream::Phase::Idle(at) = self.upstream.phase()
            && now >= at
            && !self.stopping
        {
            self.upstream.dialing(now);
            self.outputs.push_back(Output::Dial(0));
        }
        if now < self.ticked + TICK_MS {
            return;
        }
        self.ticked = now;
        if self.upstream.is_overdue(now) {
            match self.up_link {
                Some(_) => self.upstream_silent(),
                None => self.dial_failed("no answer"),
            }
        }
        if now >= self.acked + limits::ACK_EVERY_MS {
            self.acked = now;
            self.acknowledge();
            self.keep_waiting_replicas();
        }
        self.tick_values();
        self.tick_refresh();
        self.retry_logs();
        self.note_progress();
        self.note_ships();
        self.ping_quiet_views();
        self.close_the_overdue();
    }

    /// A lone newline tells a replica that its snapshot is still on the way. Never once the snapshot or stream has begun.
    fn keep_waiting_replicas(&mut self) {
        for replica in self.replicas.values_mut() {
            let waits = matches!(replica.phase, Phase::Probing(_) | Phase::Queued)
                || replica.phase == Phase::Shipping && replica.awaits_header;
            if waits {
                replica.outbox.push_copy(b"\n");
            }
        }
    }

    fn ping_quiet_views(&mut self) {
        let now = self.now.mono_ms;
        for (view, quiet) in self.views.iter_mut().zip(&mut self.quiet_since) {
            let end = view.backlog().end();
            if end != quiet.0 {
                *quiet = (end, now);
            } else if now >= quiet.1 + limits::PING_EVERY_MS {
                view.ping();
                *quiet = (view.backlog().end(), now);
            }
        }
    }

    fn close_the_overdue(&mut self) {
        let now = self.now.mono_ms;
        let mut probe_over = Vec::new();
        let mut overdue: Vec<(LinkId, &'static str)> = Vec::new();
        for (link, replica) in &self.replicas {
            let silent = now.saturating_sub(replica.last_heard);
            let stuck = now.saturating_sub(replica.last_progress);
            let stalled_ms =
                self.views.get(replica.view).map_or(limits::REPLICA_STALLED_MS, |view| view.settings().stalled_ms);
            match replica.phase {
                Phase::Probing(until) if now >= until => probe_over.push(*link),
                Phase::Talking if !replica.authenticated && now - replica.since > limits::HANDSHAKE_MS => {
                    overdue.push((*link, "no authentication within the handshake's time"));
                }
                Phase::Shipping | Phase::Loading | Phase::Streaming | Phase::Leaving
                    // One that loads a snapshot reads nothing for a while, but says that it is there.
                    if stuck > stalled_ms && !replica.outbox.is_empty() && (replica.loaded || silent > stalled_ms) =>
                {
                    overdue.push((*link, "it takes no byte of what waits for it"));
                }
                Phase::Loading | Phase::Streaming
                    if silent > limits::LINK_TIMEOUT_MS
                        && (replica.outbox.is_empty() || stuck > limits::LINK_TIMEOUT_MS) =>
                {
                    overdue.push((*link, "nothing was heard of it, not even an acknowledgement"));
                }
                _ => {}
            }
        }
        for link in probe_over {
            self.probed(link, None);
        }
        for (link, why) in overdue {
            let Some(replica) = self.replicas.get(&link) else { continue };
            let text = format!("replica {} of view '{}' is closed: {why}", replica.peer, self.view_name(replica.view));
            self.note(Level::Warn, "replica-closed", text);
            self.close(link);
        }
    }

    /// The program ends: streaming replicas get what is there, all others are closed at once.
    pub(super) fn shutdown(&mut self) {
        if self.stopping {
            return;
        }
        self.note(Level::Info, "stopping", "stopping: replicas get what is there, then links close".into());
        self.acknowledge();
        self.stopping = true;
        self.refresh_dropped("the program ends");
        self.pump();
        let unfinished = self.replicas.iter().filter(|(_, replica)| replica.phase != Phase::Streaming);
        for link in unfinished.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.close(link);
        }
    }
}
