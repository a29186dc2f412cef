//! The little that every verb needs: where things are, how a program is run, how a line is printed.

use std::env;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Where the test servers are, whatever cargo's target directory: tests look here.
pub(crate) fn servers_dir() -> PathBuf {
    root().join("target/servers")
}

/// The cargo that runs this program, at the root of the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut cargo = program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args);
    cargo
}

/// A program at the root of the workspace, told where the test servers are.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut program = Command::new(name);
    program.current_dir(root()).env("SLUICEGATE_SERVERS", servers_dir());
    // `cargo run` describes xtask in the environment; build scripts that watch these would run again for nothing.
    for (name, _) in env::vars_os() {
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if ours.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            program.env_remove(name);
        }
    }
    program
}

/// Runs a program to its end. It shares our terminal and process group, so Ctrl-C reaches both.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("could not start {}", words(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", words(command));
    }
    Ok(())
}

/// Runs a program and takes what it printed; its error output is the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("could not start {}", words(command)))?;
    if !out.status.success() {
        let told = String::from_utf8_lossy(&out.stderr);
        let last = told.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it printed no reason");
        bail!("{} failed: {}", words(command), last.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The first program of that name on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// A path as people read it: relative to the workspace where it lies inside.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// A program and what it was to do, for messages: without options, paths and scripts.
fn words(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let args = command.get_args().map(OsStr::to_string_lossy);
    let verbs = args.filter(|arg| arg.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !arg.starts_with('-'));
    let verbs = verbs.take(2).map(|arg| format!(" {arg}")).collect::<String>();
    format!("`{}{verbs}`", name.to_string_lossy())
}

/// Bold, on a terminal.
pub(crate) fn bold(text: &str) -> String {
    paint("1", text)
}

/// Green, on a terminal.
pub(crate) fn green(text: &str) -> String {
    paint("32", text)
}

/// Yellow, on a terminal.
pub(crate) fn yellow(text: &str) -> String {
    paint("33", text)
}

/// Red, on a terminal.
pub(crate) fn red(text: &str) -> String {
    paint("31", text)
}

fn paint(code: &str, text: &str) -> String {
    if coloured() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
}

/// Whether our lines go to someone who sees colours.
pub(crate) fn coloured() -> bool {
    std::io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none()
}
