//! What must hold of any bytes whatever: one function for each fuzz target, which panics where something does not.
//!
//! `fuzz/driver` gives them to libFuzzer (`cargo xtask fuzz`); `tests/corpus.rs` replays `corpus`, which the fuzzer
//! found, `handmade`, which it could not (a claim of 16 MiB reaches no other code than one of 16 bytes), and the recorded snapshots
//! of real servers.

mod down;
mod feed;
mod heap;
mod listing;
mod rule;
mod snapshot;

pub use down::down;
pub use snapshot::snapshot;
