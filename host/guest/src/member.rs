//! A plugin's place in a pipeline: its instance, what happens when it is lost, and the operator's policy.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use sluicegate_core::pipeline::PluginFault;

use crate::check;
use crate::columns::View;
use crate::instance::{Deadline, Fault, Instance, refusal};
use crate::plugin::Plugin;
use crate::spec::{OnError, limits};
use crate::stats::Cell;
use crate::wire::{Edits, Frames, Keys, Refusal};

pub(crate) struct Member {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) cell: Arc<Cell>,
    instance: Option<Instance>,
    /// The last instance was lost, so the next one counts as a restart.
    lost: bool,
    restarts: VecDeque<Instant>,
    deadline: Deadline,
}

/// What the plugin answered, or what its policy says instead.
pub(crate) enum Answer<T> {
    Plugin(T),
    DropAll,
    KeepAll,
}

impl Member {
    pub(crate) fn new(plugin: &Arc<Plugin>) -> Result<Self, Fault> {
        let cell = Arc::new(Cell::new(plugin.name(), &plugin.descriptor().counters));
        let instance = Some(Instance::new(plugin, &cell)?);
        let deadline = plugin.room().deadline(plugin.spec().deadline_ms);
        Ok(Self { plugin: Arc::clone(plugin), cell, instance, lost: false, restarts: VecDeque::new(), deadline })
    }

    /// Verdicts for keys, checked: empty if all are kept.
    pub(crate) fn filter(&mut self, db: u32, keys: View<'_>) -> Result<Answer<Vec<u8>>, PluginFault> {
        let asked = keys.len();
        self.ask(asked, keys.keys.len(), |instance, deadline| {
            let filter = instance.funcs.filter.ok_or_else(missing)?;
            let keys = Keys { db, offsets: keys.offsets, keys: keys.keys };
            let answer = instance.call::<_, (Result<Vec<u8>, Refusal>,)>(&filter, deadline, (keys,))?;
            verdicts(answer.0, asked)
        })
    }

    /// Verdicts for frames, checked: empty if all are kept.
    pub(crate) fn filter_frames(&mut self, frames: Frames<'_>) -> Result<Answer<Vec<u8>>, PluginFault> {
        let asked = frames.commands.len();
        self.ask(asked, frames.subjects.len(), |instance, deadline| {
            let filter = instance.funcs.filter_frames.ok_or_else(missing)?;
            let answer = instance.call::<_, (Result<Vec<u8>, Refusal>,)>(&filter, deadline, (frames,))?;
            verdicts(answer.0, asked)
        })
    }

    /// New names, checked but not yet proved.
    pub(crate) fn rename(&mut self, db: u32, keys: View<'_>) -> Result<Answer<Edits>, PluginFault> {
        self.transform(db, keys, |instance| instance.funcs.rename)
    }

    /// The keys behind names, checked.
    pub(crate) fn original(&mut self, db: u32, names: View<'_>) -> Result<Answer<Edits>, PluginFault> {
        self.transform(db, names, |instance| instance.funcs.original)
    }

    fn transform(
        &mut self,
        db: u32,
        keys: View<'_>,
        func: impl Fn(&Instance) -> Option<wasmtime::component::Func>,
    ) -> Result<Answer<Edits>, PluginFault> {
        let asked = keys.len();
        let output_bytes = self.plugin.spec().output_bytes;
        self.ask(asked, keys.keys.len(), |instance, deadline| {
            let func = func(instance).ok_or_else(missing)?;
            let keys = Keys { db, offsets: keys.offsets, keys: keys.keys };
            let edits = instance.call::<_, (Result<Edits, Refusal>,)>(&func, deadline, (keys,))?.0.map_err(refusal)?;
            check::edits(&edits, asked, output_bytes).map_err(Fault::Broken)?;
            Ok(edits)
        })
    }

    /// An error that halts the view.
    pub(crate) fn halt(&self, what: String) -> PluginFault {
        PluginFault { plugin: self.plugin.name().into(), what }
    }

    /// Asks, asks a fresh instance if this one was lost, and then lets the policy decide.
    fn ask<T>(
        &mut self,
        asked: usize,
        bytes: usize,
        question: impl Fn(&mut Instance, Deadline) -> Result<T, Fault>,
    ) -> Result<Answer<T>, PluginFault> {
        self.cell.keys.fetch_add(asked as u64, Relaxed);
        let (what, covered) = match self.twice(bytes, question) {
            Ok(answer) => return Ok(Answer::Plugin(answer)),
            Err(Fault::Broken(what) | Fault::Rejected(what)) => (what, true),
            Err(Fault::Deadline(what) | Fault::Final(what)) => (what, false),
        };
        match self.plugin.spec().on_error {
            OnError::Halt => Err(self.halt(format!("{what} (asked about {asked} keys or frames)"))),
            _ if !covered => Err(self.halt(format!("{what} (asked about {asked} keys or frames)"))),
            OnError::Drop => Ok(self.by_policy(asked, Answer::DropAll, &what, "dropped")),
            OnError::Pass => Ok(self.by_policy(asked, Answer::KeepAll, &what, "passed")),
        }
    }

    /// Asks, and asks a fresh instance if this one was lost. `bytes` is what it is given.
    pub(crate) fn twice<T>(
        &mut self,
        bytes: usize,
        question: impl Fn(&mut Instance, Deadline) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let memory = self.plugin.spec().memory_bytes;
        if bytes >= memory {
            // Known beforehand, so no instance need be lost for it.
            return Err(Fault::Rejected(format!("{bytes} bytes do not fit into its memory of {memory} bytes")));
        }
        match self.once(&question) {
            Err(Fault::Broken(_)) => self.once(&question),
            answer => answer,
        }
    }

    fn by_policy<T>(&self, asked: usize, answer: Answer<T>, what: &str, done: &str) -> Answer<T> {
        self.cell.by_policy.fetch_add(1, Relaxed);
        let plugin = self.plugin.name();
        tracing::warn!(target: "sluicegate::plugin", plugin, "{what}; {asked} keys or frames are {done} by policy");
        answer
    }

    /// Asks once. The instance is put back unless it was lost or its memory is nearly full.
    fn once<T>(&mut self, question: &impl Fn(&mut Instance, Deadline) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.fresh()?,
        };
        let deadline = self.deadline;
        let asked = catch_unwind(AssertUnwindSafe(|| {
            let answer = question(&mut instance, deadline);
            (instance, answer)
        }));
        let Ok((instance, answer)) = asked else {
            self.lost = true;
            return Err(Fault::Final("the host failed while it was asked; this is a fault of Sluicegate".into()));
        };
        match answer {
            Ok(_) | Err(Fault::Rejected(_)) if instance.is_worn() => {
                self.cell.recycled.fetch_add(1, Relaxed);
            }
            Ok(_) | Err(Fault::Rejected(_)) => self.instance = Some(instance),
            Err(_) => {
                self.cell.traps.fetch_add(1, Relaxed);
                self.lost = true;
            }
        }
        answer
    }

    fn fresh(&mut self) -> Result<Instance, Fault> {
        if std::mem::take(&mut self.lost) {
            let now = Instant::now();
            self.restarts.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
            if self.restarts.len() >= limits::RESTARTS_PER_MINUTE {
                self.lost = true;
                let what = format!("lost {} instances within a minute", limits::RESTARTS_PER_MINUTE);
                return Err(Fault::Final(what));
            }
            self.restarts.push_back(now);
            self.cell.restarts.fetch_add(1, Relaxed);
        }
        let made = catch_unwind(AssertUnwindSafe(|| Instance::new(&self.plugin, &self.cell)));
        let made = made.unwrap_or_else(|_| Err(Fault::Final("the host failed while it was made anew".into())));
        self.lost |= made.is_err();
        made
    }
}

fn verdicts(answer: Result<Vec<u8>, Refusal>, asked: usize) -> Result<Vec<u8>, Fault> {
    let verdicts = answer.map_err(refusal)?;
    let dropped = check::verdicts(&verdicts, asked).map_err(Fault::Broken)?;
    Ok(if dropped == 0 { Vec::new() } else { verdicts })
}

fn missing() -> Fault {
    Fault::Final("it was asked what it does not export; this is a fault of Sluicegate".into())
}
