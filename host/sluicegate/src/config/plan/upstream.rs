//! `[upstream]`: the primary, and how to attach to it.

use std::path::Path;

use sluicegate_core::limits;
use sluicegate_core::settings::UpstreamSettings;

use super::checks::Checks;
use crate::config::address;
use crate::config::file::Upstream;
use crate::config::units::Time;

/// Acknowledgements go out every second: a shorter timeout would call a healthy link dead.
const TIMEOUT_MS_MIN: u64 = 3 * limits::ACK_EVERY_MS;
const TIMEOUT_MS_MAX: u64 = 3_600_000;
const BACKOFF_MS_MIN: u64 = 10;
const BACKOFF_MS_MAX: u64 = 600_000;

/// What the core is told about the primary. `first_port` is what is announced unless the file says otherwise.
pub(super) fn upstream(written: &Upstream, folder: &Path, first_port: u16, checks: &mut Checks) -> UpstreamSettings {
    let (host, port) = checks.take(&written.address, address::upstream(written.address.get_ref())).unwrap_or_default();
    let mut settings = UpstreamSettings::new(&host, port);
    settings.username = written.username.as_ref().map(|name| name.get_ref().clone());
    settings.password = password(written, folder, checks);
    if let (Some(name), None) = (&written.username, &settings.password) {
        checks.error(name, "a username needs a password: set `password_file` or `password_env`".into());
    }
    settings.announce_port = checks.within("announce_port", written.announce_port.as_ref(), first_port, 1..=u16::MAX);
    if let Some(version) = &written.announce_version {
        if is_version(version.get_ref()) {
            settings.announce_version.clone_from(version.get_ref());
        } else {
            checks.error(version, format!("bad version `{}`: write it like \"9.1.0\"", version.get_ref()));
        }
    }
    let patience = patience(written, checks);
    settings.timeout_ms = patience.timeout_ms;
    (settings.backoff_min_ms, settings.backoff_max_ms) = patience.backoff_ms;
    settings
}

/// How long a primary is waited for. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// Silence after which a link counts as dead.
    pub(crate) timeout_ms: u64,
    /// The first delay before a new attempt, and the longest one.
    pub(crate) backoff_ms: (u64, u64),
}

/// `timeout` and `backoff`, which primaries of every protocol have.
pub(super) fn patience(written: &Upstream, checks: &mut Checks) -> Patience {
    let timeout = (written.timeout.as_ref(), TIMEOUT_MS_MIN..=TIMEOUT_MS_MAX);
    let timeout_ms = time("timeout", timeout.0, limits::LINK_TIMEOUT_MS, timeout.1, checks);
    let range = || BACKOFF_MS_MIN..=BACKOFF_MS_MAX;
    let (min, max) = (written.backoff.min.as_ref(), written.backoff.max.as_ref());
    let min_ms = time("backoff.min", min, limits::BACKOFF_MIN_MS, range(), checks);
    let max_ms = time("backoff.max", max, limits::BACKOFF_MAX_MS, range(), checks);
    if let Some(at) = min.or(max).filter(|_| min_ms > max_ms) {
        let (low, high) = (Time(min_ms), Time(max_ms));
        checks.error(at, format!("`backoff.min` is {low}, above `backoff.max`, which is {high}"));
    }
    Patience { timeout_ms, backoff_ms: (min_ms, max_ms) }
}

/// A time between two bounds, all in milliseconds.
pub(super) fn time(
    name: &str,
    written: Option<&toml::Spanned<Time>>,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    checks: &mut Checks,
) -> u64 {
    checks.within(name, written, Time(default), Time(*range.start())..=Time(*range.end())).0
}

fn password(written: &Upstream, folder: &Path, checks: &mut Checks) -> Option<String> {
    if let (Some(_), Some(variable)) = (&written.password_file, &written.password_env) {
        checks.error(variable, "there are two passwords: keep `password_file` or `password_env`".into());
    }
    if let Some(file) = &written.password_file {
        let path = folder.join(file.get_ref());
        // An editor's newline at the end is not a part of the password.
        let text = std::fs::read_to_string(&path).map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        return checks.take(file, text.map_err(|error| format!("cannot read {}: {error}", path.display())));
    }
    let variable = written.password_env.as_ref()?;
    let text = std::env::var(variable.get_ref());
    checks.take(variable, text.map_err(|_| format!("the environment has no text called `{}`", variable.get_ref())))
}

fn is_version(text: &str) -> bool {
    let mut parts = 0;
    text.split('.').all(|part| {
        parts += 1;
        part.parse::<u8>().is_ok() && part.bytes().all(|byte| byte.is_ascii_digit())
    }) && parts == 3
}
