//! Logs go to standard error, one event a line: time (RFC 3339, UTC), level, message, key=value.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogPlan};

/// Starts logging, once for the process.
///
/// # Errors
/// The level does not parse, or logging has been started before.
pub(crate) fn start(plan: &LogPlan) -> anyhow::Result<()> {
    let filter: EnvFilter = plan.level.parse().context("log level")?;
    let on_terminal = io::stderr().is_terminal();
    let has_colour = on_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(has_colour);
    let started = match plan.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Auto if !on_terminal => builder.json().flatten_event(true).try_init(),
        LogFormat::Auto | LogFormat::Text => builder.with_target(false).compact().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}
