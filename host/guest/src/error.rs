//! Why a plugin cannot be used: always the operator's or the plugin's to mend, known before the view starts.

/// A plugin that cannot be loaded. The view that names it does not start; other views are not concerned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin `{plugin}`: {what}; {hint}")]
pub struct LoadError {
    /// The plugin's name in the configuration.
    pub plugin: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl LoadError {
    pub(crate) fn new(plugin: &str, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { plugin: plugin.into(), what: what.into(), hint: hint.into() }
    }
}
