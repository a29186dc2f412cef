//! Sluicegate between a kevy and its sinks.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::middle::{Kind, PLUGINS};
use crate::process::{Process, free_address};
use crate::stream::View;

/// A running Sluicegate.
pub(super) struct Sluicegate {
    /// Its process.
    pub(super) process: Process,
    /// Where the one shard of each view listens, in the order of the views.
    pub(super) listens: Vec<SocketAddr>,
}

impl Sluicegate {
    /// Starts one that follows the shard at `primary` and has these views, each with so many MiB of backlog.
    pub(super) fn start(primary: SocketAddr, views: &[View], backlog: u32, dir: &Path) -> Result<Self> {
        let listens = views.iter().map(|_| free_address()).collect::<Result<Vec<_>>>()?;
        let mut text = format!(
            "[server]\ndata_dir = {:?}\n\n[upstream]\nprotocol = \"kevy\"\naddress = \"{primary}\"\nshards = 1\n",
            dir.join("data")
        );
        for (index, (view, listen)) in views.iter().zip(&listens).enumerate() {
            let pipeline = view.pipeline();
            text += &format!(
                "\n[[view]]\nname = \"bench-{index}\"\nlisten = [\"{listen}\"]\npipeline = {pipeline:?}\n\
                 [view.backlog]\nmemory = \"{backlog}mb\"\n"
            );
        }
        text += if views.iter().all(|view| view.pipeline().is_empty()) { "" } else { PLUGINS };
        let config = dir.join("sluicegate.toml");
        fs::write(&config, text)?;
        let mut command = Command::new(Kind::Sluicegate(View::Plain).program().context("no sluicegate")?);
        command.args(["run", "--config"]).arg(config);
        let mut process = Process::start("sluicegate", command, dir)?;
        for listen in &listens {
            process.wait_listening(*listen)?;
        }
        Ok(Self { process, listens })
    }
}
