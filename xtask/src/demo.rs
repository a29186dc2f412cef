//! `cargo xtask demo`: from a clean checkout to Sluicegate at work, in one command.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::{build, servers, sh};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Keep everything running after the tour, until Ctrl-C.
    #[arg(long)]
    stay: bool,
    /// The second act: with kevy servers.
    #[arg(long)]
    kevy: bool,
    /// Handed to `sluicegate demo` as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// The verb. Does not return when the demo starts.
pub(crate) fn run(args: &Args) -> Result<()> {
    servers::ensure(servers::Tell::Problems);
    let binary = build::sluicegate(false)?;
    let mut demo = sh::program(&binary);
    demo.arg("demo");
    for (wanted, option) in [(args.stay, "--stay"), (args.kevy, "--kevy")] {
        if wanted {
            demo.arg(option);
        }
    }
    demo.args(&args.args);
    // The demo takes our place: signals reach it whoever sends them, its exit code is ours, and no process is left.
    Err(demo.exec()).with_context(|| format!("could not start {}", binary.display()))
}
