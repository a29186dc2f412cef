//! `cargo xtask build`: the binary, and the compiler targets that its plugins are built for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::sh;

/// What the plugins and the proof that the core needs no std are compiled for.
const WASM_TARGETS: [&str; 3] = ["wasm32-unknown-unknown", "wasm32-wasip2", "wasm32v1-none"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shipped profile: fat LTO, slower to build.
    #[arg(long)]
    release: bool,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let binary = sluicegate(args.release)?;
    eprintln!("{} {}", sh::green("built"), sh::shown(&binary));
    Ok(())
}

/// Builds the binary and returns its path.
pub(crate) fn sluicegate(release: bool) -> Result<PathBuf> {
    ensure_wasm_targets()?;
    let build: &[&str] = if release {
        &["build", "--release", "--package", "sluicegate"]
    } else {
        // With the features that the tests' build unites, so that both share one build of the dependencies.
        &["build", "--workspace", "--bin", "sluicegate"]
    };
    sh::run(&mut sh::cargo(build))?;
    let binary = sh::target_dir().join(if release { "release" } else { "debug" }).join("sluicegate");
    if !binary.is_file() {
        bail!("cargo built sluicegate, but not as {}", binary.display());
    }
    Ok(binary)
}

/// Adds the wasm targets that the toolchain lacks, and says so.
pub(crate) fn ensure_wasm_targets() -> Result<()> {
    let missing: Vec<&str> = WASM_TARGETS.into_iter().filter(|target| !has_target(target)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("{} rustup target add {}", sh::bold("adding"), missing.join(" "));
    sh::run(sh::program("rustup").args(["target", "add"]).args(&missing))
        .with_context(|| format!("the toolchain lacks {}, and rustup could not add it", missing.join(", ")))
}

/// Asks the compiler and not rustup: a distribution's Rust may have the target too.
fn has_target(target: &str) -> bool {
    sh::output(sh::program("rustc").args(["--print", "target-libdir", "--target", target]))
        .is_ok_and(|dir| Path::new(dir.trim()).is_dir())
}
