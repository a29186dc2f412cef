//! Bytes on their way: between the proxy and the primary, and between the proxy and its replicas.

use std::collections::VecDeque;

use bytes::Bytes;
use sluicegate_core::contract::{Drive, Input, LinkId};

use super::{Down, World};
use crate::sim::replica::{Event, Question, Replica};

impl World {
    pub(super) fn primary_speaks(&mut self) -> Result<(), String> {
        let Some(up) = self.up.as_ref().filter(|up| up.stalled_until <= self.now) else { return Ok(()) };
        let link = up.link;
        let Some(follower) = self.primary.followers.get_mut(&link.0) else { return Ok(()) };
        if follower.out.is_empty() {
            if follower.closing {
                self.tell("the primary closes the link".into());
                self.lose_primary("closed by the primary");
            }
            return Ok(());
        }
        if self.shell.machine.wants_read(link) {
            let n = self.rng.portion(follower.out.len());
            self.deliver(link, n);
        }
        Ok(())
    }

    /// The next `n` bytes of the primary reach the proxy.
    pub(super) fn deliver(&mut self, link: LinkId, n: usize) {
        if let Some(follower) = self.primary.followers.get_mut(&link.0) {
            let bytes: Vec<u8> = follower.out.drain(..n).collect();
            self.shell.tell(Input::Bytes(link, Bytes::from(bytes)));
        }
    }

    pub(super) fn primary_hears(&mut self) -> Result<(), String> {
        let Some(up) = self.up.as_mut().filter(|up| up.stalled_until <= self.now) else { return Ok(()) };
        if let Some(outbox) = self.shell.machine.outbox(up.link) {
            let mut bytes = outbox.take();
            self.checker.acknowledged(&self.shell.machine, &bytes)?;
            if let Some(plant) = &mut self.shell.plant {
                plant.on_bytes_up(&mut bytes);
            }
            up.to_primary.extend(bytes);
        }
        let n = self.rng.portion(up.to_primary.len());
        let bytes: Vec<u8> = up.to_primary.drain(..n).collect();
        self.primary.receive(up.link.0, &bytes, self.now)
    }

    /// The link to the primary is gone, and the proxy hears of it.
    pub(super) fn lose_primary(&mut self, why: &str) {
        if let Some(up) = self.up.take() {
            self.primary.followers.remove(&up.link.0);
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
        let replica = free[self.rng.below(free.len())];
        let question = match self.rng.below(100) {
            _ if self.trouble == 0 => Question::Honest,
            0..=2 => Question::Future,
            3..=5 => Question::Foreign,
            6 => Question::Everything,
            7..=9 => Question::Beyond(self.rng.within(2..40)),
            10..=15 => Question::Beyond(1),
            _ => Question::Honest,
        };
        // Around the edge of the second id: the place behind which an old name is not good any more.
        let second = self.shell.machine.views()[self.replicas[replica].view].history().second;
        let question = match second {
            Some((id, limit)) if self.trouble > 0 && self.replicas[replica].id.as_deref() == Some(id.as_str()) => {
                let edge = self.rng.within(0..3);
                let beyond = limit.saturating_sub(self.replicas[replica].applied + edge);
                if beyond > 0 && self.rng.permille(300) { Question::Beyond(beyond) } else { question }
            }
            _ => question,
        };
        let link = self.link();
        let mut to_proxy = VecDeque::new();
        self.replicas[replica].attach(question, &mut to_proxy);
        let view = self.replicas[replica].view;
        self.tell(format!("replica {replica} attaches to view {view} by link {}, {question:?}", link.0));
        let down =
            Down { replica, to_replica: VecDeque::new(), to_proxy, stalled_until: 0, closed: false, history: None };
        self.downs.insert(link, down);
        self.shell.tell(Input::Accepted { link, view, port: 0, peer: format!("10.0.0.{replica}:5000") });
    }

    /// Bytes move on one link, or do not.
    pub(super) fn serve(&mut self, link: LinkId) -> Result<(), String> {
        if self.rng.permille(700) {
            self.write_to_replica(link)?;
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
        if n == 0 {
            return;
        }
        let bytes: Vec<u8> = down.to_proxy.drain(..n).collect();
        self.shell.tell(Input::Bytes(link, Bytes::from(bytes)));
        let machine = &self.shell.machine;
        let follows = |(id, replica): (&LinkId, &sluicegate_core::replica::Replica)| {
            (*id == link && replica.phase == sluicegate_core::replica::Phase::Streaming).then_some(replica.view)
        };
        if down.history.is_none()
            && let Some(view) = machine.replicas().find_map(follows)
        {
            down.history = Some(machine.views()[view].history().id.as_str().into());
        }
    }

    /// The socket takes some of what waits for a replica.
    pub(super) fn write_to_replica(&mut self, link: LinkId) -> Result<(), String> {
        let Some(down) = self.downs.get_mut(&link).filter(|down| !down.closed && down.to_replica.len() < 20_000) else {
            return Ok(());
        };
        let Some(outbox) = self.shell.machine.outbox(link) else { return Ok(()) };
        let (mut bytes, most) = (Vec::new(), self.rng.portion(outbox.len()));
        for piece in outbox.pieces(16) {
            bytes.extend_from_slice(&piece[..piece.len().min(most - bytes.len())]);
        }
        outbox.advance(bytes.len());
        let replica = &self.replicas[down.replica];
        if let Some(plant) = &mut self.shell.plant {
            plant.on_bytes(self.lenses[replica.view].has_own_history(), &mut bytes, replica.is_streaming());
        }
        down.to_replica.extend(&bytes);
        self.checker.bytes(link, replica.view, &bytes)
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
                let wait = self.rng.pick(&[0, 300, 1000]);
                replica.detach(self.now, wait);
                self.downs.remove(&link);
            }
            return Ok(());
        }
        let bytes: Vec<u8> = down.to_replica.drain(..n).collect();
        if replica.is_asking()
            && let Some(history) = &down.history
        {
            replica.true_id = history.clone();
        }
        let mut told = Vec::new();
        let (checker, truth) = (&mut self.checker, &self.primary.truth);
        let mut seen = |replica: &Replica, event: Event| match event {
            Event::Continued { asked, held, honest } => checker.continued(replica, truth, &asked, held, honest),
            Event::Stream { offset, bytes } => checker.stream(replica, truth, offset, &bytes),
            Event::Loaded => {
                checker.loaded(replica);
                checker.published(replica, truth)
            }
            Event::Published => checker.published(replica, truth),
            Event::Sent(line) => {
                told.push(line);
                Ok(())
            }
        };
        replica.receive(&bytes, &mut down.to_proxy, &mut seen).map_err(|what| format!("replica {number}: {what}"))?;
        for line in told {
            self.tell(format!("replica {number} is told {line}"));
            self.lose_replica(link, true);
        }
        Ok(())
    }

    /// The proxy has closed a link.
    pub(super) fn proxy_closes(&mut self, link: LinkId) {
        if self.up.as_ref().is_some_and(|up| up.link == link) {
            self.up = None;
            self.primary.followers.remove(&link.0);
        } else if self.refresh.take_if(|refresh| refresh.link == link).is_some() {
            self.primary.followers.remove(&link.0);
        } else if self.values.take_if(|values| values.link == link).is_some() {
            self.primary.askers.remove(&link.0);
        } else if let Some(down) = self.downs.get_mut(&link) {
            down.closed = true;
        }
    }

    /// The link to a replica is gone. `hears`: the proxy is told at once.
    pub(super) fn lose_replica(&mut self, link: LinkId, hears: bool) {
        let Some(down) = self.downs.remove(&link) else { return };
        let wait = self.rng.pick(&[0, 300, 1000]);
        self.replicas[down.replica].detach(self.now, wait.max(if hears { 1000 } else { 0 }));
        if !down.closed {
            self.shell.tell(Input::Closed(link, "connection reset".into()));
        }
    }
}
