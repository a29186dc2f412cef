//! The proxy's third link to the primary: newer snapshots.

use std::collections::VecDeque;

use sluicegate_core::contract::{Drive, Input, LinkId};

use super::World;

/// The link.
pub(super) struct Refresh {
    pub(super) link: LinkId,
    to_primary: VecDeque<u8>,
    pub(super) stalled_until: u64,
}

impl World {
    /// The link comes about, or does not.
    pub(super) fn connect_refresh(&mut self) -> Result<(), String> {
        if self.refresh.is_some() {
            return Err("a second link for newer snapshots".into());
        }
        if self.rng.permille(self.primary.moody) {
            self.shell.tell(Input::DialFailed(2, "connection refused".into()));
            return Ok(());
        }
        let link = self.link();
        self.primary.accept(link.0, true);
        self.refresh = Some(Refresh { link, to_primary: VecDeque::new(), stalled_until: 0 });
        self.shell.tell(Input::Connected(2, link));
        Ok(())
    }

    /// Bytes move on it.
    pub(super) fn serve_refresh(&mut self) -> Result<(), String> {
        let Some(refresh) = self.refresh.as_mut().filter(|refresh| refresh.stalled_until <= self.now) else {
            return Ok(());
        };
        let link = refresh.link;
        if let Some(outbox) = self.shell.machine.outbox(link) {
            refresh.to_primary.extend(outbox.take());
        }
        let n = self.rng.portion(refresh.to_primary.len());
        let bytes: Vec<u8> = refresh.to_primary.drain(..n).collect();
        self.primary.receive(link.0, &bytes, self.now)?;
        let Some(follower) = self.primary.followers.get(&link.0) else { return Ok(()) };
        if follower.out.is_empty() {
            if follower.closing {
                self.lose_refresh("closed by the primary");
            }
        } else if self.shell.machine.wants_read(link) {
            let n = self.rng.portion(follower.out.len());
            self.deliver(link, n);
        }
        Ok(())
    }

    /// The link is gone, and the proxy hears of it.
    pub(super) fn lose_refresh(&mut self, why: &str) {
        if let Some(refresh) = self.refresh.take() {
            self.primary.followers.remove(&refresh.link.0);
            self.shell.tell(Input::Closed(refresh.link, why.into()));
        }
    }

    /// Something goes wrong with it.
    pub(super) fn trouble_refresh(&mut self) {
        let stalled = self.rng.pick(&[50, 1_000, 20_000]);
        if self.rng.permille(500) {
            self.tell("the link for newer snapshots is cut".into());
            self.lose_refresh("connection reset");
        } else {
            self.refresh.iter_mut().for_each(|refresh| refresh.stalled_until = self.now + stalled);
        }
    }
}
