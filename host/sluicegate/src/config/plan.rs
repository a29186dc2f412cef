//! What the file means: a [`Plan`], valid by construction.

mod checks;
mod kevy;
mod pipeline;
mod ports;
mod refresh;
mod snapshots;
mod upstream;
mod views;

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use sluicegate_core::settings::{RefreshSettings, UpstreamSettings, User, ViewSettings};
use sluicegate_guest::{OnError, PluginSpec};
use tracing_subscriber::EnvFilter;

use super::file::{File, LogFormat, Plugin, Protocol};
use super::report::{self, ConfigError, Problem};
use checks::Checks;
pub(crate) use kevy::Kevy;
use ports::Listen;
pub(crate) use snapshots::SnapshotPlan;
#[cfg(test)]
pub(crate) use upstream::Patience;

/// Where the snapshots of the upstream are kept unless the file says otherwise: in the working directory, as Redis does.
const DATA_DIR: &str = "sluicegate-data";

/// Everything that the program is told at its start.
#[derive(Clone)]
pub(crate) struct Plan {
    /// The primary.
    pub(crate) upstream: Upstream,
    /// The views that are served.
    pub(crate) views: Vec<ViewPlan>,
    /// The plugin that unpacks what comes from another Sluicegate.
    pub(crate) pack: Option<String>,
    /// Who may connect; empty: everybody.
    pub(crate) users: Vec<User>,
    /// Where the views listen, see [`Plan::ports`].
    listen: Vec<Listen>,
    /// The plugins. Every name in a pipeline is one of theirs.
    pub(crate) plugins: Vec<PluginPlan>,
    /// Where to keep snapshots; may not exist yet.
    pub(crate) data_dir: PathBuf,
    /// How snapshots go out, and what they may take up.
    pub(crate) snapshot: SnapshotPlan,
    /// When newer snapshots are taken.
    pub(crate) refresh: RefreshSettings,
    /// The plugin that packs snapshots on the disk.
    pub(crate) codec_at_rest: Option<String>,
    /// What to log.
    pub(crate) log: LogPlan,
    /// What the operator should know, though it does not keep the proxy from starting: a line, and a picture below it.
    pub(crate) warnings: Vec<String>,
    /// The text, to point into.
    text: report::Source,
}

/// The primary to follow, by what it speaks.
#[derive(Clone)]
pub(crate) enum Upstream {
    /// Redis or Valkey. The password is in it: show it by this type's own `Debug`, never by its.
    Redis(UpstreamSettings),
    /// kevy.
    Kevy(Kevy),
}

/// One view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ViewPlan {
    /// What a view of any primary has.
    pub(crate) settings: ViewSettings,
    /// The plugin that packs it for another Sluicegate.
    pub(crate) pack: Option<String>,
    /// How many shards its replicas have, and so how many ports each of its addresses; `None`: as many as the primary.
    pub(crate) shards: Option<usize>,
    /// How fast its snapshots go out, all of them together. Bytes a second; 0: as fast as they are taken.
    pub(crate) snapshot_rate: u64,
}

/// One plugin: where its component is, its limits and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginPlan {
    /// Its name in pipelines, logs and INFO.
    pub(crate) name: String,
    /// Where its component is.
    pub(crate) source: Source,
    /// For `init`, in the order of the file; a name may be there more than once.
    pub(crate) settings: Vec<(String, String)>,
    /// What becomes of keys that the plugin cannot answer for.
    pub(crate) on_error: OnError,
    /// The most memory of one instance. Bytes.
    pub(crate) memory_bytes: usize,
    /// The longest call. Milliseconds.
    pub(crate) deadline_ms: u64,
    /// The most instructions of one call; 0: not counted.
    pub(crate) fuel: u64,
    /// What the component must hash to.
    pub(crate) sha256: Option<[u8; 32]>,
    /// Where the file names its component.
    place: Option<Range<usize>>,
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file.
    File(PathBuf),
    /// One that the program carries, by its name.
    Builtin(String),
}

/// What to log, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogPlan {
    /// A level, or targets and levels as in `RUST_LOG`; known to parse.
    pub(crate) level: String,
    /// Text or JSON.
    pub(crate) format: LogFormat,
}

/// Understands a file. Relative paths in it start at `folder`; problems point into `source`.
pub(super) fn understand(file: &File, folder: &Path, source: &report::Source) -> anyhow::Result<Plan> {
    let mut checks = Checks::default();
    let plugins = pipeline::plugins(&file.plugins, folder, &mut checks);
    let (views, listen) = views::views(file, &mut checks);
    pipeline::pipelines(file, &mut checks);
    pipeline::packs(file, &mut checks);
    let users = views::users(file, &mut checks);
    views::exposure(file, &listen, &mut checks);
    let first_port = views.first().map_or(0, |view| view.settings.port);
    let upstream = match file.upstream.protocol.unwrap_or_default() {
        Protocol::Redis => {
            kevy::refuse_in_redis(file, &mut checks);
            Upstream::Redis(upstream::upstream(&file.upstream, folder, first_port, &mut checks))
        }
        Protocol::Kevy => {
            kevy::refuse_of_redis(file, &mut checks);
            Upstream::Kevy(kevy::upstream(&file.upstream, &mut checks))
        }
    };
    match ports::ports(&listen, &views, upstream.shards().unwrap_or(1)) {
        Ok(_) => {}
        Err(problems) => checks.problems.extend(problems),
    }
    let snapshot = snapshots::snapshot(&file.snapshot, &mut checks);
    let refresh = refresh::refresh(&file.snapshot, &mut checks);
    let log = log(file, &mut checks);

    let rendered = source.render(&checks.problems);
    if checks.has_errors() {
        return Err(ConfigError(rendered.concat()).into());
    }
    Ok(Plan {
        upstream,
        views,
        pack: file.upstream.pack.as_ref().map(|name| name.get_ref().clone()),
        users,
        listen,
        plugins,
        data_dir: file.server.data_dir.as_ref().map_or_else(|| PathBuf::from(DATA_DIR), |dir| folder.join(dir)),
        snapshot,
        refresh,
        codec_at_rest: file.snapshot.codec.as_ref().map(|name| name.get_ref().clone()),
        log,
        warnings: rendered,
        text: source.clone(),
    })
}

/// Understands plugins that the command line names.
pub(super) fn plugins(written: &[Plugin]) -> Result<Vec<PluginPlan>, ConfigError> {
    let mut checks = Checks::default();
    let plugins = pipeline::plugins(written, Path::new(""), &mut checks);
    match checks.has_errors() {
        true => Err(ConfigError(report::Source::default().render(&checks.problems).concat())),
        false => Ok(plugins),
    }
}

fn log(file: &File, checks: &mut Checks) -> LogPlan {
    let mut level = "info".to_owned();
    if let Some(written) = &file.log.level {
        match written.get_ref().parse::<EnvFilter>() {
            Ok(_) => level.clone_from(written.get_ref()),
            Err(_) => checks.error(
                written,
                format!("bad log level `{}`: write error, warn, info, debug or trace", written.get_ref()),
            ),
        }
    }
    LogPlan { level, format: file.log.format.unwrap_or_default() }
}

impl Upstream {
    /// How many streams, each on a port of its own, the primary has; `None` if it has to be asked.
    pub(crate) fn shards(&self) -> Option<usize> {
        match self {
            Self::Redis(_) => Some(1),
            Self::Kevy(kevy) => kevy.shards,
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(settings) => {
                let password = settings.password.as_ref().map(|_| "(hidden)".into());
                f.debug_tuple("Redis").field(&UpstreamSettings { password, ..settings.clone() }).finish()
            }
            Self::Kevy(kevy) => f.debug_tuple("Kevy").field(kevy).finish(),
        }
    }
}

impl Plan {
    /// Whether the plugin of this name has to be a codec.
    pub(crate) fn packs(&self, plugin: &str) -> bool {
        let packers = self.views.iter().map(|view| &view.pack).chain([&self.pack, &self.codec_at_rest]);
        packers.flatten().any(|name| name == plugin)
    }

    /// Nothing is packed: neither on links nor on the disk.
    pub(crate) fn pack_nothing(&mut self) {
        (self.pack, self.codec_at_rest) = (None, None);
        self.views.iter_mut().for_each(|view| view.pack = None);
    }

    /// What is wrong with a plugin, shown where the file names its component.
    pub(crate) fn fault(&self, plugin: &PluginPlan, what: impl fmt::Display) -> ConfigError {
        let problem = Problem { span: plugin.place.clone(), message: what.to_string(), is_warning: false };
        ConfigError(self.text.render(&[problem]).concat())
    }
}

impl PluginPlan {
    /// What the plugin room is told: the component is read, and checked against `sha256` if there is one.
    ///
    /// # Errors
    /// The file cannot be read, its digest is another one, or nothing built in has that name. The operator's.
    pub(crate) fn spec(&self) -> Result<PluginSpec, ConfigError> {
        let wasm = self.component().map_err(|what| ConfigError(format!("plugin `{}`: {what}", self.name)))?;
        let mut spec = PluginSpec::new(&self.name, wasm);
        spec.settings.clone_from(&self.settings);
        spec.on_error = self.on_error;
        spec.memory_bytes = self.memory_bytes;
        spec.deadline_ms = self.deadline_ms;
        spec.fuel = (self.fuel != 0).then_some(self.fuel);
        Ok(spec)
    }

    fn component(&self) -> Result<Cow<'static, [u8]>, String> {
        let bytes: Cow<'static, [u8]> = match &self.source {
            Source::File(path) => {
                fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?.into()
            }
            Source::Builtin(name) => {
                sluicegate_bundle::builtin(name).ok_or_else(|| format!("nothing built in is called `{name}`"))?.into()
            }
        };
        let found: [u8; 32] = Sha256::digest(&bytes).into();
        match self.sha256 {
            Some(expected) if expected != found => {
                Err(format!("its sha256 is {}, the configuration says {}", hex(&found), hex(&expected)))
            }
            _ => Ok(bytes),
        }
    }
}

fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("upstream", &self.upstream)
            .field("views", &self.views)
            .field("pack", &self.pack)
            .field("users", &self.users)
            .field("listen", &self.listen)
            .field("plugins", &self.plugins)
            .field("data_dir", &self.data_dir)
            .field("snapshot", &self.snapshot)
            .field("refresh", &self.refresh)
            .field("codec_at_rest", &self.codec_at_rest)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}
