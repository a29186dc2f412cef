//! What goes wrong.

use sluicegate_core::contract::LinkId;

use super::World;
use super::setup::machine;
use crate::sim::plant::Kind;

impl World {
    pub(super) fn misfortune(&mut self) -> Result<(), String> {
        self.report.faults += 1;
        let link = match self.downs.len() {
            0 => LinkId(0),
            n => *self.downs.keys().nth(self.rng.below(n)).unwrap_or(&LinkId(0)),
        };
        let long = self.rng.pick(&[50, 500, 3_000, 70_000]);
        match self.rng.below(28) {
            0..=3 => {
                self.tell("the link to the primary is cut".into());
                self.primary_speaks()?;
                self.lose_primary("connection reset");
            }
            4..=7 | 22 | 23 => {
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
            17 => self.now += long.min(5_000),
            18 | 24 => {
                let full = self.rng.permille(500);
                self.tell(format!("the disk is {}", if full { "full" } else { "damaged" }));
                match full {
                    true => self.shell.disk.full = true,
                    false => self.shell.disk.damaged = true,
                }
            }
            19 if self.rng.permille(300) => self.restart(),
            20 => self.trouble_refresh(),
            21 if self.rng.permille(300) => {
                self.tell("the disk loses the newest snapshot".into());
                self.shell.damage_spool();
            }
            _ => self.trouble_values(),
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
        self.lose_dead_values();
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
        self.lose_dead_values();
        for _ in 0..self.rng.below(4) {
            self.write();
        }
    }

    /// After a failover: the link for newer snapshots is gone, and for single keys is gone, unless it stays with the server that was the primary.
    fn lose_dead_values(&mut self) {
        self.lose_refresh("connection reset");
        if self.values.as_ref().is_some_and(|values| !self.primary.is_left(values.link.0)) {
            self.lose_values();
        }
    }

    /// The proxy ends without a word and is started again: it has forgotten everything that is not on the disk.
    fn restart(&mut self) {
        self.tell("the proxy is started again".into());
        self.report.restarts += 1;
        self.primary.followers.clear();
        self.primary.askers.clear();
        (self.up, self.values, self.refresh, self.dials) = (None, None, None, [None; 3]);
        for link in self.downs.keys().copied().collect::<Vec<_>>() {
            if let Some(down) = self.downs.get_mut(&link) {
                down.closed = true;
            }
            self.lose_replica(link, false);
        }
        self.remember();
        let at = (self.plant, self.now);
        let machine = machine(&self.settings, &self.natives, &self.lenses, self.rng.fork(), at);
        if let Some(origin) = self.shell.restart(machine) {
            self.tell(format!("it has a snapshot of {} at {}", &origin.history.short()[..6], origin.offset));
            self.primary.snapshot = (origin.history.as_str().into(), origin.offset);
        }
        self.checker.restarted();
    }
}
