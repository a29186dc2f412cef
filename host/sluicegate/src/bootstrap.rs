//! The one place where concrete things meet: configuration, plugins, core, reactor.

mod core;
mod kevy;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use sluicegate_core::pack::Codec;
use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::position::ReplId;
use sluicegate_core::rdb::RewriteStats;
use sluicegate_guest::{GuestPipeline, Plugin, Room, RoomSettings};

use self::core::Core;
use crate::compare;
use crate::config::{ConfigError, Plan, PluginPlan, Ports};
use crate::rdb;
use crate::reactor::{self, Clock, Reactor, Snapshots};

/// Runs the proxy until it is told to stop.
///
/// # Errors
/// The plan cannot be carried out here: a port is taken, a plugin does not load, the data directory cannot be used.
pub(crate) fn run(plan: Plan) -> anyhow::Result<()> {
    let began = Instant::now();
    let plugins = Plugins::load(&plan)?;
    let _lock = data_dir(&plan.data_dir)?;
    let core = Core::settle(&plan, &plugins)?;
    let ports = plan.ports(core.shards())?;
    let listeners = reactor::listen(&ports)?;
    let mut pipelines = Vec::new();
    for view in 0..plan.views.len() {
        pipelines.push(plugins.pipeline(view)?);
    }
    announce(&plan, &core, &ports, began);
    let (clock, upstream) = (Clock::new(), core.upstream());
    let kept = core.kept_snapshot(&plan.data_dir, plan.snapshot.disk_bytes);
    let machine = core.machine(pipelines, clock.now(), kept.as_ref());
    let snapshots = Snapshots {
        dir: plan.data_dir,
        kept,
        disk_bytes: plan.snapshot.disk_bytes,
        rate: plan.snapshot.rate,
        view_rates: plan.views.iter().map(|view| view.snapshot_rate).collect(),
    };
    Reactor::new(machine, clock, listeners, Arc::new(plugins), upstream, snapshots)?.run()
}

/// Why there is no codec where one is needed.
const UNNAMED: &str = "no plugin is named in `pack`";

/// The plugins of every view, compiled once.
pub(crate) struct Plugins {
    room: Room,
    views: Vec<Vec<Arc<Plugin>>>,
    /// What packs snapshots on the disk.
    at_rest: Option<Arc<Plugin>>,
    /// What packs each view.
    packers: Vec<Option<Arc<Plugin>>>,
    /// What unpacks the primary's bytes.
    unpacker: Option<Arc<Plugin>>,
}

impl Plugins {
    /// Those of no view.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        let room = Room::new(RoomSettings::default()).expect("a room");
        Self { room, views: Vec::new(), at_rest: None, packers: Vec::new(), unpacker: None }
    }

    /// Loads what the plan names.
    pub(crate) fn load(plan: &Plan) -> anyhow::Result<Self> {
        let room = Room::new(RoomSettings::default())?;
        let mut loaded: HashMap<&str, Arc<Plugin>> = HashMap::new();
        for plugin in &plan.plugins {
            loaded.insert(&plugin.name, load_plugin(&room, plan, plugin)?);
        }
        let codec = |name: &Option<String>| name.as_ref().and_then(|name| loaded.get(&**name).cloned());
        let packers = plan.views.iter().map(|view| codec(&view.pack)).collect();
        let unpacker = codec(&plan.pack);
        let views = plan.views.iter().map(|view| &view.settings);
        let views = views.map(|view| view.pipeline.iter().filter_map(|name| loaded.get(&**name).cloned()).collect());
        let at_rest = codec(&plan.codec_at_rest);
        Ok(Self { views: views.collect(), room, at_rest, packers, unpacker })
    }

    /// A codec for a snapshot on the disk; `None` if they rest there as they came.
    ///
    /// # Errors
    /// The plugin started when it was loaded, and now does not.
    pub(crate) fn at_rest(&self) -> anyhow::Result<Option<Box<dyn Codec>>> {
        self.at_rest.as_ref().map(|plugin| self.codec(plugin)).transpose()
    }

    /// What packs a view for another Sluicegate.
    ///
    /// # Errors
    /// The plan names no plugin for it, or one that is no codec.
    pub(crate) fn packer(&self, view: usize) -> anyhow::Result<Box<dyn Codec>> {
        self.codec(self.packers.get(view).and_then(Option::as_ref).context(UNNAMED)?)
    }

    /// What unpacks the primary's bytes.
    ///
    /// # Errors
    /// As [`Plugins::packer`].
    pub(crate) fn unpacker(&self) -> anyhow::Result<Box<dyn Codec>> {
        self.codec(self.unpacker.as_ref().context(UNNAMED)?)
    }

    /// Instances of their own for one more user of a codec.
    fn codec(&self, plugin: &Arc<Plugin>) -> anyhow::Result<Box<dyn Codec>> {
        Ok(Box::new(self.room.codec(plugin)?))
    }

    /// Instances of their own for one more user of a view's plugins; `None` for a view without plugins.
    pub(crate) fn pipeline(&self, view: usize) -> anyhow::Result<Option<Box<dyn Pipeline>>> {
        Ok(self.guests(view)?.map(|guests| Box::new(guests) as Box<dyn Pipeline>))
    }

    fn guests(&self, view: usize) -> anyhow::Result<Option<GuestPipeline>> {
        let plugins = self.views.get(view).map_or(&[][..], |plugins| plugins);
        if plugins.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.room.pipeline(plugins)?))
    }
}

/// Loads one of the plan's plugins, and sees that it can do what the plan wants of it.
///
/// # Errors
/// It does not load, has no say in a pipeline that names it, or packs nothing where a codec is named.
pub(crate) fn load_plugin(room: &Room, plan: &Plan, plugin: &PluginPlan) -> Result<Arc<Plugin>, ConfigError> {
    let spec = plugin.spec().map_err(|error| plan.fault(plugin, error))?;
    let loaded = Arc::new(room.load(spec).map_err(|error| plan.fault(plugin, error))?);
    if plan.views.iter().any(|view| view.settings.pipeline.contains(&plugin.name)) {
        room.pipeline(std::slice::from_ref(&loaded)).map_err(|error| plan.fault(plugin, error))?;
    }
    if plan.packs(&plugin.name) {
        room.codec(&loaded).map_err(|error| plan.fault(plugin, error))?;
    }
    Ok(loaded)
}

/// Compares a replica with one view of the plan's primary. Nothing is written, here or there.
///
/// # Errors
/// A plugin does not load or fails; a server cannot be reached, or does not allow what has to be asked.
pub(crate) fn compare(
    mut plan: Plan,
    view: usize,
    order: &compare::Order,
    progress: &mut dyn FnMut(&compare::Findings),
) -> anyhow::Result<compare::Findings> {
    // Only what this view uses: the rest would be compiled in vain.
    let pipeline = plan.views[view].settings.pipeline.clone();
    plan.plugins.retain(|plugin| pipeline.contains(&plugin.name));
    plan.pack_nothing();
    let plugins = Plugins::load(&plan)?;
    let mut view = compare::View::new(&plan.views[view].settings.name, plugins.guests(view)?);
    compare::run(order, &mut view, progress)
}

/// Makes the dump `out` of the dump `from`, through these plugins.
///
/// # Errors
/// A plugin does not load or fails; a file is damaged, or cannot be read or written.
pub(crate) fn filter_dump(plugins: &[PluginPlan], from: &Path, out: &Path) -> anyhow::Result<RewriteStats> {
    let room = Room::new(RoomSettings::default())?;
    let load = |plugin: &PluginPlan| Ok(Arc::new(room.load(plugin.spec()?)?));
    let plugins = plugins.iter().map(load).collect::<anyhow::Result<Vec<_>>>()?;
    // Of another history than the old dump: with that one's id and offset, a replica of the old server could go on here.
    rdb::filter::filter(from, out, &mut room.pipeline(&plugins)?, *ReplId::from_entropy(entropy()).as_bytes())
}

/// Makes the data directory, private to this user, and keeps others out of it while the returned file is open.
fn data_dir(dir: &Path) -> anyhow::Result<fs::File> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the data directory {}", dir.display()))?;
    let lock = fs::File::create(dir.join("lock")).with_context(|| format!("cannot write into {}", dir.display()))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        ConfigError(format!("the data directory {} is in use by another sluicegate (server.data_dir)", dir.display()))
    })?;
    Ok(lock)
}

fn entropy() -> [u8; 20] {
    let mut bytes = [0; 20];
    let mut filled = 0;
    while filled < bytes.len() {
        // The kernel's generator never fails once it is seeded, and is seeded long before programs like this one start.
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
}

fn announce(plan: &Plan, core: &Core, ports: &[(usize, Ports)], began: Instant) {
    tracing::info!(
        event = "start",
        "sluicegate {} pid {} follows {core} (started in {} ms)",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        began.elapsed().as_millis(),
    );
    for (view, ports) in ports {
        let Some(view) = plan.views.get(*view).map(|view| &view.settings) else { continue };
        let plugins = view.pipeline.join(" then ");
        let pipeline = match view.floor {
            None if plugins.is_empty() => core.without_plugins().into(),
            None => format!("plugins {plugins}, a history of its own"),
            Some(floor) if plugins.is_empty() => format!("no plugins, a history of its own for {floor} and later"),
            Some(floor) => format!("plugins {plugins}, a history of its own for {floor} and later"),
        };
        tracing::info!(
            event = "listen",
            "view '{}' listens on {ports}: {pipeline}, backlog {} MiB{}",
            view.name,
            view.backlog_bytes >> 20,
            core.backlogs(),
        );
    }
}
