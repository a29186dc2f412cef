//! Exactness against real servers: random commands for every row of the command table, a stage of a primary, the proxy and
//! a replica behind a view, and the comparison of what the replica holds with what the view makes of the primary.
//!
//! Keys are named `fate:content:n`: `keep:` keys are in the view, `ren:` keys are in it under `moved:`, `drop:` keys are not.

mod draw;
mod generator;
mod line;
pub mod rows;
mod sieve;
mod stage;
mod templates;

pub use draw::Mix;
pub use generator::{Generator, known};
pub use sieve::Tamper;
pub use stage::{DIFFERS, Lens, Stage};

/// What the random commands are drawn from where nothing else is asked for: a suite that fails has to fail again.
const SEED: u64 = 7;

/// The seed of a run: `SLUICEGATE_EXACT_SEED`, a number or `random`.
///
/// # Errors
/// It is something else.
pub fn seed() -> anyhow::Result<u64> {
    match std::env::var("SLUICEGATE_EXACT_SEED").as_deref() {
        Err(_) => Ok(SEED),
        Ok("random") => Ok(fastrand::u64(..1_000_000)),
        Ok(text) => text.parse().map_err(|_| anyhow::anyhow!("SLUICEGATE_EXACT_SEED={text} is no number")),
    }
}
