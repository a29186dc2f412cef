//! The command line: one module a verb.

mod compare;
pub(crate) mod exit;
mod explain;
mod rdb;
mod run;
mod status;
mod validate;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::demo;

const EXAMPLES: &str = "\
Examples:
  sluicegate demo                                  see it work, with nothing to prepare
  sluicegate run --upstream db:6379 --listen :7000 serve replicas of db on 127.0.0.1:7000
  sluicegate run --config sluicegate.toml          the same from a file: views, plugins, users
  sluicegate validate --config sluicegate.toml     find mistakes before they are used
  sluicegate status 127.0.0.1:7000 --watch         how is it, each second
  sluicegate compare --config sluicegate.toml --view eu --replica replica:6379
                                                   does the replica hold what it must?
  sluicegate explain 'RENAME a b' --view eu        what a view makes of a command, and why
  sluicegate rdb diff yesterday.rdb today.rdb      in what do two dump files differ?

Exit codes: 0 ok, 64 usage, 70 our own fault, 74 input or output, 78 configuration";

/// Ours and the engine's: a report of a fault needs both.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (wasmtime ", env!("WASMTIME_VERSION"), ")");

/// A WebAssembly-extensible replication proxy for Redis and Valkey.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version = VERSION, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Follow a primary and serve its views to replicas
    Run(Box<run::Args>),
    /// Check a configuration without binding a port or writing a file
    Validate(validate::Args),
    /// Show how a running proxy is: its primary, views, replicas, and snapshots on their way
    Status(status::Args),
    /// Check that a replica holds exactly its view of the primary, key by key, while both work
    Compare(compare::Args),
    /// Tell what a view makes of a command, and why, without a primary
    Explain(explain::Args),
    /// Filter, show and compare dump files, without a server
    Rdb(rdb::Args),
    /// Show a primary, the proxy and two replicas at work, and check the replicas
    Demo(demo::Args),
    /// Run a program that ends when the process PARENT ends
    #[command(hide = true)]
    WithParent(demo::process::WithParent),
}

/// The password in a file, if one is named.
fn password(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            let code = if answer.use_stderr() { exit::USAGE } else { exit::OK };
            // A closed terminal is no reason for another error.
            let _ = answer.print();
            return code.into();
        }
    };
    let done = match cli.verb {
        Verb::Run(args) => args.run().map(|()| exit::OK),
        Verb::Validate(args) => args.run().map(|()| exit::OK),
        Verb::Compare(args) => args.run(),
        Verb::Explain(args) => args.run().map(|()| exit::OK),
        Verb::Status(args) => args.run().map(|()| exit::OK),
        Verb::Rdb(args) => args.run(),
        Verb::Demo(args) => args.run().map(|()| exit::OK),
        Verb::WithParent(args) => args.run().map(|()| exit::OK),
    };
    match done {
        Ok(code) => code.into(),
        Err(error) => exit::report(&error),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
