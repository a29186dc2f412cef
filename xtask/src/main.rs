//! `cargo xtask`: what people and CI run. One file per verb; what a verb does to the machine, it says.

mod bench;
mod build;
mod demo;
mod docs;
mod fetch;
mod fuzz;
mod servers;
mod sh;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "What people and CI run.", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// See Sluicegate at work: build it, get the servers, run `sluicegate demo`.
    Demo(demo::Args),
    /// Check everything, as CI does: tidy, fmt, clippy, docs, wasm, dependencies, doc tests, tests.
    Test(test::Args),
    /// Measure the release build; the report goes to target/bench/report.md.
    Bench(bench::Args),
    /// Feed what reads a peer's bytes with any bytes whatever, and watch what it reaches.
    Fuzz(fuzz::Args),
    /// Build the `sluicegate` binary, with the wasm targets that its plugins need.
    Build(build::Args),
    /// Write the pages of the documentation that are made from the code: docs/commands.md.
    Docs(docs::Args),
    /// Get the servers that tests and the demo talk to, into target/servers.
    Servers(servers::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Build(args) => build::run(&args),
        Verb::Docs(args) => docs::run(&args),
        Verb::Servers(args) => servers::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} {error:#}", sh::red("error:"));
            ExitCode::FAILURE
        }
    }
}
