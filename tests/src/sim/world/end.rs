//! How a world ends: the faults stop, everything becomes well, and the last history is told once more.

use sluicegate_core::contract::{Drive, Input};
use sluicegate_core::replica::Phase;
use sluicegate_core::upstream;
use sluicegate_core::view::State;

use super::World;
use crate::sim::rdb;
use crate::sim::replay::{self, Recording};

/// When the faults have stopped, everything must be well after so long. Milliseconds.
const HEALED_WITHIN_MS: u64 = 120_000;

impl World {
    /// The faults stop; everything must be well before long.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.tell("the faults stop".into());
        (self.trouble, self.primary.moody, self.pace) = (0, 0, 10);
        // A save of long ago is nothing that a primary without trouble still gives.
        self.primary.joins = 0;
        (self.rng.generous, self.shell.rng.generous) = (true, true);
        (self.shell.disk.full, self.shell.disk.damaged) = (false, false);
        self.up.iter_mut().for_each(|up| up.stalled_until = 0);
        self.values.iter_mut().for_each(|values| values.stalled_until = 0);
        (self.healed, self.primary.unwilling_at) = (true, self.now);
        self.downs.values_mut().for_each(|down| down.stalled_until = 0);
        self.replicas.iter_mut().for_each(|replica| replica.asleep_until = 0);
        if self.primary.followers.values().any(|follower| follower.damaged) {
            self.lose_primary("connection reset");
            self.lose_refresh("connection reset");
        }
        self.refresh.iter_mut().for_each(|refresh| refresh.stalled_until = 0);
        let began = self.now;
        while self.now < began + HEALED_WITHIN_MS {
            let writes = self.now < began + 3000 && self.rng.permille(100);
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

    /// The operator ends the program: those who stream get what is there.
    pub(super) fn shut_down(&mut self) -> Result<(), String> {
        let floor = self.settings.upstream.backoff_min_ms;
        for dials in [self.report.dials, self.report.value_dials, self.report.refresh_dials] {
            if dials.saturating_sub(self.report.restarts) * floor > self.now + 2000 {
                return Err(format!("{dials} attempts to reach the primary in {} ms", self.now));
            }
        }
        self.write();
        self.primary_speaks()?;
        let machine = &self.shell.machine;
        let streaming = machine.replicas().filter(|(_, replica)| replica.phase == Phase::Streaming);
        let due = streaming.map(|(link, replica)| (*link, replica.view, machine.views()[replica.view].backlog().end()));
        let due: Vec<_> = due.collect();
        self.shell.tell(Input::Shutdown);
        self.look()?;
        for _ in 0..5000 {
            self.step(false)?;
            if self.shell.machine.is_drained() {
                let views = self.shell.machine.views();
                let short = due.iter().find(|(link, view, end)| {
                    // One that has halted since has closed its replicas.
                    if matches!(views[*view].state(), State::Halted(_)) {
                        return false;
                    }
                    let Some(down) = self.downs.get(link) else { return true };
                    self.replicas[down.replica].read() + (down.to_replica.len() as u64) < *end
                });
                return short
                    .map_or(Ok(()), |(link, _, end)| Err(format!("drained, but link {} has not got {end}", link.0)));
            }
        }
        Err("the machine is not drained long after it was told to stop".into())
    }

    /// What is not well, if anything.
    pub(super) fn ails(&self) -> Option<String> {
        let machine = &self.shell.machine;
        if machine.upstream_phase() != upstream::Phase::Streaming || !self.primary.is_calm() {
            return Some(format!("the link to the primary is {:?}", machine.upstream_phase()));
        }
        if let Some(view) = machine.views().iter().position(|view| view.holds_back_from().is_some()) {
            return Some(format!("view {view} holds back what it has"));
        }
        for (number, replica) in self.replicas.iter().enumerate() {
            if matches!(machine.views()[replica.view].state(), State::Halted(_)) {
                continue;
            }
            if !replica.is_streaming() {
                return Some(format!("replica {number} does not stream"));
            }
            if let Err(what) = self.checker.equal_now(replica, &self.primary.data) {
                return Some(format!("replica {number} differs:\n{what}"));
            }
        }
        None
    }

    /// The last segment once more, in other pieces.
    pub(super) fn replay(&mut self) -> Result<(), String> {
        let (id, offset) = (self.primary.id.clone(), self.primary.truth.histories[&self.primary.id].base);
        let history = &self.primary.truth.histories[&id];
        let Some((_, data)) = history.at(offset) else { return Ok(()) };
        let snapshot = rdb::snapshot(data, self.primary.manners.version, (&id, offset), 0, &mut self.rng.fork());
        let recording = Recording { id: &id, offset, snapshot, stream: history.behind(offset) };
        let mut rng = self.rng.fork();
        let once = replay::views(&self.settings, &self.lenses, &recording, &mut rng);
        rng.generous = !rng.generous;
        let again = replay::views(&self.settings, &self.lenses, &recording, &mut rng);
        for (index, (once, again)) in once.iter().zip(&again).enumerate() {
            let same = once.0.iter().zip(&again.0).take_while(|(a, b)| a == b).count();
            if once != again {
                return Err(format!(
                    "view {index}: the same bytes in other pieces give other bytes from {same} on ({} and {}; halted: {} and {})",
                    once.0.len(),
                    again.0.len(),
                    once.1,
                    again.1
                ));
            }
        }
        Ok(())
    }
}
