//! What is said on a view's ports.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Machine;
use crate::contract::{Level, LinkId, Output};
use crate::kevy::replica::{Phase, Replica};
use crate::kevy::stream::Place;
use crate::kevy::view::State;
use crate::kevy::{Asked, Dialect, Said, wire};

impl Machine {
    pub(super) fn accepted(&mut self, link: LinkId, view: usize, port: usize, peer: String) {
        if self.stopping || self.views.get(view).is_none_or(|view| port >= view.shards()) {
            return self.outputs.push_back(Output::Close(link));
        }
        self.replicas.insert(link, Replica::new(view, port, peer, self.now.mono_ms));
    }

    /// Bytes from a replica.
    pub(super) fn said(&mut self, link: LinkId, bytes: &[u8]) {
        let mut input = bytes;
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        replica.last_heard = self.now.mono_ms;
        loop {
            let Some(replica) = self.replicas.get_mut(&link) else { return };
            match replica.listener.next(&mut input) {
                Ok(Some(Said::Replicate(asked))) => self.asked(link, asked),
                Ok(Some(Said::Ack(next))) => self.acknowledged(link, next),
                // Once a link: each is a line for the operator, and memory until it is written.
                Ok(Some(Said::Unknown(_))) if core::mem::replace(&mut replica.puzzled, true) => {}
                Ok(Some(Said::Unknown(line))) => {
                    let text = format!("{} said `{line}`, which means nothing here", self.replica_name(link));
                    self.note(Level::Debug, "replica-said", text);
                }
                Ok(None) => return,
                Err(error) => {
                    let text = format!("{} is closed: {error}", self.replica_name(link));
                    self.note(Level::Warn, "replica-refused", text);
                    return self.drop_link(link);
                }
            }
        }
    }

    /// A replica has said what it holds.
    fn asked(&mut self, link: LinkId, asked: Asked) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        replica.id.clone_from(&asked.id);
        replica.dialect = if asked.generation.is_some() { Dialect::K3 } else { Dialect::K1 };
        let (index, shard) = (replica.view, replica.shard);
        if replica.dialect == Dialect::K1 && self.shards.iter().any(|shard| shard.dialect == Some(Dialect::K3)) {
            let text = format!(
                "{} is refused: it is older than the primary, whose stream has commands that it cannot apply (MSET, RENAME)",
                self.replica_name(link)
            );
            self.note(Level::Error, "replica-refused", text);
            return self.drop_link(link);
        }
        let Some(view) = self.views.get(index) else { return };
        let attached = self
            .replicas
            .values()
            .filter(|other| (other.view, other.shard) == (index, shard) && other.phase != Phase::Talking);
        if attached.count() >= view.settings().replicas_max {
            let text = format!("{} is turned away: its view has max_replicas already", self.replica_name(link));
            self.note(Level::Warn, "replica-refused", text);
            return self.drop_link(link);
        }
        let stream = match (view.state(shard), view.stream(shard)) {
            (Some(State::Live), Some(stream)) => stream,
            (Some(State::Halted(fault)), _) => {
                let text = format!("{} is turned away: its view is halted: {fault}", self.replica_name(link));
                self.note(Level::Debug, "replica-later", text);
                return self.drop_link(link);
            }
            _ => {
                // The protocol has no word for "later"; a replica waits five seconds for an answer, then tries again.
                return self
                    .replicas
                    .get_mut(&link)
                    .into_iter()
                    .for_each(|replica| replica.asked = Some(asked.clone()));
            }
        };
        let place = stream.find(asked.offset);
        let cause = match (asked.generation, place) {
            (Some(0), _) => "it holds nothing",
            (Some(generation), _) if generation != stream.generation() => "it followed another history",
            // No number of an earlier history is a number of this one, so a place alone says enough.
            (_, Place::At(place)) => return self.go_on(link, asked.offset, place),
            (None, _) if asked.offset == 0 => "it holds nothing",
            (None, Place::TooOld) if asked.offset < stream.base() => "it followed another history",
            (_, Place::Future) => "it claims frames that this history does not have",
            _ => "what it lacks is no longer in the backlog",
        };
        self.full_resync(link, asked.offset, cause);
    }

    /// Answers the replicas of some streams that came before these were there.
    pub(super) fn answer_the_waiting(&mut self, view: usize) {
        let waiting = self.replicas.iter_mut().filter(|(_, replica)| replica.view == view);
        let waiting: Vec<(LinkId, Asked)> =
            waiting.filter_map(|(link, replica)| Some((*link, replica.asked.take()?))).collect();
        for (link, asked) in waiting {
            self.asked(link, asked);
        }
    }

    /// A replica goes on where it was.
    fn go_on(&mut self, link: LinkId, offset: u64, place: u64) {
        self.answer(link, offset);
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        (replica.phase, replica.cursor, replica.acked) = (Phase::Streaming, place, offset);
        self.stats.sync_partial_ok += 1;
        self.ping(link);
        let text = format!("{} goes on at frame {offset}", self.replica_name(link));
        self.note(Level::Info, "replica-partial-sync", text);
    }

    /// Answers the handshake.
    pub(super) fn answer(&mut self, link: LinkId, offset: u64) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        let stream = self.views.get(replica.view).and_then(|view| view.stream(replica.shard));
        let generation = stream.map(|stream| stream.generation()).filter(|_| replica.dialect == Dialect::K3);
        let mut out = Vec::new();
        wire::write_ack(&mut out, generation, offset);
        replica.outbox.push_copy(&out);
    }

    /// A sign of life, for a replica that takes one there.
    pub(super) fn ping(&mut self, link: LinkId) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        if replica.phase != Phase::Streaming || !replica.dialect.has_heartbeat() {
            return;
        }
        let Some(stream) = self.views.get(replica.view).and_then(|view| view.stream(replica.shard)) else { return };
        let mut out = Vec::new();
        wire::write_ping(&mut out, stream.generation(), stream.next());
        replica.outbox.push_copy(&out);
    }

    /// `REPLCONF ACK <next>`.
    fn acknowledged(&mut self, link: LinkId, next: u64) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        if replica.dialect == Dialect::K1 {
            replica.dialect = Dialect::K2;
        }
        let Some(stream) = self.views.get(replica.view).and_then(|view| view.stream(replica.shard)) else { return };
        // A replica that takes a snapshot answers with the place that it had before.
        if replica.phase != Phase::Streaming {
            return;
        }
        if next <= stream.next() {
            replica.acked = replica.acked.max(next);
        } else if !replica.warned {
            replica.warned = true;
            let text = format!(
                "{} acknowledges frame {next}, but only frames before {} exist: not counted",
                self.replica_name(link),
                stream.next()
            );
            self.note(Level::Warn, "ack-from-the-future", text);
        }
    }

    pub(super) fn replica_lost(&mut self, link: LinkId, why: &str) {
        let name = self.replica_name(link);
        let Some(replica) = self.replicas.remove(&link) else { return };
        if replica.phase == Phase::Shipping {
            self.outputs.push_back(Output::ShipCancel(link));
        }
        if replica.phase != Phase::Talking {
            self.note(Level::Info, "replica-lost", format!("lost {name}: {why}"));
        }
        self.ship_next();
    }

    pub(super) fn replica_name(&self, link: LinkId) -> String {
        let Some(replica) = self.replicas.get(&link) else { return String::from("a replica") };
        let view = self.views.get(replica.view).map_or("", |view| &view.settings().name);
        format!("replica {} of view '{view}' shard {}", replica.peer, replica.shard)
    }
}
