//! `sluicegate rdb`: dump files, without a server.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;

use super::exit;
use crate::bootstrap;
use crate::config;
use crate::rdb::{cat, diff, filter};

const RUN_EXAMPLES: &str = "\
Example:
  sluicegate rdb run dump.rdb --plugin builtin:key-filter --set 'key-filter.allow=user:*' --out users.rdb

The new dump is written beside --out, read back, and only then takes its name: what is there under it is a whole dump at all
times. It is of a history of its own: no server takes it for a point of the old one's.
Exit codes: 0 ok, 64 usage, 74 a file is damaged, or cannot be read or written, 78 a plugin cannot be used or failed";

const CAT_EXAMPLES: &str = "\
Examples:
  sluicegate rdb cat dump.rdb
  sluicegate rdb cat dump.rdb --json | jq -r 'select(.type == \"hash\" and .bytes > 1000000) | .key'

A line for each key: its database, type, size and encoding, and when it expires (Unix milliseconds). The last lines say
what the dump is. Whether it is damaged may be known at its end only: see the exit code.
Exit codes: 0 ok, 64 usage, 74 the file is damaged or cannot be read";

const DIFF_EXAMPLES: &str = "\
Example:
  sluicegate rdb diff yesterday.rdb today.rdb

Keys are compared with their expiries and values, whatever wrote the dumps and in whatever order: a value is what it is made
of, not its encoding. By their bytes alone are compared: what modules keep, types that are not looked into, and what is above
64 MiB in one packed piece; where such a value is written in two ways, it is undecided. Left out are counters of streams and
times of reading, idle times and frequencies, what a dump says of itself, and what modules keep beside keys.
+ is in the second dump only, - in the first only, ! differs, ? is undecided.
Memory: 64 MiB for each dump and 64 MiB for a packed value; what is more lies in a temporary file (TMPDIR).
Exit codes: 0 equal, 1 different, 2 nothing different but some keys undecided, 64 usage, 74 a file is damaged or cannot be read";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Run a pipeline of plugins over a dump file
    Run(RunArgs),
    /// Show the keys of a dump file
    Cat(CatArgs),
    /// Compare two dump files, key by key
    Diff(DiffArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = RUN_EXAMPLES)]
struct RunArgs {
    /// The dump
    file: PathBuf,

    /// A component, or `builtin:NAME`. May be repeated: a pipeline, in this order
    #[arg(long, value_name = "X.WASM", required = true)]
    plugin: Vec<String>,

    /// A plugin's setting. May be repeated
    #[arg(long, value_name = "PLUGIN.KEY=VALUE")]
    set: Vec<String>,

    /// The new dump. What is there is replaced
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(after_help = CAT_EXAMPLES)]
struct CatArgs {
    /// The dump
    file: PathBuf,

    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = DIFF_EXAMPLES)]
struct DiffArgs {
    /// The first dump
    first: PathBuf,

    /// The second dump
    second: PathBuf,

    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        match self.verb {
            Verb::Run(args) => args.run(),
            Verb::Cat(args) => args.run(),
            Verb::Diff(args) => args.run(),
        }
    }
}

impl RunArgs {
    fn run(self) -> anyhow::Result<u8> {
        let plugins = config::plugins(&self.plugin, &self.set)?;
        let stats = bootstrap::filter_dump(&plugins, &self.file, &self.out)?;
        println!("{}", filter::told(&stats, &self.file, &self.out));
        Ok(exit::OK)
    }
}

impl CatArgs {
    fn run(self) -> anyhow::Result<u8> {
        match printed(|out| cat::cat(&self.file, self.json, out)) {
            // Who reads the lines has seen enough, as `head` has after ten.
            Err(error) if is_closed_pipe(&error) => Ok(exit::OK),
            result => result.map(|()| exit::OK),
        }
    }
}

impl DiffArgs {
    fn run(self) -> anyhow::Result<u8> {
        let findings = printed(|out| diff::diff(&self.first, &self.second, self.json, out))?;
        Ok(match (findings.different(), findings.undecided()) {
            (0, 0) => exit::OK,
            (0, _) => exit::UNDECIDED,
            _ => exit::DIFFERENT,
        })
    }
}

/// Lets `print` write to standard output. What it wrote is there even if it failed.
fn printed<T>(print: impl FnOnce(&mut dyn Write) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = print(&mut out);
    let flushed = out.flush().context("standard output");
    result.and_then(|done| flushed.map(|()| done))
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
