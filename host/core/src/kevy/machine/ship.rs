//! Snapshots on their way to replicas.

use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Machine;
use crate::contract::{Cargo, Level, LinkId, Output, ShipOrder};
use crate::fault::{Fault, Party};
use crate::kevy::replica::Phase;
use crate::kevy::up::Seed;
use crate::kevy::view::State;
use crate::kevy::wire;
use crate::machine::human;

/// The version of a snapshot that has nothing in it: the oldest that today's servers write.
const EMPTY_VERSION: u8 = 4;

/// Empties the shard that it comes to, and no other.
const FLUSH: &[u8] = b"*1\r\n$8\r\nFLUSHALL\r\n";

impl Machine {
    /// A replica needs a snapshot.
    pub(super) fn full_resync(&mut self, link: LinkId, offset: u64, cause: &str) {
        let text = format!("{} needs a snapshot: {cause}", self.replica_name(link));
        self.note(Level::Info, "replica-full-sync", text);
        let Some(replica) = self.replicas.get(&link) else { return };
        let (index, shard) = (replica.view, replica.shard);
        let Some(view) = self.views.get(index) else { return };
        if !view.stream(shard).is_some_and(|stream| stream.reaches_snapshot()) {
            let why = format!("the backlog of view '{}' no longer reaches the snapshot", view.settings().name);
            let group = view.group_of(shard);
            self.drop_link(link);
            return group.into_iter().for_each(|group| self.outrun(index, group, &why));
        }
        // A replica gives up if this takes five seconds, and then waits as long as it has to.
        self.answer(link, offset);
        if let Some(replica) = self.replicas.get_mut(&link) {
            (replica.phase, replica.since, replica.acked) = (Phase::Queued, self.now.mono_ms, offset);
        }
        self.ship_next();
    }

    /// Starts as many ships as may run at once, first come first served.
    pub(super) fn ship_next(&mut self) {
        while !self.stopping {
            let running = self.replicas.values().filter(|replica| replica.phase == Phase::Shipping).count();
            let next = self.replicas.iter().filter(|(_, replica)| replica.phase == Phase::Queued);
            let next = next.min_by_key(|(link, replica)| (replica.since, **link)).map(|(link, _)| *link);
            match next {
                Some(link) if running < self.settings.ships_max.max(1) => self.ship(link),
                _ => return,
            }
        }
    }

    fn ship(&mut self, link: LinkId) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        let Some(view) = self.views.get(replica.view) else { return };
        let mut out = Vec::new();
        if !replica.dialect.has_generation() {
            // The older ones load a snapshot over what they have: what is not in it would stay for ever.
            wire::write_envelope(&mut out, replica.acked);
            out.extend_from_slice(FLUSH);
        }
        wire::write_snapshot_begin(&mut out);
        replica.outbox.push_copy(&out);
        // Its cursor is at 0, the place of the snapshot: the whole backlog is behind it.
        (replica.phase, replica.since) = (Phase::Shipping, self.now.mono_ms);
        let sources =
            view.group_of(replica.shard).and_then(|group| view.groups.get(group)).map(|group| group.sources());
        let seeds = sources.into_iter().flatten().filter_map(|source| match self.shards.get(source)?.seed? {
            Seed::Spool(id, version) => Some((id, version)),
            Seed::Empty => None,
        });
        let seeds: Vec<_> = seeds.collect();
        let cargo = Cargo::Kevy {
            version: seeds.iter().map(|(_, version)| *version).max().unwrap_or(EMPTY_VERSION),
            verbatim: view.is_verbatim() && seeds.len() == 1,
            share: view.share(replica.shard),
            spools: seeds.into_iter().map(|(id, _)| id).collect(),
        };
        self.stats.sync_full += 1;
        self.outputs.push_back(Output::Ship(ShipOrder { link, view: replica.view, cargo }));
    }

    /// More of a snapshot: in pieces no longer than a replica takes.
    pub(super) fn ship_bytes(&mut self, link: LinkId, bytes: &Bytes) {
        let Some(replica) = self.replicas.get_mut(&link).filter(|replica| replica.phase == Phase::Shipping) else {
            return;
        };
        replica.shipped += bytes.len() as u64;
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(wire::CHUNK_BYTES_MAX));
            let mut head = Vec::new();
            wire::write_chunk_header(&mut head, piece.len());
            replica.outbox.push_copy(&head);
            replica.outbox.push(piece);
            replica.outbox.push(Bytes::from_static(wire::CHUNK_END));
        }
    }

    pub(super) fn ship_ended(&mut self, link: LinkId, outcome: Result<(), Fault>) {
        let name = self.replica_name(link);
        let Some(replica) = self.replicas.get_mut(&link).filter(|replica| replica.phase == Phase::Shipping) else {
            return;
        };
        if let Err(fault) = outcome {
            let (view, shard) = (replica.view, replica.shard);
            self.note(Level::Error, "snapshot-failed", format!("snapshot for {name} failed: {fault}"));
            self.drop_link(link);
            if fault.whose == Party::Plugin {
                self.halt_stream(view, shard, &fault);
            }
            return self.ship_next();
        }
        let Some(stream) = self.views.get(replica.view).and_then(|view| view.stream(replica.shard)) else { return };
        let mut out = Vec::new();
        wire::write_snapshot_end(&mut out, stream.base());
        replica.outbox.push_copy(&out);
        replica.phase = Phase::Streaming;
        // It had nothing to say while it was being sent to.
        (replica.acked, replica.last_heard) = (stream.base(), self.now.mono_ms);
        let ms = self.now.mono_ms.saturating_sub(replica.since).max(1);
        let rate = human(replica.shipped.saturating_mul(1000) / ms);
        let text = format!("snapshot for {name} is out: {} in {ms} ms ({rate}/s)", human(replica.shipped));
        self.note(Level::Info, "snapshot-sent", text);
        self.ping(link);
        self.ship_next();
    }

    /// A plugin failed on what the stream's snapshot holds.
    fn halt_stream(&mut self, view: usize, shard: usize, fault: &Fault) {
        let Some(group) = self.views.get(view).and_then(|view| view.group_of(shard)) else { return };
        if let Some(halted) = self.views.get_mut(view).and_then(|view| view.groups.get_mut(group)) {
            halted.state = State::Halted(fault.clone());
        }
        self.group_halted(view, group, fault);
    }

    /// A reader whose next byte is no longer kept.
    pub(super) fn fell_behind(&mut self, link: LinkId) {
        let Some(replica) = self.replicas.get(&link) else { return };
        let during = match replica.phase {
            Phase::Streaming => "it is slower than the stream",
            _ => "its snapshot took too long",
        };
        let stream = self.views.get(replica.view).and_then(|view| view.stream(replica.shard));
        let budget = stream.map_or(0, |stream| stream.budget()) as u64;
        let text = format!(
            "{} fell out of the backlog of {}: {during}; it is closed and needs a snapshot (view.backlog.memory)",
            self.replica_name(link),
            human(budget),
        );
        self.note(Level::Warn, "replica-behind", text);
        self.drop_link(link);
        self.ship_next();
    }
}
