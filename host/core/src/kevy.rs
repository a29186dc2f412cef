//! kevy's replication: its conversation, its snapshots, and which key lies in which shard.
//!
//! A kevy primary has one stream for each shard, on a port of its own, with a generation and offsets of its own. An offset
//! counts frames, not bytes, and has to be without a gap; a generation names the history that the offsets belong to.
//!
//! * [`wire`] writes what is said; [`Scanner`] reads what a primary says, [`Listener`] what a replica says.
//! * [`snapshot`] walks, verifies and rewrites KEVYSNAP bodies as they come.
//! * [`route`] knows the shard of a key, for a key that got a new name may belong to another stream.
//!
//! Nothing in here knows of links, time or views.

mod envelope;
mod error;
mod listener;
pub mod machine;
pub mod projection;
pub mod replica;
pub mod route;
mod scanner;
pub mod settings;
pub mod snapshot;
mod stream;
mod up;
pub mod view;
pub mod wire;

pub use error::{WireError, Wrong};
pub use listener::{AskError, Asked, Listener, Said};
pub use scanner::{Event, Scanner};

/// The versions of the plain conversation. Frames and the framing of snapshots are the same in all; a replica and a
/// primary of different dialects do not understand each other's handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// kevy 1.18 to 3.8: `REPLICATE FROM <offset> ID <id>`, answered `+ACK <offset>`. No signs of life in either direction:
    /// a `+PING` makes such a replica drop the link.
    K1,
    /// kevy 3.17 and 3.18: the handshake of [`Dialect::K1`], and `+PING` down and `REPLCONF ACK` up.
    K2,
    /// kevy 4.0 to 7.0: `REPLICATE FROM <generation> <offset> ID <id>`, answered `+ACK <generation> <offset>`.
    K3,
}

impl Dialect {
    /// Whether the handshake names a generation, so that a cursor of another history is recognised.
    pub fn has_generation(self) -> bool {
        self == Self::K3
    }

    /// Whether the primary sends `+PING` and the replica acknowledges.
    pub fn has_heartbeat(self) -> bool {
        self != Self::K1
    }
}
