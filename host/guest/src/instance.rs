//! One instance of one plugin: its store, its limits, and how its failures are read.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use sluicegate_core::pipeline::FRAME_COMMANDS;
use wasmtime::component::{ComponentNamedList, Func, Lift, Lower, ResourceAny};
use wasmtime::{Result, Store, StoreContextMut, Trap, UpdateDeadline, WasmBacktrace, bail};

use crate::imports::{Log, log_level};
use crate::plugin::Plugin;
use crate::spec::limits;
use crate::stats::Cell;
use crate::ticker::Ticker;
use crate::wasi::Output;
use crate::wire::{Refusal, Startup};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Out of time: where it strikes is not deterministic, so no policy applies and nothing is asked again.
    Deadline(String),
    /// The instance is lost: a trap, a broken answer, an exceeded limit, an internal error.
    Broken(String),
    /// The plugin refused; the instance lives, and asking again would not help.
    Rejected(String),
    /// No policy covers it: the view halts.
    Final(String),
}

/// What the host keeps beside an instance.
pub(crate) struct State {
    pub(crate) log: Log,
    pub(crate) output: Output,
    pub(crate) cell: Arc<Cell>,
    limiter: Limiter,
    budget: Duration,
    /// The thread's processor time when the deadline first passed by the wall clock.
    first_look: Option<Duration>,
    overdue: bool,
}

pub(crate) struct Instance {
    store: Store<State>,
    ticker: Arc<Ticker>,
    pub(crate) funcs: Funcs,
    fuel: Option<u64>,
    memory_bytes_max: usize,
}

/// The exports that the plugin has.
#[derive(Clone, Copy)]
pub(crate) struct Funcs {
    pub(crate) describe: Func,
    pub(crate) init: Func,
    pub(crate) filter: Option<Func>,
    pub(crate) filter_frames: Option<Func>,
    pub(crate) rename: Option<Func>,
    pub(crate) original: Option<Func>,
    /// What names a codec's format, and what packs.
    pub(crate) codec: Option<(Func, CodecFuncs)>,
}

/// The functions of a codec, of either shape.
#[derive(Clone, Copy)]
pub(crate) enum CodecFuncs {
    Block { encode: Func, decode: Func },
    Stream { encoder: StreamFuncs, decoder: StreamFuncs },
}

/// One direction of a stream codec.
#[derive(Clone, Copy)]
pub(crate) struct StreamFuncs {
    pub(crate) open: Func,
    pub(crate) push: Func,
    pub(crate) finish: Func,
}

/// How long a question may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    /// Processor time.
    pub(crate) budget: Duration,
    /// Ticks after which the clock is looked at for the first time.
    pub(crate) ticks: u64,
}

impl Instance {
    /// A fresh instance that has read its settings.
    pub(crate) fn new(plugin: &Plugin, cell: &Arc<Cell>) -> Result<Self, Fault> {
        let spec = plugin.spec();
        let state = State {
            log: Log::new(&spec.name),
            output: Output::default(),
            cell: Arc::clone(cell),
            limiter: Limiter { memory_max: spec.memory_bytes, memory: 0, denied: None },
            budget: Duration::from_millis(limits::INIT_DEADLINE_MS),
            first_look: None,
            overdue: false,
        };
        let mut store = Store::new(plugin.pre().engine(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(spec.output_bytes);
        store.epoch_deadline_callback(look_at_the_clock);
        if spec.fuel.is_some() {
            store.set_fuel(u64::MAX).map_err(|error| Fault::Broken(format!("{error:#}")))?;
        }
        let ticker = Arc::clone(plugin.room().ticker());
        let call = ticker.call();
        store.set_epoch_deadline(plugin.room().deadline(limits::INIT_DEADLINE_MS).ticks);
        let made = plugin.pre().instantiate(&mut store).and_then(|made| plugin.exports().funcs(&mut store, &made));
        let funcs = match made {
            Ok(funcs) => funcs,
            Err(error) => return Err(fault(&store, &error)),
        };
        drop(call);
        let mut instance = Self { store, ticker, funcs, fuel: spec.fuel, memory_bytes_max: spec.memory_bytes };
        instance.init(plugin)?;
        Ok(instance)
    }

    fn init(&mut self, plugin: &Plugin) -> Result<(), Fault> {
        let startup = Startup { settings: plugin.settings(), commands: &FRAME_COMMANDS, log_level: log_level() };
        let init = self.funcs.init;
        let deadline = plugin.room().deadline(limits::INIT_DEADLINE_MS);
        self.call::<_, (Result<(), Refusal>,)>(&init, deadline, (startup,))?.0.map_err(refusal)
    }

    /// Asks the plugin.
    pub(crate) fn call<P, R>(&mut self, func: &Func, deadline: Deadline, parameters: P) -> Result<R, Fault>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        self.store.set_epoch_deadline(deadline.ticks);
        let state = self.store.data_mut();
        (state.budget, state.first_look, state.log.last_error) = (deadline.budget, None, None);
        state.cell.calls.fetch_add(1, Relaxed);
        let (begun, call) = (Instant::now(), self.ticker.call());
        let answer = self.metered().and_then(|()| {
            // Typed anew for each call: a `TypedFunc` could not be kept, since its parameters borrow.
            func.typed::<P, R>(&self.store)?.call(&mut self.store, parameters)
        });
        drop(call);
        let state = self.store.data();
        state.cell.nanoseconds.fetch_add(begun.elapsed().as_nanos() as u64, Relaxed);
        state.cell.memory_bytes.store(state.limiter.memory as u64, Relaxed);
        answer.map_err(|error| fault(&self.store, &error))
    }

    fn metered(&mut self) -> Result<()> {
        match self.fuel {
            Some(fuel) => self.store.set_fuel(fuel),
            None => Ok(()),
        }
    }

    /// Gives a resource of the plugin's back, of which nothing more is wanted.
    pub(crate) fn drop_resource(&mut self, resource: ResourceAny, deadline: Deadline) -> Result<(), Fault> {
        self.store.set_epoch_deadline(deadline.ticks);
        let state = self.store.data_mut();
        (state.budget, state.first_look) = (deadline.budget, None);
        let call = self.ticker.call();
        let dropped = resource.resource_drop(&mut self.store);
        drop(call);
        dropped.map_err(|error| fault(&self.store, &error))
    }

    /// Whether so much memory is in use that a fresh instance is the better one. Memory never shrinks.
    pub(crate) fn is_worn(&self) -> bool {
        self.store.data().limiter.memory > self.memory_bytes_max / 4 * 3
    }
}

/// What a returned error means.
pub(crate) fn refusal(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::Rejected(why) => Fault::Rejected(format!("rejected: {why}")),
        Refusal::Internal(why) => Fault::Broken(format!("internal error: {why}")),
        Refusal::InvalidConfig(why) => Fault::Broken(format!("invalid settings: {why}")),
    }
}

/// The wall clock says that a call takes long. What counts is the processor time of this thread, because a busy machine
/// must not halt a view; it is read here for the first time, since reading it at every call would cost more than the call.
fn look_at_the_clock(mut store: StoreContextMut<'_, State>) -> Result<UpdateDeadline> {
    let now = processor_time();
    let state = store.data_mut();
    match state.first_look {
        None => state.first_look = Some(now),
        Some(first) if now.saturating_sub(first) < state.budget => {}
        Some(_) => {
            state.overdue = true;
            return Ok(UpdateDeadline::Interrupt);
        }
    }
    Ok(UpdateDeadline::Continue(1))
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Reads an error of wasmtime's for the operator: what happened, why as far as the host knows, and where.
fn fault(store: &Store<State>, error: &wasmtime::Error) -> Fault {
    let state = store.data();
    if state.overdue {
        return Fault::Deadline(format!("no answer within {} ms of processor time", state.budget.as_millis()));
    }
    let mut what = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    if let Some(denied) = &state.limiter.denied {
        what = format!("{denied} ({what})");
    }
    if let Some(message) = &state.log.last_error {
        what = format!("{what}; it said: {message}");
    }
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let frames = backtrace.to_string();
        let names: Vec<&str> =
            frames.lines().filter_map(|line| line.split_once(" - ")).map(|pair| pair.1).take(6).collect();
        if !names.is_empty() {
            what = format!("{what}; in {}", names.join(", called by "));
        }
    }
    Fault::Broken(what)
}

/// Bounds of memory and tables. A growth that is refused traps: a guest that goes on after it could only do worse.
struct Limiter {
    memory_max: usize,
    memory: usize,
    denied: Option<String>,
}

impl wasmtime::ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        if total > self.memory_max {
            let denied = format!("its memory limit of {} bytes is exceeded", self.memory_max);
            self.denied = Some(denied.clone());
            bail!("{denied}");
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        if desired > limits::TABLE_ELEMENTS {
            let denied = format!("its limit of {} table elements is exceeded", limits::TABLE_ELEMENTS);
            self.denied = Some(denied.clone());
            bail!("{denied}");
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        limits::INSTANCES
    }

    fn tables(&self) -> usize {
        limits::TABLES
    }

    fn memories(&self) -> usize {
        limits::MEMORIES
    }
}
