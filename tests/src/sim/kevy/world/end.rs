//! How a world ends: the faults stop, everything becomes well, and the program ends.

use sluicegate_core::contract::{Drive, Input};
use sluicegate_core::kevy::Dialect;
use sluicegate_core::kevy::view::State;

use super::World;

/// When the faults have stopped, everything must be well after so long. Milliseconds.
const HEALED_WITHIN_MS: u64 = 90_000;

impl World {
    /// The faults stop; everything must be well before long.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.tell("the faults stop".into());
        (self.trouble, self.moody, self.pace, self.shell.moody) = (0, 0, 10, 0);
        (self.rng.generous, self.shell.rng.generous) = (true, true);
        (self.workload.poison, self.workload.large) = (0, 0);
        self.primary.manners.chunk = 65_536;
        self.ups.iter_mut().flatten().for_each(|up| up.stalled_until = 0);
        self.downs.values_mut().for_each(|down| down.stalled_until = 0);
        self.replicas.iter_mut().for_each(|replica| replica.asleep_until = 0);
        let began = self.now;
        while self.now < began + HEALED_WITHIN_MS {
            let writes = self.now < began + 3000 && self.rng.permille(100);
            // An older primary may owe a word about what its shards hold until each is written to.
            if self.primary.manners.dialect == Dialect::K2 && self.ails().is_some() && self.rng.permille(20) {
                (0..20).for_each(|_| self.write());
            }
            for _ in 0..20 {
                self.step(writes)?;
            }
            if self.now > began + 3000 && self.ails().is_none() {
                self.tell(format!("all is well after {} ms", self.now - began));
                return Ok(());
            }
        }
        self.ails()
            .map_or(Ok(()), |what| Err(format!("not well {HEALED_WITHIN_MS} ms after the faults stopped: {what}")))
    }

    /// What is not well, if anything.
    fn ails(&self) -> Option<String> {
        let machine = &self.shell.machine;
        for (number, replica) in self.replicas.iter().enumerate() {
            let state = machine.views()[replica.of.0].state(replica.of.1);
            let too_old = replica.dialect != Dialect::K3 && self.primary.manners.dialect == Dialect::K3;
            if matches!(state, Some(State::Halted(_))) || too_old {
                continue;
            }
            if !replica.is_live() {
                return Some(format!("replica {number} of {:?} does not stream; its view is {state:?}", replica.of));
            }
            if !self.primary.truth.is_now(replica.of, &replica.stand) {
                return Some(format!("replica {number} of {:?} is not where the primary is", replica.of));
            }
        }
        None
    }

    /// The operator ends the program: those who stream get what is there.
    pub(super) fn shut_down(&mut self) -> Result<(), String> {
        self.shell.tell(Input::Shutdown);
        for _ in 0..5000 {
            self.step(false)?;
            if self.shell.machine.is_drained() {
                return Ok(());
            }
        }
        Err("the machine is not drained long after it was told to stop".into())
    }
}
