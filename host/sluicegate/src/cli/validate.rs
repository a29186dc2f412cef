//! `sluicegate validate`: is this configuration one that `run` would take?

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::ensure;
use sluicegate_guest::{Room, RoomSettings};

use crate::config::{self, ConfigError, Plan};

const EXAMPLES: &str = "\
Example:
  sluicegate validate --config /etc/sluicegate/sluicegate.toml && systemctl restart sluicegate

Plugins are compiled and started with their settings. No port is bound, nothing is connected to, nothing is written.
Exit codes: 0 it can be used, 78 it cannot.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The configuration to check
    #[arg(short, long, value_name = "FILE", default_value = "sluicegate.toml")]
    config: PathBuf,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let plan = config::load(&self.config)?;
        for warning in &plan.warnings {
            eprint!("{warning}");
        }
        check_plugins(&plan)?;
        for (index, ports) in plan.ports(plan.upstream.shards().unwrap_or(1))? {
            let view = &plan.views[index];
            let pipeline = &view.settings.pipeline;
            let plugins = if pipeline.is_empty() { "no plugins".to_owned() } else { pipeline.join(" → ") };
            // Nothing is connected to, so a primary that is to be asked for its shards is not.
            let open = plan.upstream.shards().or(view.shards).is_none();
            let more = if open { " (and one port more for each further shard of the primary)" } else { "" };
            println!("view   {:20} {ports:21} {plugins}{more}", view.settings.name);
        }
        println!("{} can be used", self.config.display());
        Ok(())
    }
}

/// Loads every plugin, so that the operator hears of all that cannot be used.
fn check_plugins(plan: &Plan) -> anyhow::Result<()> {
    let room = Room::new(RoomSettings::default())?;
    let mut faults = String::new();
    for plugin in &plan.plugins {
        let loaded = plugin.spec().map_err(anyhow::Error::from).and_then(|spec| {
            let loaded = Arc::new(room.load(spec)?);
            if plan.packs(&plugin.name) {
                room.codec(&loaded)?;
            }
            Ok(loaded)
        });
        match loaded {
            Ok(loaded) => {
                let descriptor = loaded.descriptor();
                println!("plugin {:20} {} {}", plugin.name, descriptor.name, descriptor.version);
            }
            Err(error) => faults += &plan.fault(plugin, error).0,
        }
    }
    ensure!(faults.is_empty(), ConfigError(faults));
    Ok(())
}
