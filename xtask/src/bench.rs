//! `cargo xtask bench`: the release build, measured against the real servers.

use anyhow::Result;

use crate::{build, servers, sh};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Benchmarks to run, and options for them; none: all.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    names: Vec<String>,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    servers::ensure(servers::Tell::Problems);
    let binary = build::sluicegate(true)?;
    let mut bench = sh::cargo(&["run", "--release", "--package", "sluicegate-bench", "--"]);
    sh::run(bench.args(&args.names).env("SLUICEGATE_BIN", &binary))?;
    let report = sh::root().join("target/bench/report.md");
    if report.is_file() {
        eprintln!("{} {}", sh::green("report"), sh::shown(&report));
    }
    Ok(())
}
