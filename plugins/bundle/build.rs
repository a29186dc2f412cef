//! Builds the plugins for WebAssembly, with a cargo and a target directory of their own: sharing the outer one's would
//! wait for ever for its lock. Nothing of the outer build's flags, wrappers or settings reaches them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const UNKNOWN: &str = "wasm32-unknown-unknown";
const WASIP2: &str = "wasm32-wasip2";

const BUILTINS: &[&str] = &["sluicegate-key-filter", "sluicegate-key-rename", "sluicegate-lz4", "sluicegate-zstd"];
const HOSTILE: &[&str] = &["sluicegate-hostile", "sluicegate-hostile-stream"];

fn main() {
    let own = PathBuf::from(var("CARGO_MANIFEST_DIR"));
    let workspace = own.join("../..");
    for watched in ["wit/plugin.wit", "plugins/sdk", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }
    for plugin in BUILTINS.iter().chain(HOSTILE) {
        let folder = plugin.trim_start_matches("sluicegate-");
        println!("cargo::rerun-if-changed={}", workspace.join("plugins").join(folder).display());
    }
    build(&workspace, UNKNOWN, BUILTINS);
    if env::var_os("CARGO_FEATURE_HOSTILE").is_some() {
        build(&workspace, UNKNOWN, HOSTILE);
        build(&workspace, WASIP2, &["sluicegate-hostile"]);
    }
}

/// Builds `packages` and copies their modules to OUT_DIR as `<package>.<target>.wasm`.
fn build(workspace: &Path, target: &str, packages: &[&str]) {
    let out = PathBuf::from(var("OUT_DIR"));
    // OUT_DIR is <target>/<profile>/build/<package>/out: all profiles share one build of the plugins.
    let target_dir = out.ancestors().nth(4).unwrap_or(&out).join("plugins");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace).args(["build", "--profile", "plugin", "--target", target]);
    cargo.arg("--target-dir").arg(&target_dir);
    for package in packages {
        cargo.args(["--package", package]);
    }
    for (name, _) in env::vars_os() {
        if let Some(name) = name.to_str()
            && foreign(name)
        {
            cargo.env_remove(name);
        }
    }
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(_) => fail(&format!(
            "the plugins do not build for {target}; run `cargo xtask build` or `rustup target add {target}`"
        )),
        Err(error) => fail(&format!("cargo does not start: {error}")),
    }
    for package in packages {
        let built = target_dir.join(target).join("plugin").join(format!("{}.wasm", package.replace('-', "_")));
        let copy = out.join(format!("{package}.{target}.wasm"));
        if let Err(error) = std::fs::copy(&built, copy) {
            fail(&format!("{}: {error}", built.display()));
        }
    }
}

/// Whether a variable belongs to the outer build. Where cargo and rustup live stays known.
fn foreign(name: &str) -> bool {
    let kept = ["CARGO", "CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
    let prefixes = ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "CLIPPY", "DEP_"];
    let outer = ["TARGET", "HOST", "OUT_DIR", "PROFILE", "OPT_LEVEL", "DEBUG", "NUM_JOBS"];
    !kept.contains(&name) && (outer.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix)))
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("{name} is not set; build scripts are run by cargo")))
}

fn fail(what: &str) -> ! {
    println!("cargo::error={what}");
    exit(1);
}
