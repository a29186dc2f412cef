//! The same for kevy: several shards, numbered frames, generations, and views that part the keys otherwise.
//!
//! The checkers: what a replica holds is, for each shard of the primary, what that shard held at some moment, and the
//! moment never moves back; numbers have no gap; nothing is said that a replica's dialect does not know; queues keep their
//! bounds; and when the faults stop, every replica becomes equal to the view of the primary.

pub mod keys;
pub mod lens;
pub mod plant;
pub mod primary;
pub mod replica;
pub mod shell;
pub mod truth;
pub mod words;
pub mod workload;
mod world;

use super::seeds;
pub use super::seeds::Failure;
pub use plant::Kind;
pub use world::World;

/// How a world is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// A fault that the checkers must see.
    pub plant: Option<Kind>,
    /// Every event is printed as it happens.
    pub aloud: bool,
}

/// What a world went through, if nothing went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Virtual time. Milliseconds.
    pub ms: u64,
    /// Comparisons of a replica with the truth.
    pub compared: u64,
    /// Frames that replicas applied.
    pub applied: u64,
    /// Snapshots that replicas loaded.
    pub loaded: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Attempts to reach the primary.
    pub dials: u64,
    /// Snapshots of the primary's shards.
    pub full_syncs: u64,
    /// Times that a shard of the primary let the proxy go on.
    pub partial_syncs: u64,
    /// Times that a replica went on where it was.
    pub continued: u64,
    /// Streams that halted.
    pub halts: u64,
    /// Times that the primary held a frame back.
    pub wedges: u64,
    /// A fingerprint of all that happened: a seed has only one.
    pub fingerprint: u64,
}

/// Runs the world of `seed` to its end.
pub fn run(seed: u64, options: Options) -> Result<Report, Failure> {
    let mut world = World::new(seed, options);
    match seeds::outcome(|| world.live()) {
        Ok(()) => Ok(world.report()),
        Err(what) => Err(seeds::failure("sim_kevy", seed, what, &world.story)),
    }
}
