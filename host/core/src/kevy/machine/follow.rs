//! What the shards of the primary say, and what follows from it for the views.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::Machine;
use super::clock::OWED_MS;
use crate::contract::{Level, LinkId, Output, SpoolId};
use crate::fault::{Fault, Party};
use crate::frame::Frames;
use crate::kevy::Dialect;
use crate::kevy::snapshot::Summary;
use crate::kevy::up::{Phase, Seed, Shard, UNSAID};
use crate::kevy::{Event, Scanner};
use crate::limits;
use crate::machine::human;
use crate::snapshot::{Contents, Format};

impl Machine {
    pub(super) fn connected(&mut self, index: usize, link: LinkId) {
        let frame_bytes_max = self.frame_bytes_max();
        let id = format!("{}#{index}", self.settings.upstream.id);
        // One that was given up is as good as any: where a host has several addresses, the first may take all the time.
        let wanted = |shard: &Shard| matches!(shard.phase, Phase::Dialing(_) | Phase::Idle(_));
        let stopping = self.stopping;
        let Some(shard) = self.shards.get_mut(index).filter(|shard| wanted(shard) && !stopping) else {
            return self.outputs.push_back(Output::HangUp(link));
        };
        shard.greet(link, Scanner::new(self.table.clone(), frame_bytes_max), &id, self.now.mono_ms);
    }

    /// The largest frame that any view takes.
    fn frame_bytes_max(&self) -> usize {
        let bounds = self.views.iter().map(|view| view.settings().frame_bytes_max);
        bounds.max().unwrap_or(limits::FRAME_BYTES_MAX)
    }

    pub(super) fn dial_failed(&mut self, index: usize, why: &str) {
        let Some(shard) = self.shards.get_mut(index).filter(|shard| matches!(shard.phase, Phase::Dialing(_))) else {
            return;
        };
        shard.emptied = false;
        let wait = shard.lost(&self.settings.upstream, self.now.mono_ms, false);
        let to = self.upstream_name(index);
        self.note(Level::Warn, "upstream-unreachable", format!("cannot reach {to}: {why}; next attempt in {wait} ms"));
    }

    /// The link to a shard is gone, by the network or by the primary.
    pub(super) fn upstream_lost(&mut self, index: usize, why: &str) {
        let Some(shard) = self.shards.get_mut(index) else { return };
        let phase = shard.phase;
        shard.emptied = false;
        abort_spool(shard, &mut self.outputs);
        let unheard = matches!(phase, Phase::Greeting(_));
        let may_change = self.settings.upstream.dialect.is_none();
        let changes = unheard && may_change && shard.unheard_of();
        let wait = shard.lost(&self.settings.upstream, self.now.mono_ms, false);
        let during = match phase {
            Phase::Greeting(_) if !may_change => {
                "during the handshake, without a word (as for a dialect that it does not speak)"
            }
            Phase::Greeting(_) if changes => "during the handshake, without a word; another dialect is tried next",
            Phase::Greeting(_) => "during the handshake, without a word",
            Phase::Copying(_) | Phase::Verifying(_) => "in the middle of a snapshot",
            _ => "in the live stream",
        };
        let to = self.upstream_name(index);
        let text = format!("lost {to} {during}: {why}; next attempt in {wait} ms");
        self.note(Level::Warn, "upstream-lost", text);
    }

    /// Ends a link to the primary on our own account, and tries again: at once, or after a while if it was at fault.
    pub(super) fn hang_up(&mut self, index: usize, at_once: bool) {
        let Some(shard) = self.shards.get_mut(index) else { return };
        abort_spool(shard, &mut self.outputs);
        if let Some(link) = shard.link {
            self.outputs.push_back(Output::HangUp(link));
        }
        shard.lost(&self.settings.upstream, self.now.mono_ms, at_once);
    }

    /// What the primary said cannot be: the link ends, and the shard begins anew.
    fn upstream_failed(&mut self, index: usize, fault: &Fault) {
        let to = self.upstream_name(index);
        self.note(
            Level::Error,
            "upstream-failed",
            format!("{to}: {fault}; the link is closed and a snapshot asked for"),
        );
        if let Some(shard) = self.shards.get_mut(index) {
            shard.fresh = Some(String::from("what the primary said cannot be"));
        }
        self.hang_up(index, false);
    }

    /// Bytes from a shard.
    pub(super) fn heard(&mut self, index: usize, bytes: Bytes) {
        let Some(shard) = self.shards.get_mut(index) else { return };
        shard.heard = self.now.mono_ms;
        shard.waiting.push_back(bytes);
        self.listen(index);
    }

    /// Goes through what has come, up to a snapshot that has to be looked at first.
    fn listen(&mut self, index: usize) {
        let Some(shard) = self.shards.get_mut(index) else { return };
        let (Some(link), Some(mut scanner)) = (shard.link, shard.scanner.take()) else { return };
        let followed = self.follow_all(index, link, &mut scanner);
        if let Some(shard) = self.shards.get_mut(index).filter(|shard| shard.link == Some(link)) {
            shard.scanner = Some(scanner);
        }
        if let Err(fault) = followed {
            self.upstream_failed(index, &fault);
        }
    }

    fn follow_all(&mut self, index: usize, link: LinkId, scanner: &mut Scanner) -> Result<(), Fault> {
        loop {
            let Some(shard) = self.shards.get_mut(index) else { return Ok(()) };
            if shard.link != Some(link) || matches!(shard.phase, Phase::Verifying(_)) {
                return Ok(());
            }
            match scanner.next().map_err(|error| Fault::new(Party::Upstream, format!("{error}")))? {
                Some(event) => self.follow(index, event)?,
                None => match shard.waiting.pop_front() {
                    Some(chunk) => scanner.push(chunk),
                    None => return Ok(()),
                },
            }
        }
    }

    fn follow(&mut self, index: usize, event: Event<'_>) -> Result<(), Fault> {
        let Some(shard) = self.shards.get_mut(index) else { return Ok(()) };
        match event {
            Event::Ack { generation, .. } => self.answered(index, generation),
            Event::Ping { generation, next } => self.pinged(index, generation, next),
            Event::Frames { first, frames } => return self.frames(index, first, &frames),
            Event::SnapshotBegin => self.snapshot_begins(index),
            Event::Snapshot(bytes) => {
                if let Phase::Copying(id) = shard.phase {
                    shard.unwritten += bytes.len();
                    self.outputs.push_back(Output::SpoolWrite(id, bytes));
                }
            }
            Event::SnapshotEnd(next) => {
                if let Phase::Copying(id) = shard.phase {
                    (shard.phase, shard.next) = (Phase::Verifying(id), next);
                    self.outputs.push_back(Output::SpoolEnd(id));
                }
            }
        }
        Ok(())
    }

    /// The handshake is answered.
    fn answered(&mut self, index: usize, generation: Option<u64>) {
        let Some(shard) = self.shards.get_mut(index) else { return };
        shard.phase = Phase::Live;
        shard.heard_of();
        if generation.is_some() {
            shard.dialect = Some(Dialect::K3);
        } else if shard.dialect.is_none_or(|dialect| dialect == Dialect::K3) {
            // Its first sign of life, if there is one, makes it the younger of the two.
            shard.dialect = Some(Dialect::K1);
        }
        // What follows is none of what we hold, whatever its numbers are.
        let another = generation.is_some_and(|generation| generation != shard.generation);
        let another = another.then(|| String::from("its history has ended: another generation answers"));
        let unsaid = (!shard.claimed).then(|| UNSAID.into());
        let cause = shard.fresh.take().or(another).or(unsaid);
        shard.generation = generation.unwrap_or(shard.generation);
        if let Some(cause) = cause {
            (shard.awaits, shard.next) = (true, 0);
            shard.unsaid_since = generation.is_none().then_some(self.now.mono_ms);
            let text = format!("full sync of {} is asked for: {cause}", self.upstream_name(index));
            self.note(Level::Info, "full-sync-wanted", text);
        } else {
            self.stats.upstream_partial_syncs += 1;
            let next = shard.next;
            let text = format!("{} is asked to go on at frame {next}", self.upstream_name(index));
            self.note(Level::Info, "partial-sync", text);
        }
    }

    /// A sign of life: which history this is, and how far it has come.
    fn pinged(&mut self, index: usize, generation: u64, next: u64) {
        let now = self.now.mono_ms;
        let Some(shard) = self.shards.get_mut(index) else { return };
        if shard.dialect == Some(Dialect::K1) {
            shard.dialect = Some(Dialect::K2);
        }
        shard.acknowledge();
        if matches!(shard.phase, Phase::Copying(_)) && generation != 0 {
            // Of which history the snapshot is: what follows it has to be of the same.
            (shard.generation, shard.may_rename) = (generation, false);
        }
        if !shard.is_live() {
            return;
        }
        let renamed = generation != 0 && generation != shard.generation;
        let may_rename = core::mem::take(&mut shard.may_rename) || shard.awaits || shard.generation == 0;
        if renamed && may_rename {
            shard.generation = generation;
        } else if renamed {
            shard.emptied = true;
            return self.refresh(index, "its history has ended: another generation goes on");
        }
        let Some(shard) = self.shards.get_mut(index) else { return };
        if shard.awaits {
            // Nothing has ever been written there: no snapshot will come.
            if next == 0 && shard.tells_all() {
                self.begins_empty(index);
            }
        } else if next < shard.next {
            self.refresh(index, "it has fewer frames than it had");
        } else if next == shard.next {
            shard.owed_since = None;
        } else if now >= *shard.owed_since.get_or_insert(now) + OWED_MS {
            // No frame came since, nor is one on its way: signs of life stand between frames.
            self.owed(index);
        }
    }

    /// Live frames.
    fn frames(&mut self, index: usize, first: u64, frames: &Frames<'_>) -> Result<(), Fault> {
        let now = self.now.mono_ms;
        if let Some(shard) = self.shards.get_mut(index).filter(|shard| shard.awaits) {
            if shard.receives_since.is_some() || first == 0 && !shard.tells_all() {
                shard.receives_since.get_or_insert(now);
                shard.next = first + frames.frames.len() as u64;
                shard.acknowledge();
                return Ok(());
            }
            if first != 0 {
                return Err(Fault::new(
                    Party::Upstream,
                    format!("frames from {first} on came to a replica that holds nothing, and no snapshot before them"),
                ));
            }
            self.begins_empty(index);
        }
        let Some(shard) = self.shards.get_mut(index) else { return Ok(()) };
        if first != shard.next {
            return Err(Fault::new(Party::Upstream, format!("frame {first} came where {} is next", shard.next)));
        }
        shard.next = first + frames.frames.len() as u64;
        (shard.owed_since, shard.held) = (None, true);
        for view in 0..self.views.len() {
            let halted = self.views.get_mut(view).map(|view| view.take(index, frames, self.now.unix_ms));
            for (group, fault) in halted.unwrap_or_default() {
                self.group_halted(view, group, &fault);
            }
        }
        Ok(())
    }

    /// The shard's history begins with nothing in it.
    fn begins_empty(&mut self, index: usize) {
        self.shard_begins(index);
        if let Some(shard) = self.shards.get_mut(index) {
            (shard.awaits, shard.held) = (false, false);
            shard.seeded(Seed::Empty);
        }
        let name = self.upstream_name(index);
        if self.shards.get(index).is_some_and(|shard| shard.dialect != Some(Dialect::K3)) {
            let text = format!(
                "{name} gives its frames from the first on, and no snapshot: up to kevy 3.18 keys that it loaded when it \
                 was started are in neither, and so not in the views"
            );
            self.note(Level::Warn, "upstream-unsaid", text);
        }
        let text = format!("{name} holds nothing yet: its stream is followed from the first frame");
        self.note(Level::Info, "full-sync-done", text);
        self.shard_seeded(index);
    }

    /// A snapshot begins. It may do so at any time.
    fn snapshot_begins(&mut self, index: usize) {
        self.shard_begins(index);
        let id = SpoolId(self.next_spool);
        self.next_spool += 1;
        let now = self.now.mono_ms;
        let Some(shard) = self.shards.get_mut(index) else { return };
        (shard.phase, shard.awaits) = (Phase::Copying(id), false);
        // One that names no generation in its handshake has said it before or says it now.
        shard.may_rename = shard.dialect != Some(Dialect::K2);
        (shard.started, shard.owed_since) = (now, None);
        self.stats.upstream_full_syncs += 1;
        self.outputs.push_back(Output::SpoolOpen(id, Format::Kevy));
        let text = format!("full sync of {} begins", self.upstream_name(index));
        self.note(Level::Info, "full-sync-start", text);
    }

    /// A snapshot has been looked at.
    pub(super) fn spooled(&mut self, id: SpoolId, outcome: Result<Contents, Fault>) {
        let is_it = |shard: &Shard| matches!(shard.phase, Phase::Copying(at) | Phase::Verifying(at) if at == id);
        let Some(index) = self.shards.iter().position(is_it) else { return };
        let summary = match outcome {
            Ok(Contents::Kevy(summary)) => summary,
            Ok(Contents::Rdb(_)) => return self.upstream_failed(index, &Fault::new(Party::Own, "a snapshot of Redis")),
            Err(fault) => return self.upstream_failed(index, &fault),
        };
        let Some(shard) = self.shards.get_mut(index) else { return };
        // Meanwhile nothing was read.
        (shard.phase, shard.unwritten, shard.heard) = (Phase::Live, 0, self.now.mono_ms);
        shard.held = summary.keys > 0;
        shard.seeded(Seed::Spool(id, summary.version));
        shard.acknowledge();
        let ms = self.now.mono_ms.saturating_sub(shard.started).max(1);
        let text = synced(&summary, shard.next, ms);
        let text = format!("full sync of {} done: {text}", self.upstream_name(index));
        self.note(Level::Info, "full-sync-done", text);
        // One that is on its way may be complete already, for all that we know.
        let kept = self.shards.iter().filter_map(|shard| match (shard.phase, shard.seed) {
            (Phase::Copying(id) | Phase::Verifying(id), _) | (_, Some(Seed::Spool(id, _))) => Some(id),
            _ => None,
        });
        self.outputs.push_back(Output::SpoolKeep(kept.collect()));
        self.shard_seeded(index);
        self.listen(index);
    }

    pub(super) fn upstream_name(&self, index: usize) -> String {
        let upstream = &self.settings.upstream;
        format!("shard {index} of the primary {}:{}", upstream.host, usize::from(upstream.port_base) + index)
    }
}

fn synced(summary: &Summary, next: u64, ms: u64) -> String {
    format!(
        "{} keys, {} in {}.{:03} s ({}/s), KEYSNAP {}, next frame {next}",
        summary.keys,
        human(summary.bytes),
        ms / 1000,
        ms % 1000,
        human(summary.bytes.saturating_mul(1000) / ms),
        summary.version,
    )
}

/// A snapshot that was arriving will not be finished.
fn abort_spool(shard: &mut Shard, outputs: &mut VecDeque<Output>) {
    if let Phase::Copying(id) | Phase::Verifying(id) = shard.phase {
        outputs.push_back(Output::SpoolAbort(id));
        shard.unwritten = 0;
        shard.fresh = Some(String::from("its last snapshot did not arrive whole"));
    }
}
