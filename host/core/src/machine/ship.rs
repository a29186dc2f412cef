//! Snapshots on their way to replicas.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Machine;
use super::follow::human;
use super::log::out_of_reach;
use crate::contract::{Cargo, Level, LinkId, Output, ShipFraming, ShipOrder};
use crate::fault::{Fault, Party};
use crate::limits;
use crate::rdb::{Head, ServerVersion, Summary, Target, can_load, fit};
use crate::replica::{Phase, Replica};
use crate::settings::{UnknownReplica, ViewSettings};

/// A fresh snapshot because the backlog was outrun is asked for at most this often: it costs every replica a full sync.
const FRESH_EVERY_MS: u64 = 30_000;

impl Machine {
    /// A replica needs a snapshot.
    pub(super) fn full_resync(&mut self, link: LinkId, cause: &'static str) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        replica.cause = cause;
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
        let Some(view) = self.views.get(index) else { return };
        let name = &view.settings().name;
        let Some(spooled) = self.spool_of(view) else {
            let why = format!("view '{name}' has none");
            return self.outrun(link, &why);
        };
        if !view.reaches_snapshot() {
            return self.outrun(link, &out_of_reach(view));
        }
        // A Sluicegate loads nothing: it looks at its own replicas.
        if replica.packing.is_none()
            && let Err(why) = fitted(replica, view.settings(), spooled.summary())
        {
            return self.refuse(link, &why);
        }
        if let Some(replica) = self.replicas.get_mut(&link) {
            replica.phase = Phase::Queued;
            replica.awaits_header = true;
        }
        self.ship_next();
    }

    /// New replicas begin elsewhere from now on: those that wait are looked at again.
    pub(super) fn enqueue_again(&mut self) {
        let queued = self.replicas.iter().filter(|(_, replica)| replica.phase == Phase::Queued);
        for link in queued.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.enqueue(link);
        }
    }

    /// Starts as many ships as may run at once, first come first served.
    pub(super) fn ship_next(&mut self) {
        while !self.spools.is_empty() && !self.stopping {
            let running = self.replicas.values().filter(|replica| replica.phase == Phase::Shipping).count();
            let next = self.replicas.iter().filter(|(_, replica)| replica.phase == Phase::Queued);
            let Some(link) = next.min_by_key(|(link, replica)| (replica.since, **link)).map(|(link, _)| *link) else {
                return;
            };
            if running >= self.settings.ships_max.max(1) {
                return;
            }
            self.ship(link);
        }
    }

    fn ship(&mut self, link: LinkId) {
        let mark = self.fresh_id();
        let Some(replica) = self.replicas.get(&link) else { return };
        let view = self.views.get(replica.view);
        let based = view.and_then(|view| Some((view, *view.base()?, self.spool_of(view)?.summary())));
        let Some((view, base, summary)) = based else {
            return self.later(link, "its snapshot was lost");
        };
        let bytes = summary.bytes;
        // A newer snapshot may have come while it waited.
        let fitted = match &replica.packing {
            Some(_) => Ok(None),
            None => fitted(replica, view.settings(), summary),
        };
        let target = match fitted {
            Ok(target) => target,
            Err(why) => return self.refuse(link, &why),
        };
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        if !view.reaches_snapshot() {
            // While it waited for its turn the log has filled up.
            let why = out_of_reach(view);
            return self.outrun(link, &why);
        }
        let (id, offset) = (view.history().id, base.offset);
        replica.outbox.push_copy(format!("+FULLRESYNC {id} {offset}\r\n").as_bytes());
        replica.phase = Phase::Shipping;
        replica.cursor = offset;
        replica.acked = offset;
        replica.since = self.now.mono_ms;
        (replica.shipped, replica.total, replica.noted) = (0, None, self.now.mono_ms);
        replica.loaded = false;
        replica.mark = None;
        let head =
            (!view.relays()).then(|| Head { repl_id: *id.as_bytes(), repl_offset: offset, stream_db: base.stream_db });
        let mut framing = ShipFraming::Stream;
        if let Some(packing) = &mut replica.packing {
            let (token, first) = self.packs.offer(replica.view, (base.spool, id, offset), packing.resume, mark);
            // Up to there it may take a while, through which newlines keep it waiting.
            packing.announced = Some((token, first));
            framing = ShipFraming::Packed { first };
        } else if head.is_none() {
            replica.total = Some(bytes);
            replica.outbox.push_copy(format!("${bytes}\r\n").as_bytes());
            replica.awaits_header = false;
        } else if replica.takes_eof {
            replica.outbox.push_copy(format!("$EOF:{mark}\r\n").as_bytes());
            replica.mark = Some(*mark.as_bytes());
            replica.awaits_header = false;
        } else {
            framing = ShipFraming::Length;
        }
        self.stats.sync_full += 1;
        let cargo = Cargo::Rdb { spool: base.spool, head, target, framing };
        self.outputs.push_back(Output::Ship(ShipOrder { link, view: replica.view, cargo }));
    }

    /// One walk serves every replica that wants the same.
    pub(super) fn walking(&mut self, view: usize) {
        self.stats.walks += 1;
        let text = format!("the snapshot of view '{}' is made of the primary's", self.view_name(view));
        self.note(Level::Info, "walk", text);
    }

    pub(super) fn ship_length(&mut self, link: LinkId, length: u64) {
        let shipping = self.replicas.get_mut(&link).filter(|replica| replica.phase == Phase::Shipping);
        let Some(replica) = shipping else { return };
        replica.total = Some(length);
        // One that takes an end mark is not told a length.
        if replica.awaits_header {
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
        let (size, cause) = (human(shipped), replica.cause);
        let text = format!(
            "snapshot for replica {peer} of view '{name}' is out: {size} in {ms} ms ({rate}/s), cause: {cause}"
        );
        self.note(Level::Info, "snapshot-sent", text);
        self.ship_next();
    }

    /// Nothing that we have can bring this replica up: the primary has to be asked.
    fn outrun(&mut self, link: LinkId, why: &str) {
        let Some(view) = self.replicas.get(&link).map(|replica| replica.view) else { return };
        self.later(link, "a fresh snapshot of the primary is being waited for");
        if !self.refreshes_miss(view) {
            return self.want_refresh(view, why);
        }
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

/// The format that a snapshot has to be rewritten in for a replica of this view: `None` if it is loaded as it is. An error: the
/// replica cannot be served.
fn fitted(replica: &Replica, view: &ViewSettings, snapshot: &Summary) -> Result<Option<Target>, String> {
    let version = match (replica.version, view.floor) {
        (Some(version), _) => version,
        (None, _) if view.unknown_replica == UnknownReplica::Refuse => {
            return Err("its version is unknown, and unknown_replica = \"refuse\"".into());
        }
        // The operator says what is attached.
        (None, Some(floor)) => floor,
        (None, None) => return Ok(None),
    };
    match view.floor {
        None => can_load(&version, snapshot.family, snapshot.version).map(|()| None),
        Some(floor) if !version.covers(&floor) => {
            Err(format!("it is {version}, which does not know all that {floor} knows, the lowest server of this view"))
        }
        Some(_) => fit(&version, snapshot),
    }
}
