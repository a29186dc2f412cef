//! Bytes on their way: between the proxy and the primary, and between the proxy and its replicas.

use std::collections::VecDeque;

use bytes::Bytes;
use sluicegate_core::contract::{Drive, Input, LinkId};
use sluicegate_core::kevy::Dialect;

use super::{Down, World};
use crate::sim::kevy::plant::{Kind, Plant};

impl World {
    pub(super) fn primary_speaks(&mut self, shard: usize) {
        let Some(up) = self.ups[shard].as_ref().filter(|up| up.stalled_until <= self.now) else { return };
        let link = up.link;
        let Some(conn) = self.primary.shards[shard].conns.get_mut(&link.0) else { return };
        if conn.out.is_empty() {
            if conn.closing {
                self.tell(format!("shard {shard} closes its link"));
                self.lose_primary(shard, "closed by the primary");
            }
            return;
        }
        if self.shell.machine.wants_read(link) {
            let n = self.rng.portion(conn.out.len());
            let bytes: Vec<u8> = conn.out.drain(..n).collect();
            self.shell.tell(Input::Bytes(link, Bytes::from(bytes)));
        }
    }

    pub(super) fn primary_hears(&mut self, shard: usize) -> Result<(), String> {
        let Some(up) = self.ups[shard].as_mut().filter(|up| up.stalled_until <= self.now) else { return Ok(()) };
        if let Some(outbox) = self.shell.machine.outbox(up.link) {
            up.to_primary.extend(outbox.take());
        }
        let n = self.rng.portion(up.to_primary.len());
        let bytes: Vec<u8> = up.to_primary.drain(..n).collect();
        self.primary.receive(shard, up.link.0, &bytes)
    }

    /// The link to a shard of the primary is gone, and the proxy hears of it.
    pub(super) fn lose_primary(&mut self, shard: usize, why: &str) {
        if let Some(up) = self.ups[shard].take() {
            self.primary.shards[shard].conns.remove(&up.link.0);
            self.shell.tell(Input::Closed(up.link, why.into()));
        }
    }

    // Bytes between the proxy and its replicas.

    pub(super) fn attach(&mut self) {
        let free: Vec<usize> = (0..self.replicas.len())
            .filter(|n| self.replicas[*n].attach_at <= self.now && !self.downs.values().any(|down| down.replica == *n))
            .collect();
        if free.is_empty() {
            return;
        }
        let number = free[self.rng.below(free.len())];
        let of = self.replicas[number].of;
        let holds = self.replicas[number].next > 0;
        if self.plant == Some(Kind::NumbersReused) {
            let newest = self.replicas.iter().filter(|other| other.of == of).map(|other| other.shift).max();
            self.replicas[number].shift = newest.filter(|_| holds).unwrap_or(0);
        }
        if self.plant == Some(Kind::ResumeLate) {
            self.replicas[number].shift = u64::from(holds);
        }
        let link = self.link();
        let mut to_proxy = VecDeque::new();
        self.replicas[number].attach(number, self.now, &mut to_proxy);
        let (generation, next) = (self.replicas[number].generation, self.replicas[number].next);
        let dialect = self.replicas[number].dialect;
        self.tell(format!("replica {number} of {of:?} attaches by link {}: {dialect:?} {generation} {next}", link.0));
        let down = Down { replica: number, to_replica: VecDeque::new(), to_proxy, stalled_until: 0, closed: false };
        self.downs.insert(link, down);
        let peer = format!("10.0.0.{number}:5000");
        self.shell.tell(Input::Accepted { link, view: of.0, port: of.1, peer });
    }

    /// Bytes move on one link, or do not.
    pub(super) fn serve(&mut self, link: LinkId) -> Result<(), String> {
        if self.rng.permille(700) {
            self.write_to_replica(link);
        }
        if self.rng.permille(700) {
            self.replica_hears(link)?;
        }
        if self.rng.permille(700) {
            self.replica_speaks(link);
        }
        Ok(())
    }

    pub(super) fn replica_speaks(&mut self, link: LinkId) {
        let Some(down) = self.downs.get_mut(&link).filter(|down| down.stalled_until <= self.now && !down.closed) else {
            return;
        };
        let n = self.rng.portion(down.to_proxy.len());
        if n > 0 {
            let bytes: Vec<u8> = down.to_proxy.drain(..n).collect();
            self.shell.tell(Input::Bytes(link, Bytes::from(bytes)));
        }
    }

    /// The socket takes some of what waits for a replica.
    pub(super) fn write_to_replica(&mut self, link: LinkId) {
        let Some(down) = self.downs.get_mut(&link).filter(|down| !down.closed && down.to_replica.len() < 20_000) else {
            return;
        };
        let Some(outbox) = self.shell.machine.outbox(link) else { return };
        let (mut bytes, most) = (Vec::new(), self.rng.portion(outbox.len()));
        for piece in outbox.pieces(16) {
            bytes.extend_from_slice(&piece[..piece.len().min(most - bytes.len())]);
        }
        outbox.advance(bytes.len());
        down.to_replica.extend(&bytes);
    }

    pub(super) fn replica_hears(&mut self, link: LinkId) -> Result<(), String> {
        let Some(down) = self.downs.get_mut(&link).filter(|down| down.stalled_until <= self.now) else { return Ok(()) };
        let n = self.rng.portion(down.to_replica.len());
        let number = down.replica;
        let replica = &mut self.replicas[number];
        if replica.asleep_until > self.now {
            return Ok(());
        }
        if n == 0 {
            if down.closed {
                let wait = self.rng.pick(&[0, 250, 1000]);
                replica.detach(self.now, wait);
                self.downs.remove(&link);
            }
            return Ok(());
        }
        let bytes: Vec<u8> = down.to_replica.drain(..n).collect();
        if Plant::strikes(&mut self.shell.plant, Kind::NumberSkipped, 5) {
            replica.next += u64::from(replica.is_live());
        }
        let (truth, plant) = (&mut self.primary.truth, &mut self.shell.plant);
        let heard = replica.receive(&bytes, self.now, &mut down.to_proxy, truth, &mut || Plant::harm(plant));
        let of = replica.of;
        if replica.dialect != Dialect::K3
            && replica.applied + replica.loaded > 0
            && self.primary.manners.dialect == Dialect::K3
        {
            return Err(format!("replica {number} is older than the primary, and is served"));
        }
        heard.map_err(|what| format!("replica {number} of {of:?} at link {}: {what}", link.0))
    }

    /// The proxy has closed a link.
    pub(super) fn proxy_closes(&mut self, link: LinkId) {
        let shard = self.ups.iter().position(|up| up.as_ref().is_some_and(|up| up.link == link));
        if let Some(shard) = shard {
            self.ups[shard] = None;
            self.primary.shards[shard].conns.remove(&link.0);
        } else if let Some(down) = self.downs.get_mut(&link) {
            down.closed = true;
        } else {
            // It was given up while it was made; only the shell knows it.
            self.primary.shards.iter_mut().for_each(|shard| drop(shard.conns.remove(&link.0)));
        }
    }

    /// The link to a replica is gone.
    pub(super) fn lose_replica(&mut self, link: LinkId) {
        let Some(down) = self.downs.remove(&link) else { return };
        let wait = self.rng.pick(&[0, 250, 1000]);
        self.replicas[down.replica].detach(self.now, wait);
        if !down.closed {
            self.shell.tell(Input::Closed(link, "connection reset".into()));
        }
    }
}
