//! The proxy's second link to the primary: single keys.

use std::collections::VecDeque;

use bytes::Bytes;
use sluicegate_core::contract::{Drive, Input, LinkId};

use super::World;

/// The link.
pub(super) struct Values {
    pub(super) link: LinkId,
    to_primary: VecDeque<u8>,
    pub(super) stalled_until: u64,
}

impl World {
    /// The link comes about, or does not.
    pub(super) fn connect_values(&mut self) -> Result<(), String> {
        if self.values.is_some() {
            return Err("a second link for single keys".into());
        }
        if self.rng.permille(self.primary.moody) {
            self.primary.unwilling_at = self.now;
            self.shell.tell(Input::DialFailed(1, "connection refused".into()));
            return Ok(());
        }
        let link = self.link();
        self.primary.accept_asker(link.0);
        self.values = Some(Values { link, to_primary: VecDeque::new(), stalled_until: 0 });
        self.shell.tell(Input::Connected(1, link));
        Ok(())
    }

    /// Bytes move on it.
    pub(super) fn serve_values(&mut self) -> Result<(), String> {
        let Some(values) = self.values.as_mut().filter(|values| values.stalled_until <= self.now) else {
            return Ok(());
        };
        let link = values.link;
        if let Some(outbox) = self.shell.machine.outbox(link) {
            values.to_primary.extend(outbox.take());
        }
        let n = self.rng.portion(values.to_primary.len());
        let bytes: Vec<u8> = values.to_primary.drain(..n).collect();
        let before = self.primary.answered;
        self.primary.asked(link.0, &bytes, self.now)?;
        let Some(asker) = self.primary.askers.get_mut(&link.0) else { return Ok(()) };
        if self.primary.answered > before
            && let Some(plant) = &mut self.shell.plant
        {
            let history = &self.primary.truth.histories[&self.primary.id];
            plant.on_values(asker.out.make_contiguous(), &self.primary.id, &history.places);
        }
        let n = self.rng.portion(asker.out.len());
        let bytes: Vec<u8> = asker.out.drain(..n).collect();
        if !bytes.is_empty() {
            self.shell.tell(Input::Bytes(link, Bytes::from(bytes)));
        }
        Ok(())
    }

    /// The link is gone, and the proxy hears of it.
    pub(super) fn lose_values(&mut self) {
        if let Some(values) = self.values.take() {
            self.primary.unwilling_at = self.now;
            self.primary.askers.remove(&values.link.0);
            self.shell.tell(Input::Closed(values.link, "connection reset".into()));
        }
    }

    /// Something goes wrong with it.
    pub(super) fn trouble_values(&mut self) {
        let stalled = self.rng.pick(&[50, 1_000, 20_000]);
        match self.rng.below(20) {
            0..=8 => {
                self.tell("the link for single keys is cut".into());
                self.lose_values();
            }
            9..=15 => {
                self.tell(format!("the link for single keys stalls for {stalled} ms"));
                self.primary.unwilling_at = self.now + stalled;
                self.values.iter_mut().for_each(|values| values.stalled_until = self.now + stalled);
            }
            16..=18 => {
                self.tell("nonsense comes on the link for single keys".into());
                let link = self.values.as_ref().map_or(0, |values| values.link.0);
                self.primary.unwilling_at = self.now;
                self.primary.askers.get_mut(&link).into_iter().for_each(|asker| asker.out.extend(b"?!\r\n"));
            }
            _ => {
                self.tell("the user loses the permission to DUMP".into());
                self.primary.denies = true;
            }
        }
    }
}
