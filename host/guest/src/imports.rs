//! What a component may import: our own `log` and `metrics`, and WASI's shim. Anything else is refused by name.

use std::time::{Duration, Instant};

use wasmtime::StoreContextMut;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

use crate::error::LoadError;
use crate::instance::State;
use crate::spec::limits;
use crate::wasi;
use crate::wire::LogLevel;

const OURS: &str = "sluicegate:plugin/";
const OUR_RANGE: &str = "0.1.";

/// A linker with just what this component imports.
pub(crate) fn linker(plugin: &str, component: &Component) -> Result<Linker<State>, LoadError> {
    let mut linker = Linker::new(component.engine());
    let broken =
        |error: wasmtime::Error| LoadError::new(plugin, format!("{error:#}"), "the component cannot be linked");
    ours(&mut linker).map_err(broken)?;
    for (name, import) in component.component_type().imports(component.engine()) {
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        if let Some(own) = interface.strip_prefix(OURS) {
            if !version.starts_with(OUR_RANGE) {
                return Err(other_version(plugin, name));
            }
            if !["log", "metrics", "types"].contains(&own) {
                return Err(refused(plugin, name));
            }
        } else if let (true, ComponentItem::ComponentInstance(instance)) = (wasi::answers(name), &import.ty) {
            wasi::define(&mut linker, name, instance, component.engine()).map_err(broken)?;
        } else {
            return Err(refused(plugin, name));
        }
    }
    Ok(linker)
}

/// The error for a plugin that speaks another version of the contract.
pub(crate) fn other_version(plugin: &str, name: &str) -> LoadError {
    let what = format!("it speaks `{name}`, this host speaks {OURS}*@{OUR_RANGE}x");
    LoadError::new(plugin, what, "rebuild it with the SDK of this release")
}

fn refused(plugin: &str, name: &str) -> LoadError {
    let hint = "plugins have no authority: only sluicegate:plugin/log, sluicegate:plugin/metrics and WASI 0.2 (answered \
                by a shim) may be imported";
    LoadError::new(plugin, format!("it imports `{name}`"), hint)
}

fn ours(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let message = |mut store: StoreContextMut<'_, State>, (level, message): (LogLevel, String)| {
        store.data_mut().log.message(level, &message);
        Ok(())
    };
    linker.instance("sluicegate:plugin/log@0.1.0")?.func_wrap("log", message)?;
    let add = |store: StoreContextMut<'_, State>, (index, delta): (u32, u32)| {
        store.data().cell.count(index, delta);
        Ok(())
    };
    linker.instance("sluicegate:plugin/metrics@0.1.0")?.func_wrap("add", add)
}

/// A plugin's way to the log: cut, limited in number, and cleared of control characters, which could forge lines.
pub(crate) struct Log {
    plugin: String,
    window: Instant,
    used: u32,
    suppressed: u64,
    /// The last thing that it called an error, such as a panic's message: it says more than the trap that follows.
    pub(crate) last_error: Option<String>,
}

impl Log {
    pub(crate) fn new(plugin: &str) -> Self {
        Self { plugin: plugin.into(), window: Instant::now(), used: 0, suppressed: 0, last_error: None }
    }

    pub(crate) fn message(&mut self, level: LogLevel, message: &str) {
        let text = printable(message);
        if level == LogLevel::Error {
            self.last_error = Some(text.clone());
        }
        if self.window.elapsed() >= Duration::from_secs(1) {
            let suppressed = std::mem::take(&mut self.suppressed);
            (self.window, self.used) = (Instant::now(), 0);
            if suppressed > 0 {
                tracing::warn!(target: "sluicegate::plugin", plugin = %self.plugin, suppressed, "messages not shown");
            }
        }
        self.used += 1;
        if self.used > limits::LOG_MESSAGES_PER_SECOND {
            self.suppressed += 1;
            self.used = limits::LOG_MESSAGES_PER_SECOND;
            return;
        }
        let plugin = self.plugin.as_str();
        match level {
            LogLevel::Trace => tracing::trace!(target: "sluicegate::plugin", plugin, "{text}"),
            LogLevel::Debug => tracing::debug!(target: "sluicegate::plugin", plugin, "{text}"),
            LogLevel::Info => tracing::info!(target: "sluicegate::plugin", plugin, "{text}"),
            LogLevel::Warn => tracing::warn!(target: "sluicegate::plugin", plugin, "{text}"),
            LogLevel::Error => tracing::error!(target: "sluicegate::plugin", plugin, "{text}"),
        }
    }
}

/// The least level that somebody listens to, so that plugins need not format the rest.
pub(crate) fn log_level() -> LogLevel {
    match tracing::level_filters::LevelFilter::current().into_level() {
        Some(tracing::Level::TRACE) => LogLevel::Trace,
        Some(tracing::Level::DEBUG) => LogLevel::Debug,
        Some(tracing::Level::INFO) => LogLevel::Info,
        Some(tracing::Level::WARN) => LogLevel::Warn,
        _ => LogLevel::Error,
    }
}

fn printable(message: &str) -> String {
    let kept = &message[..message.floor_char_boundary(limits::LOG_BYTES)];
    let mut text: String = kept.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if kept.len() < message.len() {
        text.push_str(&format!("… {} bytes cut", message.len() - kept.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn messages_are_cut_between_characters_and_cannot_forge_lines() {
        assert_eq!(printable("a\nb\u{1b}[31m"), "a b [31m");
        let text = printable(&"é".repeat(600));
        assert!(text.starts_with(&"é".repeat(512)) && text.ends_with("… 176 bytes cut"), "{text}");
    }
}
