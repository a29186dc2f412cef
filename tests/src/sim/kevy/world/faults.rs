//! What goes wrong.

use sluicegate_core::contract::LinkId;

use super::World;
use crate::sim::kevy::plant::Kind;

impl World {
    pub(super) fn misfortune(&mut self) -> Result<(), String> {
        self.report.faults += 1;
        let link = match self.downs.len() {
            0 => LinkId(0),
            n => *self.downs.keys().nth(self.rng.below(n)).unwrap_or(&LinkId(0)),
        };
        let shard = self.rng.below(self.ups.len());
        let long = self.rng.pick(&[50, 500, 3_000, 70_000]);
        match self.rng.below(17) {
            0..=2 | 11 => {
                self.tell(format!("the link to shard {shard} is cut"));
                self.primary_speaks(shard);
                self.lose_primary(shard, "connection reset");
            }
            3..=6 => {
                self.tell(format!("link {} is cut", link.0));
                self.replica_hears(link)?;
                self.lose_replica(link);
            }
            7 | 8 => self.downs.get_mut(&link).into_iter().for_each(|down| down.stalled_until = self.now + long),
            9 => self.ups[shard].iter_mut().for_each(|up| up.stalled_until = self.now + long),
            10 => {
                self.tell("FLUSHALL".into());
                self.primary.flush(self.now);
                (0..self.rng.below(12)).for_each(|_| self.write());
            }
            12 | 13 => {
                let clean = self.rng.permille(500);
                self.tell(format!("the primary starts again, clean: {clean}"));
                (0..self.ups.len()).for_each(|shard| self.lose_primary(shard, "closed by the primary"));
                self.primary.restart(clean);
                (0..self.rng.below(5)).for_each(|_| self.write());
            }
            14 => {
                let replica = self.rng.below(self.replicas.len());
                self.tell(format!("replica {replica} reads nothing for {long} ms"));
                self.replicas[replica].asleep_until = self.now + long;
            }
            15 => {
                let Some(replica) = self.downs.get(&link).map(|down| down.replica) else { return Ok(()) };
                self.tell(format!("replica {replica} loses its memory"));
                self.lose_replica(link);
                self.replicas[replica].forget(&self.primary.truth);
            }
            _ if self.plant == Some(Kind::UpstreamForks) => {
                (0..self.ups.len()).for_each(|shard| self.lose_primary(shard, "closed by the primary"));
                self.primary.fork();
            }
            _ => self.now += long.min(5_000),
        }
        Ok(())
    }
}
