//! A simulated world: the core's machine between a model primary and model replicas, on virtual time, from a seed.
//!
//! One thread, no sockets, no clock: a seed gives the same world again, to the byte. First come faults (links are cut at any
//! byte, peers stall, primaries fail over, snapshots arrive damaged, plugins fail), with checkers that look at every step;
//! then the faults stop, and every replica of a view that did not halt must become equal to what the primary holds.

pub mod check;
pub mod data;
pub mod disk;
pub mod kevy;
pub mod lens;
pub mod plant;
pub mod primary;
pub mod rdb;
pub mod replay;
pub mod replica;
pub mod rng;
pub mod seeds;
pub mod shell;
pub mod story;
pub mod truth;
pub mod wire;
pub mod workload;
mod world;

pub use plant::Kind;
pub use seeds::Failure;
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
    /// Commands that replicas applied.
    pub applied: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Snapshots of the primary.
    pub full_syncs: u64,
    /// Attempts to reach the primary.
    pub dials: u64,
    /// Times that the primary let the proxy go on.
    pub partial_syncs: u64,
    /// Unfinished transactions that were taken back.
    pub cut_backs: u64,
    /// Snapshots that replicas were given.
    pub snapshots: u64,
    /// Times that a replica went on where it was.
    pub continued: u64,
    /// Times that the proxy was started again.
    pub restarts: u64,
    /// Values that views got from the primary.
    pub repaired: u64,
    /// Newer snapshots of the history that was followed.
    pub refreshes: u64,
    /// Attempts to reach the primary for them.
    pub refresh_dials: u64,
    /// Times that the proxy was started again and went on behind the snapshot that it had.
    pub resumed: u64,
    /// Attempts to reach the primary for single keys.
    pub value_dials: u64,
    /// Views that halted.
    pub halts: u64,
    /// Times that a replica was given bytes from a log.
    pub log_reads: u64,
    /// Times that a log was lost.
    pub log_failures: u64,
    /// A fingerprint of all that happened: a seed has only one.
    pub fingerprint: u64,
}

/// Runs the world of `seed` to its end.
pub fn run(seed: u64, options: Options) -> Result<Report, Failure> {
    let mut world = World::new(seed, options);
    match seeds::outcome(|| world.live()) {
        Ok(()) => Ok(world.report()),
        Err(what) => Err(seeds::failure("sim", seed, what, &world.story)),
    }
}
