//! Who plays the primary and the replicas.

use super::servers::Binary;

/// Shards of every kevy in the demo: enough for keys to move between them.
const KEVY_SHARDS: u16 = 2;

/// Who plays.
pub(super) enum Cast {
    /// The demo itself: it knows strings only.
    Model,
    /// Servers of Redis or Valkey.
    Redis(Binary),
    /// Servers of kevy.
    Kevy(Binary),
}

impl Cast {
    /// How many streams each server and each view has, each on a port of its own.
    pub(super) fn shards(&self) -> u16 {
        match self {
            Self::Model | Self::Redis(_) => 1,
            Self::Kevy(_) => KEVY_SHARDS,
        }
    }

    /// Whether it is kevy that plays.
    pub(super) fn is_kevy(&self) -> bool {
        matches!(self, Self::Kevy(_))
    }

    /// The name and version, for people.
    pub(super) fn version(&self) -> String {
        match self {
            Self::Model => "a model inside the demo, as the replicas are".into(),
            Self::Redis(binary) => binary.version.clone(),
            Self::Kevy(binary) => format!("{}, like the replicas with {KEVY_SHARDS} shards", binary.version),
        }
    }
}
