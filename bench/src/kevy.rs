//! kevy: the same questions for its replication, where an offset counts frames and every shard has a stream of its own.
//! One shard, between a canned primary or a real one of version 6.4 and a sink or a real replica.

mod body;
mod live;
mod middle;
mod primary;
mod server;
mod ship;
mod sink;
mod stream;

use anyhow::Result;

use crate::middle::Kind;
use crate::report::Report;
use crate::stream::View;

/// How much of everything.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    /// SETs of the live cases.
    pub(crate) frames: u64,
    /// Rounds of each case, after one that is not counted.
    pub(crate) rounds: usize,
    /// MiB of the snapshot.
    pub(crate) snapshot: u64,
    /// MiB of the snapshot that an idle kevy ships: it sends one piece of 64 KiB in each of its twenty turns a second, so
    /// that its rate does not depend on the size, but the length of the bench does.
    pub(crate) idle: u64,
}

/// Measures the live stream and the ships, if there is a kevy.
pub(crate) fn run(report: &mut Report, sizes: Sizes) -> Result<()> {
    let ours = [Kind::Sluicegate(View::Plain)];
    if ours[0].program().is_none() {
        report.missing(&ours);
        return Ok(());
    }
    let Some(kevy) = server::program() else {
        report.add("## kevy\n\nskipped: no kevy 6.4 in target/servers; `cargo xtask servers` fetches it.");
        return Ok(());
    };
    live::run(report, &kevy, sizes)?;
    ship::run(report, &kevy, sizes)
}
