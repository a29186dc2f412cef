//! `cargo xtask bench`: what Sluicegate costs, each figure beside its rivals' from the same run.
//!
//! Every case checks what comes out and fails loudly when a byte is missing, so that no figure is of work left undone.

mod crc;
mod e2e;
mod kevy;
mod latency;
mod memory;
mod micro;
mod middle;
mod primary;
mod process;
mod rdb;
mod relay;
mod repair;
mod report;
mod sink;
mod snapshot;
mod stream;
mod wire;

use std::net::SocketAddr;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::middle::Kind;
use crate::report::Report;

/// Measures Sluicegate beside chained replicas and a raw relay.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    /// What to measure; everything if nothing is named.
    #[arg(value_enum)]
    names: Vec<Name>,
    /// Rounds of each case, after one that is not counted.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// End-to-end cases whose titles contain this; may be given more than once.
    #[arg(long)]
    only: Vec<String>,
    /// SETs of the end-to-end cases.
    #[arg(long, default_value_t = 3_000_000)]
    frames: u64,
    /// Seconds of each latency run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// MiB of the snapshots of the memory case.
    #[arg(long, value_delimiter = ',', default_values_t = [320, 2048])]
    snapshots: Vec<u64>,
    /// Commands of the repair case.
    #[arg(long, default_value_t = 1_000_000)]
    repair_commands: u64,
    /// SETs of the kevy cases.
    #[arg(long, default_value_t = 1_000_000)]
    kevy_frames: u64,
    /// MiB of the snapshot of the kevy cases.
    #[arg(long, default_value_t = 64)]
    kevy_snapshot: u64,
    /// MiB of the snapshot that an idle kevy ships by itself, at little more than one a second.
    #[arg(long, default_value_t = 2)]
    kevy_idle: u64,
    #[command(flatten)]
    snapshot: snapshot::Sizes,
    #[command(subcommand)]
    helper: Option<Helper>,
}

/// The parts of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Rate, CPU and memory of the live stream, beside its rivals.
    E2e,
    /// The raw relay alone.
    Relay,
    /// What a middle adds to the way of a write.
    Latency,
    /// Memory while a large snapshot passes.
    Memory,
    /// The plugin call in one thread, beside native Rust.
    Micro,
    /// The live stream while values are fetched from the primary.
    Repair,
    /// The snapshot service: the walk, many replicas, memory, a long way.
    Snapshot,
    /// Live stream and snapshots of kevy.
    Kevy,
}

/// What the bench starts as processes of their own.
#[derive(Subcommand)]
enum Helper {
    /// Relays connections, looking at nothing.
    #[command(hide = true)]
    Relay { listen: SocketAddr, upstream: SocketAddr },
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Helper::Relay { listen, upstream }) = options.helper {
        return relay::run(listen, upstream);
    }
    let named = |name: Name| options.names.is_empty() || options.names.contains(&name);
    let mut report = Report::default();
    report.add(&format!(
        "# Bench report\n\n{}. The machine runs primary, middle and sink, and may be shared.",
        report::machine()
    ));
    if named(Name::Micro) {
        micro::run(&mut report, options.rounds)?;
    }
    if named(Name::E2e) {
        let wanted =
            |kind: &Kind| options.only.is_empty() || options.only.iter().any(|part| kind.title().contains(part));
        let cases: Vec<Kind> = e2e::CASES.into_iter().filter(wanted).collect();
        e2e::run(&mut report, &cases, options.frames, options.rounds)?;
    } else if named(Name::Relay) {
        e2e::run(&mut report, &[Kind::Direct, Kind::Relay], options.frames, options.rounds)?;
    }
    if named(Name::Latency) {
        latency::run(&mut report, options.seconds, options.rounds)?;
    }
    if named(Name::Memory) {
        memory::run(&mut report, &options.snapshots)?;
    }
    if named(Name::Repair) {
        repair::run(&mut report, options.repair_commands, options.rounds)?;
    }
    if named(Name::Snapshot) {
        snapshot::run(&mut report, &options.snapshot, options.rounds)?;
    }
    if named(Name::Kevy) {
        let sizes = kevy::Sizes {
            frames: options.kevy_frames,
            rounds: options.rounds,
            snapshot: options.kevy_snapshot,
            idle: options.kevy_idle,
        };
        kevy::run(&mut report, sizes)?;
    }
    report.add(&format!("At the end: {}.", report::machine()));
    println!("Saved as {}.", report.save()?.display());
    Ok(())
}
