//! Which server can load which snapshot.
//!
//! A replica empties itself before it reads the first byte of a snapshot. One that it cannot read costs it all its data, at
//! every retry, so this has to be known before the snapshot is offered.

use super::{Summary, down};
use alloc::format;
use alloc::string::String;
use core::fmt;

/// Who wrote a snapshot, by its magic, or who a server descends from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Family {
    /// Redis; Valkey up to 8.1 writes the same magic.
    #[default]
    Redis,
    /// Valkey 9.0 and later.
    Valkey,
}

/// What Valkey took over from Redis 7.2: the last format of Redis that it reads.
const VALKEY_REDIS_FORMAT: u32 = 11;
/// The version at which Valkey began.
const FORK: (u32, u32) = (7, 2);

impl Family {
    /// Whose version this is: a payload has no magic. Redis numbers below 80, Valkey from there.
    pub(super) fn of_payload(version: u32) -> Self {
        if version >= 80 { Self::Valkey } else { Self::Redis }
    }

    /// Whether the walker reads snapshots of this family and version.
    pub(super) fn readable(self, version: u32) -> bool {
        match self {
            Self::Redis => (6..=14).contains(&version),
            Self::Valkey => version == 80,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "REDIS",
            Self::Valkey => "VALKEY",
        })
    }
}

/// The version of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerVersion {
    /// Redis, or Valkey of any version.
    pub family: Family,
    /// The first number of the version.
    pub major: u32,
    /// The second number of the version.
    pub minor: u32,
}

impl ServerVersion {
    /// Reads a version as servers write it, such as `8.2.3`. `None` without two numbers at the front.
    pub fn parse(family: Family, text: &str) -> Option<Self> {
        let mut numbers = text.split('.');
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?;
        let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
        Some(Self { family, major, minor: minor.get(..digits)?.parse().ok()? })
    }

    /// The newest format that the server is known to load.
    pub fn format(&self) -> Target {
        match self.family {
            Family::Valkey if self.major >= 9 => Target { family: Family::Valkey, version: 80 },
            _ => Target { family: Family::Redis, version: self.redis_format() },
        }
    }

    /// Whether a server of this version knows every command and every format that one of version `floor` knows.
    pub fn covers(&self, floor: &Self) -> bool {
        let version = |server: &Self| (server.major, server.minor);
        match (self.family, floor.family) {
            (Family::Redis, Family::Redis) | (Family::Valkey, Family::Valkey) => version(self) >= version(floor),
            // Valkey 7.2 is Redis 7.2 by another name; behind it each went its own way.
            (Family::Valkey, Family::Redis) => version(floor) <= FORK,
            (Family::Redis, Family::Valkey) => version(floor) <= FORK && version(self) >= FORK,
        }
    }

    /// The highest version of a snapshot with the magic REDIS that the server loads.
    fn redis_format(&self) -> u32 {
        match (self.family, self.major, self.minor) {
            // Valkey has stayed at what it took over from Redis 7.2, and calls later ones foreign.
            (Family::Valkey, ..) => VALKEY_REDIS_FORMAT,
            (_, ..=2, _) => 6,
            (_, 3, ..=1) => 6,
            (_, 3, _) => 7,
            (_, 4, _) => 8,
            (_, 5 | 6, _) => 9,
            (_, 7, ..=1) => 10,
            (_, 7, 2 | 3) => 11,
            (_, 7, _) | (_, 8, ..=5) => 12,
            (_, 8, 6 | 7) => 13,
            // Servers read what their elders wrote.
            _ => 14,
        }
    }
}

/// A format that snapshots are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// The family in its magic.
    pub family: Family,
    /// The version in its magic.
    pub version: u32,
}

impl Target {
    /// The oldest format that anything is rewritten for: that of Redis 5.0 to 6.2.
    pub const OLDEST: Self = Self { family: Family::Redis, version: 9 };

    /// Whether who reads this format reads another, too.
    pub fn covers(self, family: Family, version: u32) -> bool {
        match (self.family, family) {
            (Family::Redis, Family::Redis) => version <= self.version,
            (Family::Valkey, Family::Valkey) => version == self.version,
            (Family::Valkey, Family::Redis) => version <= VALKEY_REDIS_FORMAT,
            (Family::Redis, Family::Valkey) => false,
        }
    }

    /// The same for a payload of DUMP or FUNCTION DUMP, of which only the version tells the family.
    pub(crate) fn covers_payload(self, version: u32) -> bool {
        self.covers(Family::of_payload(version), version)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.version)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.family {
            Family::Redis => "Redis",
            Family::Valkey => "Valkey",
        };
        write!(f, "{name} {}.{}", self.major, self.minor)
    }
}

/// Whether `replica` can load a snapshot of `family` and `rdb_version`; if not, why, in words for the operator.
pub fn can_load(replica: &ServerVersion, family: Family, rdb_version: u32) -> Result<(), String> {
    let snapshot = format!("the upstream's snapshot has format {family} {rdb_version}");
    match (replica.family, family) {
        (Family::Redis, Family::Valkey) => Err(format!("{snapshot}, and {replica} reads only formats of Redis")),
        (Family::Valkey, Family::Valkey) if replica.major < 9 => {
            Err(format!("{snapshot}, which only Valkey 9.0 and later reads; the replica is {replica}"))
        }
        // 80 is what 9.0 and 9.1 read; of what comes after them nothing is known but that it reads what they write.
        (Family::Valkey, Family::Valkey) if rdb_version == 80 => Ok(()),
        (Family::Valkey, Family::Valkey) => Err(format!("{snapshot}, and {replica} is known to read VALKEY 80 only")),
        (_, Family::Redis) if rdb_version <= replica.redis_format() => Ok(()),
        (_, Family::Redis) => {
            Err(format!("{snapshot}, and {replica} reads formats up to REDIS {}", replica.redis_format()))
        }
    }
}

/// How a snapshot becomes one that `replica` can load: `None` if it can load it as it is.
///
/// # Errors
/// It cannot load it, and something in it cannot be rewritten without loss; what, in words for the operator.
pub fn fit(replica: &ServerVersion, summary: &Summary) -> Result<Option<Target>, String> {
    let Err(why) = can_load(replica, summary.family, summary.version) else { return Ok(None) };
    let target = replica.format();
    if !target.covers(Target::OLDEST.family, Target::OLDEST.version) {
        return Err(format!("{why}; nothing is rewritten for formats before {}", Target::OLDEST));
    }
    match down::obstacle(summary.family, &summary.kinds, target) {
        Some(what) => Err(format!("{why}; it cannot be rewritten in {target}, which has no {what}")),
        None => Ok(Some(target)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(family: Family, text: &str) -> ServerVersion {
        ServerVersion::parse(family, text).unwrap()
    }

    #[test]
    fn each_server_reads_up_to_its_own_format() {
        let redis = [("6.2.16", 9), ("7.0.15", 10), ("7.2.6", 11), ("7.4.1", 12), ("8.0.6", 12), ("8.4.0", 12)];
        let later = [("8.6.0", 13), ("8.8.0", 14), ("9.0.0", 14)];
        for (text, highest) in redis.into_iter().chain(later) {
            let replica = server(Family::Redis, text);
            assert_eq!(can_load(&replica, Family::Redis, highest), Ok(()), "{text}");
            assert!(can_load(&replica, Family::Redis, highest + 1).is_err(), "{text}");
            assert!(can_load(&replica, Family::Valkey, 80).is_err(), "{text} does not know the magic");
        }
    }

    #[test]
    fn valkey_refuses_what_redis_wrote_after_the_fork() {
        for text in ["7.2.7", "8.0.1", "8.1.8", "9.0.0", "9.1.2"] {
            let replica = server(Family::Valkey, text);
            assert_eq!(can_load(&replica, Family::Redis, 11), Ok(()), "{text}");
            for foreign in [12, 79, 80] {
                assert!(can_load(&replica, Family::Redis, foreign).is_err(), "{text} and {foreign}");
            }
            assert_eq!(can_load(&replica, Family::Valkey, 80).is_ok(), replica.major >= 9, "{text}");
            assert!(can_load(&replica, Family::Valkey, 79).is_err(), "{text}");
        }
    }

    #[test]
    fn the_reason_names_both_sides() {
        let reason = can_load(&server(Family::Redis, "7.0.15"), Family::Redis, 12).unwrap_err();
        assert_eq!(reason, "the upstream's snapshot has format REDIS 12, and Redis 7.0 reads formats up to REDIS 10");
    }

    #[test]
    fn versions_are_read_as_servers_write_them() {
        assert_eq!(server(Family::Valkey, "9.2-dev"), ServerVersion { family: Family::Valkey, major: 9, minor: 2 });
        for text in ["", "7", "seven.two", "7.", "7.x"] {
            assert_eq!(ServerVersion::parse(Family::Redis, text), None, "{text:?}");
        }
    }
}
