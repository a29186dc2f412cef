//! Stories about snapshots: as they arrive, as views are made of them, as real servers write them.

mod down;
mod properties;
mod rewrite;
mod servers;
mod support;
mod walk;
