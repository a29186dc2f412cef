//! `sluicegate run` without a file: one upstream, one view, a few plugins, all from the command line.

use std::path::{Path, PathBuf};

use super::file::{self, File, unplaced};
use super::plan::{self, Plan, PluginPlan};
use super::report::{self, ConfigError, Source};

/// What the command line may say in place of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shorthand {
    /// `host:port` of the primary.
    pub(crate) upstream: String,
    /// ACL user at the primary.
    pub(crate) username: Option<String>,
    /// The file with the password.
    pub(crate) password_file: Option<PathBuf>,
    /// Where the one view listens.
    pub(crate) listen: Vec<String>,
    /// `x.wasm` or `builtin:name`, in the order of the pipeline.
    pub(crate) plugins: Vec<String>,
    /// `PLUGIN.KEY=VALUE`.
    pub(crate) settings: Vec<String>,
    /// Where to keep snapshots.
    pub(crate) data_dir: PathBuf,
}

impl Shorthand {
    /// What this means.
    ///
    /// # Errors
    /// A [`ConfigError`] with every problem found.
    pub(crate) fn plan(self) -> anyhow::Result<Plan> {
        let plugins = written(&self.plugins, &self.settings)?;
        let view = file::View {
            name: unplaced("default".into()),
            listen: unplaced(self.listen.into_iter().map(unplaced).collect()),
            pipeline: plugins.iter().map(|plugin| unplaced(plugin.name.get_ref().clone())).collect(),
            max_replicas: None,
            exact: None,
            unknown_replica: None,
            floor: None,
            cross_key: None,
            shards: None,
            snapshot_rate: None,
            pack: None,
            backlog: file::Backlog::default(),
            limits: file::Limits::default(),
        };
        let mut upstream = file::Upstream::new(self.upstream);
        upstream.username = self.username.map(unplaced);
        upstream.password_file = self.password_file.map(unplaced);
        let file = File {
            server: file::Server { data_dir: Some(self.data_dir) },
            upstream,
            views: vec![view],
            plugins,
            users: Vec::new(),
            snapshot: file::Snapshot::default(),
            log: file::Log::default(),
        };
        plan::understand(&file, Path::new(""), &Source::default())
    }
}

/// Plugins alone, for what has no views: where each is, and their settings, as [`Shorthand`] has them.
///
/// # Errors
/// A [`ConfigError`] with every problem found.
pub(crate) fn plugins(sources: &[String], settings: &[String]) -> Result<Vec<PluginPlan>, ConfigError> {
    plan::plugins(&written(sources, settings)?)
}

fn written(sources: &[String], settings: &[String]) -> Result<Vec<file::Plugin>, ConfigError> {
    let mut plugins = sources.iter().map(|source| plugin(source)).collect::<Vec<_>>();
    settings.iter().try_for_each(|setting| apply(setting, &mut plugins))?;
    Ok(plugins)
}

/// A plugin is called as its file or, if it is built in, as it is called there.
fn plugin(source: &str) -> file::Plugin {
    let builtin = source.strip_prefix("builtin:");
    let stem = Path::new(source).file_stem().and_then(|stem| stem.to_str()).unwrap_or(source);
    file::Plugin {
        name: unplaced(builtin.unwrap_or(stem).to_owned()),
        path: builtin.is_none().then(|| unplaced(PathBuf::from(source))),
        builtin: builtin.map(|name| unplaced(name.to_owned())),
        sha256: None,
        on_error: None,
        memory: None,
        deadline: None,
        fuel: 0,
        config: file::PluginConfig::default(),
    }
}

fn apply(setting: &str, plugins: &mut [file::Plugin]) -> Result<(), ConfigError> {
    let parts = setting.split_once('=').and_then(|(place, value)| Some((place.split_once('.')?, value)));
    let Some(((name, key), value)) = parts else {
        return Err(ConfigError(format!(
            "bad --set `{setting}`: write PLUGIN.KEY=VALUE, like key-filter.allow=user:*"
        )));
    };
    match plugins.iter_mut().find(|plugin| plugin.name.get_ref() == name) {
        Some(plugin) => plugin.config.0.push((key.to_owned(), value.to_owned())),
        None => {
            let known = plugins.iter().map(|plugin| plugin.name.get_ref().as_str());
            return Err(ConfigError(format!("--set {setting}: {}", report::unknown("plugin", name, known))));
        }
    }
    Ok(())
}
