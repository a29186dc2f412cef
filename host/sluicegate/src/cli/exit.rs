//! Exit codes, as in sysexits.h: a service manager restarts what may heal, not what the operator must change.

use std::fmt;
use std::io;
use std::process::ExitCode;

use sluicegate_guest::LoadError;

use crate::config::ConfigError;
use crate::demo::Interrupted;

/// All went well.
pub(crate) const OK: u8 = 0;
/// What was compared is not equal.
pub(crate) const DIFFERENT: u8 = 1;
/// Nothing was found to be different, but not all could be found out.
pub(crate) const UNDECIDED: u8 = 2;
/// The command line makes no sense.
pub(crate) const USAGE: u8 = 64;
/// A fault of our own.
pub(crate) const BUG: u8 = 70;
/// The system did not do what we asked: a port is taken, a disk is full.
pub(crate) const IO: u8 = 74;
/// The configuration, or a plugin that it names, cannot be used.
pub(crate) const CONFIG: u8 = 78;

/// Ctrl-C, as a shell says it.
pub(crate) const INTERRUPTED: u8 = 130;

/// The command line makes no sense, though it can be parsed. Says how it would.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Says on standard error why the program ends, and with which code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let code = code(error);
    if code == CONFIG && error.is::<ConfigError>() {
        eprintln!("{error}");
    } else {
        eprintln!("sluicegate: {error:#}");
    }
    code.into()
}

fn code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<ConfigError>() || cause.is::<LoadError>()) {
        CONFIG
    } else if error.is::<UsageError>() {
        USAGE
    } else if error.is::<Interrupted>() {
        INTERRUPTED
    } else if error.chain().any(|cause| cause.is::<io::Error>()) {
        IO
    } else {
        BUG
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_cause_decides_however_deep_it_is() {
        let refused = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(code(&anyhow::Error::from(refused).context("listening").context("view `eu`")), IO);
        let config: Result<(), _> = Err(ConfigError("no".into()));
        assert_eq!(code(&config.context("plugin").unwrap_err()), CONFIG);
        assert_eq!(code(&UsageError("no".into()).into()), USAGE);
        assert_eq!(code(&anyhow::anyhow!("what cannot be")), BUG);
    }
}
