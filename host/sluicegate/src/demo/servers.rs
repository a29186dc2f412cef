//! Where a redis-server, a valkey-server or a kevy is.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use anyhow::bail;

const REDIS: &[&str] = &["valkey-server", "redis-server"];
const KEVY: &[&str] = &["kevy"];

/// A server that can be started.
#[derive(Debug, Clone)]
pub(super) struct Binary {
    /// The program.
    pub(super) path: PathBuf,
    /// What it is, for people: "redis 7.0.15".
    pub(super) version: String,
}

/// The Redis or Valkey to play with: from the folder that was named, or from `SLUICEGATE_SERVERS`, or from PATH. `None`:
/// there is none.
///
/// # Errors
/// A folder was named on the command line and has no server in it.
pub(super) fn redis(named: Option<&Path>) -> anyhow::Result<Option<Binary>> {
    // The last sub-folder by name has the newest valkey, else the newest redis.
    let last = |folder: &Path| within(folder, REDIS).next_back();
    if let Some(folder) = named {
        return match last(folder) {
            Some(binary) => Ok(Some(binary)),
            None => {
                bail!("no server that runs: looked for {0}/*/redis-server and {0}/*/valkey-server", folder.display())
            }
        };
    }
    let by_environment = env::var_os("SLUICEGATE_SERVERS").and_then(|folder| last(Path::new(&folder)));
    Ok(by_environment.or_else(|| on_path(REDIS)))
}

/// The newest kevy, from the same places.
///
/// # Errors
/// There is none.
pub(super) fn kevy(named: Option<&Path>) -> io::Result<Binary> {
    let newest = |folder: &Path| within(folder, KEVY).max_by_key(|binary| numbers(&binary.version));
    let (found, places) = match named {
        Some(folder) => (newest(folder), format!("{}/*/kevy", folder.display())),
        None => {
            let by_environment = env::var_os("SLUICEGATE_SERVERS").and_then(|folder| newest(Path::new(&folder)));
            (by_environment.or_else(|| on_path(KEVY)), "$SLUICEGATE_SERVERS/*/kevy and PATH".to_owned())
        }
    };
    found.ok_or_else(|| {
        let how = "`cargo xtask servers` gets one, and the demo has no model of it";
        io::Error::new(io::ErrorKind::NotFound, format!("no kevy that runs in {places}: {how}"))
    })
}

/// The servers in the sub-folders, by the sub-folders' names.
fn within(folder: &Path, names: &'static [&'static str]) -> impl DoubleEndedIterator<Item = Binary> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    let programs = folders.into_iter().flat_map(|folder| names.iter().rev().map(move |name| folder.join(name)));
    programs.filter_map(|path| probe(&path))
}

fn on_path(names: &[&str]) -> Option<Binary> {
    let path = env::var_os("PATH")?;
    let mut candidates = names.iter().flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)));
    candidates.find_map(|path| probe(&path))
}

/// Whether the program is there and runs: asked for its version, it says so.
fn probe(path: &Path) -> Option<Binary> {
    let said = Command::new(path).arg("--version").output().ok().filter(|said| said.status.success())?;
    // The demo starts it in another folder.
    Some(Binary { path: absolute(path).ok()?, version: version(&String::from_utf8_lossy(&said.stdout))? })
}

/// The family and number in "Redis server v=7.0.15 sha=…" or "kevy 7.0.0".
fn version(said: &str) -> Option<String> {
    let family = said.split_whitespace().next()?.to_lowercase();
    let number = match family.as_str() {
        "kevy" => said.split_whitespace().nth(1),
        _ => said.split_whitespace().find_map(|word| word.strip_prefix("v=")),
    }?;
    Some(format!("{family} {number}"))
}

/// The numbers in a version, to tell the newer one.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_family_says_its_version_in_its_own_way() {
        assert_eq!(version("Redis server v=7.0.15 sha=0:0 bits=64").as_deref(), Some("redis 7.0.15"));
        assert_eq!(version("Valkey server v=9.1.2 sha=0").as_deref(), Some("valkey 9.1.2"));
        assert_eq!(version("kevy 7.0.0\n").as_deref(), Some("kevy 7.0.0"));
        assert_eq!(version("bash 5.2"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn the_newest_kevy_plays() -> anyhow::Result<()> {
        let servers = tempfile::tempdir()?;
        assert!(kevy(Some(servers.path())).is_err_and(|why| why.to_string().contains("cargo xtask servers")));
        for number in ["7.0.0", "10.1.0", "9.9.9"] {
            let folder = servers.path().join(format!("kevy-{number}"));
            fs::create_dir(&folder)?;
            fs::write(folder.join("kevy"), format!("#!/bin/sh\necho kevy {number}\n"))?;
            fs::set_permissions(folder.join("kevy"), fs::Permissions::from_mode(0o755))?;
        }
        assert_eq!(kevy(Some(servers.path()))?.version, "kevy 10.1.0");
        Ok(())
    }
}
