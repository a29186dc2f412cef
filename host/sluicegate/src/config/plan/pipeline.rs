//! `[[plugin]]`, and the pipelines that name them.

use std::ops::RangeInclusive;
use std::path::Path;

use sluicegate_core::limits::MIB;
use sluicegate_guest::limits;
use toml::Spanned;

use super::checks::{self, Checks};
use super::upstream::time;
use super::views::size;
use super::{PluginPlan, Source};
use crate::config::file::{self, File, Plugin};
use crate::config::report;

/// What a WebAssembly memory can have.
const MEMORY_BYTES: RangeInclusive<usize> = MIB..=4096 * MIB;
const DEADLINE_MS: RangeInclusive<u64> = 1..=10_000;

/// The plugins that the file, or the command line, declares.
pub(super) fn plugins(plugins: &[Plugin], folder: &Path, checks: &mut Checks) -> Vec<PluginPlan> {
    checks.unique("plugin", plugins.iter().map(|plugin| &plugin.name));
    plugins.iter().filter_map(|plugin| plugin_plan(plugin, folder, checks)).collect()
}

fn plugin_plan(plugin: &Plugin, folder: &Path, checks: &mut Checks) -> Option<PluginPlan> {
    let source = source(plugin, folder, checks);
    let place = plugin.path.as_ref().map(Spanned::span).or(plugin.builtin.as_ref().map(Spanned::span));
    let place = place.filter(|place| !place.is_empty());
    let sha256 = plugin.sha256.as_ref().and_then(|text| checks.take(text, checks::digest(text.get_ref())));
    let memory_bytes = size("memory", plugin.memory.as_ref(), limits::MEMORY_BYTES, MEMORY_BYTES, checks);
    let deadline_ms = time("deadline", plugin.deadline.as_ref(), limits::DEADLINE_MS, DEADLINE_MS, checks);
    Some(PluginPlan {
        name: plugin.name.get_ref().clone(),
        source: source?,
        settings: plugin.config.0.clone(),
        on_error: plugin.on_error.as_ref().map_or(file::OnError::Halt, |policy| *policy.get_ref()).into(),
        memory_bytes,
        deadline_ms,
        fuel: plugin.fuel,
        sha256,
        place,
    })
}

fn source(plugin: &Plugin, folder: &Path, checks: &mut Checks) -> Option<Source> {
    let name = plugin.name.get_ref();
    match (&plugin.path, &plugin.builtin) {
        (Some(path), None) => {
            let file = folder.join(path.get_ref());
            if !file.is_file() {
                checks.error(path, format!("plugin `{name}`: there is no file {}", file.display()));
            }
            Some(Source::File(file))
        }
        (None, Some(builtin)) if sluicegate_bundle::builtin(builtin.get_ref()).is_none() => {
            let known = sluicegate_bundle::BUILTINS.iter().map(|(name, _)| *name);
            checks.error(builtin, report::unknown("built-in plugin", builtin.get_ref(), known));
            None
        }
        (None, Some(builtin)) => Some(Source::Builtin(builtin.get_ref().clone())),
        (Some(_), Some(builtin)) => {
            checks.error(builtin, format!("plugin `{name}` has a `path` and a `builtin`: keep one"));
            None
        }
        (None, None) => {
            checks.error(&plugin.name, format!("plugin `{name}` needs a `path` to a component, or a `builtin`"));
            None
        }
    }
}

/// Checks that whatever packs is a plugin that is there. Whether it is a codec is seen when it is loaded.
pub(super) fn packs(file: &File, checks: &mut Checks) {
    for name in packers(file) {
        if !file.plugins.iter().any(|plugin| plugin.name.get_ref() == name.get_ref()) {
            let known = file.plugins.iter().map(|plugin| plugin.name.get_ref().as_str());
            checks.error(name, report::unknown("plugin", name.get_ref(), known));
        }
    }
}

fn packers(file: &File) -> impl Iterator<Item = &Spanned<String>> {
    let views = file.views.iter().map(|view| &view.pack);
    views.chain([&file.upstream.pack, &file.snapshot.codec]).flatten()
}

/// Checks that every pipeline names plugins that are there, each once, and that a view which is to be exact stays so.
pub(super) fn pipelines(file: &File, checks: &mut Checks) {
    for view in &file.views {
        let mut seen: Vec<&str> = Vec::new();
        for name in &view.pipeline {
            if !file.plugins.iter().any(|plugin| plugin.name.get_ref() == name.get_ref()) {
                let known = file.plugins.iter().map(|plugin| plugin.name.get_ref().as_str());
                checks.error(name, report::unknown("plugin", name.get_ref(), known));
            }
            if seen.contains(&name.get_ref().as_str()) {
                checks.error(name, format!("`{}` stands twice in this pipeline", name.get_ref()));
            }
            seen.push(name.get_ref());
        }
    }
    for plugin in &file.plugins {
        let name = plugin.name.get_ref();
        let mut users =
            file.views.iter().filter(|view| view.pipeline.iter().any(|used| used.get_ref() == name)).peekable();
        if users.peek().is_none() && !packers(file).any(|packer| packer.get_ref() == name) {
            checks.warning(&plugin.name, format!("no view uses plugin `{name}`"));
        }
        let Some(policy) = plugin.on_error.as_ref().filter(|policy| *policy.get_ref() != file::OnError::Halt) else {
            continue;
        };
        for view in users.filter(|view| view.exact.unwrap_or(true)) {
            let view = view.name.get_ref();
            let message = format!(
                "with this policy view `{view}` may differ from its primary: set `exact = false` there, or use \"halt\""
            );
            checks.error(policy, message);
        }
    }
}
