//! `sluicegate validate`: is this configuration one that `run` would take?

use std::path::PathBuf;

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
        for (index, address) in &plan.listen {
            let view = &plan.settings.views[*index];
            let plugins = if view.pipeline.is_empty() { "no plugins".to_owned() } else { view.pipeline.join(" → ") };
            println!("view   {:20} {address:21} {plugins}", view.name);
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
        let loaded = plugin.spec().map_err(anyhow::Error::from).and_then(|spec| Ok(room.load(spec)?));
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
