//! How far snapshots for replicas have come.

use alloc::format;
use alloc::string::String;

use super::Machine;
use super::follow::human;
use crate::contract::{Level, LinkId};
use crate::limits;
use crate::replica::{Phase, Replica};

/// How far one has come.
pub(super) struct Progress {
    /// Bytes that the network has taken.
    pub(super) sent: u64,
    /// All of its bytes, where that is known.
    pub(super) total: Option<u64>,
    /// Bytes a second since it began.
    pub(super) rate: u64,
    /// Seconds that the rest will take at this rate, where that is known.
    pub(super) eta: Option<u64>,
}

impl Progress {
    /// Of a replica that is being sent one.
    pub(super) fn of(replica: &Replica, now: u64) -> Self {
        let sent = replica.shipped.saturating_sub(replica.outbox.len() as u64);
        let ms = now.saturating_sub(replica.since).max(1);
        let rate = sent.saturating_mul(1000) / ms;
        let left = replica.total.map(|total| total.saturating_sub(sent));
        let eta = left.filter(|_| rate > 0).map(|left| left.div_ceil(rate));
        Self { sent, total: replica.total, rate, eta }
    }

    /// For people.
    fn text(&self) -> String {
        let (sent, rate) = (human(self.sent), human(self.rate));
        let Some(total) = self.total else { return format!("{sent}, {rate}/s") };
        let percent = self.sent.saturating_mul(100) / total.max(1);
        let left = self.eta.map_or_else(String::new, |eta| format!(", {eta} s left"));
        format!("{sent} of {} ({percent} %), {rate}/s{left}", human(total))
    }
}

impl Machine {
    /// How many snapshots go out, and how many replicas wait for theirs.
    pub(super) fn ships(&self) -> (usize, usize) {
        let count = |of: fn(Phase) -> bool| self.replicas.values().filter(|replica| of(replica.phase)).count();
        (count(|phase| phase == Phase::Shipping), count(|phase| matches!(phase, Phase::Queued | Phase::Probing(_))))
    }

    /// Says of each snapshot that goes out how far it has come, now and then.
    pub(super) fn note_ships(&mut self) {
        let now = self.now.mono_ms;
        let due = |replica: &Replica| {
            replica.phase == Phase::Shipping && now.saturating_sub(replica.noted) >= limits::SHIP_NOTE_MS
        };
        while let Some(link) = self.replicas.iter().find(|(_, replica)| due(replica)).map(|(link, _)| *link) {
            self.note_ship(link, now);
        }
    }

    fn note_ship(&mut self, link: LinkId, now: u64) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        replica.noted = now;
        let far = if replica.awaits_header { "it is being made".into() } else { Progress::of(replica, now).text() };
        let (peer, cause, view) = (replica.peer.clone(), replica.cause, replica.view);
        let name = self.view_name(view);
        let text = format!("snapshot for replica {peer} of view '{name}': {far}, cause: {cause}");
        self.note(Level::Info, "snapshot-progress", text);
    }
}
