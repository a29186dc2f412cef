//! Waiting for a condition, with a deadline: the only way in which a story waits.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a story waits for something that must come, if nothing better is known. Loaded machines are slow, broken ones for ever.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `condition` until it is true.
///
/// # Errors
/// The deadline passed; the message says what was waited for. Errors of the condition end the wait at once.
pub fn wait_for(what: &str, patience: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_some(what, patience, || Ok(condition()?.then_some(())))
}

/// Asks `probe` until it has an answer, and returns that.
///
/// # Errors
/// As [`wait_for`].
pub fn wait_some<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if start.elapsed() > patience {
            bail!("waited {:.1} s in vain for: {what}", patience.as_secs_f32());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(25));
    }
}
