//! The snapshot service: what a walk costs, what many replicas cost the primary, what memory is held, what a long way costs.

mod bounds;
mod client;
mod joins;
mod walk;
mod wan;

use anyhow::Result;
use clap::ValueEnum;

use crate::report::Report;

/// Sizes; the defaults are those that the figures in the documentation are of.
#[derive(clap::Args)]
pub(crate) struct Sizes {
    /// Parts of the snapshot case; all if none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// MiB of the snapshots that are walked.
    #[arg(long, default_value_t = 2048)]
    walk: u64,
    /// MiB that the primary of the joining replicas holds.
    #[arg(long, default_value_t = 1024)]
    join: u64,
    /// Seconds within which the replicas join.
    #[arg(long, default_value_t = 60)]
    join_seconds: u64,
    /// Replicas that join, a fourth of them in each view.
    #[arg(long, default_value_t = 20)]
    replicas: usize,
    /// MiB of the snapshot with stalled replicas.
    #[arg(long, default_value_t = 4096)]
    bound: u64,
    /// MiB of the largest value in it.
    #[arg(long, default_value_t = 512)]
    large: u64,
    /// Replicas that stop reading.
    #[arg(long, default_value_t = 10)]
    stalled: usize,
    /// MiB of values that go over the long way.
    #[arg(long, default_value_t = 256)]
    wan: u64,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A walk with a filter, as a component and in native Rust.
    Walk,
    /// Replicas of unlike views that join a real primary.
    Joins,
    /// Memory with a huge value and replicas that stop reading.
    Bounds,
    /// A long way, with and without Sluicegate at both of its ends.
    Wan,
}

/// Measures what is named.
pub(crate) fn run(report: &mut Report, sizes: &Sizes, rounds: usize) -> Result<()> {
    let named = |part: Part| sizes.parts.is_empty() || sizes.parts.contains(&part);
    if named(Part::Walk) {
        walk::run(report, sizes.walk, rounds)?;
    }
    if named(Part::Joins) {
        joins::run(report, sizes.join, sizes.replicas, sizes.join_seconds)?;
    }
    if named(Part::Bounds) {
        bounds::run(report, sizes.bound, sizes.large, sizes.stalled)?;
    }
    if named(Part::Wan) {
        wan::run(report, sizes.wan)?;
    }
    Ok(())
}
