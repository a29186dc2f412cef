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
use sluicegate_guest::{GuestPipeline, Plugin, Room, RoomSettings};

use self::core::Core;
use crate::compare;
use crate::config::{ConfigError, Plan, Ports};
use crate::reactor::{self, Clock, Reactor};

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
    let machine = core.machine(pipelines, clock.now());
    Reactor::new(machine, clock, listeners, Arc::new(plugins), upstream, plan.data_dir)?.run()
}

/// The plugins of every view, compiled once.
pub(crate) struct Plugins {
    room: Room,
    views: Vec<Vec<Arc<Plugin>>>,
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
        Self { room, views: Vec::new(), packers: Vec::new(), unpacker: None }
    }

    /// Loads what the pipelines name.
    pub(crate) fn load(plan: &Plan) -> anyhow::Result<Self> {
        let room = Room::new(RoomSettings::default())?;
        let mut loaded: HashMap<&str, Arc<Plugin>> = HashMap::new();
        for plugin in &plan.plugins {
            let component = match plugin.spec() {
                Ok(spec) => room.load(spec).map_err(|error| plan.fault(plugin, error)),
                Err(error) => Err(plan.fault(plugin, error)),
            }?;
            loaded.insert(&plugin.name, Arc::new(component));
        }
        let codec = |name: &Option<String>| name.as_ref().and_then(|name| loaded.get(&**name).cloned());
        let packers = plan.views.iter().map(|view| codec(&view.pack)).collect();
        let unpacker = codec(&plan.pack);
        let views = plan.views.iter().map(|view| &view.settings);
        let views = views.map(|view| view.pipeline.iter().filter_map(|name| loaded.get(&**name).cloned()).collect());
        Ok(Self { views: views.collect(), room, packers, unpacker })
    }

    /// What packs a view for another Sluicegate.
    ///
    /// # Errors
    /// The plan names no plugin for it, or one that is no codec.
    pub(crate) fn packer(&self, view: usize) -> anyhow::Result<Box<dyn Codec>> {
        self.codec(self.packers.get(view).and_then(Option::as_ref))
    }

    /// What unpacks the primary's bytes.
    ///
    /// # Errors
    /// As [`Plugins::packer`].
    pub(crate) fn unpacker(&self) -> anyhow::Result<Box<dyn Codec>> {
        self.codec(self.unpacker.as_ref())
    }

    fn codec(&self, plugin: Option<&Arc<Plugin>>) -> anyhow::Result<Box<dyn Codec>> {
        Ok(Box::new(self.room.codec(plugin.context("no plugin is named in `pack`")?)?))
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
    let plugins = Plugins::load(&plan)?;
    let mut view = compare::View::new(&plan.views[view].settings.name, plugins.guests(view)?);
    compare::run(order, &mut view, progress)
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
        let pipeline = if view.pipeline.is_empty() {
            core.without_plugins().into()
        } else {
            format!("plugins {}, a history of its own", view.pipeline.join(" then "))
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
