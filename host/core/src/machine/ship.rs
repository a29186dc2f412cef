//! Snapshots on their way to replicas.

use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::Machine;
use super::follow::human;
use crate::contract::{Cargo, Level, LinkId, Output, ShipFraming, ShipOrder};
use crate::fault::{Fault, Party};
use crate::limits;
use crate::rdb::{Head, ServerVersion, can_load};
use crate::replica::Phase;
use crate::settings::UnknownReplica;

/// A fresh snapshot because the backlog was outrun is asked for at most this often: it costs every replica a full sync.
const FRESH_EVERY_MS: u64 = 30_000;

impl Machine {
    /// A replica needs a snapshot.
    pub(super) fn full_resync(&mut self, link: LinkId, cause: &str) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        let (peer, view) = (replica.peer.clone(), replica.view);
        let known = replica.version.is_some();
        let probe = replica.port.map(|_| (String::from(replica.address().0), replica.address().1));
        let name = self.view_name(view);
        self.note(
            Level::Info,
            "replica-full-sync",
            format!("replica {peer} of view '{name}' needs a snapshot: {cause}"),
        );
        match probe {
            Some((ip, port)) if !known => {
                if let Some(replica) = self.replicas.get_mut(&link) {
                    replica.phase = Phase::Probing(self.now.mono_ms + 2 * limits::PROBE_MS);
                }
                self.outputs.push_back(Output::Probe(link, ip, port));
            }
            _ => self.enqueue(link),
        }
    }

    /// The shell found out, or could not.
    pub(super) fn probed(&mut self, link: LinkId, version: Option<ServerVersion>) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        if let Phase::Probing(_) = replica.phase {
            replica.version = version;
            self.enqueue(link);
        }
    }

    /// Lets a replica wait for its snapshot, if it can load what we have.
    pub(super) fn enqueue(&mut self, link: LinkId) {
        let Some(replica) = self.replicas.get(&link) else { return };
        let index = replica.view;
        let (Some(view), Some(spooled)) = (self.views.get(index), &self.spooled) else {
            return self.later(link, "Can't SYNC while not connected with my master");
        };
        if !view.reaches_snapshot() {
            let why = format!("the backlog of view '{}' no longer reaches back to it", view.settings().name);
            return self.outrun(link, &why);
        }
        let loadable = match &replica.version {
            // A Sluicegate loads nothing: it looks at its own replicas.
            _ if replica.packing.is_some() => Ok(()),
            Some(version) => can_load(version, spooled.summary.family, spooled.summary.version),
            None if view.settings().unknown_replica == UnknownReplica::Accept => Ok(()),
            None => Err("its version is unknown, and unknown_replica = \"refuse\"".into()),
        };
        if let Err(why) = loadable {
            return self.refuse(link, &why);
        }
        if let Some(replica) = self.replicas.get_mut(&link) {
            replica.phase = Phase::Queued;
            replica.awaits_header = true;
        }
        self.ship_next();
    }

    /// Starts as many ships as may run at once, first come first served.
    pub(super) fn ship_next(&mut self) {
        while self.spooled.is_some() && !self.stopping {
            let running = self.replicas.values().filter(|replica| replica.phase == Phase::Shipping).count();
            let next = self.replicas.iter().filter(|(_, replica)| replica.phase == Phase::Queued);
            let Some(link) = next.min_by_key(|(link, replica)| (replica.since, **link)).map(|(link, _)| *link) else {
                return;
            };
            if running >= limits::SHIPS_MAX {
                return;
            }
            self.ship(link);
        }
    }

    fn ship(&mut self, link: LinkId) {
        let mark = self.fresh_id();
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        let (Some(view), Some(spooled)) = (self.views.get(replica.view), &self.spooled) else { return };
        let (id, offset) = (view.history().id, view.snapshot_offset());
        replica.outbox.push_copy(format!("+FULLRESYNC {id} {offset}\r\n").as_bytes());
        replica.phase = Phase::Shipping;
        replica.cursor = offset;
        replica.acked = offset;
        replica.since = self.now.mono_ms;
        replica.shipped = 0;
        replica.loaded = false;
        replica.mark = None;
        let head = (!view.relays()).then(|| Head { repl_id: *id.as_bytes(), repl_offset: offset, stream_db: 0 });
        let mut framing = ShipFraming::Stream;
        if let Some(packing) = &mut replica.packing {
            let (token, first) = self.packs.offer(replica.view, (spooled.id, id, offset), packing.resume, mark);
            // Up to there it may take a while, through which newlines keep it waiting.
            packing.announced = Some((token, first));
            framing = ShipFraming::Packed { first };
        } else if head.is_none() {
            replica.outbox.push_copy(format!("${}\r\n", spooled.summary.bytes).as_bytes());
            replica.awaits_header = false;
        } else if replica.takes_eof {
            replica.outbox.push_copy(format!("$EOF:{mark}\r\n").as_bytes());
            replica.mark = Some(*mark.as_bytes());
            replica.awaits_header = false;
        } else {
            framing = ShipFraming::Length;
        }
        self.stats.sync_full += 1;
        let cargo = Cargo::Rdb { spool: spooled.id, head, framing };
        self.outputs.push_back(Output::Ship(ShipOrder { link, view: replica.view, cargo }));
    }

    pub(super) fn ship_length(&mut self, link: LinkId, length: u64) {
        if let Some(replica) = self.replicas.get_mut(&link).filter(|replica| replica.phase == Phase::Shipping) {
            replica.outbox.push_copy(format!("${length}\r\n").as_bytes());
            replica.awaits_header = false;
        }
    }

    pub(super) fn ship_bytes(&mut self, link: LinkId, bytes: Bytes) {
        if let Some(replica) = self.replicas.get_mut(&link).filter(|replica| replica.phase == Phase::Shipping) {
            if let Some((token, first)) = replica.packing.as_mut().and_then(|packing| packing.announced.take()) {
                replica.outbox.push_copy(format!("$PACK:{token}:{first}\r\n").as_bytes());
                replica.awaits_header = false;
            }
            replica.shipped += bytes.len() as u64;
            replica.outbox.push(bytes);
        }
    }

    pub(super) fn ship_ended(&mut self, link: LinkId, outcome: Result<(), Fault>) {
        let Some(replica) = self.replicas.get_mut(&link).filter(|replica| replica.phase == Phase::Shipping) else {
            return;
        };
        let (peer, view, shipped) = (replica.peer.clone(), replica.view, replica.shipped);
        let name = self.views.get(view).map_or("", |view| &view.settings().name);
        if let Err(fault) = outcome {
            self.note(
                Level::Error,
                "snapshot-failed",
                format!("snapshot for replica {peer} of view '{name}' failed: {fault}"),
            );
            if fault.whose == Party::Plugin
                && let Some(broken) = self.views.get_mut(view)
            {
                broken.halt(fault.clone());
                self.view_halted(view, &fault);
            }
            return self.close(link);
        }
        let ms = self.now.mono_ms.saturating_sub(replica.since).max(1);
        // It had nothing to say while it was being sent to.
        replica.last_heard = self.now.mono_ms;
        match replica.mark.take() {
            Some(mark) => {
                replica.outbox.push_copy(&mark);
                replica.phase = Phase::Loading;
            }
            None => replica.phase = Phase::Streaming,
        }
        let rate = human(shipped.saturating_mul(1000) / ms);
        let text =
            format!("snapshot for replica {peer} of view '{name}' is out: {} in {ms} ms ({rate}/s)", human(shipped));
        self.note(Level::Info, "snapshot-sent", text);
        self.ship_next();
    }

    /// A reader whose next byte is no longer kept.
    pub(super) fn fell_behind(&mut self, link: LinkId) {
        let Some(replica) = self.replicas.get(&link) else { return };
        let during = if replica.phase == Phase::Streaming {
            "it is slower than the stream"
        } else {
            "its snapshot took too long"
        };
        let budget = self.views.get(replica.view).map_or(0, |view| view.backlog().budget()) as u64;
        let text = format!(
            "replica {} of view '{}' fell out of the backlog of {}: {during}; it is closed and needs a snapshot (view.backlog.memory)",
            replica.peer,
            self.view_name(replica.view),
            human(budget),
        );
        self.note(Level::Warn, "replica-behind", text);
        self.close(link);
    }

    /// Nothing that we have can bring this replica up: the primary has to be asked.
    fn outrun(&mut self, link: LinkId, why: &str) {
        self.later(link, "a fresh snapshot of the primary is being waited for");
        let recently = self.last_fresh.is_some_and(|last| self.now.mono_ms - last < FRESH_EVERY_MS);
        if self.up_link.is_some() && self.fresh_wanted.is_none() && !recently {
            self.want_fresh_snapshot(why);
        }
    }

    /// "Not now": a replica tries again in a second.
    pub(super) fn later(&mut self, link: LinkId, why: &str) {
        self.dismiss(link, &format!("-NOMASTERLINK {why}\r\n"));
    }

    /// "Never like this": the operator has to change something.
    fn refuse(&mut self, link: LinkId, why: &str) {
        if let Some(replica) = self.replicas.get(&link) {
            let text = format!("replica {} of view '{}' is refused: {why}", replica.peer, self.view_name(replica.view));
            self.note(Level::Error, "replica-refused", text);
        }
        self.dismiss(link, &format!("-ERR {why}\r\n"));
    }

    /// The last answer on this link.
    fn dismiss(&mut self, link: LinkId, answer: &str) {
        if let Some(replica) = self.replicas.get_mut(&link) {
            replica.outbox.push_copy(answer.as_bytes());
            replica.phase = Phase::Leaving;
        }
    }

    pub(super) fn close_the_leaving(&mut self) {
        let done = |replica: &crate::replica::Replica| replica.phase == Phase::Leaving && replica.outbox.is_empty();
        while let Some(link) = self.replicas.iter().find(|(_, replica)| done(replica)).map(|(link, _)| *link) {
            self.close(link);
        }
    }

    pub(super) fn view_name(&self, index: usize) -> String {
        self.views.get(index).map_or_else(String::new, |view| view.settings().name.clone())
    }
}
