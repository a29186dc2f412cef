//! What must hold of any bytes whatever: one function for each fuzz target, which panics where something does not.
//!
//! `fuzz/driver` gives them to libFuzzer (`cargo xtask fuzz`); `tests/corpus.rs` replays `fuzz/corpus` and the recorded
//! snapshots of real servers, so that what was found once stays found.

mod heap;
mod listing;
mod rule;
mod snapshot;

pub use snapshot::snapshot;
