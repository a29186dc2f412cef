//! The test harness: real servers, the real binary, taps that cut the wires between them, peers that misbehave, a workload
//! of every data type, and the comparison of what a replica holds with what the view of its primary holds.
//!
//! The stories themselves are in `tests/`, one file each.

pub mod client;
pub mod compare;
pub mod compared;
pub mod exact;
pub mod fake_primary;
pub mod kevy;
pub mod leash;
pub mod mini_replica;
pub mod ports;
pub mod proxy;
pub mod rdb;
pub mod server;
pub mod sim;
pub mod tap;
pub mod wait;
pub mod workload;
