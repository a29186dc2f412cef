//! What the operator says about one plugin, and the bounds that hold for all.

use std::borrow::Cow;

/// Bounds of the room: name, unit, default.
pub mod limits {
    /// Default of a component's size. Compiling takes about a second a mebibyte. Bytes.
    pub const COMPONENT_BYTES: usize = 4 << 20;
    /// Default of an instance's linear memories together. Bytes.
    pub const MEMORY_BYTES: usize = 16 << 20;
    /// Default of the processor time of one question. Milliseconds.
    pub const DEADLINE_MS: u64 = 5;
    /// What a codec has beyond that for each mebibyte that it packs or unpacks: the slowest levels pack about two a second.
    /// Milliseconds.
    pub const CODEC_MS_PER_MIB: u64 = 3_000;
    /// What a codec that takes bytes in pieces is given at once. Bytes.
    pub const CODEC_PIECE_BYTES: usize = 64 << 10;
    /// Processor time of instantiation, `init` and `describe` together. Milliseconds.
    pub const INIT_DEADLINE_MS: u64 = 1_000;
    /// Default of one answer, and of what one host call may hand over. Bytes.
    pub const OUTPUT_BYTES: usize = 8 << 20;
    /// The longest name of a key, as in Redis. Bytes.
    pub const NAME_BYTES_MAX: usize = 512 << 20;
    /// A plugin's stack. Bytes.
    pub const STACK_BYTES: usize = 512 << 10;
    /// Elements of one table.
    pub const TABLE_ELEMENTS: usize = 10_000;
    /// Core instances in one component: what `wit-component` makes of a module, and an adapter.
    pub const INSTANCES: usize = 4;
    /// Tables in one component.
    pub const TABLES: usize = 4;
    /// Linear memories in one component.
    pub const MEMORIES: usize = 2;
    /// One message to the log; the rest is cut, and the cut is told. Bytes.
    pub const LOG_BYTES: usize = 1024;
    /// Messages of one instance in a second; more are counted only.
    pub const LOG_MESSAGES_PER_SECOND: u32 = 100;
    /// Fresh instances after faults in a minute, for one plugin of one pipeline; then the view halts.
    pub const RESTARTS_PER_MINUTE: usize = 5;
    /// Counters of one plugin, and prefixes it may name.
    pub const DESCRIPTOR_ITEMS: usize = 256;
    /// How often a running plugin can be stopped. Milliseconds.
    pub const TICK_MS: u64 = 1;
}

/// What becomes of keys for which a plugin has no answer, after it was asked twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The view halts: nothing leaks, nothing is lost.
    #[default]
    Halt,
    /// The keys are dropped. The view is no longer exact.
    Drop,
    /// The keys are kept under their own names. The view is no longer exact.
    Pass,
}

/// A plugin as the operator configured it.
#[derive(Debug, Clone)]
pub struct PluginSpec {
    /// The name in the configuration, in logs and in errors.
    pub name: String,
    /// A component, or a core module with an embedded component type (which becomes a component here).
    pub wasm: Cow<'static, [u8]>,
    /// The plugin's own settings, in the order in which they were written.
    pub settings: Vec<(String, String)>,
    /// What happens where the plugin fails.
    pub on_error: OnError,
    /// Bound of an instance's memory. Bytes.
    pub memory_bytes: usize,
    /// Processor time of one question; exceeding it halts the view. A codec has more, by the size of what it is given
    /// ([`limits::CODEC_MS_PER_MIB`]). Milliseconds.
    pub deadline_ms: u64,
    /// Instructions of one question, if they are to be counted: a bound that strikes at the same place every time.
    pub fuel: Option<u64>,
    /// Bound of the component's size. Bytes.
    pub component_bytes_max: usize,
    /// Bound of one answer. Bytes.
    pub output_bytes: usize,
}

impl PluginSpec {
    /// A plugin without settings and with the default limits.
    pub fn new(name: impl Into<String>, wasm: impl Into<Cow<'static, [u8]>>) -> Self {
        Self {
            name: name.into(),
            wasm: wasm.into(),
            settings: Vec::new(),
            on_error: OnError::Halt,
            memory_bytes: limits::MEMORY_BYTES,
            deadline_ms: limits::DEADLINE_MS,
            fuel: None,
            component_bytes_max: limits::COMPONENT_BYTES,
            output_bytes: limits::OUTPUT_BYTES,
        }
    }

    /// Adds a setting.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}
