//! Faults planted between the proxy and its peers: each is a bug that the proxy could have, and that a checker must see.

use super::replica::Harm;
use crate::sim::rng::Rng;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A frame is lost before it is numbered.
    FrameLost,
    /// A frame goes out twice.
    FrameTwice,
    /// A number is left out.
    NumberSkipped,
    /// Every history of a stream begins with the same number.
    NumbersReused,
    /// A replica that comes back goes on one frame late.
    ResumeLate,
    /// Keys are routed by another rule than the servers'.
    WrongShard,
    /// A merged snapshot lacks a shard of the primary.
    ShardMissing,
    /// A snapshot is served that an earlier one was taken for.
    SnapshotStale,
    /// The snapshot of a view with plugins is not asked about.
    SnapshotLeaks,
    /// A plugin's answers change with time.
    FicklePlugin,
    /// The primary forgets a write and says nothing.
    UpstreamForks,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::FrameLost,
        Self::FrameTwice,
        Self::NumberSkipped,
        Self::NumbersReused,
        Self::ResumeLate,
        Self::WrongShard,
        Self::ShardMissing,
        Self::SnapshotStale,
        Self::SnapshotLeaks,
        Self::FicklePlugin,
        Self::UpstreamForks,
    ];
}

/// A planted fault at work.
#[derive(Debug)]
pub struct Plant {
    /// What is wrong.
    pub kind: Kind,
    rng: Rng,
}

impl Plant {
    /// Plants `kind`.
    pub fn new(kind: Kind, rng: Rng) -> Self {
        Self { kind, rng }
    }

    /// Whether `kind` was planted, and strikes now.
    pub fn strikes(plant: &mut Option<Self>, kind: Kind, permille: u64) -> bool {
        plant.as_mut().is_some_and(|plant| plant.kind == kind && plant.rng.permille(permille))
    }

    /// What becomes of a replica's next frame.
    pub fn harm(plant: &mut Option<Self>) -> Harm {
        if Self::strikes(plant, Kind::FrameLost, 5) {
            Harm::Lose
        } else if Self::strikes(plant, Kind::FrameTwice, 5) {
            Harm::Repeat
        } else {
            Harm::None
        }
    }
}
