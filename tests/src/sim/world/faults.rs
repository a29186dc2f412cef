//! What goes wrong.

use sluicegate_core::contract::LinkId;

use super::World;
use crate::sim::plant::Kind;

impl World {
    pub(super) fn misfortune(&mut self) -> Result<(), String> {
        self.report.faults += 1;
        let link = match self.downs.len() {
            0 => LinkId(0),
            n => *self.downs.keys().nth(self.rng.below(n)).unwrap_or(&LinkId(0)),
        };
        let long = self.rng.pick(&[50, 500, 3_000, 70_000]);
        match self.rng.below(18) {
            0..=3 => {
                self.tell("the link to the primary is cut".into());
                self.primary_speaks()?;
                self.lose_primary("connection reset");
            }
            4..=7 => {
                self.tell(format!("link {} is cut", link.0));
                self.replica_hears(link)?;
                self.lose_replica(link, false);
            }
            8 | 9 => self.downs.get_mut(&link).into_iter().for_each(|down| down.stalled_until = self.now + long),
            10 => self.up.iter_mut().for_each(|up| up.stalled_until = self.now + long),
            11 => self.fail_over(),
            12 => self.tear_transaction()?,
            13 => {
                let replica = self.rng.below(self.replicas.len());
                self.tell(format!("replica {replica} reads nothing for {long} ms"));
                self.replicas[replica].asleep_until = self.now + long;
            }
            14 => {
                let link = self.downs.iter().find(|(id, _)| **id == link).map(|(_, down)| down.replica);
                if let Some(replica) = link {
                    self.tell(format!("replica {replica} loses its memory"));
                    self.lose_replica_of(replica);
                    self.replicas[replica].forget();
                }
            }
            15 => {
                self.tell(format!("the replica at link {} talks nonsense", link.0));
                self.downs
                    .get_mut(&link)
                    .into_iter()
                    .for_each(|down| self.replicas[down.replica].babble(&mut down.to_proxy));
            }
            16 => {
                self.tell("the primary talks nonsense".into());
                self.primary.babble();
            }
            _ => self.now += long.min(5_000),
        }
        Ok(())
    }

    pub(super) fn lose_replica_of(&mut self, replica: usize) {
        let link = self.downs.iter().find(|(_, down)| down.replica == replica).map(|(link, _)| *link);
        if let Some(link) = link {
            self.lose_replica(link, false);
        }
    }

    /// The primary dies in the middle of a transaction, and its heir never had it.
    pub(super) fn tear_transaction(&mut self) -> Result<(), String> {
        while self.up.is_some() && !self.primary.is_calm() && self.rng.permille(990) {
            self.primary_speaks()?;
            self.primary_hears()?;
        }
        let unit = self.workload.transaction(&self.primary.data);
        self.primary.write(&unit, true);
        let link = self.up.as_ref().map_or(0, |up| up.link.0);
        let waiting = self.primary.followers.get(&link).map_or(0, |follower| follower.out.len());
        if waiting > 1 {
            let n = 1 + self.rng.below(waiting - 1);
            self.deliver(LinkId(link), n);
        }
        self.lose_primary("connection reset");
        let event = self.primary.fail_over(1, self.plant == Some(Kind::UpstreamForks));
        self.tell(format!("in the middle of a transaction: {event}"));
        for _ in 0..self.rng.below(8) {
            self.write();
        }
        Ok(())
    }

    pub(super) fn fail_over(&mut self) {
        self.lose_primary("connection reset");
        let event = match self.rng.below(10) {
            0 => {
                let keys = self.rng.pick(&[0, 50]);
                let data = self.workload.dataset(keys);
                self.primary.start_anew(data)
            }
            1..=6 => self.primary.fail_over(0, false),
            _ => {
                let lost = self.rng.below(6);
                self.primary.fail_over(lost, self.plant == Some(Kind::UpstreamForks))
            }
        };
        self.tell(event);
        for _ in 0..self.rng.below(4) {
            self.write();
        }
    }
}
