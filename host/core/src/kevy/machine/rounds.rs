//! When streams begin, and when they end.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Machine;
use crate::contract::{Level, LinkId, SpoolId};
use crate::fault::Fault;
use crate::kevy::up::{Seed, Shard};

/// A fresh snapshot because a backlog was outrun is asked for at most this often: it costs every replica a full sync.
const FRESH_EVERY_MS: u64 = 30_000;

impl Machine {
    /// The first histories.
    pub(super) fn begin_all_rounds(&mut self) {
        let Self { views, entropy, now, .. } = self;
        for view in views {
            for group in 0..view.groups.len() {
                view.begin_round(group, now.unix_ms, || generation(entropy()));
            }
        }
    }

    /// What follows in this shard is no continuation of what we have of it: every stream made of it begins anew, and with
    /// it all the shards that those streams are made of. What these will end by beginning anew ends now, if it is made of
    /// several: two views that wait for each other's shards in turn would never be done.
    pub(super) fn shard_begins(&mut self, index: usize) {
        let mut ending = Vec::from([index]);
        let mut at = 0;
        while let Some(&source) = ending.get(at) {
            at += 1;
            for view in 0..self.views.len() {
                let Some(of) = self.views.get(view) else { continue };
                let ended: Vec<usize> =
                    of.ended_by(source).filter(|&group| source == index || of.mixes(group)).collect();
                for group in ended {
                    for was in self.end_round(view, group) {
                        if !ending.contains(&was) {
                            ending.push(was);
                        }
                    }
                }
            }
        }
        if let Some(shard) = self.shards.get_mut(index) {
            shard.seed = None;
        }
        for other in ending.into_iter().filter(|&other| other != index) {
            self.ask_anew(other, "streams of a view that it is part of begin anew");
        }
    }

    /// Ends the round of some streams and begins the next. Returns the shards that were part of it.
    fn end_round(&mut self, view: usize, group: usize) -> Vec<usize> {
        self.close_group(view, group);
        let (unix_ms, entropy) = (self.now.unix_ms, &mut self.entropy);
        let was = self.views.get_mut(view).map(|view| view.begin_round(group, unix_ms, || generation(entropy())));
        was.unwrap_or_default()
    }

    /// What a shard holds is known.
    pub(super) fn shard_seeded(&mut self, index: usize) {
        for at in 0..self.views.len() {
            let live = self.views.get_mut(at).map(|view| view.seed(index)).unwrap_or_default();
            for group in live {
                let Some(view) = self.views.get(at) else { continue };
                let text = format!("view '{}' is live", view.name(group));
                self.note(Level::Info, "view-live", text);
                self.answer_the_waiting(at);
            }
        }
    }

    /// Asks a shard for a snapshot, unless it is about to give one. An older primary that is asked twice in turn may have
    /// nothing left in its backlog at the second time, and says nothing until it is written to.
    fn ask_anew(&mut self, index: usize, why: &str) {
        if self.shards.get(index).is_some_and(|shard| !shard.awaits) {
            self.refresh(index, why);
        }
    }

    /// Asks a shard for a snapshot: the link is made anew, and claims nothing.
    pub(super) fn refresh(&mut self, index: usize, why: &str) {
        let Some(shard) = self.shards.get_mut(index) else { return };
        shard.fresh = Some(String::from(why));
        if shard.link.is_some() {
            self.hang_up(index, true);
        }
    }

    /// Nothing that we have can bring this replica up: the primary has to be asked.
    pub(super) fn outrun(&mut self, view: usize, group: usize, why: &str) {
        let now = self.now.mono_ms;
        if self.last_fresh.is_some_and(|last| now - last < FRESH_EVERY_MS) {
            return;
        }
        let Some(sources) = self.views.get(view).and_then(|view| view.groups.get(group)).map(|group| group.sources())
        else {
            return;
        };
        self.last_fresh = Some(now);
        for source in sources {
            self.ask_anew(source, why);
        }
    }

    /// The disk does not give back what was written: this snapshot is of no use to anybody. Whoever needs it finds that again, so
    /// what is not asked for now, because a fresh one was asked for only just, will be.
    pub(super) fn spool_damaged(&mut self, id: SpoolId, what: &str) {
        let is_it = |shard: &Shard| matches!(shard.seed, Some(Seed::Spool(seed, _)) if seed == id);
        let Some(index) = self.shards.iter().position(is_it) else { return };
        let why = format!("its spooled snapshot is damaged: {what}");
        self.note(Level::Error, "snapshot-damaged", format!("shard {index}: {why}"));
        let now = self.now.mono_ms;
        if self.last_fresh.is_none_or(|last| now - last >= FRESH_EVERY_MS) {
            self.last_fresh = Some(now);
            self.ask_anew(index, &why);
        }
    }

    /// Streams can no longer be kept right.
    pub(super) fn group_halted(&mut self, view: usize, group: usize, fault: &Fault) {
        let Some(name) = self.views.get(view).map(|view| view.name(group)) else { return };
        self.note(Level::Error, "view-halted", format!("view '{name}' halts: {fault}"));
        self.close_group(view, group);
    }

    /// Closes every replica of some streams.
    fn close_group(&mut self, view: usize, group: usize) {
        let Some(of) = self.views.get(view) else { return };
        let links: Vec<LinkId> = self
            .replicas
            .iter()
            .filter(|(_, replica)| replica.view == view && of.group_of(replica.shard) == Some(group))
            .map(|(link, _)| *link)
            .collect();
        // All of them first: a place that one frees must not go to the next that is to be closed.
        for link in links {
            self.drop_link(link);
        }
        self.ship_next();
    }
}

/// A generation as the newest servers choose them: 53 random bits, never 0.
fn generation(random: [u8; 20]) -> u64 {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(random).for_each(|(byte, random)| *byte = random);
    (u64::from_le_bytes(bytes) >> 11).max(1)
}
