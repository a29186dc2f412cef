//! Stories about kevy's replication: what primaries and replicas say, and what they ship.

mod listener;
mod machine;
mod model;
mod projection;
mod rewrite;
mod servers;
mod snapshot;
mod support;
mod wire;
