//! Where a redis-server or valkey-server is.

use std::env;
use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use anyhow::bail;

const NAMES: [&str; 2] = ["valkey-server", "redis-server"];

/// A server that can be started.
#[derive(Debug, Clone)]
pub(super) struct Binary {
    /// The program.
    pub(super) path: PathBuf,
    /// What it is, for people: "redis 7.0.15".
    pub(super) version: String,
}

/// The server to play with: from the folder that was named, or from `SLUICEGATE_SERVERS`, or from PATH. `None`: there is none.
///
/// # Errors
/// A folder was named on the command line and has no server in it.
pub(super) fn find(named: Option<PathBuf>) -> anyhow::Result<Option<Binary>> {
    if let Some(folder) = named {
        return match within(&folder) {
            Some(binary) => Ok(Some(binary)),
            None => {
                bail!("no server that runs: looked for {0}/*/redis-server and {0}/*/valkey-server", folder.display())
            }
        };
    }
    let by_environment = env::var_os("SLUICEGATE_SERVERS").and_then(|folder| within(Path::new(&folder)));
    Ok(by_environment.or_else(on_path))
}

/// The server in the last of the sub-folders by name, which is the newest valkey, else the newest redis.
fn within(folder: &Path) -> Option<Binary> {
    let mut folders: Vec<PathBuf> = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    folders.iter().rev().flat_map(|folder| NAMES.map(|name| folder.join(name))).find_map(|path| probe(&path))
}

fn on_path() -> Option<Binary> {
    let path = env::var_os("PATH")?;
    let candidates = NAMES.iter().flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)));
    candidates.into_iter().find_map(|path| probe(&path))
}

/// Whether the program is there and runs: asked for its version, it says "Redis server v=7.0.15 sha=…".
fn probe(path: &Path) -> Option<Binary> {
    let said = Command::new(path).arg("--version").output().ok().filter(|said| said.status.success())?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let number = text.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
    let family = text.split_whitespace().next()?.to_lowercase();
    // The demo starts it in another folder.
    Some(Binary { path: absolute(path).ok()?, version: format!("{family} {number}") })
}
