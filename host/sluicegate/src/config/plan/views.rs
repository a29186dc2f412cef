//! `[[view]]` and `[[user]]`: what is served where, and to whom.

use std::ops::RangeInclusive;

use sluicegate_core::limits;
use sluicegate_core::rdb::{Family, ServerVersion};
use sluicegate_core::settings::{self, User, ViewSettings};
use toml::Spanned;

use super::ViewPlan;
use super::checks::{self, Checks};
use super::kevy::SHARDS;
use super::ports::Listen;
use super::snapshots;
use super::upstream::time;
use crate::config::address;
use crate::config::file::{self, File, Protocol, UnknownReplica, View};
use crate::config::units::Size;

const GIB: usize = 1 << 30;
/// More than any memory that can be had, and more of a stream than anyone comes back for; a larger number is a slip.
const BACKLOG_BYTES_MAX: usize = 1024 * GIB;
/// A refill must fit into the half of the output that stays free.
const OUTPUT_BYTES: RangeInclusive<usize> = 2 * limits::PUMP_BYTES_MAX..=GIB;
/// Positions within a batch are 32-bit numbers.
const FRAME_BYTES: RangeInclusive<usize> = limits::MIB..=2 * GIB;
const TRANSACTION_BYTES: RangeInclusive<usize> = limits::MIB..=16 * GIB;
const REPAIR_BYTES: RangeInclusive<usize> = limits::MIB..=16 * GIB;
/// Replicas must hear of a view that waits before they give it up.
const REPAIR_MS: RangeInclusive<u64> = 100..=limits::LINK_TIMEOUT_MS - 1;
const REPAIR_KEYS: RangeInclusive<usize> = 1..=1_000_000;
const STALLED_MS: RangeInclusive<u64> = 1_000..=86_400_000;
const REPLICAS: RangeInclusive<usize> = 1..=10_000;

/// What the core is told about the views, and where they listen.
pub(super) fn views(file: &File, checks: &mut Checks) -> (Vec<ViewPlan>, Vec<Listen>) {
    if file.views.is_empty() {
        checks.missing("there is no [[view]]: nothing would be served");
    }
    checks.unique("view", file.views.iter().map(|view| &view.name));
    let mut taken = Vec::new();
    let views = file
        .views
        .iter()
        .enumerate()
        .map(|(index, view)| {
            let mut settings = view_settings(view, checks);
            listen(index, view, &mut taken, checks);
            settings.port = taken.iter().find(|listen| listen.view == index).map_or(0, |listen| listen.first.port());
            let shards = view.shards.as_ref().map(|shards| checks.within("shards", Some(shards), 1, SHARDS));
            let snapshot_rate = snapshots::rate("snapshot_rate", view.snapshot_rate.as_ref(), checks);
            let pack = view.pack.as_ref().map(|name| name.get_ref().clone());
            ViewPlan { settings, pack, shards, snapshot_rate }
        })
        .collect();
    (views, taken)
}

fn listen(index: usize, view: &View, taken: &mut Vec<Listen>, checks: &mut Checks) {
    if view.listen.get_ref().is_empty() {
        checks.error(&view.listen, format!("view `{}` listens nowhere", view.name.get_ref()));
    }
    for text in view.listen.get_ref() {
        if let Some(first) = checks.take(text, address::listen(text.get_ref())) {
            taken.push(Listen { view: index, first, place: checks::place(text) });
        }
    }
}

fn view_settings(view: &View, checks: &mut Checks) -> ViewSettings {
    let mut settings = ViewSettings::new(view.name.get_ref());
    let limits = &view.limits;
    let output = &limits.replica_output;
    settings.pipeline = view.pipeline.iter().map(|name| name.get_ref().clone()).collect();
    settings.exact = view.exact.unwrap_or(settings.exact);
    settings.unknown_replica = match view.unknown_replica.as_ref().map(Spanned::get_ref) {
        Some(UnknownReplica::Refuse) => settings::UnknownReplica::Refuse,
        Some(UnknownReplica::Accept) | None => settings::UnknownReplica::Accept,
    };
    settings.floor = view.floor.as_ref().and_then(|floor| checks.take(floor, lowest(floor.get_ref())));
    settings.replicas_max = checks.within("max_replicas", view.max_replicas.as_ref(), settings.replicas_max, REPLICAS);
    let backlog = limits::BACKLOG_BYTES_MIN..=BACKLOG_BYTES_MAX;
    settings.backlog_bytes =
        size("backlog.memory", view.backlog.memory.as_ref(), settings.backlog_bytes, backlog, checks);
    let disk = Size(0)..=Size(BACKLOG_BYTES_MAX as u64);
    let written = view.backlog.disk.as_ref();
    settings.backlog_disk_bytes = checks.within("backlog.disk", written, Size(settings.backlog_disk_bytes), disk).0;
    let default = settings.replica_output_bytes.min(settings.backlog_bytes);
    settings.replica_output_bytes = size("replica_output.hard", output.hard.as_ref(), default, OUTPUT_BYTES, checks);
    settings.stalled_ms =
        time("replica_output.stalled_for", output.stalled_for.as_ref(), settings.stalled_ms, STALLED_MS, checks);
    settings.frame_bytes_max =
        size("limits.frame", limits.frame.as_ref(), settings.frame_bytes_max, FRAME_BYTES, checks);
    let transaction = (limits.transaction.as_ref(), settings.transaction_bytes_max);
    settings.transaction_bytes_max =
        size("limits.transaction", transaction.0, transaction.1, TRANSACTION_BYTES, checks);
    repair(view, &mut settings, checks);
    if let Some(hard) = output.hard.as_ref().filter(|_| settings.replica_output_bytes > settings.backlog_bytes) {
        let backlog = Size(settings.backlog_bytes as u64);
        checks.error(hard, format!("`replica_output.hard` is above the view's backlog, which is {backlog}"));
    }
    settings
}

/// The lowest server of a view, as `redis 7.0` or `valkey 8.1`.
fn lowest(text: &str) -> Result<ServerVersion, String> {
    let (name, version) = text.split_once(' ').unwrap_or((text, ""));
    let (family, oldest) = match name.to_ascii_lowercase().as_str() {
        "redis" => (Family::Redis, "6.2"),
        "valkey" => (Family::Valkey, "7.2"),
        _ => return Err(format!("bad floor `{text}`: write \"redis 7.0\" or \"valkey 8.1\"")),
    };
    let floor = ServerVersion::parse(family, version);
    let floor = floor.ok_or_else(|| format!("bad version `{version}` in the floor: write two numbers, as 7.0"))?;
    // What older servers know of commands is not known.
    match ServerVersion::parse(family, oldest) {
        Some(oldest) if !floor.covers(&oldest) => Err(format!("the floor is {floor}; it can be {oldest} and later")),
        _ => Ok(floor),
    }
}

/// What becomes of keys that depend on keys which the view does not have.
fn repair(view: &View, settings: &mut ViewSettings, checks: &mut Checks) {
    settings.cross_key = match view.cross_key.as_ref().map(Spanned::get_ref) {
        Some(file::CrossKey::Halt) => settings::CrossKey::Halt,
        Some(file::CrossKey::Drop) => settings::CrossKey::Drop,
        Some(file::CrossKey::Repair) | None => settings::CrossKey::Repair,
    };
    let drops = view.cross_key.as_ref().filter(|_| settings.cross_key == settings::CrossKey::Drop);
    if let Some(drops) = drops.filter(|_| settings.exact) {
        let name = view.name.get_ref();
        let message =
            format!("with this view `{name}` may differ from its primary: set `exact = false`, or use \"repair\"");
        checks.error(drops, message);
    }
    let (limits, bounds) = (&view.limits, &mut settings.repair);
    let window = (limits.repair_window.as_ref(), bounds.window_bytes_max);
    bounds.window_bytes_max = size("limits.repair_window", window.0, window.1, REPAIR_BYTES, checks);
    let value = (limits.repair_value.as_ref(), bounds.value_bytes_max);
    bounds.value_bytes_max = size("limits.repair_value", value.0, value.1, REPAIR_BYTES, checks);
    let held = (limits.repair_time.as_ref(), bounds.window_ms_max);
    bounds.window_ms_max = time("limits.repair_time", held.0, held.1, REPAIR_MS, checks);
    bounds.keys_max = checks.within("limits.repair_keys", limits.repair_keys.as_ref(), bounds.keys_max, REPAIR_KEYS);
}

/// A number of bytes between two bounds.
pub(super) fn size(
    name: &str,
    written: Option<&Spanned<Size>>,
    default: usize,
    range: RangeInclusive<usize>,
    checks: &mut Checks,
) -> usize {
    let range = Size(*range.start() as u64)..=Size(*range.end() as u64);
    let bytes = checks.within(name, written, Size(default as u64), range).0;
    usize::try_from(bytes).unwrap_or(default)
}

/// Who may connect.
pub(super) fn users(file: &File, checks: &mut Checks) -> Vec<User> {
    checks.unique("user", file.users.iter().map(|user| &user.name));
    let user = |user: &crate::config::file::User| {
        let digest = checks.take(&user.password_sha256, checks::digest(user.password_sha256.get_ref()));
        digest.map(|password_sha256| User { name: user.name.get_ref().clone(), password_sha256 })
    };
    file.users.iter().filter_map(user).collect()
}

/// Says which addresses let anybody copy the dataset.
pub(super) fn exposure(file: &File, listen: &[Listen], checks: &mut Checks) {
    if !file.users.is_empty() {
        return;
    }
    let why = match file.upstream.protocol.unwrap_or_default() {
        Protocol::Redis => "there is no [[user]]",
        Protocol::Kevy => "links of kevy replicas have no passwords",
    };
    for (index, view) in file.views.iter().enumerate() {
        let mut open = listen.iter().filter(|listen| listen.view == index && !listen.first.ip().is_loopback());
        if let Some(Listen { first, .. }) = open.next() {
            let message = format!("whoever reaches {first} can copy this view: {why}");
            checks.warning(&view.listen, message);
        }
    }
}
