//! `cargo xtask fuzz`: libFuzzer around the checks in `fuzz/`, for as long as one likes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::sh;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is fed with any bytes.
    #[arg(value_enum, default_value = "snapshot")]
    target: Target,
    /// How long: 30s, 10m, 1h.
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = time)]
    time: Duration,
    /// At the end, make the corpus in the repository anew: of what it had and what was found, as few inputs as reach as much.
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The upstream's snapshot: taken in, walked, rewritten for a view.
    Snapshot,
    /// The upstream's snapshot, written down for servers that cannot load it.
    Down,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Down => "down",
        }
    }

    /// Longest input in bytes: long enough for all that a part of the format can be, short enough for thousands in a second.
    fn input_bytes_max(self) -> usize {
        match self {
            Self::Snapshot | Self::Down => 3000,
        }
    }

    /// Inputs that lie elsewhere in the repository: those of real servers, those made by hand, and those of other targets.
    fn seeds(self) -> &'static [&'static str] {
        match self {
            Self::Snapshot => &["host/core/tests/rdb", "fuzz/handmade/snapshot"],
            // Few of the recorded snapshots' bytes are within the longest input.
            Self::Down => &["fuzz/handmade/down", "fuzz/handmade/snapshot", "fuzz/corpus/snapshot"],
        }
    }

    /// Words that inputs are made of.
    fn dictionary(self) -> &'static str {
        match self {
            Self::Snapshot | Self::Down => "fuzz/dictionaries/snapshot.dict",
        }
    }
}

/// What makes LLVM count edges and report comparisons. The stable compiler has it; sanitizers it has not, and the core, which
/// forbids `unsafe`, needs none.
const INSTRUMENTATION: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "--cfg=fuzzing",
];

/// Inputs above this are too slow to be sound, and a live heap above this, in MiB, is too large.
const SECONDS_AN_INPUT: u32 = 20;
const HEAP_MIB: u32 = 1024;

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (target, name) = (args.target, args.target.name());
    let program = build(name)?;
    let work = sh::target_dir().join("fuzz");
    let corpus = sh::root().join("fuzz/corpus").join(name);
    let (found, finds) = (work.join("corpus").join(name), work.join("finds").join(name));
    for dir in [&found, &finds, &corpus] {
        fs::create_dir_all(dir).with_context(|| format!("could not make {}", dir.display()))?;
    }
    let mut fuzz = Command::new(&program);
    fuzz.args([&found, &corpus]).args(target.seeds().iter().map(|seeds| sh::root().join(seeds)));
    fuzz.arg(format!("-dict={}", sh::root().join(target.dictionary()).display()));
    fuzz.arg(format!("-artifact_prefix={}/", finds.display()));
    fuzz.arg(format!("-max_total_time={}", args.time.as_secs()));
    fuzz.args([format!("-max_len={}", target.input_bytes_max()), format!("-timeout={SECONDS_AN_INPUT}")]);
    fuzz.args([format!("-rss_limit_mb={HEAP_MIB}"), "-print_final_stats=1".into()]);
    let shown = sh::shown(&finds);
    sh::run(&mut fuzz)
        .with_context(|| format!("{name}: what does not hold stands above; its input lies in {shown}"))?;
    if args.keep {
        keep(&program, target, &corpus, &found)?;
    }
    Ok(())
}

/// Builds the driver and returns the target's program.
fn build(name: &str) -> Result<PathBuf> {
    let host = host()?;
    let dir = sh::target_dir().join("fuzz");
    // With a target named, cargo keeps the instrumentation away from build scripts.
    let mut build = sh::cargo(&["build", "--release", "--manifest-path", "fuzz/driver/Cargo.toml", "--target", &host]);
    build.args(["--bin", name]).env("CARGO_TARGET_DIR", &dir).env("RUSTFLAGS", INSTRUMENTATION.join(" "));
    sh::run(&mut build).context("libFuzzer is C++: it needs a compiler for that, `c++` or the one that CXX names")?;
    let program = dir.join(host).join("release").join(name);
    if !program.is_file() {
        bail!("cargo built the driver, but not as {}", program.display());
    }
    Ok(program)
}

/// The compiler's name for this machine.
fn host() -> Result<String> {
    let told = sh::output(sh::program("rustc").arg("-vV"))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(String::from).context("rustc does not say what it runs on")
}

/// Replaces the corpus by the fewest inputs that reach as much as it and what was found.
fn keep(program: &Path, target: Target, corpus: &Path, found: &Path) -> Result<()> {
    let fewest = found.with_extension("fewest");
    fs::remove_dir_all(&fewest).or_else(|error| missing_is_fine(&error).then_some(()).ok_or(error))?;
    fs::create_dir_all(&fewest)?;
    let mut merge = Command::new(program);
    // By edges alone: how often each was passed would keep four times as many inputs.
    merge.args(["-set_cover_merge=1", "-use_counters=0", &format!("-max_len={}", target.input_bytes_max())]);
    sh::run(merge.args([&fewest, &corpus.to_path_buf(), &found.to_path_buf()]))?;
    for old in fs::read_dir(corpus)? {
        fs::remove_file(old?.path())?;
    }
    let mut inputs = 0;
    for input in fs::read_dir(&fewest)? {
        let input = input?;
        fs::copy(input.path(), corpus.join(input.file_name()))?;
        inputs += 1;
    }
    eprintln!("{} {}: {inputs} inputs", sh::green("corpus"), sh::shown(corpus));
    Ok(())
}

fn missing_is_fine(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// A number and its unit.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a time is a number and s, m or h, such as 10m".into()),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|&seconds| seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| format!("'{digits}' is no number of {}", &text[digits.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        assert_eq!(time("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        for wrong in ["", "10", "h", "0s", "1d", "-1s", "99999999999999999999h"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
