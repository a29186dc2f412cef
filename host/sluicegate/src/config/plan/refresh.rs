//! `[snapshot]`: when the primary is asked for a newer one.

use sluicegate_core::limits;
use sluicegate_core::settings::RefreshSettings;
use toml::Spanned;

use super::checks::Checks;
use crate::config::file::Snapshot;
use crate::config::units::{Size, Time};

/// Below it a busy primary would do nothing but make snapshots.
const LOG_BYTES_MIN: u64 = 64 << 10;
const LOG_BYTES_MAX: u64 = 1 << 50;
const AGE_MS_MIN: u64 = 10_000;
const AGE_MS_MAX: u64 = 365 * 24 * 3_600_000;
const EVERY_MS_MIN: u64 = 1_000;

/// What the core is told of newer snapshots. A log or an age of 0 turns that reason off.
pub(super) fn refresh(written: &Snapshot, checks: &mut Checks) -> RefreshSettings {
    let unless_off = |at: Option<u64>, min: u64| if at == Some(0) { 0 } else { min };
    let log = written.refresh_log.as_ref();
    let log_min = unless_off(log.map(|log| log.get_ref().0), LOG_BYTES_MIN);
    let log_bytes =
        checks.within("refresh_log", log, Size(limits::REFRESH_LOG_BYTES), Size(log_min)..=Size(LOG_BYTES_MAX));
    let mut time = |name, at: Option<&Spanned<Time>>, default, min| {
        checks.within(name, at, Time(default), Time(min)..=Time(AGE_MS_MAX)).0
    };
    let age = written.refresh_age.as_ref();
    let age_min = unless_off(age.map(|age| age.get_ref().0), AGE_MS_MIN);
    RefreshSettings {
        log_bytes: log_bytes.0,
        age_ms: time("refresh_age", age, 0, age_min),
        every_ms: time("refresh_every", written.refresh_every.as_ref(), limits::REFRESH_EVERY_MS, EVERY_MS_MIN),
    }
}
