//! `cargo xtask docs`: the pages that are made from the code. A test of the core compares them with what is committed.

use std::fs;

use anyhow::{Context, Result};

use crate::{build, sh};

#[derive(clap::Args)]
pub(crate) struct Args {}

/// The verb.
pub(crate) fn run(_: &Args) -> Result<()> {
    let binary = build::sluicegate(false)?;
    let text = sh::output(sh::program(binary).args(["explain", "--all"]))?;
    let page = sh::root().join("docs/commands.md");
    fs::write(&page, text).with_context(|| format!("could not write {}", page.display()))?;
    eprintln!("{} {}", sh::green("wrote"), sh::shown(&page));
    Ok(())
}
