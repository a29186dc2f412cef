//! `[snapshot]`: what snapshots may take up, and how they go out.

use std::ops::RangeInclusive;

use sluicegate_core::limits;
use toml::Spanned;

use super::checks::Checks;
use crate::config::file::Snapshot;
use crate::config::units::Size;

/// More than any disk; a larger number is a slip.
const DISK: RangeInclusive<Size> = Size(limits::MIB as u64)..=Size(1 << 50);
const SHIPS: RangeInclusive<usize> = 1..=1_000;
/// Slower ones would leave a replica without a byte for so long that it gives up.
const RATE: RangeInclusive<Size> = Size(64 * 1024)..=Size(1 << 40);

/// What is decided about snapshots of every view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotPlan {
    /// The most that they may take up in the data directory. Bytes.
    pub(crate) disk_bytes: u64,
    /// How many go out at once, over all views.
    pub(crate) ships_max: usize,
    /// How fast they go out, all of them together. Bytes a second; 0: as fast as they are taken.
    pub(crate) rate: u64,
}

pub(super) fn snapshot(written: &Snapshot, checks: &mut Checks) -> SnapshotPlan {
    let disk = checks.within("disk", written.disk.as_ref(), Size(limits::SNAPSHOT_DISK_BYTES), DISK);
    SnapshotPlan {
        disk_bytes: disk.0,
        ships_max: checks.within("ships", written.ships.as_ref(), limits::SHIPS_MAX, SHIPS),
        rate: rate("rate", written.rate.as_ref(), checks),
    }
}

/// Bytes a second; 0, or none written, is no limit.
pub(super) fn rate(name: &str, written: Option<&Spanned<Size>>, checks: &mut Checks) -> u64 {
    let limit = written.filter(|rate| rate.get_ref().0 > 0);
    checks.within(name, limit, Size(0), RATE).0
}
