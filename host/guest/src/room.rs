//! Where plugins are compiled: the engines and their settings.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, Strategy, WasmFeatures};

use crate::codec::GuestCodec;
use crate::error::LoadError;
use crate::instance::Deadline;
use crate::pipeline::GuestPipeline;
use crate::plugin::Plugin;
use crate::spec::{PluginSpec, limits};
use crate::ticker::{Clockwork, Ticker};

/// Settings of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomSettings {
    /// How long a plugin runs between two looks at its deadline. Milliseconds, at least 1.
    pub tick_ms: u64,
}

impl Default for RoomSettings {
    fn default() -> Self {
        Self { tick_ms: limits::TICK_MS }
    }
}

/// Where plugins are compiled and run. Cheap to clone; all clones are the same room.
#[derive(Clone)]
pub struct Room {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    /// Counting instructions costs a fifth of a plugin's speed, so plugins without `fuel` have an engine that does not.
    metered: OnceLock<Engine>,
    tick_ms: u64,
    ticker: Arc<Ticker>,
}

impl Clockwork for Inner {
    fn engines(&self) -> impl Iterator<Item = &Engine> {
        std::iter::once(&self.engine).chain(self.metered.get())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A thread that rests would not notice.
        self.ticker.wake();
    }
}

impl Room {
    /// Opens a room and starts its ticker, a thread that ends when the room and all its plugins are gone.
    ///
    /// # Errors
    ///
    /// The machine cannot run compiled WebAssembly, or refuses a thread.
    pub fn new(settings: RoomSettings) -> Result<Self, LoadError> {
        let tick_ms = settings.tick_ms.max(1);
        let engine = engine(false)?;
        let ticker = Arc::new(Ticker::default());
        let inner = Arc::new(Inner { engine, metered: OnceLock::new(), tick_ms, ticker: Arc::clone(&ticker) });
        let started = ticker.start(Arc::downgrade(&inner), Duration::from_millis(tick_ms));
        started.map_err(|error| unusable(error.to_string()))?;
        Ok(Self { inner })
    }

    /// Compiles a plugin, checks what it imports and exports, and lets it read its settings. Takes about a second for
    /// each mebibyte.
    ///
    /// # Errors
    ///
    /// The component is too large, broken, of another version of the contract, asks for authority, or refuses its settings.
    pub fn load(&self, spec: PluginSpec) -> Result<Plugin, LoadError> {
        Plugin::load(self, spec)
    }

    /// Puts plugins in order, each with an instance of its own.
    ///
    /// # Errors
    ///
    /// A plugin is a codec and decides nothing, or could be initialised when it was loaded and now cannot.
    pub fn pipeline(&self, plugins: &[Arc<Plugin>]) -> Result<GuestPipeline, LoadError> {
        GuestPipeline::new(plugins)
    }

    /// A codec with instances of its own.
    ///
    /// # Errors
    ///
    /// The plugin is no codec, its policy is another than to halt, or it could be initialised when it was loaded and now
    /// cannot.
    pub fn codec(&self, plugin: &Arc<Plugin>) -> Result<GuestCodec, LoadError> {
        GuestCodec::new(plugin)
    }

    /// The engine for a plugin with or without a bound of instructions.
    pub(crate) fn engine(&self, metered: bool) -> Result<&Engine, LoadError> {
        if !metered {
            return Ok(&self.inner.engine);
        }
        if self.inner.metered.get().is_none() {
            // Another thread may have been faster; then its engine is as good.
            let _ = self.inner.metered.set(engine(true)?);
        }
        self.inner.metered.get().ok_or_else(|| unusable("no engine".into()))
    }

    /// Who counts the calls under way.
    pub(crate) fn ticker(&self) -> &Arc<Ticker> {
        &self.inner.ticker
    }

    /// A question's bound of so many milliseconds. In ticks it is rounded up, and one more because the current tick has begun
    /// already.
    pub(crate) fn deadline(&self, ms: u64) -> Deadline {
        Deadline { budget: Duration::from_millis(ms), ticks: ms.div_ceil(self.inner.tick_ms).saturating_add(1) }
    }
}

fn unusable(what: String) -> LoadError {
    LoadError::new("(any)", what, "this machine cannot run plugins")
}

fn engine(metered: bool) -> Result<Engine, LoadError> {
    let refused = WasmFeatures::THREADS
        | WasmFeatures::SHARED_EVERYTHING_THREADS
        | WasmFeatures::MEMORY64
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::GC
        | WasmFeatures::FUNCTION_REFERENCES
        | WasmFeatures::EXCEPTIONS
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::STACK_SWITCHING
        | WasmFeatures::CM_ASYNC;
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // Bits of a NaN differ between machines; answers must not.
        .cranelift_nan_canonicalization(true)
        .wasm_features(refused, false)
        // Plugins are asked synchronously, and the machinery for more costs two thirds of a call.
        .concurrency_support(false)
        .epoch_interruption(true)
        .consume_fuel(metered)
        .max_wasm_stack(limits::STACK_BYTES)
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .guard_before_linear_memory(true)
        // Instances are made at load and live long: a pool would gain nothing.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Engine::new(&config).map_err(|error| unusable(format!("{error:#}")))
}
