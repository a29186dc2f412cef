//! A view that waits for values from the primary.

use alloc::format;
use alloc::vec::Vec;

use super::journal::Repaired;
use super::window::Answer;
use super::{Checkpoint, Own, State, View};
use crate::backlog::Backlog;
use crate::fault::{Fault, Party};
use crate::fetch::{Value, Wanted};
use crate::frame::Frames;
use crate::pipeline::Pipeline;

impl View {
    /// Projects whole frames (views with a history of their own), at once or when the values that the view waits for have come.
    /// An error has halted the view.
    pub fn project(&mut self, frames: &Frames<'_>, now: u64, unix_ms: u64) -> Result<(), Fault> {
        self.step(|own, pipeline, backlog, window_bytes_max| {
            if own.window.is_waiting() {
                own.window.push(frames, unix_ms);
                own.catch_up(pipeline, backlog, now)?;
            } else {
                own.run(frames, unix_ms, pipeline, backlog)?;
            }
            own.bounded(window_bytes_max)
        })
    }

    /// The keys whose values the view now waits for, at most so many of those that it needs; none if it waits already.
    pub fn asks(&mut self, most: usize, now: u64) -> Vec<Wanted> {
        match (self.own.as_mut(), &self.state) {
            (Some(own), State::Live) if most > 0 && !own.window.is_waiting() && own.projection.tainted() > 0 => {
                own.window.asks(now);
                own.projection.ask(most)
            }
            _ => Vec::new(),
        }
    }

    /// Takes the values that were asked for, true at the upstream's offset `fence`. An error has halted the view.
    pub fn fetched(&mut self, fence: u64, values: Vec<(Wanted, Option<Value>)>, now: u64) -> Result<(), Fault> {
        self.step(|own, pipeline, backlog, window_bytes_max| {
            if !own.window.is_waiting() {
                return Ok(());
            }
            if fence < own.projected {
                own.stray(fence, pipeline, backlog)?;
            } else {
                own.window.answered(Answer { fence, values });
                own.catch_up(pipeline, backlog, now)?;
            }
            own.bounded(window_bytes_max)
        })
    }

    /// What was asked for will not come. An error has halted the view.
    pub fn forget_question(&mut self) -> Result<(), Fault> {
        self.step(|own, pipeline, backlog, _| own.go_on(pipeline, backlog))
    }

    /// The upstream's offset that everything in the backlog reaches, where the view holds more back.
    pub fn holds_back_from(&self) -> Option<u64> {
        self.own.as_ref().filter(|own| self.state == State::Live && own.holds()).map(Own::settled)
    }

    /// Keys whose values are to come, and the bytes held back for them.
    pub fn held(&self) -> (usize, usize) {
        self.own.as_ref().map_or((0, 0), |own| (own.projection.tainted(), own.held_bytes()))
    }

    /// The values that entered the view's stream in this segment, the latest last.
    pub fn journal(&self) -> impl DoubleEndedIterator<Item = Repaired> + '_ {
        self.own.iter().flat_map(|own| own.journal.entries())
    }

    /// How long the view has waited for values in this segment. Milliseconds.
    pub fn repair_wait_ms(&self) -> u64 {
        self.own.as_ref().map_or(0, |own| own.waited_ms)
    }

    /// So many milliseconds have passed with the primary there, which gave no values because of `trouble`, if that is known. An
    /// error: output was held back for too long.
    pub fn waits(&mut self, ms: u64, trouble: &str) -> Result<(), Fault> {
        let most = self.settings.repair.window_ms_max;
        self.step(|own, _, _, _| {
            own.window.held_ms = if own.holds() { own.window.held_ms + ms } else { 0 };
            if own.window.held_ms <= most {
                return Ok(());
            }
            let keys = own.projection.tainted();
            let why = if trouble.is_empty() { "" } else { ": " };
            let what = format!(
                "the values of {keys} keys did not come from the primary within {most} ms (limits.repair_time){why}{trouble}"
            );
            Err(Fault::new(Party::Upstream, what))
        })
    }

    /// Does something with a live view that has a history of its own. An error has halted the view.
    fn step(
        &mut self,
        what: impl FnOnce(&mut Own, Option<&mut (dyn Pipeline + '_)>, &mut Backlog, usize) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let (Some(own), State::Live) = (self.own.as_mut(), &self.state) else { return Ok(()) };
        let pipeline = self.pipeline.as_mut().map(|pipeline| &mut **pipeline as &mut dyn Pipeline);
        let done = what(own, pipeline, &mut self.backlog, self.settings.repair.window_bytes_max);
        done.inspect_err(|fault| self.halt(fault.clone()))
    }
}

type Plugins<'a, 'p> = Option<&'a mut (dyn Pipeline + 'p)>;

impl Own {
    /// Whether the view's bytes are behind what it has been given.
    pub(super) fn holds(&self) -> bool {
        self.window.is_waiting() || self.projection.is_holding()
    }

    /// Whether all that the upstream has before `upstream`, and nothing behind it, is in the view's bytes.
    pub(super) fn stands_at(&self, upstream: u64) -> bool {
        self.projected == upstream && !self.holds() && !self.projection.in_transaction()
    }

    /// The upstream's offset that everything in the backlog reaches.
    fn settled(&self) -> u64 {
        self.projection.held_from().map_or(self.settled, |from| from.max(self.settled))
    }

    fn held_bytes(&self) -> usize {
        self.projection.held_bytes() + self.window.queued_bytes()
    }

    fn bounded(&self, most: usize) -> Result<(), Fault> {
        if self.held_bytes() <= most {
            return Ok(());
        }
        let keys = self.projection.tainted();
        let what = format!("more than {most} bytes (limits.repair_window) are held back for the values of {keys} keys");
        Err(Fault::new(Party::Operator, what))
    }

    fn run(
        &mut self,
        frames: &Frames<'_>,
        unix_ms: u64,
        pipeline: Plugins<'_, '_>,
        backlog: &mut Backlog,
    ) -> Result<(), Fault> {
        let projected = self.projection.project(frames, pipeline, unix_ms, &mut self.rope);
        backlog.append(&mut self.rope);
        if let Some(last) = frames.frames.last() {
            self.projected = frames.offset + u64::from(last.end);
        }
        projected
    }

    /// Goes on to the fence, if values have come, and takes them there.
    fn catch_up(&mut self, mut pipeline: Plugins<'_, '_>, backlog: &mut Backlog, now: u64) -> Result<(), Fault> {
        let Some(fence) = self.window.fence() else { return Ok(()) };
        // A transaction that lies across the fence is whole in the values.
        while self.projected < fence || self.projection.in_transaction() {
            let Some(queued) = self.window.pop_to(fence) else { return Ok(()) };
            if queued.frames().frames.is_empty() {
                return self.stray(fence, pipeline, backlog);
            }
            self.run(&queued.frames(), queued.unix_ms, reborrow(&mut pipeline), backlog)?;
        }
        let (values, waited) = self.window.take(now);
        self.waited_ms += waited;
        self.journal.record(Repaired { fence, keys: values.len(), view: backlog.end() });
        let restored = self.projection.restore(values, &mut self.rope);
        if !self.rope.is_empty() {
            // What was held back the longest has gone out.
            self.window.held_ms = 0;
        }
        backlog.append(&mut self.rope);
        restored?;
        if self.projection.held_from().is_some() {
            self.settle(Checkpoint { upstream: self.settled(), view: backlog.end() });
        }
        self.go_on(pipeline, backlog)
    }

    /// Nothing is waited for: what has queued is projected.
    fn go_on(&mut self, mut pipeline: Plugins<'_, '_>, backlog: &mut Backlog) -> Result<(), Fault> {
        self.window.forget_question();
        self.projection.forget_questions();
        while let Some(queued) = self.window.pop_all() {
            self.run(&queued.frames(), queued.unix_ms, reborrow(&mut pipeline), backlog)?;
        }
        if !self.holds() && !self.projection.in_transaction() {
            self.settle(Checkpoint { upstream: self.projected, view: backlog.end() });
        }
        Ok(())
    }

    /// An answer belongs to no place of the stream: it is asked for again, unless that has happened too often.
    fn stray(&mut self, fence: u64, pipeline: Plugins<'_, '_>, backlog: &mut Backlog) -> Result<(), Fault> {
        if self.window.strayed() {
            let at = self.projected;
            let what = format!(
                "the primary says that values are true at its offset {fence}, where no command behind {at} ends"
            );
            return Err(Fault::new(Party::Upstream, what));
        }
        self.go_on(pipeline, backlog)
    }

    /// Everything up to `checkpoint.upstream` is in the backlog.
    pub(super) fn settle(&mut self, checkpoint: Checkpoint) {
        self.settled = checkpoint.upstream;
        self.ledger.record(checkpoint);
    }
}

fn reborrow<'a>(pipeline: &'a mut Plugins<'_, '_>) -> Option<&'a mut (dyn Pipeline + 'a)> {
    pipeline.as_mut().map(|pipeline| &mut **pipeline as &mut (dyn Pipeline + 'a))
}
